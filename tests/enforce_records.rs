//! Every start of a forbidden container is on record once and truthfully, and the metrics agree.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{Builder, Engine, SOON, Warden, eventually};

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

/// Not started yet, and where its audit log will be.
fn warden(engine: &Engine) -> (Builder, PathBuf) {
    let builder = Warden::on(engine).allowlist(LIST);
    let log = builder.dir().join("audit.jsonl");
    let builder = builder.args(["--audit-log", log.to_str().unwrap()]);
    (builder, log)
}

fn read_all(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    lines
        .collect::<Result<_, _>>()
        .expect("a JSON object a line")
}

/// The decisions alone.
fn read(log: &Path) -> Vec<Value> {
    let mut records = read_all(log);
    records.retain(|record| record["event"] == "decision");
    records
}

/// Decisions or not, records are numbered from one on, without a gap.
#[track_caller]
fn assert_numbered(records: &[Value]) {
    for (number, record) in (1..).zip(records) {
        assert_eq!(record["seq"], json!(number), "{records:#?}");
    }
}

fn records_of(log: &Path, id: &str) -> Vec<Value> {
    let mut records = read(log);
    records.retain(|record| record["container_id"] == id);
    records
}

/// The engine itself ends what it starts too late, so every outcome but these would be a lie.
fn is_true_of_an_early_end(record: &Value) -> bool {
    ["done", "gone", "ended-itself"]
        .iter()
        .any(|outcome| record["outcome"] == *outcome)
}

#[test]
fn every_start_is_on_record_once_and_the_metrics_agree() {
    const STARTS: usize = 40;
    let engine = engine();
    let before = engine.run(&[], "bad:1", &[]);
    let control = engine.run_life(&[], "good:1");
    let (builder, log) = warden(&engine);
    // Sweeps that cross the events must not make a second record of anything.
    let warden = builder.args(["--resync", "1s"]).start();
    warden.wait_ready();

    // Most are over before anyone can look at them.
    let brief: Vec<String> = std::thread::scope(|scope| {
        let run = || {
            let run = |_| engine.run(&["--rm"], "bad:1", &["exit", "0"]);
            (0..STARTS / 2).map(run).collect::<Vec<_>>()
        };
        let runs: Vec<_> = (0..2).map(|_| scope.spawn(run)).collect();
        runs.into_iter()
            .flat_map(|run| run.join().unwrap())
            .collect()
    });
    let long: Vec<String> = (0..5).map(|_| engine.run(&[], "bad:1", &[])).collect();
    let twice = &long[0];
    engine.wait_until_dead(twice, SOON);
    eventually("the first start is on record", SOON, || {
        records_of(&log, twice).len() == 1
    });
    engine.docker_ok(&["start", twice]);

    for id in brief.iter().chain(&long).chain([&before]) {
        let starts = if id == twice { 2 } else { 1 };
        engine.wait_until_dead(id, SOON);
        eventually("each start is on record", SOON, || {
            records_of(&log, id).len() == starts
        });
    }
    warden.wait_for_sweeps(2);
    engine.assert_same(std::slice::from_ref(&control));

    let records = read(&log);
    assert_eq!(records.len(), STARTS + 5 + 1 + 1 + 1, "{records:#?}");
    assert_numbered(&read_all(&log));
    for record in &records {
        assert_eq!(record["v"], 1);
        let time: jiff::Timestamp = record["time"].as_str().unwrap().parse().unwrap();
        assert!(time <= jiff::Timestamp::now());
        assert!(!record["host"].as_str().unwrap().is_empty());
    }
    for id in &brief {
        let record = &records_of(&log, id)[0];
        // One that was gone before anybody could look is on record as that.
        let is_unseen = record["verdict"] == "unknown" && record["image"].is_null();
        assert!(record["verdict"] == "denied" || is_unseen, "{record:#}");
        assert!(is_true_of_an_early_end(record), "{record:#}");
        assert_sane(record);
    }
    for id in &long {
        for record in &records_of(&log, id) {
            assert_eq!(
                record["outcome"], "done",
                "it ends by nobody else: {record:#}"
            );
            assert!(record["lived_ms"].is_number(), "{record:#}");
            assert_sane(record);
        }
    }
    let mut outcomes = BTreeMap::<String, u32>::new();
    for record in brief.iter().flat_map(|id| records_of(&log, id)) {
        *outcomes.entry(record["outcome"].to_string()).or_default() += 1;
    }
    println!("{STARTS} starts that end themselves: {outcomes:?}");
    assert_eq!(warden.records(), records, "what /decisions tells");

    // ---- The metrics
    let mut decisions = BTreeMap::<String, f64>::new();
    let mut actions = BTreeMap::<String, f64>::new();
    let mut lived = 0.0;
    for record in &records {
        let word = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
        let series = format!(
            "dockwarden_decisions_total{{reason=\"{}\",trigger=\"{}\",verdict=\"{}\"}}",
            word("reason"),
            word("trigger"),
            word("verdict")
        );
        *decisions.entry(series).or_default() += 1.0;
        if !record["outcome"].is_null() {
            let series = format!(
                "dockwarden_actions_total{{action=\"{}\",outcome=\"{}\"}}",
                word("action"),
                word("outcome")
            );
            *actions.entry(series).or_default() += 1.0;
        }
        if record["outcome"] == "done" && !record["lived_ms"].is_null() {
            lived += 1.0;
        }
    }
    for (all, series) in [
        ("dockwarden_decisions_total", decisions),
        ("dockwarden_actions_total", actions),
    ] {
        assert_eq!(warden.metric(all), series.values().sum::<f64>(), "{all}");
        for (one, count) in series {
            assert_eq!(warden.metric(&one), count, "{one}");
        }
    }
    assert_eq!(warden.metric("dockwarden_lived_seconds_count"), lived);
}

