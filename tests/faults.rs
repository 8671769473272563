//! Whatever goes away comes back to an engine without forbidden containers: the engine, the way to
//! it, dockwarden itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use serde_json::Value;
use std::time::Duration;
use support::{Engine, SOON, TcpProxy, Warden, eventually};

const LIST: &str = r#"
version = 1
keep-dead = false
[[allow]]
rule = "good"
image = "good:1"
"#;

const ALWAYS: &[&str] = &["--restart", "always"];

fn engine(flags: &[&str]) -> Engine {
    let engine = Engine::start_with(flags);
    engine.image("good:1");
    engine.image("bad:1");
    engine
}

/// Sweeps are too far apart to help: what is found after a fault is found because of it.
fn warden(engine: &Engine) -> Warden {
    let warden = Warden::on(engine)
        .allowlist(LIST)
        .args(["--resync", "10m"])
        .start();
    warden.wait_ready();
    warden
}

/// Not there, and it says so everywhere.
#[track_caller]
fn assert_says_away(warden: &Warden, was_read: bool) {
    let answer = eventually("/containers says that the engine is away", SOON, || {
        let answer = warden.get("/containers");
        (answer.status == 503).then_some(answer)
    });
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let problem = answer.json();
    assert_eq!(problem["status"], 503, "{problem}");
    if was_read {
        let age = problem["age_seconds"].as_f64().expect("an age");
        assert!(age >= 0.0, "{problem}");
    } else {
        assert_eq!(problem["age_seconds"], Value::Null, "{problem}");
    }
    eventually("/readyz says that the engine is away", SOON, || {
        let answer = warden.get("/readyz");
        (answer.status == 503 && answer.json()["ready"] == false).then_some(())
    });
    assert_eq!(warden.get("/livez").status, 200);
    // One that goes, comes and goes again within milliseconds may show as away and not be yet.
    for metric in ["dockwarden_engine_connected", "dockwarden_enforcing"] {
        eventually("the metrics say so, too", SOON, || {
            warden.metric(metric) == 0.0
        });
    }
}

#[track_caller]
fn assert_is_back(warden: &Warden) {
    warden.wait_ready();
    eventually("/containers is back", SOON, || {
        warden.get("/containers").status == 200
    });
    assert_eq!(warden.metric("dockwarden_engine_connected"), 1.0);
    assert_eq!(warden.get_json("/containers")["enforcing"], true);
}

fn engine_killed_and_back(flags: &[&str]) {
    let engine = engine(flags);
    let warden = warden(&engine);
    let control = engine.run_life(ALWAYS, "good:1");
    // Ended, and revived by its policy at the engine's next boot.
    let revived = engine.run(ALWAYS, "bad:1", &[]);
    warden.wait_for_verdict(&revived, "denied");

    engine.sigkill_dockerd();
    assert_says_away(&warden, true);
    engine.start_dockerd();
    assert_is_back(&warden);

    let starts = || warden.records_of(&revived).len();
    eventually("the revived one is ended, too", SOON, || starts() >= 2);
    engine.wait_until_dead(&revived, SOON);
    let id = engine.run(&[], "bad:1", &[]);
    engine.wait_until_dead(&id, SOON);
    assert!(warden.metric("dockwarden_engine_reconnects_total") >= 1.0);
    if flags.is_empty() {
        // Without live-restore the engine itself ends what survived it.
        eventually("the allowed one runs again", SOON, || {
            engine.state(&control.id).as_deref() == Some("running")
        });
    } else {
        engine.assert_same(&[control]);
    }
}

#[test]
fn the_engine_is_killed_and_comes_back() {
    engine_killed_and_back(&[]);
}

#[test]
fn the_engine_is_killed_and_comes_back_with_what_ran() {
    engine_killed_and_back(&["--live-restore"]);
}

#[test]
fn what_survives_an_engine_that_remembers_nothing_is_ended() {
    let engine = engine(&["--live-restore"]);
    let mut warden = warden(&engine);
    let control = engine.run_life(&[], "good:1");
    warden.sigkill();
    let bad = engine.run(&[], "bad:1", &["stubborn"]);
    engine.sigkill_dockerd();
    warden.restart();
    assert_says_away(&warden, false);
    // Its history is empty now: only a list tells of what survived.
    engine.start_dockerd();
    engine.wait_until_dead(&bad, SOON);
    assert_eq!(warden.wait_for_verdict(&bad, "denied")["trigger"], "sweep");
    engine.assert_same(&[control]);
}

#[test]
fn what_started_while_dockwarden_slept_is_ended() {
    let engine = engine(&["--live-restore"]);
    let warden = warden(&engine);
    let control = engine.run_life(&[], "good:1");
    warden.signal("STOP");
    let slept = engine.run(&[], "bad:1", &[]);
    engine.sigkill_dockerd();
    engine.start_dockerd();
    let after = engine.run(&[], "bad:1", &[]);
    warden.signal("CONT");
    for id in [slept, after] {
        engine.wait_until_dead(&id, SOON);
        warden.wait_for_verdict(&id, "denied");
    }
    engine.assert_same(&[control]);
}

