//! By whichever path: what is forbidden ends and what is allowed does not. dockwarden runs in a container
//! of the engine that it enforces on, with no more than each path takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::Value;
use support::{Contained, Engine, Life, SOON, eventually};

const LIST: &str = r#"
version = 1
[defaults]
grants = []
[[allow]]
rule = "good"
image = "good:1"
grants = ["host-pid", "join:*"]
[[allow]]
rule = "own"
image = "own:1"
grants = ["all"]
"#;

const API: &[&str] = &["--env=DOCKWARDEN_CONTAINERD=off"];
const PID: &[&str] = &["--pid=host", "--cap-add=KILL", API[0]];
const GATE: &[&str] = &["--pid=host", "--cap-add=KILL", CONTAINERD];
/// Where the engine's containerd is for a dockwarden in a container.
const CONTAINERD: &str = "--env=DOCKWARDEN_CONTAINERD=/host/run/exec/containerd/containerd.sock";
/// All of them.
const ALL: &[&str] = &["api", "pid", "gate"];

fn engine(cgroup_v2: bool) -> Engine {
    support::require("curl", "curl");
    support::require("pkill", "procps");
    let mut builder = Engine::builder();
    if cgroup_v2 {
        builder = builder.cgroup_v2();
    }
    let engine = builder.start();
    for image in ["good:1", "bad:1", "own:1"] {
        engine.image(image);
    }
    engine
}

/// Starts dockwarden with these options, and waits until it has these paths.
fn warden<'a>(engine: &'a Engine, list: &str, options: &[&str], paths: &[&str]) -> Contained<'a> {
    let socket = format!("{}:/host/run", engine.dir().display());
    // Its own network is the engine's: there it is asked what it has.
    let fixed = ["--network=host", "--env=DOCKWARDEN_LISTEN=127.0.0.1:8080"];
    let own = engine.run_dockwarden("own:1", list, &socket, &[&fixed, options].concat());
    own.wait_ready();
    eventually("its paths", SOON, || self::paths(engine) == paths);
    own
}

/// What it says of the paths that it has.
fn paths(engine: &Engine) -> Vec<String> {
    let answer = engine.net_exec(&["curl", "-s", "http://127.0.0.1:8080/readyz"]);
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
    let paths = answer["paths"].as_array().into_iter().flatten();
    paths
        .filter_map(|path| Some(path.as_str()?.to_owned()))
        .collect()
}

/// Waits until a list that says `text` is in force.
#[track_caller]
fn wait_until_in_force(engine: &Engine, text: &str) {
    eventually("the list is in force", SOON, || {
        let answer = engine.net_exec(&["curl", "-s", "http://127.0.0.1:8080/allowlist"]);
        String::from_utf8_lossy(&answer.stdout).contains(text)
    });
}

fn end_of(own: &Contained<'_>, id: &str) -> Value {
    let mut found = Value::Null;
    eventually("its end is on record", SOON, || {
        let ends = own.records().into_iter();
        let mut ends = ends.filter(|one| one["container_id"] == id && !one["outcome"].is_null());
        found = ends.next_back().unwrap_or_default();
        !found.is_null()
    });
    found
}

fn count_ends(own: &Contained<'_>, id: &str) -> usize {
    let records = own.records();
    let ends = records.iter().filter(|one| one["container_id"] == id);
    ends.filter(|one| !one["outcome"].is_null()).count()
}

/// Creates, leaves the engine's word of that time to arrive, and starts; what the starter is told.
fn create_and_start(engine: &Engine, options: &[&str], image: &str) -> (String, bool) {
    let id = engine.create(options, image, &["stubborn"]);
    std::thread::sleep(std::time::Duration::from_millis(200));
    let started = engine.docker(&["start", &id]);
    (id, started.status.success())
}

/// How often a machine that has too much to do may let a program begin before dockwarden hears of it. How often
/// that is where it has not, the bench of the paths tells.
const TRIES: usize = 5;

/// Starts until one is met before its program began, and says what that starter was told. The others are ended
/// all the same, and on record.
fn meet_at_the_gate(engine: &Engine, own: &Contained<'_>, options: &[&str]) -> (String, bool) {
    for _ in 0..TRIES {
        let (id, is_started) = create_and_start(engine, options, "bad:1");
        let record = end_of(own, &id);
        if record["outcome"] == "never-ran" {
            return (id, is_started);
        }
        assert_eq!(record["outcome"], "done", "{options:?}: {record}");
        engine.wait_until_dead(&id, SOON);
    }
    panic!("{options:?}: none of {TRIES} was met: {:?}", own.records());
}