/// Whatever is done to what has just ended: nobody but itself has.
#[test]
fn what_ended_itself_is_on_record_as_that() {
    const STARTS: usize = 15;
    for (action, options) in [
        ("kill", &["--rm"][..]),
        ("stop", &[]),
        ("remove", &[]),
        ("pause", &[]),
    ] {
        let engine = engine();
        let list = LIST.replace("[[", &format!("action = \"{action}\"\n[["));
        let warden = Warden::on(&engine)
            .allowlist(&list)
            .args(["--resync", "1s"])
            .start();
        warden.wait_ready();
        let filter = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D";
        let stream = engine.stream(filter).unwrap();
        for _ in 0..STARTS {
            // It may be removed before its starter is told that it has started.
            engine.docker(&[&["run", "-d"], options, &["bad:1", "exit", "3"]].concat());
        }
        let (mut signalled, mut frozen) = (BTreeSet::new(), BTreeSet::new());
        let mut exits = Vec::new();
        while exits.len() < STARTS {
            let event: Value = serde_json::from_str(&stream.next_line(SOON).unwrap()).unwrap();
            let actor = &event["Actor"];
            let id = actor["ID"].as_str().unwrap().to_owned();
            match event["Action"].as_str().unwrap() {
                "kill" => drop(signalled.insert(id)),
                "pause" => {
                    // On a busy machine it may be frozen before it ends: then it ends by this.
                    engine.docker(&["kill", &id]);
                    frozen.insert(id);
                }
                // What SIGTERM makes it exit with is its own choice.
                "die" if action == "stop" => exits.push((id.clone(), !signalled.contains(&id))),
                "die" => exits.push((id, actor["Attributes"]["exitCode"] == "3")),
                _ => {}
            }
        }
        let mut outcomes = BTreeMap::<String, u32>::new();
        for (id, has_ended_itself) in exits {
            let record = eventually("it is on record", SOON, || {
                let mut records = warden.records_of(&id);
                records.retain(|record| record["outcome"] != "failed");
                records.pop()
            });
            let outcome = record["outcome"].as_str().unwrap();
            // Frozen without a process in it, and nobody could tell yet.
            let is_frozen = frozen.contains(&id) && outcome == "done";
            let is_truth = (outcome == "ended-itself") == has_ended_itself || is_frozen;
            assert!(is_truth, "{record:#}");
            *outcomes.entry(outcome.to_owned()).or_default() += 1;
        }
        println!("{action}: {outcomes:?}");
    }
}

/// A life of no time or of a minute is a wrong reading of a clock.
#[track_caller]
fn assert_sane(record: &Value) {
    if let Some(lived) = record["lived_ms"].as_f64() {
        assert!((0.0..60_000.0).contains(&lived), "{record:#}");
    }
}