#[test]
fn an_engine_that_is_not_there_yet_is_waited_for() {
    let engine = engine(&["--live-restore"]);
    let bad = engine.run(&[], "bad:1", &[]);
    let control = engine.run_life(&[], "good:1");
    engine.stop_dockerd();
    assert!(!engine.socket_path().exists());
    let warden = Warden::on(&engine).allowlist(LIST).start();
    assert_says_away(&warden, false);
    engine.start_dockerd();
    assert_is_back(&warden);
    engine.wait_until_dead(&bad, SOON);
    let id = engine.run(&[], "bad:1", &[]);
    engine.wait_until_dead(&id, SOON);
    engine.assert_same(&[control]);
}

#[test]
fn an_engine_that_hangs_for_a_while_costs_nothing() {
    let engine = engine(&[]);
    let warden = warden(&engine);
    let control = engine.run_life(&[], "good:1");
    engine.pause_dockerd();
    std::thread::scope(|scope| {
        // Asks now, is heard when the engine goes on.
        let run = scope.spawn(|| engine.run(&[], "bad:1", &[]));
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(warden.get("/livez").status, 200);
        assert_eq!(
            warden.get("/containers").status,
            200,
            "what is known stays known"
        );
        engine.resume_dockerd();
        let id = run.join().unwrap();
        engine.wait_until_dead(&id, SOON);
    });
    let id = engine.run(&[], "bad:1", &[]);
    engine.wait_until_dead(&id, SOON);
    engine.assert_same(&[control]);
}

#[test]
fn connections_that_are_cut_are_made_again() {
    let engine = engine(&[]);
    let before = engine.run(&[], "bad:1", &[]);
    let control = engine.run_life(&[], "good:1");
    let proxy = TcpProxy::to(&engine.socket_path());
    let warden = Warden::at(&proxy.url())
        .allowlist(LIST)
        .args(["--resync", "10m"])
        .start();
    warden.wait_ready();
    engine.wait_until_dead(&before, SOON);
    let id = engine.run(&[], "bad:1", &[]);
    engine.wait_until_dead(&id, SOON);

    for _ in 0..5 {
        proxy.cut();
        let id = engine.run(&[], "bad:1", &[]);
        proxy.cut(); // amid its end
        engine.wait_until_dead(&id, SOON);
        warden.wait_for_verdict(&id, "denied");
    }
    proxy.refuse(true);
    assert_says_away(&warden, true);
    let away = [
        engine.run(&[], "bad:1", &[]),
        engine.run(ALWAYS, "bad:1", &[]),
    ];
    let brief = engine.run(&["--rm"], "bad:1", &["exit", "0"]);
    assert_eq!(engine.state(&away[0]).as_deref(), Some("running"));
    proxy.refuse(false);
    assert_is_back(&warden);
    for id in &away {
        engine.wait_until_dead(id, SOON);
        warden.wait_for_verdict(id, "denied");
    }
    println!("missed: {:?}", warden.records_of(&brief));
    engine.assert_same(&[control]);
    assert!(warden.metric("dockwarden_engine_reconnects_total") >= 2.0);
}

#[test]
fn dockwarden_is_killed_and_started_again() {
    let engine = engine(&[]);
    let mut warden = warden(&engine);
    let control = engine.run_life(&[], "good:1");
    for _ in 0..2 {
        warden.sigkill();
        let bad = [
            engine.run(&[], "bad:1", &[]),
            engine.run(ALWAYS, "bad:1", &["exit", "1"]),
        ];
        assert_eq!(engine.state(&bad[0]).as_deref(), Some("running"));
        warden.restart();
        for id in &bad {
            engine.wait_until_dead(id, SOON);
            warden.wait_for_verdict(id, "denied");
        }
    }
    engine.assert_same(&[control]);
}

#[test]
fn two_on_one_engine_agree_and_tell_the_truth() {
    let engine = engine(&[]);
    let wardens = [warden(&engine), warden(&engine)];
    let control = engine.run_life(&[], "good:1");
    let bad: Vec<String> = (0..8).map(|_| engine.run(&[], "bad:1", &[])).collect();
    for id in &bad {
        engine.wait_until_dead(id, SOON);
        let outcomes = wardens.each_ref().map(|warden| {
            warden.wait_for_verdict(id, "denied");
            let records = warden.records_of(id);
            assert_eq!(records.len(), 1, "{records:#?}");
            records[0]["outcome"].as_str().unwrap().to_owned()
        });
        println!("{outcomes:?}");
        // It never ends itself. Both may have sent the signal that ended it.
        assert!(
            outcomes.iter().any(|outcome| outcome == "done"),
            "{outcomes:?}"
        );
        assert!(
            outcomes
                .iter()
                .all(|outcome| ["done", "gone"].contains(&&**outcome)),
            "{outcomes:?}"
        );
    }
    engine.assert_same(&[control]);
}
