//! The engine ends, by either signal and with or without what runs on it, while somebody starts
//! forbidden containers: once it is back none of them runs, and what is allowed lives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use support::{Engine, Life, SOON, Storm, Warden, eventually};

/// What comes back after an end is the harder case.
const LIST: &str = r#"
version = 1
keep-dead = false
[[allow]]
rule = "good"
image = "good:1"
"#;

const POLICIES: &[&[&str]] = &[
    &["--restart", "always"],
    &["--restart", "unless-stopped"],
    &["--restart", "on-failure"],
    &[],
];

const STORM: Storm<'_> = Storm {
    clients: 2,
    image: "bad:1",
    command: &["stubborn"],
    options: POLICIES,
};

fn engine(flags: &[&str]) -> Engine {
    let engine = Engine::start_with(flags);
    engine.image("good:1");
    engine.image("bad:1");
    engine
}

/// Sweeps are too far apart to help.
fn warden(engine: &Engine) -> Warden {
    let warden = Warden::on(engine)
        .allowlist(LIST)
        .args(["--resync", "10m"])
        .start();
    warden.wait_ready();
    warden
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

fn has_started(container: &Value) -> bool {
    container["State"]["StartedAt"] != "0001-01-01T00:00:00Z"
}

/// None of them runs, and each is on record, or died while the engine was away or came back.
#[track_caller]
fn assert_all_ended(
    engine: &Engine,
    warden: &Warden,
    storm: &[Value],
    away: (Timestamp, Timestamp),
) {
    let is_over = || {
        let list = engine.list();
        list.iter().all(|one| {
            let is_dead = !matches!(
                one["State"].as_str(),
                Some("running" | "paused" | "restarting")
            );
            one["Image"] != "bad:1" || is_dead
        })
    };
    eventually("nothing forbidden runs", SOON, is_over);
    let started: Vec<_> = storm.iter().filter(|one| has_started(one)).collect();
    let mut unseen = 0;
    for container in &started {
        let id = container["Id"].as_str().unwrap();
        let is_on_record = || !warden.records_of(id).is_empty();
        let died_at = time(&engine.inspect(id)["State"]["FinishedAt"]);
        if away.0 <= died_at && died_at <= away.1 && !is_on_record() {
            unseen += 1;
            continue;
        }
        eventually("its end is on record", SOON, is_on_record);
    }
    println!("{} started, {unseen} died unseen", started.len());
    assert!(started.len() > unseen, "none was started");
    assert!(is_over(), "something forbidden came back");
}

fn engine_ends_in_a_storm(flags: &[&str], signal: &str) {
    let engine = engine(flags);
    let warden = warden(&engine);
    let lives: Vec<Life> = POLICIES
        .iter()
        .map(|options| engine.run_life(options, "good:1"))
        .collect();
    for options in POLICIES {
        // Ended, and some of them come back with the engine.
        engine.run(options, "bad:1", &["stubborn"]);
    }
    let mut away = (Timestamp::now(), Timestamp::now());
    let storm = engine.storm(STORM, || {
        std::thread::sleep(Duration::from_millis(800));
        away.0 = Timestamp::now();
        match signal {
            "KILL" => engine.sigkill_dockerd(),
            _ => engine.stop_dockerd(),
        }
        engine.start_dockerd();
        eventually("it reconnects", SOON, || {
            warden.metric("dockwarden_engine_reconnects_total") >= 1.0
        });
        away.1 = Timestamp::now();
        std::thread::sleep(Duration::from_millis(800));
    });
    assert_all_ended(&engine, &warden, &storm, away);
    warden.wait_ready();
    if flags.is_empty() {
        // The engine itself ends what ran. After a SIGKILL it takes what it ended at its next boot
        // for stopped by hand, and so does not start `unless-stopped` again.
        let comes_back = if signal == "KILL" { 1 } else { 2 };
        let back: Vec<Life> = lives[..comes_back]
            .iter()
            .map(|life| {
                eventually("what is allowed is back", SOON, || {
                    engine.state(&life.id).as_deref() == Some("running")
                });
                engine.life(&life.id)
            })
            .collect();
        let last = engine.run(&[], "bad:1", &["stubborn"]);
        engine.wait_until_dead(&last, SOON);
        engine.assert_same(&back);
    } else {
        engine.assert_same(&lives);
    }
    let acted_on = |record: &Value| record["image"] == "good:1" && !record["outcome"].is_null();
    assert!(!warden.records().iter().any(acted_on));
}

#[test]
fn killed_in_a_storm_with_all_that_ran() {
    engine_ends_in_a_storm(&[], "KILL");
}

#[test]
fn stopped_in_a_storm_with_all_that_ran() {
    engine_ends_in_a_storm(&[], "TERM");
}

#[test]
fn killed_in_a_storm_and_what_ran_lives_on() {
    engine_ends_in_a_storm(&["--live-restore"], "KILL");
}

#[test]
fn stopped_in_a_storm_and_what_ran_lives_on() {
    engine_ends_in_a_storm(&["--live-restore"], "TERM");
}

#[test]
fn a_socket_that_is_deleted_under_a_living_engine_and_put_back() {
    let engine = engine(&[]);
    let warden = warden(&engine);
    let control = engine.run_life(&[], "good:1");
    for _ in 0..3 {
        let hidden = engine.hide_socket();
        // The stream goes on and tells of it; no call gets through.
        let id = hidden.run(&["--restart", "always"], "bad:1");
        eventually("the start was heard of", SOON, || {
            warden.logs().iter().any(|line| line.contains(&id[..12]))
        });
        hidden.show();
        engine.wait_until_dead(&id, SOON);
        assert_eq!(warden.wait_for_verdict(&id, "denied")["outcome"], "done");
    }
    // A socket that is only a file: nobody listens behind it.
    engine.sigkill_dockerd();
    assert!(engine.socket_path().exists());
    eventually("it says that it is away", SOON, || {
        warden.get("/readyz").status == 503
    });
    std::fs::remove_file(engine.socket_path()).unwrap();
    engine.start_dockerd();
    let id = engine.run(&[], "bad:1", &[]);
    engine.wait_until_dead(&id, SOON);
    drop(control);
}

/// Longer than any call may take: 30 s for a list. `make soak` runs it.
#[test]
#[ignore = "takes over a minute; `make soak` runs it"]
fn an_engine_that_hangs_for_longer_than_any_deadline() {
    let engine = engine(&[]);
    let warden = Warden::on(&engine)
        .allowlist(LIST)
        .args(["--resync", "5s"])
        .start();
    warden.wait_ready();
    let control = engine.run_life(&[], "good:1");
    let before = engine.create(&["--restart", "always"], "bad:1", &["stubborn"]);
    engine.pause_dockerd();
    std::thread::scope(|scope| {
        let started = scope.spawn(|| engine.docker(&["start", &before]));
        eventually("it says that nothing is enforced", 3 * SOON, || {
            warden.metric("dockwarden_enforcing") == 0.0
        });
        assert_eq!(warden.get("/livez").status, 200);
        assert_eq!(warden.get("/readyz").status, 503);
        std::thread::sleep(Duration::from_secs(15));
        engine.resume_dockerd();
        let _ = started.join();
    });
    engine.wait_until_dead(&before, SOON);
    warden.wait_for_verdict(&before, "denied");
    warden.wait_ready();
    engine.assert_same(&[control]);
}
