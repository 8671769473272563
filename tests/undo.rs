//! What was ended stays dead, and comes back as it was when a list allows it again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Output;
use support::scripted::{Scripted, event, listed};
use support::{Builder, Engine, SOON, Warden, dockwarden, eventually};

/// Rules that look at powers: what was ended by its image alone has to be inspected before it can be
/// allowed.
const GOOD: &str = "version = 1\n[[allow]]\nimage = \"good:1\"\ngrants = []\n";
const BOTH: &str = "version = 1\n[[allow]]\nimage = [\"good:1\", \"bad:1\"]\ngrants = []\n";

fn engine() -> Engine {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("bad:1");
    engine
}

/// A warden with an audit log, and its state beside that.
fn warden(engine: &Engine, list: &str) -> (Builder, PathBuf) {
    let warden = Warden::on(engine).allowlist(list);
    let log = warden.dir().join("audit.jsonl");
    let arguments = ["--resync", "1s", "--audit-log", log.to_str().unwrap()];
    (warden.args(arguments), log)
}

fn policy(engine: &Engine, id: &str) -> String {
    let policy = &engine.inspect(id)["HostConfig"]["RestartPolicy"];
    let name = policy["Name"].as_str().unwrap();
    match policy["MaximumRetryCount"].as_u64().unwrap() {
        0 => name.to_owned(),
        most => format!("{name}:{most}"),
    }
}

fn wait_for_policy(engine: &Engine, id: &str, wanted: &str) {
    eventually(&format!("{id} has the policy {wanted}"), SOON, || {
        (policy(engine, id) == wanted).then_some(())
    });
}

fn restore(engine: &Engine, log: &Path, arguments: &[&str]) -> (Output, Vec<Value>) {
    let host = engine.host();
    let log = log.to_str().unwrap();
    let mut all = vec!["restore", "--engine", &host, "--audit-log", log];
    all.extend(["--output", "json"]);
    all.extend(arguments);
    let output = dockwarden(all);
    let rows = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, rows)
}

const POLICIES: &[&str] = &["always", "unless-stopped", "on-failure", "on-failure:5"];

#[test]
fn what_was_ended_does_not_start_with_the_engine() {
    let engine = engine();
    let (warden, _) = warden(&engine, GOOD);
    let warden = warden.start();
    warden.wait_ready();
    let bad: Vec<_> = POLICIES
        .iter()
        .map(|policy| engine.run(&["--restart", policy], "bad:1", &[]))
        .collect();
    let good = engine.run(&["--restart", "always"], "good:1", &[]);
    for (id, policy) in bad.iter().zip(POLICIES) {
        let record = warden.wait_for_verdict(id, "denied");
        assert_eq!(record["restart_policy"], *policy, "{record:#}");
        wait_for_policy(&engine, id, "no");
    }
    let starts: Vec<_> = bad.iter().map(|id| engine.life(id).started_at).collect();
    engine.restart_dockerd();
    warden.wait_ready();
    eventually("the allowed one runs again", SOON, || {
        engine.state(&good).as_deref() == Some("running")
    });
    assert_eq!(policy(&engine, &good), "always");
    warden.wait_for_sweeps(2);
    for (id, start) in bad.iter().zip(starts) {
        assert_eq!(engine.life(id).started_at, start, "{id} has started again");
    }
}

#[test]
fn what_is_denied_and_does_not_run_is_kept_from_it() {
    let engine = engine();
    let stopped = engine.run(&["--restart", "always"], "bad:1", &[]);
    engine.docker_ok(&["kill", &stopped]);
    let created = engine.create(&["--restart", "always"], "bad:1", &[]);
    let allowed = engine.create(&["--restart", "always"], "good:1", &[]);
    let (warden, _) = warden(&engine, GOOD);
    let warden = warden.start();
    warden.wait_ready();
    wait_for_policy(&engine, &stopped, "no");
    wait_for_policy(&engine, &created, "no");
    // Whoever gives it back gets nowhere.
    engine.docker_ok(&["update", "--restart", "unless-stopped", &stopped]);
    wait_for_policy(&engine, &stopped, "no");
    assert_eq!(policy(&engine, &allowed), "always");

    // What it was given last is what it gets back.
    warden.write_list_by_rename(BOTH);
    wait_for_policy(&engine, &stopped, "unless-stopped");
    wait_for_policy(&engine, &created, "always");
    assert_eq!(engine.state(&stopped).as_deref(), Some("exited"));

    // A list that denies them again finds them by its sweep: no event tells of them.
    warden.write_list_by_rename(GOOD);
    wait_for_policy(&engine, &stopped, "no");
    wait_for_policy(&engine, &created, "no");
    assert_eq!(policy(&engine, &allowed), "always");
}