fn each_way_of_starting(engine: &Engine, own: &Contained<'_>, path: &str) {
    let target = engine.run_life(&[], "good:1");
    let join = format!("--pid=container:{}", target.id);
    for options in [
        &[][..],
        &["--restart=always"],
        &["--init"],
        &["--pid=host"],
        &[&join],
        &["--network=none", "--memory=64m"],
    ] {
        let id = match path {
            "gate" => meet_at_the_gate(engine, own, options).0,
            _ => create_and_start(engine, options, "bad:1").0,
        };
        engine.wait_until_dead(&id, SOON);
        let record = end_of(own, &id);
        assert_eq!(record["path"], path, "{options:?}: {record}");
        let wanted = if path == "gate" { "never-ran" } else { "done" };
        assert_eq!(record["outcome"], wanted, "{options:?}: {record}");
        assert!(record["lived_ms"].is_number(), "{options:?}: {record}");
        assert_eq!(count_ends(own, &id), 1, "{options:?}: {:?}", own.records());
        let life = engine.life(&id);
        assert_eq!(life.pid, 0, "{options:?}");
        eventually("it stays dead", SOON, || {
            let policy = &engine.inspect(&id)["HostConfig"]["RestartPolicy"]["Name"];
            policy == "no" || policy == ""
        });
    }
    engine.assert_same(&[target]);
}

fn path_ends_what_is_forbidden(cgroup_v2: bool, options: &[&str], paths: &[&str]) {
    let engine = engine(cgroup_v2);
    let before = engine.run_life(&["--restart=always"], "good:1");
    let own = warden(&engine, LIST, options, paths);
    let lives: Vec<Life> = vec![
        before,
        engine.life(&own.id),
        engine.run_life(&[], "good:1"),
        engine.run_life(&["--init", "--pid=host"], "good:1"),
    ];
    each_way_of_starting(&engine, &own, paths.last().unwrap());
    engine.assert_same(&lives);
    let fallen_back = own.log().contains("was not ended");
    assert!(!fallen_back, "{}", own.log());
}

#[test]
fn by_the_engine_alone() {
    path_ends_what_is_forbidden(false, API, &["api"]);
}

#[test]
fn by_a_signal() {
    path_ends_what_is_forbidden(false, PID, &["api", "pid"]);
}

/// Who copies out of a container and does not read holds its lock: the engine neither inspects nor kills it then.
#[test]
fn what_the_engine_can_not_end_is_ended_by_a_signal() {
    let engine = engine(false);
    let own = warden(&engine, LIST, PID, &["api", "pid"]);
    let good = engine.run_life(&[], "good:1");
    eventually("it is on record", SOON, || {
        let mut records = own.records().into_iter();
        records.any(|one| one["container_id"] == *good.id && one["verdict"] == "allowed")
    });
    let mut copy = UnixStream::connect(engine.socket_path()).unwrap();
    let ask = format!(
        "GET /containers/{}/archive?path=/ HTTP/1.1\r\nHost: d\r\n\r\n",
        good.id
    );
    copy.write_all(ask.as_bytes()).unwrap();
    copy.read_exact(&mut [0; 12]).unwrap();
    let inspect = [
        "timeout",
        "1",
        "docker",
        "-H",
        &engine.host(),
        "inspect",
        &good.id,
    ];
    let is_locked = !engine.inside(&inspect).status.success();
    assert!(is_locked, "the engine lets go of it");
    own.write_list(&LIST.replace("good:1", "other:1"));
    let process = format!("/proc/{}", good.pid);
    eventually("its process is gone", SOON, || {
        !engine.inside(&["test", "-e", &process]).status.success()
    });
    drop(copy);
    let end = end_of(&own, &good.id);
    assert_eq!(end["path"], "pid", "{end:#}");
}

#[test]
fn by_a_signal_under_cgroup_v2() {
    path_ends_what_is_forbidden(true, PID, &["api", "pid"]);
}

#[test]
fn at_the_gate() {
    path_ends_what_is_forbidden(false, GATE, ALL);
}

#[test]
fn at_the_gate_under_cgroup_v2() {
    path_ends_what_is_forbidden(true, GATE, ALL);
}

/// Who may not signal has the engine's kill, and says so.
#[test]
fn without_what_a_path_takes_it_is_not_there() {
    let engine = engine(false);
    for options in [&["--pid=host"][..], &["--cap-add=KILL"]] {
        let options = [options, &[CONTAINERD]].concat();
        let own = warden(&engine, LIST, &options, &["api"]);
        let (id, _) = create_and_start(&engine, &[], "bad:1");
        engine.wait_until_dead(&id, SOON);
        let record = end_of(&own, &id);
        let found = (&record["path"], &record["outcome"]);
        assert_eq!(found, (&"api".into(), &"done".into()), "{options:?}");
        engine.docker_ok(&["rm", "--force", &own.id]);
    }
}

