//! `dockwarden canary` on real engines: what it tells under every action, without enforcement and in
//! trouble, and that nothing of it is left.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{Engine, SOON, TcpProxy, Warden, dockwarden, eventually, send_signal};

const NOTHING: &str = "version = 1\nallow-nothing = true\n";
const EVERYTHING: &str = "version = 1\n[[allow]]\nimage = \"**\"\n";
/// Long enough that no canary of a test escapes on a machine that is busy.
const PATIENT: &str = "60s";

// ---- Asking

fn canary(engine: &str, args: &[&str]) -> Output {
    dockwarden([&["canary", "--engine", engine, "--output", "json"], args].concat())
}

/// The answer of a run with this exit code.
#[track_caller]
fn answer(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// One that goes on meanwhile, and ends with the test.
fn spawn(engine: &str, args: &[&str]) -> Child {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_dockwarden")])
        .args(["canary", "--engine", engine, "--output", "json"])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("setpriv runs")
}

/// Waits for a running canary; its id.
#[track_caller]
fn running(engine: &Engine) -> String {
    eventually("a canary runs", SOON, || engine.running_ids().pop())
}

fn images(engine: &Engine) -> Vec<Value> {
    match engine.api("GET", "/images/json?all=1", None) {
        (200, Value::Array(images)) => images,
        other => panic!("images: {other:?}"),
    }
}

#[track_caller]
fn assert_clean(engine: &Engine) {
    assert_eq!(engine.list(), Vec::<Value>::new());
    assert_eq!(images(engine), Vec::<Value>::new());
}

fn outcomes(answer: &Value) -> Vec<&str> {
    let runs = answer["runs"].as_array().expect("runs");
    let outcomes = runs.iter().map(|run| run["outcome"].as_str().unwrap());
    outcomes.collect()
}

// ---- Enforcement

#[test]
fn every_action_is_told_as_what_it_is() {
    let engine = Engine::start();
    let table = [
        ("action = \"kill\"", "ended"),
        ("action = \"stop\"\nstop-timeout = \"1m\"", "ended"),
        ("action = \"remove\"", "ended"),
        ("action = \"pause\"", "paused"),
    ];
    for (action, outcome) in table {
        let warden = Warden::on(&engine).allowlist(&format!("{action}\n{NOTHING}"));
        let warden = warden.start();
        warden.wait_ready();
        let output = canary(
            &engine.host(),
            &["--count", "3", "--interval", "0s", "--timeout", PATIENT],
        );
        let answer = answer(&output, 0);
        assert_eq!(outcomes(&answer), [outcome; 3], "{action}");
        assert_eq!(answer["count"], 3);
        assert_eq!(answer[outcome], 3);
        assert_eq!(answer["escaped"], 0);
        let lived: Vec<_> = answer["runs"].as_array().unwrap().iter().collect();
        for run in &lived {
            let lived = run["lived_ms"].as_f64().unwrap();
            assert!(lived > 0.0 && lived < 60_000.0, "{action}: {answer}");
            assert!(lived <= answer["lived_ms"]["max"].as_f64().unwrap());
        }
        assert_clean(&engine);
        if action.contains("kill") {
            for run in lived {
                let id = run["container_id"].as_str().unwrap();
                let record = warden.wait_for_verdict(id, "denied");
                // The same two times of the engine's stand behind both, where it was not removed before it was
                // put on record.
                if record["started_at"].is_null() {
                    assert!(record["lived_ms"].as_f64().unwrap() > 0.0, "{record:#}");
                } else {
                    assert_eq!(record["lived_ms"], run["lived_ms"], "{record:#}");
                }
                assert_eq!(record["reason"], "no-rule");
                assert_eq!(record["container_name"], run["container_name"]);
                let mark = run["container_name"].as_str().unwrap();
                let mark = mark.strip_prefix("dockwarden-canary-").unwrap();
                assert_eq!(record["image"], format!("dockwarden-canary:{mark}"));
            }
        }
    }
}

/// Serves one request a connection, as dockwarden makes them, and holds a start until `removed`.
fn holding_starts(engine: &Engine, removed: impl Fn() -> bool + Send + Clone + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let socket = engine.socket_path();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, socket, removed) = (client.unwrap(), socket.clone(), removed.clone());
            std::thread::spawn(move || {
                let mut request = [0; 16 * 1024];
                let read = client.read(&mut request).unwrap();
                let head = String::from_utf8_lossy(&request[..read]).into_owned();
                if head.starts_with("POST") && head.lines().next().unwrap().contains("/start") {
                    eventually("it is removed", SOON, &removed);
                }
                let mut server = UnixStream::connect(&socket).unwrap();
                server.write_all(&request[..read]).unwrap();
                let (mut rest, mut on) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut rest, &mut on));
                let _ = std::io::copy(&mut server, &mut client);
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    format!("tcp://{address}")
}

