//! What is done to a forbidden container is what the list says: nothing in audit mode, else kill,
//! stop, pause or remove.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use serde_json::json;
use support::{Engine, SOON, Warden, eventually};

/// The list with a first line of its own.
fn list(head: &str) -> String {
    format!("version = 1\n{head}\n[[allow]]\nrule = \"good\"\nimage = \"good:1\"\n")
}

/// Sweeps each second; without it events must suffice.
const EAGER: &[&str] = &["--resync", "1s"];

fn engine() -> Engine {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("bad:1");
    engine
}

fn warden(engine: &Engine, head: &str, args: &[&str]) -> Warden {
    let warden = Warden::on(engine).allowlist(&list(head)).args(args).start();
    warden.wait_ready();
    warden
}

#[test]
fn audit_mode_touches_nothing_until_the_list_enforces() {
    let engine = engine();
    let before = engine.run_life(&["--restart", "always"], "bad:1");
    let warden = warden(&engine, "mode = \"audit\"", EAGER);
    let after = engine.run_life(&[], "bad:1");
    let control = engine.run_life(&[], "good:1");
    let bad = [before, after];
    for life in &bad {
        let record = warden.wait_for_verdict(&life.id, "denied");
        assert_eq!(
            (&record["mode"], &record["outcome"], &record["reason"]),
            (&json!("audit"), &json!("audit-only"), &json!("no-rule")),
            "{record:#}"
        );
    }
    warden.wait_for_sweeps(2);
    engine.assert_same(&bad);
    assert!(
        bad.iter()
            .all(|life| warden.records_of(&life.id).len() == 1)
    );
    assert_eq!(warden.metric("dockwarden_denied_running"), 2.0);
    assert_eq!(warden.metric("dockwarden_enforcing"), 0.0);
    assert_eq!(warden.get_json("/containers")["enforcing"], false);

    warden.write_list_by_rename(&list("mode = \"enforce\""));
    for life in &bad {
        engine.wait_until_dead(&life.id, SOON);
        let records = eventually("the end is on record", SOON, || {
            let records = warden.records_of(&life.id);
            (records.len() == 2).then_some(records)
        });
        let end = &records[1];
        assert_eq!(
            (&end["mode"], &end["outcome"], &end["trigger"]),
            (&json!("enforce"), &json!("done"), &json!("reload")),
            "{end:#}"
        );
    }
    engine.assert_same(&[control]);
}

#[test]
fn audit_mode_by_option_wins_over_the_list() {
    let engine = engine();
    let before = engine.run_life(&[], "bad:1");
    let warden = warden(
        &engine,
        "mode = \"enforce\"",
        &[EAGER, &["--mode", "audit"]].concat(),
    );
    let after = engine.run_life(&[], "bad:1");
    let bad = [before, after];
    for life in &bad {
        let record = warden.wait_for_verdict(&life.id, "denied");
        assert_eq!(record["outcome"], "audit-only", "{record:#}");
    }
    // Another list that says so does not change it.
    warden.write_list_in_place(&list("mode = \"enforce\"\naction = \"remove\""));
    let reloads = "dockwarden_allowlist_reloads_total{outcome=\"applied\"}";
    eventually("the other list is in force", SOON, || {
        warden.metric(reloads) > 0.0
    });
    warden.wait_for_sweeps(2);
    engine.assert_same(&bad);
    assert_eq!(warden.get_json("/containers")["enforcing"], false);
}

fn exit_code(engine: &Engine, id: &str) -> i64 {
    engine.inspect(id)["State"]["ExitCode"].as_i64().unwrap()
}

#[test]
fn kill_does_not_ask() {
    let engine = engine();
    let before = engine.run(&[], "bad:1", &[]);
    let warden = warden(&engine, "action = \"kill\"", &[]);
    let after = engine.run(&[], "bad:1", &[]);
    for id in [before, after] {
        engine.wait_until_dead(&id, SOON);
        assert_eq!(exit_code(&engine, &id), 137);
        let record = warden.wait_for_verdict(&id, "denied");
        assert_eq!(
            (&record["action"], &record["outcome"]),
            (&json!("kill"), &json!("done"))
        );
    }
}

#[test]
fn stop_asks_first_and_does_not_wait_for_the_container_s_own_timeout() {
    let engine = engine();
    let deaf = ["--stop-timeout", "3600", "--stop-signal", "SIGWINCH"];
    let before = engine.run(&[], "bad:1", &[]);
    let stubborn = engine.run(&deaf, "bad:1", &["stubborn"]);
    let control = engine.run_life(&deaf, "good:1");
    let warden = warden(&engine, "action = \"stop\"", &[]);
    let after = engine.run(&["--restart", "always"], "bad:1", &[]);
    for id in [&before, &after, &stubborn] {
        engine.wait_until_dead(id, SOON);
        let end = eventually("done is on record", SOON, || {
            let mut records = warden.records_of(id);
            records.retain(|record| record["outcome"] == "done");
            records.pop()
        });
        assert_eq!(end["action"], "stop", "{end:#}");
        assert_eq!(
            warden.records_of(id).len(),
            1,
            "an orderly stop is no alarm"
        );
    }
    // The one that has just started may not have got as far as listening to SIGTERM.
    assert_eq!(exit_code(&engine, &before), 0);
    assert_eq!(exit_code(&engine, &stubborn), 137);
    engine.assert_same(&[control]);
}