/// What never ran is told to the starter, and each new start is met anew; with `--rm` as well.
#[test]
fn the_gate_meets_every_start() {
    let engine = engine(false);
    let own = warden(&engine, LIST, GATE, ALL);
    let (id, is_started) = meet_at_the_gate(&engine, &own, &[]);
    assert!(!is_started, "the starter is told");
    let mut is_met_again = false;
    for ends in 2.. {
        engine.docker(&["start", &id]);
        eventually("each is on record", SOON, || count_ends(&own, &id) == ends);
        is_met_again |= end_of(&own, &id)["outcome"] == "never-ran";
        if ends > TRIES || (ends > 3 && is_met_again) {
            break;
        }
    }
    assert!(is_met_again, "{:?}", own.records());
    let powers = ["--rm", "--network=host"];
    let (passing, is_started) = meet_at_the_gate(&engine, &own, &powers);
    assert!(!is_started);
    let (stays, _) = meet_at_the_gate(&engine, &own, &powers[1..]);
    // Nobody had to ask for them, and whoever allows it will have to grant them.
    let powers = end_of(&own, &stays)["powers"].to_string();
    assert!(powers.contains("host-network"), "{powers}");
    assert_eq!(end_of(&own, &passing)["path"], "gate");
}

#[test]
fn with_action_remove_the_gate_leaves_nothing() {
    let engine = engine(false);
    let list = format!("action = \"remove\"\n{LIST}");
    let own = warden(&engine, &list, GATE, ALL);
    let (id, is_started) = meet_at_the_gate(&engine, &own, &[]);
    assert!(!is_started);
    eventually("it is removed", SOON, || engine.state(&id).is_none());
}

/// One that ran when it was first seen is met at its next start; one whose end was not seen by this process, too.
#[test]
fn the_gate_is_told_of_what_has_ended() {
    let engine = engine(false);
    let ran = engine.run(&[], "bad:1", &["stubborn"]);
    let ended = engine.run(&[], "bad:1", &["exit", "0"]);
    engine.wait_until_dead(&ended, SOON);
    for keep_dead in [true, false] {
        let list = format!("keep-dead = {keep_dead}\n{LIST}");
        let own = warden(&engine, &list, GATE, ALL);
        engine.wait_until_dead(&ran, SOON);
        for id in [&ran, &ended] {
            eventually("it is met", SOON, || {
                std::thread::sleep(std::time::Duration::from_millis(200));
                engine.docker(&["start", id]);
                engine.wait_until_dead(id, SOON);
                end_of(&own, id)["outcome"] == "never-ran"
            });
        }
        engine.docker_ok(&["rm", "--force", &own.id]);
        engine.docker(&["start", &ran]);
    }
}

/// What was executed in a container is over with the life it was in, for a process that was started since as well.
#[test]
fn the_gate_forgets_an_exec_with_its_life() {
    let engine = engine(false);
    let list = format!(
        "{LIST}[[allow]]\nrule = \"closed\"\nimage = \"bad:1\"\nexec = false\ngrants = []\n"
    );
    let state = ["--env=DOCKWARDEN_STATE_DIR=/etc/dockwarden"];
    let own = warden(&engine, &list, &[GATE, &state].concat(), ALL);
    let id = engine.run(&[], "bad:1", &["stubborn"]);
    engine.docker(&["exec", &id, "/victim", "exit", "0"]);
    assert_eq!(end_of(&own, &id)["reason"], "foreign-exec");
    engine.docker_ok(&["kill", "--signal=KILL", &own.id]);
    engine.wait_until_dead(&own.id, SOON);
    engine.docker_ok(&["start", &own.id]);
    own.wait_ready();
    eventually("its paths", SOON, || paths(&engine) == ALL);
    engine.docker_ok(&["start", &id]);
    let life = engine.life(&id);
    own.write_list(&list.replace("good:1", "better:1"));
    wait_until_in_force(&engine, "better:1");
    engine.assert_same(&[life]);
    assert_eq!(count_ends(&own, &id), 1);
}