/// Dead it breaks no rule: one more of its kind may not run, and nothing is executed in it.
#[test]
fn what_was_ended_for_what_it_did_is_not_started_by_the_engine_either() {
    const LIST: &str = "version = 1\n[[allow]]\nimage = \"good:1\"\nmax = 1\n[[allow]]\nimage = \"bad:1\"\nexec = false\n";
    let engine = engine();
    let (warden, _) = warden(&engine, LIST);
    let mut warden = warden.start();
    warden.wait_ready();
    let always = ["--restart", "always"];
    let first = engine.run(&always, "good:1", &[]);
    warden.wait_for_verdict(&first, "allowed");
    let one_too_many = engine.run(&always, "good:1", &[]);
    let executed_in = engine.run(&always, "bad:1", &[]);
    warden.wait_for_verdict(&executed_in, "allowed");
    engine.docker(&["exec", &executed_in, "/victim", "exit", "0"]);
    let ended = [&one_too_many, &executed_in];
    for id in ended {
        warden.wait_for_verdict(id, "denied");
        wait_for_policy(&engine, id, "no");
    }
    let starts = ended.map(|id| engine.life(id).started_at);
    warden.wait_for_sweeps(3);
    assert!(warden.sigterm().0.success());
    warden.restart();
    warden.wait_for_sweeps(3);
    engine.restart_dockerd();
    warden.wait_for_sweeps(3);
    for (id, start) in ended.iter().zip(starts) {
        assert_eq!(policy(&engine, id), "no");
        assert_eq!(engine.life(id).started_at, start, "{id} has started again");
    }
    // Another list is another judgement, and so is whoever starts it.
    engine.docker_ok(&["start", &executed_in]);
    wait_for_policy(&engine, &executed_in, "always");
    warden.write_list_by_rename(&LIST.replace("max = 1", "max = 2"));
    wait_for_policy(&engine, &one_too_many, "always");
}

/// A kill at any moment must not lose what a container is to get back.
#[test]
fn a_restart_policy_is_written_down_before_it_is_taken() {
    let engine = engine();
    let (warden, log) = warden(&engine, GOOD);
    let warden = warden.start();
    warden.wait_ready();
    let bad: Vec<_> = (0..4)
        .map(|_| engine.run(&["--restart", "on-failure:7"], "bad:1", &[]))
        .collect();
    let known = log.with_file_name("dockwarden-state");
    let known = known.join("containers.json");
    for id in &bad {
        wait_for_policy(&engine, id, "no");
        let known: Value = serde_json::from_slice(&std::fs::read(&known).unwrap()).unwrap();
        assert_eq!(known[id]["restart_policy"], "on-failure:7", "{known:#}");
    }
    // Each was taken once, by its record as well: the engine's own word of it comes first and drops nothing.
    let taken = |id: &String| {
        let text = std::fs::read_to_string(&log).unwrap();
        let records = text
            .lines()
            .map_while(|line| serde_json::from_str(line).ok());
        let changes = records.filter(|one: &Value| {
            let is_its = one["container_id"] == **id && one["previous"] == "on-failure:7";
            is_its && one["restart_policy"] == "no"
        });
        changes.count()
    };
    eventually("each is on record", SOON, || {
        bad.iter().all(|id| taken(id) == 1).then_some(())
    });
}

#[test]
fn what_is_frozen_keeps_no_policy_either() {
    let engine = engine();
    let (warden, log) = warden(
        &engine,
        &GOOD.replace("[[allow]]", "action = \"pause\"\n[[allow]]"),
    );
    let warden = warden.start();
    warden.wait_ready();
    let bad = engine.run(&["--restart", "always"], "bad:1", &[]);
    wait_for_policy(&engine, &bad, "no");
    assert_eq!(engine.state(&bad).as_deref(), Some("paused"));
    let pid = engine.life(&bad).pid;
    warden.write_list_by_rename(&BOTH.replace("[[allow]]", "action = \"pause\"\n[[allow]]"));
    wait_for_policy(&engine, &bad, "always");
    let (output, rows) = restore(&engine, &log, &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        (rows.len(), &rows[0]["outcome"]),
        (1, &"resumed".into()),
        "{rows:#?}"
    );
    let life = engine.life(&bad);
    assert_eq!(
        (&*life.state, life.pid),
        ("running", pid),
        "the same process"
    );
}