#[test]
fn what_is_removed_at_its_create_never_ran() {
    let engine = Engine::start();
    let warden = Warden::on(&engine).allowlist(&format!("on-create = \"remove\"\n{NOTHING}"));
    let warden = warden.start();
    warden.wait_ready();
    let socket = engine.socket_path();
    let url = holding_starts(&engine, move || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let ask = "GET /containers/json?all=1 HTTP/1.0\r\nHost: engine\r\n\r\n";
        stream.write_all(ask.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.trim_end().ends_with("[]")
    });
    let output = canary(
        &url,
        &["--count", "2", "--interval", "0s", "--timeout", PATIENT],
    );
    let answer = answer(&output, 0);
    assert_eq!(outcomes(&answer), ["never-ran"; 2]);
    assert_eq!(answer["never_ran"], 2);
    assert_eq!(answer["runs"][0]["lived_ms"], 0.0);
    assert_eq!(
        answer["lived_ms"],
        json!({"p50": null, "p99": null, "max": null})
    );
    assert_clean(&engine);
}

#[test]
fn without_enforcement_it_escapes_and_says_where_to_look() {
    let engine = Engine::start();
    let args = ["--count", "2", "--interval", "0s", "--timeout", "1s"];
    let escapes = |who: &str| {
        let output = canary(&engine.host(), &args);
        let answer = answer(&output, 1);
        assert_eq!(outcomes(&answer), ["escaped"; 2], "{who}");
        assert_eq!(
            (&answer["escaped"], &answer["ended"]),
            (&json!(2), &json!(0))
        );
        assert_eq!(answer["runs"][0]["lived_ms"], Value::Null);
        assert_clean(&engine);
        let told = told(&output);
        assert_eq!(
            told.matches("still ran 1 s after its start").count(),
            2,
            "{told}"
        );
        told
    };
    escapes("no dockwarden");
    for (list, mode) in [
        (format!("mode = \"audit\"\n{NOTHING}"), "audit"),
        (EVERYTHING.to_owned(), "enforce"),
    ] {
        let warden = Warden::on(&engine).allowlist(&list);
        let log = warden.dir().join("audit.jsonl").display().to_string();
        let warden = warden.args(["--audit-log", &log]).start();
        warden.wait_ready();
        let told = escapes(mode);
        let learned = dockwarden(["learn", "--from", &log]);
        let learned = String::from_utf8_lossy(&learned.stdout).into_owned();
        let records = std::fs::read_to_string(&log).unwrap();
        assert!(records.contains("dockwarden-canary:") && learned.contains("allow-nothing = true"));
        // The command that it names is one, and it tells.
        let command = told.split('`').nth(1).expect("a command");
        let words = command.split(' ').skip(1).map(str::to_owned);
        let path = warden.list_path().display().to_string();
        let output = dockwarden(words.chain(["--allowlist".to_owned(), path]));
        let is_allowed = list == EVERYTHING;
        assert_eq!(
            output.status.code(),
            Some(i32::from(!is_allowed)),
            "{output:?}"
        );
        let word = if is_allowed { ": allowed" } else { ": denied" };
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(word),
            "{output:?}"
        );
    }
}

#[test]
fn one_that_ends_by_itself_proves_nothing() {
    let engine = Engine::start();
    let run = spawn(&engine.host(), &["--count", "1", "--timeout", PATIENT]);
    let id = running(&engine);
    engine.docker_ok(&["kill", "--signal", "ALRM", &id]);
    let output = run.wait_with_output().unwrap();
    let answer = answer(&output, 1);
    assert_eq!(outcomes(&answer), ["ended-itself"]);
    assert_eq!(
        (&answer["ended_itself"], &answer["ended"]),
        (&json!(1), &json!(0))
    );
    assert!(told(&output).contains("proves nothing"), "{output:?}");
    assert_clean(&engine);
}

// ---- What it is

