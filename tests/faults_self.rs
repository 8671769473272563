//! dockwarden itself is at fault: ended between what it heard and what it did, again and again, or not
//! alone. What is forbidden is ended all the same, and what it did is on record.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use support::{Builder, Engine, HoldingProxy, SOON, Storm, Warden, eventually};

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

fn engine() -> Engine {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("bad:1");
    engine
}

/// With an audit log, which outlives the process.
fn builder(url: &str) -> (Builder, PathBuf) {
    let builder = Warden::at(url).allowlist(LIST);
    let log = builder.dir().join("audit.jsonl");
    let path = log.display().to_string();
    (builder.args(["--audit-log", &path, "--resync", "10m"]), log)
}

/// What is on record, whatever the last line looks like.
fn records(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().map(serde_json::from_str::<Value>);
    lines
        .filter_map(Result::ok)
        .filter(|record| record["event"] == "decision")
        .collect()
}

fn records_of(log: &Path, id: &str) -> Vec<Value> {
    let mut records = records(log);
    records.retain(|record| record["container_id"] == id);
    records
}

fn run_forbidden(engine: &Engine, count: usize) -> Vec<String> {
    (0..count)
        .map(|_| engine.run(&["--restart", "always"], "bad:1", &["stubborn"]))
        .collect()
}

#[test]
fn killed_between_the_event_and_the_kill() {
    let engine = engine();
    let control = engine.run_life(&[], "good:1");
    let proxy = HoldingProxy::to(&engine.socket_path());
    let (builder, log) = builder(&proxy.url());
    let mut warden = builder.start();
    // Once in the middle of its work, once while it is stopping.
    for is_stopping in [false, true] {
        warden.wait_ready();
        proxy.hold();
        let bad = run_forbidden(&engine, 4);
        eventually("all kills are under way", SOON, || {
            proxy.held() == bad.len()
        });
        if is_stopping {
            warden.signal("TERM");
            warden.wait_for_log(|line| line.contains("stopping"), SOON);
        }
        warden.sigkill();
        proxy.lose();
        eventually("none waits", SOON, || proxy.held() == 0);
        for id in &bad {
            assert_eq!(engine.state(id).as_deref(), Some("running"));
            assert!(records_of(&log, id).is_empty());
        }
        warden.restart();
        for id in &bad {
            engine.wait_until_dead(id, SOON);
            eventually("it is on record", SOON, || {
                let records = records_of(&log, id);
                records.len() == 1 && records[0]["outcome"] == "done"
            });
        }
    }
    engine.assert_same(&[control]);
}

#[test]
fn told_to_stop_it_finishes_what_it_is_ending() {
    const COUNT: usize = 20;
    let engine = engine();
    let control = engine.run_life(&[], "good:1");
    let proxy = HoldingProxy::to(&engine.socket_path());
    let (builder, log) = builder(&proxy.url());
    let warden = builder.start();
    warden.wait_ready();
    proxy.hold();
    let bad = run_forbidden(&engine, COUNT);
    eventually("all kills are under way", SOON, || proxy.held() == COUNT);
    warden.signal("TERM");
    warden.wait_for_log(|line| line.contains("stopping"), SOON);
    proxy.release();
    let status = warden.wait_exit(SOON);
    assert!(status.success(), "{status}");
    for id in &bad {
        assert_eq!(engine.state(id).as_deref(), Some("exited"));
        let records = records_of(&log, id);
        assert_eq!(records.len(), 1, "{records:#?}");
        assert_eq!(records[0]["outcome"], "done", "{records:#?}");
    }
    engine.assert_same(&[control]);
}

/// Moments that another run can be given again: `SEED=…`.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let given = std::env::var("SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = given.unwrap_or(now.subsec_nanos().into());
        println!("SEED={seed}");
        Self(seed)
    }

    fn next(&mut self, below: Duration) -> Duration {
        // Knuth's MMIX generator; its high bits are the random ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        let range = below.as_micros() as u64;
        Duration::from_micros((self.0 >> 33) % range)
    }
}

