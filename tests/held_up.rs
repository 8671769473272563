//! What tries to hold dockwarden up, or to make it act on what is no longer so, does not succeed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
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

fn is_ended(engine: &Engine, id: &str) -> bool {
    engine
        .wait_until_dead(id, SOON)
        .is_none_or(|state| state == "exited")
}

/// An engine's own mounts for a container show that container's id on the host.
#[test]
fn a_container_with_shareable_memory_is_not_taken_for_our_own() {
    let engine = engine();
    let shareable = engine.run(&["--ipc", "shareable"], "bad:1", &[]);
    let warden = Warden::on(&engine).allowlist(LIST).start();
    warden.wait_ready();
    assert!(is_ended(&engine, &shareable));
    drop(warden);
}

#[test]
fn half_sent_requests_by_the_hundred_leave_enforcement_alone() {
    let engine = engine();
    let warden = Warden::on(&engine).allowlist(LIST).start();
    warden.wait_ready();
    let clients: Vec<_> = (0..350)
        .map(|_| {
            let mut client = TcpStream::connect(warden.address()).expect("a connection");
            client
                .write_all(b"GET /livez HTTP/1.1\r\nHost:")
                .expect("half a request");
            client
        })
        .collect();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", warden.pid()))
        .expect("its descriptors")
        .count();
    assert!(descriptors < 300, "{descriptors} descriptors are open");
    for _ in 0..5 {
        let id = engine.run(&[], "bad:1", &[]);
        assert!(is_ended(&engine, &id));
    }
    let (status, _) = warden.sigterm();
    assert!(status.success(), "{status}");
    drop(clients);
}

/// A dockwarden whose output nobody reads; ended with the value.
struct Unread(Child);

impl Unread {
    fn start(engine: &Engine, arguments: &[&str]) -> Self {
        let list = engine.dir().join("unread.toml");
        std::fs::write(&list, LIST).expect("a list");
        let child = Command::new(env!("CARGO_BIN_EXE_dockwarden"))
            .args(["run", "--listen", "127.0.0.1:0", "--engine", &engine.host()])
            .arg("--allowlist")
            .arg(&list)
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("dockwarden");
        Self(child)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// 64 KiB fill a pipe: at this level that is a few containers' worth of lines.
#[test]
fn a_log_that_nobody_reads_leaves_enforcement_alone() {
    let engine = engine();
    let unread = Unread::start(&engine, &["--log-level", "trace"]);
    for _ in 0..12 {
        let id = engine.run(&[], "bad:1", &[]);
        assert!(is_ended(&engine, &id));
    }
    drop(unread);
}

/// Each record is close to a kilobyte, and each start writes one.
#[test]
fn an_audit_log_that_nobody_reads_leaves_enforcement_alone() {
    let engine = engine();
    let unread = Unread::start(&engine, &["--audit-log", "-", "--log-level", "error"]);
    for number in 0..90 {
        let id = engine.run(&[], "bad:1", &[]);
        assert!(is_ended(&engine, &id), "start {number}");
    }
    // One container again and again: its own task must not be caught in the journal.
    let again = engine.run(&[], "bad:1", &[]);
    for _ in 0..3 {
        assert!(is_ended(&engine, &again));
        engine.docker_ok(&["start", &again]);
    }
    assert!(is_ended(&engine, &again));
    drop(unread);
}

/// The rest of a list that is being written may allow what its beginning does not.
#[test]
fn a_sighup_in_the_middle_of_a_save_takes_no_half_list() {
    let engine = engine();
    let whole = format!("{LIST}\n[[allow]]\nrule = \"other\"\nimage = \"bad:1\"\n");
    let warden = Warden::on(&engine).allowlist(&whole).start();
    warden.wait_ready();
    let life = engine.run_life(&[], "bad:1");
    for _ in 0..5 {
        let mut file = std::fs::File::create(warden.list_path()).expect("the list");
        file.write_all(LIST.as_bytes()).expect("its beginning");
        warden.signal("HUP");
        // Longer than a reload of a closed file takes, shorter than one of a still file.
        std::thread::sleep(Duration::from_millis(200));
        file.write_all(&whole.as_bytes()[LIST.len()..])
            .expect("its rest");
        drop(file);
        let hash = |warden: &Warden| {
            warden.get_json("/allowlist")["list"]["allow"]
                .as_array()
                .unwrap()
                .len()
        };
        eventually("the whole list is in force", SOON, || hash(&warden) == 2);
    }
    engine.assert_same(&[life]);
}
