//! A wall clock that is set by an hour, either way, makes dockwarden neither blind nor cruel: ages are
//! measured by the clock that only goes on, and the engine's times are the engine's.
//!
//! The clock is set for dockwarden alone, by libfaketime, which reads a file at every look at the time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use support::{Engine, SOON, TcpProxy, Warden, dockwarden, eventually};

const LIST: &str = r#"
version = 1
keep-dead = false
[[allow]]
rule = "good"
image = "good:1"
"#;

/// What dockwarden takes for the time.
struct Clock(PathBuf);

impl Clock {
    /// Sets it that far from the true one, such as `+1h`.
    fn set(&self, offset: &str) {
        let draft = self.0.with_extension("new");
        std::fs::write(&draft, offset).expect("the draft");
        std::fs::rename(&draft, &self.0).expect("the clock");
    }
}

fn library() -> PathBuf {
    let places = ["x86_64", "aarch64"]
        .map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"));
    let found = places.iter().map(Path::new).find(|path| path.exists());
    found
        .expect("these tests need libfaketime: apt-get install faketime")
        .to_owned()
}

/// Fakes the wall clock alone: neither how long something took nor when a file was written.
fn warden(url: &str, resync: &str) -> (Warden, Clock) {
    let builder =
        Warden::at(url)
            .allowlist(LIST)
            .args(["--resync", resync, "--audit-log", "audit.jsonl"]);
    let clock = Clock(builder.dir().join("clock"));
    clock.set("+0");
    let file = clock.0.display().to_string();
    let preload = library().display().to_string();
    let warden = [
        ("LD_PRELOAD", &*preload),
        ("FAKETIME_TIMESTAMP_FILE", &file),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ]
    .iter()
    .fold(builder, |builder, (name, value)| builder.env(name, value))
    .start();
    warden.wait_ready();
    (warden, clock)
}

fn engine() -> Engine {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("bad:1");
    engine
}

/// Runs a forbidden container and waits for its end; returns its record.
#[track_caller]
fn assert_ends(engine: &Engine, warden: &Warden) -> serde_json::Value {
    let id = engine.run(&[], "bad:1", &["stubborn"]);
    engine.wait_until_dead(&id, SOON);
    let record = warden.wait_for_verdict(&id, "denied");
    assert_eq!(record["outcome"], "done", "{record}");
    let lived = record["lived_ms"].as_f64().expect("a life");
    let truth = engine.inspect(&id);
    let time =
        |name: &str| -> Timestamp { truth["State"][name].as_str().unwrap().parse().unwrap() };
    let by_engine = time("FinishedAt").duration_since(time("StartedAt"));
    let difference = lived - by_engine.as_secs_f64() * 1e3;
    assert!(difference.abs() < 1e-3, "{lived} ms, {by_engine:?}");
    record
}

/// How far its records are from the true time.
fn offset(record: &serde_json::Value) -> SignedDuration {
    let time: Timestamp = record["time"].as_str().unwrap().parse().unwrap();
    let hours = time.duration_since(Timestamp::now()).as_secs_f64() / 3600.0;
    SignedDuration::from_hours(hours.round() as i64)
}

#[test]
fn a_clock_that_jumps_leaves_enforcement_and_readiness_alone() {
    let engine = engine();
    let control = engine.run_life(&[], "good:1");
    let (warden, clock) = warden(&engine.host(), "1s");
    for (set_to, hours) in [("+0", 0), ("+1h", 1), ("+0", 0), ("-1h", -1), ("+1h", 1)] {
        clock.set(set_to);
        let ready = warden.get("/readyz");
        assert_eq!(ready.status, 200, "set to {set_to}: {}", ready.body);
        let record = assert_ends(&engine, &warden);
        assert_eq!(offset(&record), SignedDuration::from_hours(hours));
        // Lists go on, on time.
        warden.wait_for_sweeps(2);
    }
    engine.assert_same(&[control]);
}

/// The engine's time says from when on its history is wanted.
#[test]
fn a_connection_that_is_cut_while_the_clock_jumps_misses_nothing() {
    let engine = engine();
    let control = engine.run_life(&[], "good:1");
    let proxy = TcpProxy::to(&engine.socket_path());
    let (warden, clock) = warden(&proxy.url(), "10m");
    for set_to in ["+1h", "-1h", "+0"] {
        assert_ends(&engine, &warden);
        let denied = || warden.metric("dockwarden_events_total{action=\"start\"}");
        let before = denied();
        proxy.refuse(true);
        clock.set(set_to);
        let brief = engine.run(&[], "bad:1", &["exit", "0"]);
        engine.wait_until_dead(&brief, SOON);
        let away = engine.run(&["--restart", "always"], "bad:1", &["stubborn"]);
        proxy.refuse(false);
        engine.wait_until_dead(&away, SOON);
        warden.wait_for_verdict(&away, "denied");
        // Of the one that was short only the history tells.
        eventually("the history was read", SOON, || denied() >= before + 2.0);
        warden.wait_ready();
    }
    engine.assert_same(&[control]);
}

/// Silent for good is told apart from set back: lists that stop are noticed on either side.
#[test]
fn a_clock_that_is_set_back_hides_no_engine_that_went_silent() {
    let engine = engine();
    let (warden, clock) = warden(&engine.host(), "1s");
    clock.set("-1h");
    engine.pause_dockerd();
    eventually("it says that nothing was listed for a while", SOON, || {
        warden.get("/readyz").status == 503
    });
    engine.resume_dockerd();
    warden.wait_ready();
    assert_ends(&engine, &warden);
}

/// By its own clock it ended the container before that had started, by the engine's.
#[test]
fn what_was_ended_by_a_clock_that_is_wrong_comes_back() {
    let engine = engine();
    let (warden, clock) = warden(&engine.host(), "1s");
    clock.set("-1h");
    let record = assert_ends(&engine, &warden);
    assert_eq!(offset(&record), SignedDuration::from_hours(-1));
    let id = record["container_id"].as_str().unwrap();
    warden.write_list_by_rename(&LIST.replace("good:1", "*:1"));
    let applied = "dockwarden_allowlist_reloads_total{outcome=\"applied\"}";
    eventually("the other list is in force", SOON, || {
        warden.metric(applied) > 0.0
    });
    let log = warden.dir().join("audit.jsonl");
    let restore = || {
        let (host, log) = (engine.host(), log.to_str().unwrap());
        let engine = ["--engine", &host, "--audit-log", log];
        let output = dockwarden([&["restore", "--output", "json"][..], &engine].concat());
        let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        rows[0]["outcome"].clone()
    };
    assert_eq!(restore(), "started");
    assert_eq!(engine.state(id).as_deref(), Some("running"));
    // It is nobody's to start again once it has run.
    engine.docker_ok(&["kill", id]);
    engine.wait_until_dead(id, SOON);
    assert_eq!(restore(), "ran-since");
}
