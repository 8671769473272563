//! A forbidden container is ended whatever way it comes to run, and an allowed one beside it lives
//! its one life.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use serde_json::json;
use std::time::Duration;
use support::{Engine, Life, SOON, Warden, eventually};

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

const NAMES: &str = r#"
version = 1
[[allow]]
rule = "web"
container = "web-*"
"#;

/// An engine with the two images.
fn engine() -> Engine {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("bad:1");
    engine
}

/// A warden that is ready. Its sweeps are too far apart to help: events must suffice.
fn warden(engine: &Engine, list: &str) -> Warden {
    let warden = Warden::on(engine)
        .allowlist(list)
        .args(["--resync", "10m"])
        .start();
    warden.wait_ready();
    warden
}

/// Waits until a forbidden container was run and ended: what came before is over then.
fn fence(engine: &Engine) {
    let id = engine.run(&[], "bad:1", &[]);
    engine.wait_until_dead(&id, SOON);
}

/// Dead, and still so a while later: nothing revives it.
#[track_caller]
fn assert_ended(engine: &Engine, what: &str, id: &str) {
    assert_all_ended(engine, &[(what, id.to_owned())]);
}

#[track_caller]
fn assert_all_ended(engine: &Engine, victims: &[(&str, String)]) {
    for (what, id) in victims {
        println!("{what}: {:?}", engine.wait_until_dead(id, SOON));
    }
    fence(engine);
    for (what, id) in victims {
        let state = engine.state(id);
        assert!(
            matches!(state.as_deref(), None | Some("exited" | "removing")),
            "{what}: {state:?}"
        );
    }
}

#[test]
fn what_ran_before_is_ended() {
    let engine = engine();
    let control = [
        engine.run_life(&[], "good:1"),
        engine.run_life(&["--restart", "always"], "good:1"),
    ];
    let frozen = engine.run(&[], "good:1", &[]);
    engine.docker_ok(&["pause", &frozen]);
    let frozen = engine.life(&frozen);

    let paused = engine.run(&[], "bad:1", &[]);
    engine.docker_ok(&["pause", &paused]);
    let always = ["--restart", "always"];
    let victims = [
        ("plain", engine.run(&[], "bad:1", &[])),
        ("ignores SIGTERM", engine.run(&[], "bad:1", &["stubborn"])),
        ("--rm", engine.run(&["--rm"], "bad:1", &[])),
        ("always", engine.run(&always, "bad:1", &[])),
        (
            "always, ends itself",
            engine.run(&always, "bad:1", &["exit", "1"]),
        ),
        ("paused", paused),
    ];
    let created = engine.create(&[], "bad:1", &[]);

    let _warden = warden(&engine, LIST);
    assert_all_ended(&engine, &victims);
    engine.assert_same(&control);
    engine.assert_same(&[frozen]);
    assert_eq!(engine.state(&created).as_deref(), Some("created"));
    engine.docker_ok(&["start", &created]);
    assert_ended(&engine, "created long ago", &created);
    engine.assert_same(&control);
}

/// How a forbidden container comes to run, and its id.
type Way = fn(&Engine) -> String;

/// A forbidden container that was run and stopped, under the warden's eyes.
fn old(engine: &Engine, options: &[&str]) -> String {
    let id = engine.run(options, "bad:1", &[]);
    engine.wait_until_dead(&id, SOON);
    id
}

#[test]
fn whatever_way_it_comes_to_run_it_is_ended() {
    let ways: &[(&str, Way)] = &[
        ("run", |engine| engine.run(&[], "bad:1", &[])),
        ("run --rm", |engine| engine.run(&["--rm"], "bad:1", &[])),
        ("run, as a name that is allowed elsewhere", |engine| {
            engine.run(&["--name", "good"], "bad:1", &[])
        }),
        ("create, then start", |engine| {
            let id = engine.create(&[], "bad:1", &[]);
            engine.docker_ok(&["start", &id]);
            id
        }),
        ("start of an old one", |engine| {
            let id = old(engine, &[]);
            engine.docker_ok(&["start", &id]);
            id
        }),
        ("restart of an old one", |engine| {
            let id = old(engine, &[]);
            engine.docker_ok(&["restart", &id]);
            id
        }),
        ("restart policy, it ends itself", |engine| {
            engine.run(&["--restart", "always"], "bad:1", &["exit", "1"])
        }),
        ("restart policy, it runs on", |engine| {
            engine.run(&["--restart", "always"], "bad:1", &[])
        }),
        ("start of an old one with a restart policy", |engine| {
            let id = old(engine, &["--restart", "unless-stopped"]);
            engine.docker_ok(&["start", &id]);
            id
        }),
    ];
    let engine = engine();
    let stopped = engine.run(&[], "bad:1", &[]);
    engine.docker_ok(&["stop", &stopped]);
    let control = [engine.run_life(&[], "good:1")];
    let _warden = warden(&engine, LIST);
    let second = [engine.run_life(&["--restart", "always"], "good:1")];
    let victims: Vec<_> = ways
        .iter()
        .map(|(what, way)| (*what, way(&engine)))
        .collect();
    assert_all_ended(&engine, &victims);
    engine.docker_ok(&["start", &stopped]);
    assert_ended(&engine, "start of one stopped before", &stopped);
    engine.assert_same(&control);
    engine.assert_same(&second);
}

