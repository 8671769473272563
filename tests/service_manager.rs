//! What systemd is told by the real binary, over a socket like its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use support::scripted::{Scripted, listed, numbered};
use support::{Builder, SOON};

const LIST: &str = "version = 1\n[[allow]]\nrule = \"good\"\nimage = \"good:1\"\n";

/// The end at which a service manager reads.
struct Manager(UnixDatagram);

impl Manager {
    /// Is told what becomes of this one, its sign of life included.
    fn of(builder: Builder) -> (Self, Builder) {
        let path = builder.dir().join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let builder = builder
            .env("NOTIFY_SOCKET", &path.to_string_lossy())
            .env("WATCHDOG_USEC", "600000");
        (Self(socket), builder)
    }

    /// Waits for a line that fits; what comes before it is passed over.
    #[track_caller]
    fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut passed = Vec::new();
        loop {
            let mut datagram = [0; 4_096];
            let Ok(length) = self.0.recv(&mut datagram) else {
                panic!("not told; told was {passed:?}");
            };
            let text = String::from_utf8_lossy(&datagram[..length]);
            if let Some(line) = text.lines().find(|line| wanted(line)) {
                return line.to_owned();
            }
            passed.push(text.into_owned());
        }
    }
}

#[test]
fn it_is_told_that_it_serves_what_it_does_that_it_lives_and_that_it_ends() {
    let engine = Scripted::start();
    let (manager, builder) = Manager::of(engine.builder(LIST, "1h"));
    let warden = builder.start();
    manager.wait_for(|line| line == "READY=1");
    manager.wait_for(|line| line == "STATUS=enforcing; 1 rule");
    for _ in 0..3 {
        manager.wait_for(|line| line == "WATCHDOG=1");
    }
    warden.write_list_by_rename("version = 2\n");
    manager.wait_for(|line| line.starts_with("STATUS=enforcing; 1 rule; the file is not valid"));
    warden.write_list_by_rename(&format!("mode = \"audit\"\n{LIST}"));
    manager.wait_for(|line| line == "STATUS=audit mode: nothing is ended; 1 rule");
    assert!(warden.sigterm().0.success());
    manager.wait_for(|line| line == "STOPPING=1");
}

#[test]
fn what_is_held_back_is_in_the_status() {
    let engine = Scripted::start();
    engine
        .world()
        .containers
        .insert(numbered(1), listed(&numbered(1), "bad:1"));
    let list = format!("guard = {{ share = 0.1, min = 1 }}\n{LIST}");
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().display().to_string();
    let builder = || engine.builder(&list, "1h").args(["--state-dir", &state]);
    let audit = builder().args(["--mode", "audit"]).start();
    audit.wait_ready();
    assert!(audit.sigterm().0.success());
    let (manager, builder) = Manager::of(builder());
    let warden = builder.start();
    let audits = "STATUS=audit mode: nothing is ended; 1 rule";
    manager.wait_for(|line| line == format!("{audits}; leaving audit mode is held back"));
    warden.write_list_by_rename(&format!("{list}[[allow]]\nimage = \"other:1\"\n"));
    manager.wait_for(|line| line == format!("{audits}; a newer list is held back"));
}

#[test]
fn an_engine_that_is_away_is_in_the_status_and_no_reason_to_be_ended() {
    let nowhere = "unix:///nowhere/at/all.sock";
    let (manager, builder) = Manager::of(support::Warden::at(nowhere).allowlist(LIST));
    let warden = builder.start();
    manager.wait_for(|line| line == "READY=1");
    manager.wait_for(|line| line.starts_with("STATUS=not enforcing: "));
    for _ in 0..3 {
        manager.wait_for(|line| line == "WATCHDOG=1");
    }
    drop(warden);
}

#[test]
fn the_api_alone_is_told_of_as_well() {
    let engine = Scripted::start();
    let (manager, builder) = Manager::of(engine.builder(LIST, "1h").subcommand("api"));
    let warden = builder.start();
    manager.wait_for(|line| line == "READY=1");
    manager.wait_for(|line| line == "WATCHDOG=1");
    warden.wait_ready();
    assert!(warden.sigterm().1 < Duration::from_secs(30));
    manager.wait_for(|line| line == "STOPPING=1");
}
