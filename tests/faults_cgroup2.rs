//! An engine on cgroup v2 is enforced on as one on v1, from the host and from a container of its own,
//! whose cgroup says nothing of who it is there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::{Engine, SOON, Warden, eventually};

const RULES: &str = r#"
[[allow]]
rule = "good"
image = "good:1"
"#;

fn list(head: &str) -> String {
    format!("version = 1\n{head}\n{RULES}")
}

fn engine() -> Engine {
    let engine = Engine::builder().cgroup_v2().start();
    let version = engine.docker_ok(&["info", "--format", "{{.CgroupVersion}}"]);
    assert_eq!(version, "2");
    engine.image("good:1");
    engine.image("bad:1");
    engine.image("own:1");
    engine
}

fn exit_code(engine: &Engine, id: &str) -> i64 {
    let inspection = engine.inspect(id);
    inspection["State"]["ExitCode"].as_i64().unwrap()
}

#[test]
fn every_action_ends_what_is_forbidden_and_nothing_else() {
    let engine = engine();
    let control = engine.run_life(&["--restart", "always"], "good:1");
    for (action, state, by_sigkill) in [
        ("kill", Some("exited"), Some(true)),
        ("stop", Some("exited"), Some(false)),
        ("pause", Some("paused"), None),
        ("remove", None, None),
    ] {
        let head = format!("action = \"{action}\"");
        let before = engine.run(&[], "bad:1", &[]);
        let warden = Warden::on(&engine).allowlist(&list(&head)).start();
        warden.wait_ready();
        let after = engine.run(&[], "bad:1", &[]);
        for bad in [&before, &after] {
            let is_as_wanted = || engine.state(bad).as_deref() == state;
            eventually(action, SOON, is_as_wanted);
            let record = warden.wait_for_verdict(bad, "denied");
            assert_eq!(record["outcome"], "done", "{action}: {record}");
        }
        // (The one that has just started may not have got as far as listening to SIGTERM.)
        if let Some(by_sigkill) = by_sigkill {
            assert_eq!(exit_code(&engine, &before) == 137, by_sigkill, "{action}");
        }
        drop(warden);
        engine.docker(&["rm", "--force", &before, &after]);
    }
    engine.assert_same(&[control]);
}

#[test]
fn what_restarts_is_paused_or_asks_for_more_is_ended() {
    let engine = engine();
    let control = engine.run_life(&[], "good:1");
    let frozen = engine.run(&[], "bad:1", &["stubborn"]);
    engine.docker_ok(&["pause", &frozen]);
    let crashing = engine.run(&["--restart", "always"], "bad:1", &["exit", "1"]);
    let warden = Warden::on(&engine).allowlist(&list("")).start();
    warden.wait_ready();
    let options: [&[&str]; 5] = [
        &["--restart", "unless-stopped"],
        &["--restart", "on-failure"],
        &["--init"],
        &["--cgroupns", "host"],
        &["--pid", "host"],
    ];
    let started: Vec<_> = options
        .iter()
        .map(|options| engine.run(options, "bad:1", &["stubborn"]))
        .collect();
    for id in started.iter().chain([&frozen, &crashing]) {
        engine.wait_until_dead(id, SOON);
        warden.wait_for_verdict(id, "denied");
    }
    engine.assert_same(&[control]);
}

/// In a cgroup namespace of its own every container sees `/` as its cgroup.
#[test]
fn in_a_container_it_proves_which_one_and_enforces() {
    let engine = engine();
    let control = engine.run_life(&[], "good:1");
    let before = engine.run(&[], "bad:1", &[]);
    let socket = format!("{}:/host/run", engine.dir().display());
    let own = engine.run_dockwarden("own:1", &list(""), &socket, &[]);
    let life = engine.life(&own.id);
    let pid = life.pid.to_string();
    let cgroup = engine.inside(&["cat", &format!("/proc/{pid}/cgroup")]);
    let seen = engine.inside(&["nsenter", "-t", &pid, "-C", "cat", "/proc/self/cgroup"]);
    let (cgroup, seen) = (text(&cgroup.stdout), text(&seen.stdout));
    assert!(cgroup.contains(&own.id), "{cgroup}");
    assert!(!seen.contains(&own.id), "{seen}");
    own.wait_ready();
    let after = engine.run(&["--restart", "always"], "bad:1", &["stubborn"]);
    for id in [&before, &after] {
        engine.wait_until_dead(id, SOON);
        own.wait_for_end(id);
    }
    let log = own.log();
    assert!(log.contains("own container proven"), "{log}");
    // Its own image is on no list.
    engine.assert_same(&[control, life]);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