#[test]
fn killed_ten_times_in_a_storm() {
    let engine = engine();
    let control = engine.run_life(&["--restart", "always"], "good:1");
    let (builder, log) = builder(&engine.host());
    let mut warden = builder.start();
    let mut moments = Moments::new();
    let mut killed_at = Vec::new();
    let policies: &[&[&str]] = &[&["--restart", "always"], &["--rm"], &[]];
    let of_bad = Storm {
        clients: 2,
        image: "bad:1",
        command: &["stubborn"],
        options: &[policies[0], policies[2]],
    };
    let of_good = Storm {
        clients: 1,
        image: "good:1",
        ..of_bad
    };
    let mut allowed = Vec::new();
    let forbidden = engine.storm(of_bad, || {
        allowed = engine.storm(of_good, || {
            for _ in 0..10 {
                std::thread::sleep(moments.next(Duration::from_millis(700)));
                warden.sigkill();
                killed_at.push(Timestamp::now());
                warden.restart();
            }
        });
    });
    warden.wait_ready();
    let mut unrecorded = 0;
    for container in &forbidden {
        let id = container["Id"].as_str().unwrap();
        engine.wait_until_dead(id, SOON);
        let state = engine.inspect(id)["State"].clone();
        let time = |name: &str| -> Timestamp { state[name].as_str().unwrap().parse().unwrap() };
        if time("StartedAt") < Timestamp::UNIX_EPOCH {
            continue;
        }
        // Ended by one that was killed itself before it could say so: a record waits up to 1 s for the
        // event of the death, and 2 s for an inspection.
        let died_at = time("FinishedAt");
        let is_explained = killed_at.iter().any(|killed_at| {
            let since = killed_at.duration_since(died_at);
            since > SignedDuration::from_millis(-100) && since < SignedDuration::from_secs(3)
        });
        if is_explained && records_of(&log, id).is_empty() {
            unrecorded += 1;
            continue;
        }
        eventually("it is on record", SOON, || !records_of(&log, id).is_empty());
    }
    println!("{} forbidden, {unrecorded} unrecorded", forbidden.len());
    assert!(forbidden.len() > unrecorded + 5, "too few to tell");
    for container in &allowed {
        let life = engine.life(container["Id"].as_str().unwrap());
        assert_eq!((&*life.state, life.restarts), ("running", 0));
        assert_eq!(life.started_at, container["State"]["StartedAt"]);
    }
    assert!(allowed.len() > 5, "too few to tell");
    engine.assert_same(&[control]);
    let acted_on = |record: &Value| record["image"] == "good:1" && !record["outcome"].is_null();
    assert!(!records(&log).iter().any(acted_on));
    // One number each, also across ten ends.
    let numbers: Vec<_> = records(&log)
        .iter()
        .map(|one| one["seq"].as_u64())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

#[test]
fn of_two_with_different_lists_both_hold() {
    let engine = engine();
    engine.image("one:1");
    engine.image("other:1");
    let with = |image: &str| {
        let list = format!("{LIST}\n[[allow]]\nrule = \"more\"\nimage = \"{image}\"\n");
        let warden = Warden::on(&engine).allowlist(&list).start();
        warden.wait_ready();
        warden
    };
    let wardens = [("other:1", with("one:1")), ("one:1", with("other:1"))];
    let control = engine.run_life(&[], "good:1");
    for _ in 0..3 {
        for (number, (denies, warden)) in wardens.iter().enumerate() {
            let id = engine.run(&[], denies, &["stubborn"]);
            engine.wait_until_dead(&id, SOON);
            assert_eq!(warden.wait_for_verdict(&id, "denied")["outcome"], "done");
            let records = wardens[1 - number].1.records_of(&id);
            let outcomes: Vec<_> = records.iter().map(|one| &one["outcome"]).collect();
            assert!(
                outcomes.iter().all(|outcome| outcome.is_null()),
                "{outcomes:?}"
            );
        }
    }
    for (_, warden) in &wardens {
        // What the other one ended is not counted here.
        let done = "dockwarden_actions_total{action=\"kill\",outcome=\"done\"}";
        assert_eq!(warden.metric(done), 3.0);
        assert_eq!(warden.metric("dockwarden_escaped_total"), 0.0);
    }
    engine.assert_same(&[control]);
}

#[test]
fn one_that_only_audits_beside_one_that_enforces_claims_nothing() {
    let engine = engine();
    let audits = Warden::on(&engine)
        .allowlist(LIST)
        .args(["--mode", "audit"])
        .start();
    audits.wait_ready();
    let watched = engine.run(&[], "bad:1", &["stubborn"]);
    let record = audits.wait_for_verdict(&watched, "denied");
    assert_eq!(record["outcome"], "audit-only");
    let enforces = Warden::on(&engine).allowlist(LIST).start();
    let control = engine.run_life(&[], "good:1");
    let mut bad = run_forbidden(&engine, 8);
    bad.push(watched);
    for id in &bad {
        engine.wait_until_dead(id, SOON);
        assert_eq!(enforces.wait_for_verdict(id, "denied")["outcome"], "done");
        let record = audits.wait_for_verdict(id, "denied");
        // It may have looked only when the other one was done.
        let outcome = record["outcome"].as_str().unwrap();
        assert!(["audit-only", "gone"].contains(&outcome), "{record}");
    }
    assert_eq!(
        audits.metric("dockwarden_actions_total{action=\"kill\",outcome=\"done\"}"),
        0.0
    );
    assert_eq!(
        enforces.metric("dockwarden_actions_total{action=\"kill\",outcome=\"done\"}"),
        bad.len() as f64
    );
    engine.assert_same(&[control]);
}