/// What is frozen already when a list comes to deny it needs no end.
#[test]
fn what_was_frozen_before_keeps_no_policy_either() {
    let engine = engine();
    let pause = |list: &str| list.replace("[[allow]]", "action = \"pause\"\n[[allow]]");
    let (warden, _) = warden(&engine, &pause(BOTH));
    let warden = warden.start();
    warden.wait_ready();
    let bad = engine.run(&["--restart", "always"], "bad:1", &[]);
    warden.wait_for_verdict(&bad, "allowed");
    engine.docker_ok(&["pause", &bad]);
    let life = engine.life(&bad);
    warden.write_list_by_rename(&pause(GOOD));
    wait_for_policy(&engine, &bad, "no");
    warden.write_list_by_rename(&pause(BOTH));
    wait_for_policy(&engine, &bad, "always");
    engine.assert_same(&[life]);
}

#[test]
fn audit_mode_and_keep_dead_false_touch_no_policy() {
    let engine = engine();
    let dead = engine.create(&["--restart", "always"], "bad:1", &[]);
    for key in ["mode = \"audit\"", "keep-dead = false"] {
        let (warden, _) = warden(
            &engine,
            &GOOD.replace("[[allow]]", &format!("{key}\n[[allow]]")),
        );
        let warden = warden.start();
        warden.wait_ready();
        let bad = engine.run(&["--restart", "always"], "bad:1", &[]);
        warden.wait_for_verdict(&bad, "denied");
        warden.wait_for_sweeps(2);
        assert_eq!(policy(&engine, &dead), "always", "{key}");
        assert_eq!(policy(&engine, &bad), "always", "{key}");
        warden.sigterm();
        engine.docker_ok(&["rm", "-f", &bad]);
    }
}