#[test]
fn pause_freezes_it_and_it_stays_frozen() {
    let engine = engine();
    let before = engine.run(&[], "bad:1", &[]);
    let control = engine.run_life(&[], "good:1");
    let warden = warden(&engine, "action = \"pause\"", &[]);
    let after = engine.run(&[], "bad:1", &[]);
    let is_paused = |id: &str| engine.state(id).as_deref() == Some("paused");
    for id in [&before, &after] {
        eventually("it is frozen", SOON, || is_paused(id));
        let record = warden.wait_for_verdict(id, "denied");
        assert_eq!(
            (&record["action"], &record["outcome"]),
            (&json!("pause"), &json!("done"))
        );
    }
    // Whoever resumes it does so in vain, every time: the engine tells of it before its list does.
    const TIMES: usize = 10;
    let frozen = engine.life(&after);
    for time in 1..=TIMES {
        engine.docker_ok(&["unpause", &after]);
        let again = eventually("this time is on record, too", SOON / 2, || {
            warden.records_of(&after).get(time).cloned()
        });
        assert_eq!(
            (&again["trigger"], &again["outcome"]),
            (&json!("unpause"), &json!("done")),
            "{again:#}"
        );
    }
    let third = engine.run(&[], "bad:1", &[]);
    eventually("so is a later one", SOON, || is_paused(&third));
    assert!(is_paused(&before) && is_paused(&after));
    engine.assert_same(&[frozen, control]);
    assert_eq!(warden.records_of(&before).len(), 1);
    assert_eq!(warden.records_of(&after).len(), 1 + TIMES);
}

/// It mostly is never seen to run for long enough to be frozen.
#[test]
fn pause_ends_what_crashes_again_and_again() {
    let engine = engine();
    let crash = |name: &str| {
        let options = ["--restart", "always", "--name", name];
        engine.run(&options, "bad:1", &["exit", "1"])
    };
    let before = crash("before");
    eventually("it crashes again and again", SOON, || {
        engine.inspect(&before)["RestartCount"].as_i64() >= Some(4)
    });
    // By default the restart policy of what was ended is taken: that alone would end a loop.
    let warden = warden(
        &engine,
        "action = \"pause\"\nkeep-dead = false",
        &["--resync", "10m"],
    );
    let after = crash("after");
    let well_behaved = engine.run(&["--restart", "always"], "bad:1", &[]);
    for id in [&before, &after] {
        let is_stopped = || matches!(engine.state(id).as_deref(), Some("exited" | "paused"));
        eventually("it crashes no more", SOON, is_stopped);
        let restarts = engine.inspect(id)["RestartCount"].clone();
        let end = eventually("its end is on record", SOON, || {
            let mut records = warden.records_of(id);
            records.retain(|record| record["outcome"] == "done");
            records.pop()
        });
        // One that is met in the middle of its crash is frozen in it.
        let is_frozen = engine.state(id).as_deref() == Some("paused");
        let action = if is_frozen { "pause" } else { "kill" };
        assert_eq!(end["action"], action, "{end:#}");
        assert_eq!(engine.inspect(id)["RestartCount"], restarts);
    }
    eventually("what runs on is frozen", SOON, || {
        engine.state(&well_behaved).as_deref() == Some("paused")
    });
    let records = warden.records_of(&well_behaved);
    assert!(records.iter().all(|one| one["action"] == "pause"));
}

/// What is frozen lives on: what was executed in it was executed in this life.
#[test]
fn a_foreign_exec_is_not_forgiven_by_a_pause() {
    let engine = engine();
    let id = engine.run(&[], "good:1", &[]);
    // Frozen in the middle of its start it would keep the engine from resuming anything.
    engine.docker_ok(&["exec", "-d", &id, "/victim", "sleep", "15"]);
    let list = format!("{}exec = false\n", list("action = \"pause\""));
    let warden = Warden::on(&engine).allowlist(&list).args(EAGER).start();
    let is_paused = || engine.state(&id).as_deref() == Some("paused");
    let pauses = || {
        let mut records = warden.records_of(&id);
        records.retain(|record| {
            (&record["reason"], &record["outcome"]) == (&json!("foreign-exec"), &json!("done"))
        });
        records.len()
    };
    let mut time = 0;
    let mut resume = || {
        time += 1;
        eventually("it is frozen", SOON, is_paused);
        eventually("this time is on record", SOON, || pauses() == time);
        warden.wait_for_sweeps(2);
        engine.docker_ok(&["unpause", &id]);
    };
    // It ends when it is not frozen.
    while !engine.inspect(&id)["ExecIDs"].is_null() {
        resume();
    }
    resume();
    resume();
    eventually("it is frozen again", SOON, is_paused);
    // With its life that is over.
    engine.docker_ok(&["kill", &id]);
    engine.wait_until_dead(&id, SOON);
    let allowed = || {
        let mut records = warden.records_of(&id);
        records.retain(|record| record["verdict"] == "allowed");
        records.len()
    };
    let before = allowed();
    engine.docker_ok(&["start", &id]);
    eventually("it is allowed again", SOON, || allowed() > before);
    let life = engine.life(&id);
    warden.wait_for_sweeps(2);
    engine.assert_same(&[life]);
}

#[test]
fn remove_leaves_nothing() {
    let engine = engine();
    let before = engine.run(&[], "bad:1", &[]);
    let looping = engine.run(&["--restart", "always"], "bad:1", &["exit", "1"]);
    let control = engine.run_life(&[], "good:1");
    let warden = warden(&engine, "action = \"remove\"", &[]);
    // The starter may be told that it is gone: its id is known from the creation.
    let after = engine.create(&[], "bad:1", &[]);
    let transient = engine.create(&["--rm"], "bad:1", &[]);
    for id in [&after, &transient] {
        println!("{:?}", engine.docker(&["start", id]).status);
    }
    for id in [before, looping, after, transient] {
        eventually("it is gone", SOON, || engine.state(&id).is_none());
        let record = warden.wait_for_verdict(&id, "denied");
        assert_eq!(record["action"], "remove", "{record:#}");
    }
    engine.assert_same(&[control]);
}