#[test]
fn a_canary_may_do_nothing_and_is_known_by_its_mark() {
    let engine = Engine::start();
    let run = spawn(&engine.host(), &["--count", "1", "--timeout", "3s"]);
    let id = running(&engine);
    let found = engine.inspect(&id);
    let name = found["Name"].as_str().unwrap().trim_start_matches('/');
    let mark = name.strip_prefix("dockwarden-canary-").expect("its name");
    assert_eq!(
        found["Config"]["Image"],
        format!("dockwarden-canary:{mark}")
    );
    assert_eq!(found["Config"]["Labels"]["dockwarden.canary"], mark);
    for (place, value) in [
        ("/HostConfig/NetworkMode", json!("none")),
        ("/HostConfig/ReadonlyRootfs", json!(true)),
        ("/HostConfig/CapDrop", json!(["ALL"])),
        ("/HostConfig/SecurityOpt", json!(["no-new-privileges"])),
        ("/HostConfig/RestartPolicy/Name", json!("")),
        ("/HostConfig/LogConfig/Type", json!("none")),
        ("/HostConfig/AutoRemove", json!(false)),
        ("/HostConfig/Privileged", json!(false)),
        ("/Mounts", json!([])),
        // No stop is lost that comes before its first instruction.
        ("/Config/StopSignal", json!("SIGKILL")),
    ] {
        assert_eq!(found.pointer(place), Some(&value), "{place}");
    }
    let size = images(&engine)[0]["Size"].as_u64().unwrap();
    assert!(size < 1024, "an image of {size} bytes");
    assert_eq!(run.wait_with_output().unwrap().status.code(), Some(1));
    assert_clean(&engine);
}

#[test]
fn two_at_once_do_not_disturb_each_other() {
    let engine = Engine::start();
    let warden = Warden::on(&engine).allowlist(NOTHING).start();
    warden.wait_ready();
    let args = ["--count", "5", "--interval", "0s", "--timeout", PATIENT];
    let runs = [spawn(&engine.host(), &args), spawn(&engine.host(), &args)];
    for run in runs {
        let answer = answer(&run.wait_with_output().unwrap(), 0);
        assert_eq!(outcomes(&answer), ["ended"; 5]);
    }
    assert_clean(&engine);
}

// ---- Clean up

#[test]
fn whatever_ends_it_nothing_is_left() {
    let engine = Engine::start();
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let run = spawn(&engine.host(), &["--timeout", PATIENT]);
        running(&engine);
        send_signal(&run, signal);
        let answer = answer(&run.wait_with_output().unwrap(), code);
        assert_eq!(answer["count"], 0);
        assert_clean(&engine);
    }
    // Between two, nothing is there to be removed, and what was found is told.
    let args = ["--count", "2", "--interval", "1h", "--timeout", "1s"];
    let run = spawn(&engine.host(), &args);
    running(&engine);
    eventually("the first is removed", SOON, || images(&engine).is_empty());
    send_signal(&run, "TERM");
    assert_eq!(answer(&run.wait_with_output().unwrap(), 1)["escaped"], 1);
    assert_clean(&engine);
}

/// It takes half a minute: that long what one run has made may be in use by it.
#[test]
fn what_a_killed_one_left_ends_by_itself_and_the_next_one_removes_it() {
    let engine = Engine::start();
    let mut run = spawn(&engine.host(), &["--count", "1", "--timeout", "1s"]);
    let id = running(&engine);
    run.kill().unwrap();
    run.wait().unwrap();

    let once = || canary(&engine.host(), &["--count", "1", "--timeout", "1s"]);
    answer(&once(), 1);
    assert_eq!(engine.running_ids(), [&*id], "it may be in use");
    engine.wait_until_dead(&id, SOON);
    assert_eq!(engine.inspect(&id)["State"]["ExitCode"], 14);

    wait_until_over(&engine, &id);
    answer(&once(), 1);
    assert_clean(&engine);
}

/// The same half a minute: had the next run removed it, that would look like an end.
#[test]
fn one_that_was_held_up_for_longer_is_no_answer() {
    let engine = Engine::start();
    let run = spawn(&engine.host(), &["--count", "1", "--timeout", "1s"]);
    let id = running(&engine);
    send_signal(&run, "STOP");
    wait_until_over(&engine, &id);
    engine.docker_ok(&["rm", "--force", &id]);
    send_signal(&run, "CONT");
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(told(&output).contains("nothing is proven"), "{output:?}");
    assert_clean(&engine);
}

