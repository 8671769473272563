//! Debian's Prometheus scrapes both services and answers for them; alerts and dashboard ask for what there is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use regex::Regex;
use serde_json::Value;
use support::scripted::Scripted;
use support::{Engine, SOON, Warden, eventually};

const LIST: &str = "version = 1\n[[allow]]\nrule = \"good\"\nimage = \"good:1\"\n";

fn packaging() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

fn promtool(args: &[&str]) -> Result<String, String> {
    support::require("promtool", "prometheus");
    let done = Command::new("promtool")
        .args(args)
        .current_dir(packaging().join("prometheus"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        Ok(told)
    } else {
        Err(told + &String::from_utf8_lossy(&done.stderr))
    }
}

/// Ended with the value, and with the thread that started it.
struct Prometheus {
    process: Child,
    url: String,
}

impl Prometheus {
    fn start(engine: &Engine, controller: &Warden, api: &Warden) -> Self {
        support::require("prometheus", "prometheus");
        let dir = engine.dir().join("prometheus");
        std::fs::create_dir(&dir).unwrap();
        let shipped =
            std::fs::read_to_string(packaging().join("prometheus/prometheus.yml")).unwrap();
        let alerts = packaging()
            .join("prometheus/alerts.yml")
            .display()
            .to_string();
        let settings = shipped
            .replace("15s", "1s")
            .replace("/etc/prometheus/alerts.yml", &alerts)
            .replace(
                "status-state-controller:8081",
                &controller.address().to_string(),
            )
            .replace("status-state-api:8080", &api.address().to_string());
        std::fs::write(dir.join("prometheus.yml"), settings).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let process = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "prometheus",
                "--web.listen-address=127.0.0.1:0",
            ])
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut prometheus = Self {
            process,
            url: String::new(),
        };
        let address = Regex::new(r"127\.0\.0\.1:[1-9]\d*").unwrap();
        let address = eventually("Prometheus listens", SOON, || {
            let log = std::fs::read_to_string(dir.join("log")).unwrap();
            let line = log.lines().find(|line| line.contains("Listening on"))?;
            Some(address.find(line)?.as_str().to_owned())
        });
        prometheus.url = format!("http://{address}");
        prometheus
    }

    fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let answer = promtool(&["query", "instant", "-o", "json", &self.url, query])?;
        Ok(serde_json::from_str(&answer).unwrap())
    }

    fn value(&self, query: &str) -> Option<f64> {
        let found = self.query(query).ok()?;
        found.first()?["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn dashboard() -> Value {
    let text = std::fs::read_to_string(packaging().join("grafana/dashboard.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What its choices are made of.
fn dashboard_variables() -> String {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    variables
        .map(|one| one["query"].as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

fn dashboard_queries() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    targets
        .map(|target| {
            let query = target["expr"].as_str().unwrap();
            query
                .replace("$instance", ".*")
                .replace("$__rate_interval", "1m")
        })
        .collect()
}

fn names(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\b(dockwarden|process)_[a-z_]+").unwrap();
    name.find_iter(text)
        .map(|found| found.as_str().to_owned())
        .collect()
}

#[test]
fn prometheus_answers_for_both_services_and_knows_what_is_asked() {
    let engine = Engine::start();
    for image in ["good:1", "evil:1"] {
        engine.image(image);
    }
    let controller = Warden::on(&engine).subcommand("controller").allowlist(LIST);
    let audit = controller.dir().join("audit.jsonl").display().to_string();
    let controller = controller.args(["--audit-log", &audit]).start();
    let api = Warden::on(&engine).subcommand("api").allowlist(LIST);
    let api = api.args(["--audit-log", &audit]).start();
    controller.wait_ready();
    api.wait_ready();
    engine.run(&[], "good:1", &[]);
    let evil = engine.run(&[], "evil:1", &[]);
    engine.wait_until_dead(&evil, SOON);
    controller.wait_for_verdict(&evil, "denied");

    let prometheus = Prometheus::start(&engine, &controller, &api);
    for (query, wanted) in [
        ("count(up{job=~\"dockwarden-.*\"} == 1)", 2.0),
        ("dockwarden_enforcing{job=\"dockwarden-controller\"}", 1.0),
        ("count(dockwarden_enforcing)", 1.0),
        ("dockwarden_rule_containers{rule=\"good\"}", 1.0),
        (
            "sum(dockwarden_actions_total{action=\"kill\",outcome=\"done\"})",
            1.0,
        ),
        (
            "count(dockwarden_controller_state_age_seconds{job=\"dockwarden-api\"})",
            1.0,
        ),
        ("count(dockwarden_build_info)", 2.0),
    ] {
        eventually(query, SOON, || prometheus.value(query) == Some(wanted));
    }
    // A rate needs two readings.
    for query in dashboard_queries() {
        eventually(&query, SOON, || {
            let found = prometheus
                .query(&query)
                .unwrap_or_else(|error| panic!("{query}: {error}"));
            !found.is_empty()
        });
    }

    let told = names(&(controller.get("/metrics").body + &api.get("/metrics").body));
    let asked = alerts("alerts.yml") + &dashboard_queries().join("\n") + &dashboard_variables();
    let asked = names(&asked);
    let unknown: Vec<_> = asked.difference(&told).collect();
    assert!(unknown.is_empty(), "nobody tells {unknown:?}");
}

/// A week ahead, and nothing happens but that time passes.
#[test]
fn rules_that_begin_to_expire_are_told_by_the_next_sweep() {
    let fake = Scripted::start();
    let in_a_week = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(7 * 24);
    let expires = in_a_week + jiff::SignedDuration::from_secs(6);
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    // The end of audit mode is no rule's.
    let list = format!(
        "audit-until = {until:.0}\n{LIST}expires = {expires:.0}\n[[allow]]\nimage = \"other:1\"\nexpires = {expires:.0}\n"
    );
    let warden = fake.warden(&list, "1s");
    eventually("both rules are told", SOON, || {
        warden.metric("dockwarden_rules_expiring") == 2.0
    });
}

/// Whoever asks for audit mode. It hides nothing that would keep dockwarden from enforcing, or from judging.
#[test]
fn audit_mode_and_what_hinders_are_told_apart() {
    let fake = Scripted::start();
    let audits = format!("mode = \"audit\"\n{LIST}");
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let audits_yet = format!("audit-until = {until:.0}\n{LIST}");
    for (list, args, audit, hindered) in [
        (LIST, &[][..], 0.0, 0.0),
        (LIST, &["--mode", "audit"], 1.0, 0.0),
        (&audits, &[], 1.0, 0.0),
        (&audits_yet, &[], 1.0, 0.0),
        (&audits, &["--self-id", "nobody"], 1.0, 1.0),
    ] {
        let warden = fake.builder(list, "1s").args(args).start();
        eventually("it has read all", SOON, || {
            warden.metric("dockwarden_last_sweep_timestamp_seconds") > 0.0
        });
        eventually(&format!("{list}{args:?}"), SOON, || {
            warden.metric("dockwarden_mode{mode=\"audit\"}") == audit
                && warden.metric("dockwarden_hindered") == hindered
                && warden.metric("dockwarden_enforcing") == 1.0 - audit
        });
    }
}

/// The files of alerts. The second is for where canaries run.
const ALERTS: [&str; 2] = ["alerts.yml", "canary-alerts.yml"];

fn alerts(file: &str) -> String {
    std::fs::read_to_string(packaging().join("prometheus").join(file)).unwrap()
}

#[test]
fn every_alert_fires_when_it_should_and_not_else() {
    let all = ALERTS.map(|file| {
        promtool(&["check", "rules", file]).unwrap();
        alerts(file)
    });
    promtool(&["test", "rules", "alerts_test.yml"]).unwrap();
    let tests = alerts("alerts_test.yml");
    let alert = Regex::new(r"- alert: (\w+)").unwrap();
    for found in alert.captures_iter(&all.concat()) {
        for word in ["fires", "is quiet"] {
            assert!(
                tests.contains(&format!("{} {word}", &found[1])),
                "{}",
                &found[1]
            );
        }
    }
}