#[test]
fn what_is_only_created_is_left_alone() {
    let engine = engine();
    let warden = Warden::on(&engine)
        .allowlist(LIST)
        .args(["--resync", "1s"])
        .start();
    warden.wait_ready();
    let id = engine.create(&[], "bad:1", &[]);
    warden.wait_for_sweeps(2);
    assert_eq!(engine.state(&id).as_deref(), Some("created"));
    assert!(warden.records_of(&id).is_empty());
    engine.docker_ok(&["start", &id]);
    assert_ended(&engine, "created, then started", &id);
}

#[test]
fn a_new_name_is_judged() {
    let engine = engine();
    let warden = warden(&engine, NAMES);
    let control = engine.run_life(&["--name", "web-1"], "good:1");
    let id = engine.run(&["--name", "web-2"], "good:1", &[]);
    warden.wait_for_verdict(&id, "allowed");
    engine.docker_ok(&["rename", "web-2", "web-3"]);
    fence(&engine);
    assert_eq!(engine.state(&id).as_deref(), Some("running"));

    engine.docker_ok(&["rename", "web-3", "miner"]);
    assert_ended(&engine, "renamed", &id);
    let records = warden.records_of(&id);
    let last = records.last().unwrap();
    assert_eq!(
        (&last["container_name"], &last["trigger"]),
        (&json!("miner"), &json!("rename")),
        "{last:#}"
    );
    engine.assert_same(&[control]);
}

/// Starts every id, eight at a time.
fn start_all(engine: &Engine, ids: &[String]) {
    std::thread::scope(|scope| {
        for share in ids.chunks(ids.len().div_ceil(8)) {
            scope.spawn(move || {
                for id in share {
                    let (status, answer) =
                        engine.api("POST", &format!("/containers/{id}/start"), None);
                    assert_eq!(status, 204, "{answer}");
                }
            });
        }
    });
}

fn create_many(engine: &Engine, count: usize, image: &str) -> Vec<String> {
    let body = json!({ "Image": image });
    let create = |_| {
        let (status, answer) = engine.api("POST", "/containers/create", Some(&body));
        assert_eq!(status, 201, "{answer}");
        answer["Id"].as_str().unwrap().to_owned()
    };
    (0..count).map(create).collect()
}

fn lives(engine: &Engine, ids: &[String]) -> Vec<Life> {
    ids.iter().map(|id| engine.life(id)).collect()
}

#[track_caller]
fn assert_none_runs(engine: &Engine, ids: &[String]) {
    let mut left = Vec::new();
    eventually("all that is forbidden is dead", SOON * 2, || {
        left = engine.running_ids();
        left.retain(|id| ids.contains(id));
        left.is_empty()
    });
}

#[test]
fn many_at_once_are_ended_and_nothing_else() {
    let engine = engine();
    let warden = warden(&engine, LIST);
    for count in [10, 60] {
        let good = create_many(&engine, 6, "good:1");
        let bad = create_many(&engine, count, "bad:1");
        // The allowed ones start amid the others.
        let middle = count / 2;
        let all = [&bad[..middle], &good, &bad[middle..]].concat();
        start_all(&engine, &all);
        assert_none_runs(&engine, &bad);
        let control = lives(&engine, &good);
        assert!(control.iter().all(|life| life.state == "running"));
        fence(&engine);
        engine.assert_same(&control);
        assert_none_runs(&engine, &bad);
    }
    assert!(warden.records().iter().all(|record| {
        let is_good = record["image"] == "good:1";
        is_good == (record["verdict"] == "allowed")
    }));
    assert_eq!(
        warden.metric("dockwarden_engine_reconnects_total"),
        0.0,
        "the connection was good all the time"
    );
}

#[test]
fn many_that_ran_before_are_ended_and_nothing_else() {
    let engine = engine();
    let good = create_many(&engine, 6, "good:1");
    let bad = create_many(&engine, 60, "bad:1");
    start_all(&engine, &[&bad[..], &good].concat());
    let control = lives(&engine, &good);
    assert_eq!(engine.running_ids().len(), 66);
    let _warden = warden(&engine, LIST);
    assert_none_runs(&engine, &bad);
    fence(&engine);
    engine.assert_same(&control);
}

