//! Too few file descriptors: dockwarden takes what it may have, keeps some from its clients, and goes on
//! where it was when there are none for a while.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
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

fn open_files(warden: &Warden) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", warden.pid()));
    descriptors.expect("its descriptors").count()
}

/// Its soft limit on open files.
fn limit(warden: &Warden) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", warden.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    line.unwrap().split_whitespace().nth(3).unwrap().to_owned()
}

/// Clients that send half a request and stay.
fn flood(warden: &Warden, count: usize) -> Vec<TcpStream> {
    let connect = |_| {
        let mut client = TcpStream::connect(warden.address()).expect("a connection");
        let _ = client.write_all(b"GET /livez HTTP/1.1\r\nHost:");
        client
    };
    (0..count).map(connect).collect()
}

#[test]
fn the_limit_is_raised_and_clients_do_not_get_all_of_it() {
    let engine = engine();
    let warden = Warden::on(&engine)
        .allowlist(LIST)
        .descriptors(48, 128)
        .start();
    warden.wait_ready();
    assert_eq!(limit(&warden), "128");
    let control = engine.run_life(&[], "good:1");
    // More would not fit among those that wait to be accepted.
    let clients = flood(&warden, 120);
    for _ in 0..3 {
        let bad = engine.run(&[], "bad:1", &["stubborn"]);
        engine.wait_until_dead(&bad, Duration::from_secs(10));
    }
    assert!(open_files(&warden) < 100, "{}", open_files(&warden));
    drop(clients);
    engine.assert_same(&[control]);
}

#[test]
fn enforcement_goes_on_when_descriptors_come_back() {
    let engine = engine();
    let warden = Warden::on(&engine)
        .allowlist(LIST)
        .args(["--resync", "10m"])
        .start();
    warden.wait_ready();
    let control = engine.run_life(&[], "good:1");
    let set_limit = |limit: &str| {
        let pid = format!("--pid={}", warden.pid());
        let limit = format!("--nofile={limit}:");
        let set = Command::new("prlimit").args([pid, limit]).status();
        assert!(set.expect("prlimit runs").success());
    };
    let before = limit(&warden);
    // What is open stays open, and no call can be made any more.
    set_limit("3");
    let clients = flood(&warden, 50);
    let bad: Vec<String> = (0..3)
        .map(|_| engine.run(&[], "bad:1", &["stubborn"]))
        .collect();
    warden.wait_for_log(|line| line.contains("Too many open files"), SOON);
    for id in &bad {
        assert_eq!(engine.state(id).as_deref(), Some("running"));
    }
    assert!(warden.lives());
    set_limit(&before);
    for id in &bad {
        engine.wait_until_dead(id, SOON);
    }
    drop(clients);
    for id in &bad {
        warden.wait_for_verdict(id, "denied");
    }
    eventually("the API answers again", SOON, || {
        warden
            .request("GET", "/readyz", &[])
            .is_ok_and(|answer| answer.status == 200)
    });
    engine.assert_same(&[control]);
}