#[test]
fn a_record_has_the_fields_that_are_promised() {
    let engine = engine();
    let (builder, log) = warden(&engine);
    let warden = builder.start();
    warden.wait_ready();
    let label = "com.docker.compose.project=shop";
    let options = ["--name", "miner", "--restart", "always", "--label", label];
    let id = engine.run(
        &[&options[..], &["--label", "secret=1"]].concat(),
        "bad:1",
        &[],
    );
    let control = engine.run_life(&["--name", "web"], "good:1");
    warden.wait_for_verdict(&id, "denied");
    warden.wait_for_verdict(&control.id, "allowed");
    let hash = warden.get_json("/allowlist")["hash"].clone();

    let denied = &records_of(&log, &id)[0];
    let image = engine.inspect(&id)["Image"].clone();
    for (key, value) in [
        ("container_name", json!("miner")),
        ("image", json!("bad:1")),
        ("image_id", image),
        ("labels", json!({"com.docker.compose.project": "shop"})),
        ("verdict", json!("denied")),
        ("reason", json!("no-rule")),
        ("trigger", json!("start")),
        ("mode", json!("enforce")),
        ("action", json!("kill")),
        ("outcome", json!("done")),
        ("error", json!(null)),
        ("path", json!("api")),
        ("restart_policy", json!("always")),
        ("allowlist_hash", hash.clone()),
    ] {
        assert_eq!(denied[key], value, "{key}: {denied:#}");
    }
    assert!(denied["detail"].is_string() && denied["lived_ms"].is_number());

    let allowed = &records_of(&log, &control.id)[0];
    for (key, value) in [
        ("container_name", json!("web")),
        ("verdict", json!("allowed")),
        ("rule", json!("good")),
        ("reason", json!(null)),
        ("action", json!(null)),
        ("outcome", json!(null)),
        ("path", json!(null)),
        ("lived_ms", json!(null)),
        ("allowlist_hash", hash),
    ] {
        assert_eq!(allowed[key], value, "{key}: {allowed:#}");
    }
}

#[test]
fn one_writer_and_one_count() {
    let engine = engine();
    let (builder, log) = warden(&engine);
    let mut warden = builder.start();
    warden.wait_ready();
    let control = engine.run_life(&[], "good:1");
    let first = engine.run(&[], "bad:1", &[]);
    warden.wait_for_verdict(&first, "denied");
    warden.wait_for_verdict(&control.id, "allowed");

    let second = Warden::on(&engine)
        .allowlist(LIST)
        .args(["--audit-log", log.to_str().unwrap()])
        .spawn();
    assert_eq!(second.wait_exit(SOON).code(), Some(2));
    let said = second.logs().join("\n");
    assert!(
        said.contains("another process writes this audit log"),
        "{said}"
    );

    for kill in [true, false] {
        let before = read(&log).len();
        if kill {
            warden.sigkill();
        } else {
            warden.sigterm();
        }
        warden.restart();
        warden.wait_ready();
        let id = engine.run(&[], "bad:1", &[]);
        warden.wait_for_verdict(&id, "denied");
        eventually("the control is on record again", SOON, || {
            let records = read(&log);
            records[before..]
                .iter()
                .any(|one| one["container_id"] == control.id)
        });
    }
    assert_numbered(&read_all(&log));
    engine.assert_same(&[control]);
}

