//! Containers that are in no state to be ended: frozen, between two crashes, on their way out, held by
//! a start that hangs. They are ended when they can be, and keep nobody else alive.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Engine, SOON, Warden, eventually};

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

/// Sweeps are too far apart to help.
fn warden(engine: &Engine) -> Warden {
    let warden = Warden::on(engine)
        .allowlist(LIST)
        .args(["--resync", "10m"])
        .start();
    warden.wait_ready();
    warden
}

fn ended(warden: &Warden, id: &str) -> bool {
    let records = warden.records_of(id);
    records.iter().any(|one| one["outcome"] == "done")
}

#[test]
fn in_whatever_state_it_is_met() {
    let engine = engine();
    let lives = [
        engine.run_life(&["--restart", "always"], "good:1"),
        engine.run_life(&[], "good:1"),
    ];
    let frozen_good = engine.run(&[], "good:1", &["stubborn"]);
    let frozen = engine.run(&["--restart", "always"], "bad:1", &["stubborn"]);
    for id in [&frozen_good, &frozen] {
        engine.docker_ok(&["pause", id]);
    }
    let created = engine.create(&["--restart", "always"], "bad:1", &["stubborn"]);
    let crashing = engine.run(&["--restart", "always"], "bad:1", &["exit", "1"]);
    let exited = engine.run(&[], "bad:1", &["exit", "3"]);
    let removed = engine.run(&["--rm"], "bad:1", &["stubborn"]);
    // A container that is between two lives most of the time.
    eventually("it waits between two crashes", SOON, || {
        engine.state(&crashing).as_deref() == Some("restarting")
            && engine.inspect(&crashing)["RestartCount"].as_i64() >= Some(4)
    });
    let warden = warden(&engine);
    for id in [&frozen, &crashing, &removed] {
        engine.wait_until_dead(id, SOON);
        eventually("it is on record as ended", SOON, || ended(&warden, id));
    }
    let restarts = engine.inspect(&crashing)["RestartCount"].clone();
    // What runs nothing is left as it is, and judged when it starts.
    assert_eq!(engine.state(&created).as_deref(), Some("created"));
    assert_eq!(engine.inspect(&exited)["State"]["ExitCode"], 3);
    assert!(!ended(&warden, &created) && !ended(&warden, &exited));
    engine.docker_ok(&["start", &created]);
    engine.wait_until_dead(&created, SOON);
    // Frozen and let go under our eyes, also in the middle of its end.
    let thawed = engine.create(&[], "bad:1", &["stubborn"]);
    for _ in 0..3 {
        engine.docker(&["start", &thawed]);
        engine.docker(&["pause", &thawed]);
        engine.docker(&["unpause", &thawed]);
        engine.wait_until_dead(&thawed, SOON);
    }
    // A removal meets an end.
    for _ in 0..3 {
        let id = engine.run(&[], "bad:1", &["stubborn"]);
        engine.docker(&["rm", "--force", &id]);
        assert_eq!(engine.wait_until_dead(&id, SOON), None);
    }
    assert_eq!(engine.inspect(&crashing)["RestartCount"], restarts);
    assert_eq!(engine.state(&frozen_good).as_deref(), Some("paused"));
    engine.docker_ok(&["unpause", &frozen_good]);
    assert_eq!(engine.state(&frozen_good).as_deref(), Some("running"));
    engine.assert_same(&lives);
    let mut records = warden.records();
    records.retain(|record| record["image"] == "good:1" && !record["outcome"].is_null());
    assert!(records.is_empty(), "{records:#?}");
    assert_eq!(warden.metric("dockwarden_escaped_total"), 0.0);
}

/// Where the log driver of a container dials when it starts.
const PORT: u16 = 5140;

/// An address in the engine's own network that answers nothing, until it is told to.
fn black_hole(engine: &Engine, add_or_delete: &str) {
    let rule = [
        "OUTPUT",
        "-p",
        "tcp",
        "--dport",
        &PORT.to_string(),
        "-j",
        "DROP",
    ];
    let command = [&["iptables", "--wait", add_or_delete][..], &rule].concat();
    let output = engine.net_exec(&command);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
}

/// Whom a start that hangs would hold up: it keeps its container's lock all the while.
enum Waits {
    /// Removals, as all that is created and denied is removed.
    Removals,
    /// Inspections, as what the containers can do decides.
    Inspections,
    /// Nobody: what is only created is left alone.
    Nobody,
}

fn starts_that_hang(count: usize, who: Waits) {
    let engine = engine();
    let control = engine.run_life(&[], "good:1");
    let listener = engine.listen(PORT);
    black_hole(&engine, "-A");
    let address = format!("syslog-address=tcp://127.0.0.1:{PORT}");
    let mut options = vec!["--log-driver", "syslog", "--log-opt", &address];
    let (image, list) = match who {
        Waits::Removals => ("bad:1", LIST.replace("[[", "on-create = \"remove\"\n[[")),
        Waits::Inspections => ("good:1", LIST.replace("[[", "[defaults]\ngrants = []\n[[")),
        Waits::Nobody => ("bad:1", LIST.to_owned()),
    };
    options.extend(["--network", "host"]);
    let hanging: Vec<_> = (0..count)
        .map(|_| engine.create(&options, image, &["stubborn"]))
        .collect();
    let let_go = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for id in &hanging {
            scope.spawn(|| {
                engine.docker(&["start", id]);
                let_go.fetch_add(1, Ordering::SeqCst);
            });
        }
        eventually("all of them dial", SOON, || {
            // Port 5140 and the state SYN_SENT, as the kernel writes them.
            let output = engine.net_exec(&["grep", "-c", ":1414 02", "/proc/net/tcp"]);
            String::from_utf8_lossy(&output.stdout).trim() == count.to_string()
        });
        let warden = Warden::on(&engine)
            .allowlist(&list)
            .args(["--resync", "1s"])
            .start();
        warden.wait_ready();
        for number in 0..5 {
            let name = format!("other-{number}");
            engine.docker(&["run", "-d", "--name", &name, "bad:1", "stubborn"]);
            engine.wait_until_dead(&name, SOON);
            eventually("the end of another is on record", SOON, || {
                let mut records = warden.records().into_iter();
                records.any(|one| one["container_name"] == *name && !one["outcome"].is_null())
            });
        }
        let ended = let_go.load(Ordering::SeqCst);
        assert_eq!(ended, 0, "none of the starts has ended yet");
        black_hole(&engine, "-D");
        eventually("each start has ended", 2 * SOON, || {
            let_go.load(Ordering::SeqCst) == count
        });
        for id in &hanging {
            engine.wait_until_dead(id, SOON);
            eventually("it is on record", SOON, || {
                let mut records = warden.records_of(id).into_iter();
                records.any(|one| one["verdict"] == "denied" && !one["outcome"].is_null())
            });
        }
        assert_eq!(warden.metric("dockwarden_escaped_total"), 0.0);
    });
    engine.assert_same(&[control]);
    drop(listener);
}

/// As many as there are calls on containers at once.
#[test]
fn starts_that_hang_hold_up_removals_of_themselves_alone() {
    starts_that_hang(16, Waits::Removals);
}

#[test]
fn starts_that_hang_hold_up_inspections_of_themselves_alone() {
    starts_that_hang(32, Waits::Inspections);
}

#[test]
fn starts_that_hang_are_waited_for() {
    starts_that_hang(16, Waits::Nobody);
}