/// What the gate has ended was denied by the list of that moment. What that asked for beyond is not done when
/// another one is in force.
#[test]
fn in_audit_mode_nothing_is_removed_that_the_gate_met_before() {
    support::require("socat", "socat");
    let engine = engine(false);
    // A way to the engine that can be halted, among the engine's own processes.
    let (way, socket) = (engine.dir().join("way.sock"), engine.socket_path());
    let (from, to) = (way.display(), socket.display());
    let socat = format!("socat UNIX-LISTEN:{from},fork UNIX-CONNECT:{to} >/dev/null 2>&1 &");
    engine.inside(&["sh", "-c", &socat]);
    eventually("the way is there", SOON, || way.exists());
    let signal = |name: &str| {
        let sent = engine.inside(&["pkill", name, "-x", "socat"]);
        assert!(sent.status.success(), "{sent:?}");
    };
    let list = format!("action = \"remove\"\n{LIST}");
    let audit = format!("mode = \"audit\"\n{list}");
    let options = [GATE, &["--env=DOCKER_HOST=unix:///host/run/way.sock"]].concat();
    let own = warden(&engine, &list, &options, ALL);
    for _ in 0..TRIES {
        let id = engine.create(&[], "bad:1", &["stubborn"]);
        std::thread::sleep(std::time::Duration::from_millis(200));
        signal("-STOP");
        let is_met = !engine.docker(&["start", &id]).status.success();
        if is_met {
            own.write_list(&audit);
            wait_until_in_force(&engine, r#""mode":"audit""#);
        }
        signal("-CONT");
        if is_met {
            let record = end_of(&own, &id);
            assert_eq!(record["outcome"], "never-ran", "{record}");
            assert_eq!(record["mode"], "enforce", "{record}");
            assert_eq!(engine.state(&id).as_deref(), Some("created"), "{record}");
            return;
        }
        eventually("it is removed", SOON, || engine.state(&id).is_none());
    }
    panic!("none of {TRIES} was met: {:?}", own.records());
}

/// As a security module refuses it: the capability is there, the signal is not sent.
#[test]
fn a_signal_that_is_refused_is_left_to_the_engine_and_counted() {
    let engine = engine(false);
    let profile = engine.dir().join("seccomp.json");
    let refuses = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["pidfd_send_signal"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&profile, refuses).unwrap();
    let refuses = format!("--security-opt=seccomp={}", profile.display());
    let own = warden(&engine, LIST, &[GATE, &[&refuses]].concat(), ALL);
    let control = engine.run_life(&[], "good:1");
    for _ in 0..TRIES {
        let (id, is_started) = create_and_start(&engine, &[], "bad:1");
        assert!(is_started);
        engine.wait_until_dead(&id, SOON);
        let record = end_of(&own, &id);
        let found = (&record["path"], &record["outcome"]);
        assert_eq!(found, (&"api".into(), &"done".into()), "{record}");
    }
    let answer = engine.net_exec(&["curl", "-s", "http://127.0.0.1:8080/metrics"]);
    let metrics = String::from_utf8_lossy(&answer.stdout);
    for path in ["pid", "gate"] {
        let none = format!("dockwarden_path_fallbacks_total{{path=\"{path}\"}} 0\n");
        assert!(metrics.contains(none.trim_end_matches("0\n")), "{metrics}");
        assert!(!metrics.contains(&none), "{path}: {metrics}");
    }
    assert!(own.log().contains("a container's process was not ended"));
    engine.assert_same(&[control]);
}

/// Only a kill may come so early: a stop lets the program say goodbye, a pause lets it be looked at, and
/// audit mode touches nothing.
#[test]
fn the_gate_is_open_where_nothing_is_to_be_killed() {
    let engine = engine(false);
    for (head, state) in [
        ("action = \"stop\"\nstop-timeout = \"1s\"", "exited"),
        ("action = \"pause\"", "paused"),
        ("mode = \"audit\"", "running"),
    ] {
        let list = format!("{head}\n{LIST}");
        let own = warden(&engine, &list, GATE, ALL);
        let (id, is_started) = create_and_start(&engine, &[], "bad:1");
        assert!(is_started, "{head}");
        let record = end_of(&own, &id);
        assert_ne!(record["path"], "gate", "{head}: {record}");
        eventually(head, SOON, || engine.state(&id).as_deref() == Some(state));
        engine.docker_ok(&["rm", "--force", &own.id, &id]);
    }
}

/// Whatever was said of a container before it starts: what is allowed when it does is never stopped.
#[test]
fn the_gate_never_stops_what_is_allowed() {
    let engine = engine(false);
    let list = format!("{LIST}[[allow]]\ncontainer = \"welcome*\"\ngrants = []\n");
    let own = warden(&engine, &list, GATE, ALL);
    let stubborn = &["stubborn"][..];

    // By name alone, given late: under the first one it was denied.
    let renamed = engine.create(&["--name=stranger"], "bad:1", stubborn);
    std::thread::sleep(std::time::Duration::from_millis(300));
    engine.docker_ok(&["rename", &renamed, "welcome-1"]);
    // Its tag has moved, and its name is gone from the list of the engine.
    let moved = engine.create(&[], "good:1", stubborn);
    engine.image("good:1");
    // Created from an id.
    let id = engine.image_id("good:1");
    let by_id = engine.create(&[], &id, stubborn);
    // Denied when it was created, allowed by another list when it starts.
    let later = engine.create(&[], "bad:1", stubborn);
    let lives: Vec<Life> = [renamed, moved, by_id]
        .iter()
        .map(|id| {
            engine.docker_ok(&["start", id]);
            engine.life(id)
        })
        .collect();
    let more = list.replace("image = \"good:1\"", "image = [\"good:1\", \"bad:1\"]");
    own.write_list(&more);
    wait_until_in_force(&engine, "bad:1");
    engine.docker_ok(&["start", &later]);
    let later = engine.life(&later);
    for _ in 0..20 {
        let one = engine.create(&[], "good:1", stubborn);
        engine.docker_ok(&["start", &one]);
        assert_eq!(engine.state(&one).as_deref(), Some("running"));
        engine.docker_ok(&["rm", "--force", &one]);
    }
    engine.assert_same(&lives);
    engine.assert_same(&[later]);
    let mut ends = own.records();
    ends.retain(|one| one["event"] == "decision" && !one["outcome"].is_null());
    assert!(ends.is_empty(), "{ends:?}");
}

/// A containerd that is halted is noticed, and listened to again when it goes on.
#[test]
fn a_containerd_that_halts_is_noticed() {
    let engine = engine(false);
    let own = warden(&engine, LIST, GATE, ALL);
    let control = engine.run_life(&[], "good:1");
    let halted = engine.inside(&["pkill", "-STOP", "-x", "containerd"]);
    assert!(halted.status.success(), "{halted:?}");
    eventually("the gate is not counted on", SOON, || {
        paths(&engine) == ALL[..2]
    });
    // (The engine may have replaced it by now.)
    engine.inside(&["pkill", "-CONT", "-x", "containerd"]);
    eventually("the gate is back", SOON, || paths(&engine) == ALL);
    let (id, is_started) = meet_at_the_gate(&engine, &own, &[]);
    assert!(!is_started);
    assert_eq!(end_of(&own, &id)["path"], "gate");
    engine.assert_same(&[control]);
}

/// A containerd that is none, one that hangs, one that speaks otherwise and one that goes: the next path carries
/// on, and it is told.
#[test]
fn without_containerd_the_other_paths_carry_on() {
    let engine = engine(false);
    let listener = UnixListener::bind(engine.dir().join("deaf.sock")).expect("a socket");
    let other = UnixListener::bind(engine.dir().join("other.sock")).expect("a socket");
    std::thread::spawn(move || {
        for client in other.incoming().map_while(Result::ok) {
            let _ = (&client).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    for path in ["none", "deaf", "other"].map(|name| format!("/host/run/{name}.sock")) {
        let socket = format!("--env=DOCKWARDEN_CONTAINERD={path}");
        let options = [&PID[..2], &[&socket]].concat();
        let own = warden(&engine, LIST, &options, &["api", "pid"]);
        let (id, is_started) = create_and_start(&engine, &[], "bad:1");
        assert!(is_started, "{path}");
        engine.wait_until_dead(&id, SOON);
        assert_eq!(end_of(&own, &id)["path"], "pid", "{path}");
        let told = || own.log().contains("containerd is not listened to");
        eventually("it is told", SOON, told);
        engine.docker_ok(&["rm", "--force", &own.id]);
    }
    drop(listener);

    let own = warden(&engine, LIST, GATE, ALL);
    let control = engine.run_life(&[], "good:1");
    let killed = engine.inside(&["pkill", "-KILL", "-x", "containerd"]);
    assert!(killed.status.success(), "{killed:?}");
    eventually("it is told", SOON, || {
        own.log().contains("its stream has ended")
            || own.log().contains("containerd is not listened to")
    });
    eventually("the gate is back", SOON, || paths(&engine) == ALL);
    eventually("the engine itself has its containerd back", SOON, || {
        let run = engine.docker(&["run", "--rm", "good:1", "exit", "0"]);
        run.status.success()
    });
    let (id, is_started) = meet_at_the_gate(&engine, &own, &[]);
    assert!(!is_started);
    assert_eq!(end_of(&own, &id)["path"], "gate");
    engine.assert_same(&[control]);
}