#[test]
fn what_happens_to_dockwarden_itself_is_on_record() {
    const WIDER: &str = "version = 1\nmode = \"audit\"\n[[allow]]\nimage = \"*:1\"\n";
    let engine = Engine::start_with(&["--live-restore"]);
    let (builder, log) = warden(&engine);
    let mut warden = builder.args(["--resync", "1s"]).start();
    warden.wait_ready();
    let hash = |warden: &Warden| warden.get_json("/allowlist")["hash"].clone();
    let of_kind = |kind: &str| -> Vec<Value> {
        let mut records = read_all(&log);
        records.retain(|record| record["event"] == kind);
        records
    };
    let wait_for = |kind: &str, count: usize| {
        eventually(kind, SOON, || of_kind(kind).len() == count);
    };
    wait_for("engine", 1);
    let first = hash(&warden);

    warden.write_list_by_rename("version = 2\n");
    wait_for("allowlist", 2);
    warden.write_list_by_rename(WIDER);
    wait_for("allowlist", 3);
    wait_for("mode", 2);
    let second = hash(&warden);
    engine.sigkill_dockerd();
    // An outage is one, however often a connection is refused meanwhile.
    wait_for("engine", 2);
    engine.start_dockerd();
    wait_for("engine", 3);
    warden.wait_ready();
    let version = warden.get_json("/containers")["engine"]["version"].clone();
    assert!(warden.sigterm().0.success());
    warden.restart();
    wait_for("engine", 4);

    let expected = [
        ("lifecycle", "change", vec!["started", "stopped", "started"]),
        (
            "allowlist",
            "outcome",
            vec!["applied", "invalid", "applied", "applied"],
        ),
        ("mode", "mode", vec!["enforce", "audit", "audit"]),
        (
            "engine",
            "change",
            vec!["connected", "disconnected", "connected", "connected"],
        ),
    ];
    for (kind, key, words) in expected {
        let found = of_kind(kind);
        let found: Vec<&Value> = found.iter().map(|record| &record[key]).collect();
        assert_eq!(found, words, "{kind}");
    }
    let lives = of_kind("lifecycle");
    assert_eq!(lives[1]["signal"], "SIGTERM");
    assert_eq!(lives[1]["pid"], lives[0]["pid"]);
    assert_eq!(lives[2]["pid"], warden.pid());
    assert_eq!(lives[2]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(lives[2]["command"], "run");
    let lists = of_kind("allowlist");
    for (list, hash, previous) in [
        (&lists[0], &first, &Value::Null),
        (&lists[1], &Value::Null, &first),
        (&lists[2], &second, &first),
        (&lists[3], &second, &Value::Null),
    ] {
        assert_eq!(&list["allowlist_hash"], hash, "{lists:#?}");
        assert_eq!(&list["previous_hash"], previous, "{lists:#?}");
    }
    assert!(lists[1]["error"].as_str().unwrap().contains("version"));
    assert_eq!(lists[2]["rules"], 1);
    assert_eq!(of_kind("mode")[1]["previous"], "enforce");
    let engines = of_kind("engine");
    assert_eq!(engines[0]["version"], version);
    assert!(engines[1]["error"].is_string() && engines[1]["version"].is_null());
    // Whoever started anew knows the host from the records before it hears from the engine.
    assert_eq!(lives[2]["host"], engines[0]["host"]);
    assert_numbered(&read_all(&log));
    // They are no decisions.
    assert!(warden.records().is_empty(), "{:?}", warden.records());
}

/// Start to death of `count` forbidden containers by the engine's own events, in milliseconds, while
/// `on_start` is called for each start as soon as it is heard of.
fn lives(engine: &Engine, count: usize, on_start: impl Fn(&str) + Send) -> Vec<f64> {
    let filter = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D";
    let stream = engine.stream(filter).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut started = BTreeMap::new();
            let mut lives = Vec::new();
            while lives.len() < count {
                let line = stream.next_line(SOON).expect("an event");
                let event: Value = serde_json::from_str(&line).expect("JSON");
                let id = event["Actor"]["ID"].as_str().unwrap().to_owned();
                let time = event["timeNano"].as_i64().unwrap();
                match event["Action"].as_str() {
                    Some("start") => {
                        on_start(&id);
                        started.insert(id, time);
                    }
                    Some("die") => {
                        let nanoseconds = time - started[&id];
                        lives.push(Duration::from_nanos(nanoseconds.try_into().unwrap()));
                    }
                    _ => {}
                }
            }
            lives
        });
        for _ in 0..count {
            let id = engine.run(&[], "bad:1", &[]);
            engine.wait_until_dead(&id, SOON);
        }
        let lives = reader.join().unwrap();
        lives.iter().map(|life| life.as_secs_f64() * 1e3).collect()
    })
}

fn row(what: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let at = |share: usize| values[(values.len() - 1) * share / 100];
    println!(
        "{what:<44} {:>3} {:>8.1} {:>8.1} {:>8.1}",
        values.len(),
        at(50),
        at(99),
        at(100)
    );
}

/// No limit is asserted: machines differ. The numbers are for people, side by side.
#[test]
fn how_long_a_forbidden_container_lives() {
    const COUNT: usize = 20;
    let engine = engine();
    let bare = lives(&engine, COUNT, |id| {
        let (status, answer) = engine.api("POST", &format!("/containers/{id}/kill"), None);
        assert_eq!(status, 204, "{answer}");
    });
    let (builder, log) = warden(&engine);
    let warden = builder.start();
    warden.wait_ready();
    let ours = lives(&engine, COUNT, |_| {});
    let records = eventually("all are on record", SOON, || {
        let records = read(&log);
        (records.len() == COUNT).then_some(records)
    });
    let recorded: Vec<f64> = records
        .iter()
        .map(|record| record["lived_ms"].as_f64().expect("a life"))
        .collect();
    println!("from start to death, ms                        n      p50      p99      max");
    row("the engine's need: kill at the start event", bare);
    row("dockwarden, by the engine's events", ours);
    row("dockwarden, by its records' lived_ms", recorded);
}