/// Waits until what was made for a canary may be removed by the next run.
#[track_caller]
fn wait_until_over(engine: &Engine, id: &str) {
    let labels = engine.inspect(id)["Config"]["Labels"].clone();
    let until = labels["dockwarden.canary.until"].as_str().unwrap();
    let until: u64 = until.parse().unwrap();
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let over = || now() > until;
    eventually("its time is over", Duration::from_secs(60), over);
}

#[test]
fn what_others_made_is_never_removed() {
    let engine = Engine::start();
    let old = "dockwarden.canary.until=1";
    let label = |mark: &str| format!("dockwarden.canary={mark}");
    // An image and a container that only look so, of everything but one thing each.
    let labels = format!("LABEL {} {old}", label("aa-1"));
    engine.image_with("other:1", &[&labels]);
    engine.image("plain:1");
    engine.create(
        &[
            "--name",
            "dockwarden-canary-bb-1",
            "--label",
            &label("bb-1"),
        ],
        "plain:1",
        &[],
    );
    engine.create(&["--name", "another"], "other:1", &[]);
    let mark = label("aa-1");
    engine.create(
        &["--name", "dockwarden-canary-aa-1", "--label", &mark],
        "plain:1",
        &[],
    );
    // And one that is a left-over.
    let labels = format!("LABEL {} {old}", label("cc-1"));
    engine.image_with("dockwarden-canary:cc-1", &[&labels]);
    engine.create(
        &["--name", "dockwarden-canary-cc-1"],
        "dockwarden-canary:cc-1",
        &[],
    );
    engine.create(&["--name", "of-it"], "dockwarden-canary:cc-1", &[]);

    answer(
        &canary(&engine.host(), &["--count", "1", "--timeout", "1s"]),
        1,
    );
    let mut left: Vec<_> = engine
        .list()
        .iter()
        .map(|one| one["Names"][0].clone())
        .collect();
    left.sort_by_key(Value::to_string);
    let theirs = ["aa-1", "bb-1"].map(|mark| format!("/dockwarden-canary-{mark}"));
    assert_eq!(left, ["/another", &*theirs[0], &*theirs[1], "/of-it"]);
    engine.image_id("other:1");
    engine.image_id("plain:1");
}

// ---- Trouble

#[test]
fn an_engine_that_goes_is_no_answer() {
    let engine = Engine::start();
    let proxy = TcpProxy::to(&engine.socket_path());
    let run = spawn(&proxy.url(), &["--timeout", PATIENT]);
    running(&engine);
    proxy.refuse(true);
    std::thread::sleep(Duration::from_secs(2)); // how long it is away
    proxy.refuse(false);
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_clean(&engine);

    // Killed, and not back in time: it says what is left.
    let run = spawn(&engine.host(), &["--timeout", PATIENT]);
    let name = engine.inspect(&running(&engine))["Name"].clone();
    engine.sigkill_dockerd();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let name = name.as_str().unwrap().trim_start_matches('/');
    assert!(
        told(&output).contains(&format!("could not be removed: `{name}`")),
        "{output:?}"
    );

    let output = canary(&engine.host(), &[]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(told(&output).contains(&engine.host()), "{output:?}");
}

#[test]
fn an_engine_of_other_programs_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.read(&mut [0; 4096]).unwrap();
            let body = r#"{"Os":"linux","Arch":"riscv64"}"#;
            let size = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n{body}");
            client.write_all(answer.as_bytes()).unwrap();
        }
    });
    let output = canary(&url, &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(told(&output).contains("linux/riscv64"), "{output:?}");
}

#[test]
fn bad_usage_is_told() {
    for args in [
        ["--count", "0"],
        ["--count", "-1"],
        ["--interval", "soon"],
        ["--timeout", "0s"],
        ["--timeout", "2h"],
        ["--engine", "ssh://nowhere"],
    ] {
        let output = dockwarden(["canary"].iter().chain(&args));
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn people_get_a_table() {
    let engine = Engine::start();
    let args = ["canary", "--count", "1", "--timeout", "1s", "--engine"];
    let output = dockwarden(args.iter().copied().chain([&*engine.host()]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let [header, row] = text.lines().collect::<Vec<_>>()[..] else {
        panic!("{text}");
    };
    let words = |line: &str| -> Vec<_> {
        line.split("   ")
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let header = words(header);
    assert_eq!(header[0], "COUNT");
    assert_eq!(header[5], "ESCAPED");
    assert_eq!(words(row), ["1", "0", "0", "0", "0", "1", "-", "-", "-"]);
}