#[test]
fn what_a_wrong_list_ended_comes_back_with_its_restart_policy() {
    let engine = engine();
    let (warden, log) = warden(&engine, BOTH);
    let mut warden = warden.start();
    warden.wait_ready();
    let bad: Vec<_> = POLICIES
        .iter()
        .map(|policy| {
            engine.run(
                &["--restart", policy, "--name", &policy.replace(':', "-")],
                "bad:1",
                &[],
            )
        })
        .collect();
    let stays = engine.run_life(&[], "good:1");
    for id in &bad {
        warden.wait_for_verdict(id, "allowed");
    }
    warden.write_list_by_rename(GOOD);
    for id in &bad {
        engine.wait_until_dead(id, SOON);
        wait_for_policy(&engine, id, "no");
    }
    // What is still denied is not started, and neither is what nobody ended.
    let (output, rows) = restore(&engine, &log, &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(rows.len(), 4, "{rows:#?}");
    assert!(
        rows.iter().all(|row| row["outcome"] == "denied"),
        "{rows:#?}"
    );
    let (output, _) = restore(&engine, &log, &["always"]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "it was asked for: {output:?}"
    );
    let (output, _) = restore(&engine, &log, &["nobody"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    // It is known after a restart of dockwarden, too.
    warden.sigkill();
    warden.restart();
    warden.wait_ready();
    warden.write_list_by_rename(BOTH);
    for (id, wanted) in bad.iter().zip(POLICIES) {
        wait_for_policy(&engine, id, wanted);
        assert_eq!(engine.state(id).as_deref(), Some("exited"));
    }
    let (output, rows) = restore(&engine, &log, &["--dry-run"]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        rows.iter().all(|row| row["outcome"] == "would-start"),
        "{rows:#?}"
    );
    let (output, rows) = restore(&engine, &log, &["always", "on-failure-5"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(rows.len(), 2, "{rows:#?}");
    let (output, rows) = restore(&engine, &log, &["--since", "1h"]);
    assert!(output.status.success(), "{output:?}");
    let count = |outcome: &str| rows.iter().filter(|row| row["outcome"] == outcome).count();
    assert_eq!((count("started"), count("ran-since")), (2, 2), "{rows:#?}");
    for (id, wanted) in bad.iter().zip(POLICIES) {
        assert_eq!(engine.state(id).as_deref(), Some("running"), "{id}");
        assert_eq!(policy(&engine, id), *wanted);
    }
    engine.assert_same(&[stays]);
}

/// `db` is a name, and the beginning of another's id.
#[test]
fn restore_starts_nobody_else_than_who_is_meant() {
    let fake = Scripted::start();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (log, state, both) = (path("audit.jsonl"), path("state"), path("both.toml"));
    let list = "version = 1\n[[allow]]\nimage = \"good:1\"\n";
    std::fs::write(&both, list.replace("good:1", "*:1")).unwrap();
    let warden = fake.builder(list, "1h");
    let warden = warden.args(["--audit-log", &log, "--state-dir", &state]);
    let warden = warden.start();
    warden.wait_ready();
    let id = |beginning: &str| format!("{beginning:0<64}");
    for (id, name, image) in [
        (id("a1"), "db", "bad:1"),
        (id("db"), "web", "bad:1"),
        (id("fed"), "one", "bad:1"),
        (id("fee"), "two", "bad:1"),
        // This one was never ended.
        (id("a2"), "fed", "good:1"),
    ] {
        let mut container = listed(&id, image);
        container["Names"] = json!([format!("/{name}")]);
        fake.world().containers.insert(id.clone(), container);
        fake.say(event("start", &id).as_bytes());
        let verdict = match image {
            "good:1" => "allowed",
            _ => "denied",
        };
        warden.wait_for_verdict(&id, verdict);
    }
    for (word, expected) in [
        ("db", &["db"][..]),
        ("db0", &["web"]),
        ("fed0", &["one"]),
        ("fed", &[]),
        ("fe", &[]),
    ] {
        let arguments = ["restore", word, "--dry-run", "--output", "json"];
        let url = fake.url();
        let places = ["--engine", &url, "--audit-log", &log, "--allowlist", &both];
        // Not by the list that was in force.
        let nowhere = path("nowhere");
        let all = [&arguments[..], &places, &["--state-dir", &nowhere]].concat();
        let output = dockwarden(all);
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let found = rows
            .iter()
            .map(|row| row["container_name"].as_str().unwrap());
        assert_eq!(found.collect::<Vec<_>>(), expected, "{word}: {output:?}");
        assert!(
            rows.iter().all(|row| row["outcome"] == "would-start"),
            "{rows:?}"
        );
        assert_eq!(output.status.success(), !expected.is_empty(), "{output:?}");
    }
}

#[test]
fn restore_puts_the_policy_back_where_no_controller_does() {
    let engine = engine();
    let (warden, log) = warden(&engine, GOOD);
    let warden = warden.start();
    warden.wait_ready();
    let bad = engine.run(&["--restart", "on-failure:3"], "bad:1", &[]);
    wait_for_policy(&engine, &bad, "no");
    warden.sigterm();
    // Without its state the log alone knows.
    std::fs::remove_dir_all(log.with_file_name("dockwarden-state")).unwrap();
    let list = log.with_file_name("both.toml");
    std::fs::write(&list, BOTH).unwrap();
    let (output, rows) = restore(&engine, &log, &["--allowlist", list.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(rows[0]["outcome"], "started", "{rows:#?}");
    assert_eq!(policy(&engine, &bad), "on-failure:3");
    assert_eq!(engine.state(&bad).as_deref(), Some("running"));
}

#[test]
fn what_a_process_ended_that_was_killed_itself_comes_back_too() {
    let engine = engine();
    let (warden, log) = warden(&engine, GOOD);
    let mut warden = warden.start();
    warden.wait_ready();
    warden.sigkill();
    // As if its kill had been under way.
    let bad = engine.run(&[], "bad:1", &[]);
    engine.docker_ok(&["kill", &bad]);
    let by_itself = engine.run(&[], "bad:1", &["exit", "0"]);
    engine.wait_until_dead(&by_itself, SOON);
    warden.restart();
    warden.wait_ready();
    for (id, outcome) in [(&bad, "gone"), (&by_itself, "ended-itself")] {
        let record = warden.wait_for_verdict(id, "denied");
        assert_eq!(record["outcome"], outcome, "{record:#}");
    }
    warden.write_list_by_rename(BOTH);
    warden.wait_for_sweeps(2);
    let (output, rows) = restore(&engine, &log, &[]);
    assert!(output.status.success(), "{output:?}");
    let outcomes: Vec<_> = rows.iter().map(|row| &row["outcome"]).collect();
    assert_eq!(outcomes, ["started"], "{rows:#?}");
    assert_eq!(engine.state(&bad).as_deref(), Some("running"));
    assert_eq!(engine.state(&by_itself).as_deref(), Some("exited"));
}