#[test]
fn innocent_looking_settings_shelter_nobody() {
    let engine = Engine::builder().bridge().start();
    engine.image("good:1");
    engine.image("bad:1");
    let odd_port = json!({"Image": "good:1", "ExposedPorts": {"81/foo": {}}});
    let (status, answer) = engine.api("POST", "/containers/create", Some(&odd_port));
    assert_eq!(status, 201, "{answer}");
    let odd = answer["Id"].as_str().unwrap();
    engine.docker_ok(&["start", odd]);
    let control = [
        engine.life(odd),
        engine.run_life(&["--expose", "82/foo"], "good:1"),
    ];
    let before = engine.run(&[], "bad:1", &[]);
    let warden = warden(&engine, LIST);
    let third = [engine.run_life(&["--expose", "83/foo"], "good:1")];
    assert_ended(&engine, "before, beside odd ports", &before);
    let after = engine.run(&[], "bad:1", &[]);
    assert_ended(&engine, "after, beside odd ports", &after);

    for size in [4 << 20, 20 << 20] {
        let label = "x".repeat(size);
        let large = json!({"Image": "bad:1", "Labels": {"large": label}});
        let (status, answer) = engine.api("POST", "/containers/create", Some(&large));
        assert_eq!(status, 201, "{answer}");
        let id = answer["Id"].as_str().unwrap();
        let (status, answer) = engine.api("POST", &format!("/containers/{id}/start"), None);
        assert_eq!(status, 204, "{answer}");
        assert_ended(&engine, "a label of megabytes", id);
    }
    let id = engine.run(&[], "bad:1", &[]);
    assert_ended(&engine, "beside labels of megabytes", &id);
    for lives in [&control[..], &third] {
        engine.assert_same(lives);
    }
    assert_eq!(warden.metric("dockwarden_engine_reconnects_total"), 0.0);
}

#[test]
fn a_rule_that_expires_allows_no_longer() {
    let engine = engine();
    let id = engine.run(&[], "bad:1", &[]);
    let control = engine.run_life(&[], "good:1");
    let expires = jiff::Timestamp::now() + Duration::from_secs(6);
    let list =
        format!("{LIST}[[allow]]\nrule = \"trial\"\nimage = \"bad:1\"\nexpires = {expires}\n");
    let warden = warden(&engine, &list);
    let allowed = warden.wait_for_verdict(&id, "allowed");
    assert_eq!(allowed["rule"], "trial");
    engine.wait_until_dead(&id, SOON);
    let denied = warden.wait_for_verdict(&id, "denied");
    assert_eq!(
        (&denied["reason"], &denied["trigger"], &denied["outcome"]),
        (&json!("expired"), &json!("expiry"), &json!("done")),
        "{denied:#}"
    );
    assert!(jiff::Timestamp::now() >= expires);
    engine.assert_same(&[control]);

    let late = engine.run(&[], "bad:1", &[]);
    engine.wait_until_dead(&late, SOON);
    assert_eq!(
        warden.wait_for_verdict(&late, "denied")["reason"],
        "expired"
    );
}

#[test]
fn on_a_host_it_enforces_without_a_container_of_its_own() {
    let engine = engine();
    let warden = warden(&engine, LIST);
    // The state list has a reading of its own, which may come later.
    eventually("/containers says so", SOON, || {
        let answer = warden.get("/containers");
        answer.status == 200 && answer.json()["enforcing"] == true
    });
    assert_eq!(warden.metric("dockwarden_enforcing"), 1.0);
    let id = engine.run(&[], "bad:1", &[]);
    engine.wait_until_dead(&id, SOON);
    assert!(
        warden
            .records()
            .iter()
            .all(|record| record["verdict"] != "self")
    );
}

/// The longest that SIGTERM may take: part of the contract, unlike other times.
const EXIT: Duration = Duration::from_secs(5);

#[track_caller]
fn assert_exits(warden: &Warden) {
    let (status, took) = warden.sigterm();
    assert_eq!(status.code(), Some(0));
    assert!(took < EXIT, "{took:?}");
}

#[test]
fn sigterm_ends_it_in_peace_and_in_a_storm() {
    let engine = engine();
    let control = engine.run_life(&[], "good:1");
    for subcommand in ["run", "controller", "api"] {
        let warden = Warden::on(&engine)
            .subcommand(subcommand)
            .allowlist(LIST)
            .start();
        warden.wait_ready();
        assert_exits(&warden);
    }

    let mut warden = warden(&engine, LIST);
    let bad = create_many(&engine, 20, "bad:1");
    std::thread::scope(|scope| {
        scope.spawn(|| start_all(&engine, &bad));
        eventually("the storm has begun", SOON, || {
            warden.metric("dockwarden_actions_total") > 0.0
        });
        assert_exits(&warden);
    });
    warden.restart();
    assert_none_runs(&engine, &bad);
    engine.assert_same(&[control]);
}

#[test]
fn sigterm_ends_it_while_the_engine_hangs() {
    let engine = engine();
    let audit = format!("mode = \"audit\"{LIST}");
    let warden = warden(&engine, &audit);
    let bad = engine.run(&[], "bad:1", &[]);
    warden.wait_for_verdict(&bad, "denied");
    engine.pause_dockerd();
    // Now there is something to end, and it can't be.
    warden.write_list_by_rename(LIST);
    warden.wait_for_log(|line| line.contains("came into force"), SOON);
    assert_exits(&warden);
    engine.resume_dockerd();
    assert_eq!(engine.state(&bad).as_deref(), Some("running"));
}
