//! A proxy between dockwarden and a real engine that cuts, delays, garbles and forges what the engine
//! answers, and then heals: what started meanwhile and is forbidden is ended, what is allowed lives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;
use support::{Answer, Engine, Fault, SOON, TcpProxy, Warden, eventually};

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What is done to every connection, whether the ones there are are cut first, and what its log says
/// of it.
const TABLE: &[(&str, bool, Fault)] = &[
    ("cut in the status line", true, Fault::CutAfter(10)),
    ("cut in a header", true, Fault::CutAfter(60)),
    ("cut in a body", true, Fault::CutAfter(400)),
    ("cut in a chunk's size", false, Fault::CutAfter(2)),
    ("cut in an event", false, Fault::CutAfter(200)),
    ("a few bytes at a time", false, Fault::Late(16, ms(2))),
    ("a few bytes at a time, anew", true, Fault::Late(16, ms(2))),
    (
        "everything a second late",
        false,
        Fault::Late(16_384, ms(1_000)),
    ),
    (
        "garbage in the place of answers",
        true,
        Fault::Answers(|_| raw(b"\x16\x03\x01garbage\x00\r\n\r\n")),
    ),
    (
        "half a status line",
        true,
        Fault::Answers(|_| raw(b"HTTP/1.1 20")),
    ),
    (
        "a head without end",
        true,
        Fault::Answers(|_| endless(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n")),
    ),
    ("nothing at all", true, Fault::Answers(|_| raw(b""))),
    (
        "500 to everything",
        true,
        Fault::Answers(|_| answer(500, "{\"message\":\"maintenance\"}")),
    ),
    (
        "a page in the place of answers",
        true,
        Fault::Answers(|_| answer(200, "<html>maintenance</html>")),
    ),
    (
        "numbers in the place of events",
        true,
        Fault::Answers(|path| {
            path.starts_with("/events")
                .then(|| answer(200, "1\n2\n3\n"))
                .flatten()
        }),
    ),
    (
        "an object in the place of a list",
        true,
        Fault::Answers(|path| {
            path.contains("/containers/json")
                .then(|| answer(200, "{\"message\":\"no\"}"))
                .flatten()
        }),
    ),
    (
        "an empty object in the place of the engine's",
        true,
        Fault::Answers(|path| {
            path.starts_with("/info")
                .then(|| answer(200, "[]"))
                .flatten()
        }),
    ),
    (
        "half a list",
        true,
        Fault::Answers(|path| {
            path.contains("/containers/json")
                .then(|| answer(200, "[{\"Id\":\""))
                .flatten()
        }),
    ),
    (
        "no body to a list",
        true,
        Fault::Answers(|path| {
            path.contains("/containers/json")
                .then(|| answer(200, ""))
                .flatten()
        }),
    ),
    (
        "500 to kills",
        true,
        Fault::Answers(|path| {
            path.contains("/kill")
                .then(|| answer(500, "{\"message\":\"no\"}"))
                .flatten()
        }),
    ),
    (
        "404 to kills",
        true,
        Fault::Answers(|path| {
            path.contains("/kill")
                .then(|| answer(404, "{\"message\":\"no\"}"))
                .flatten()
        }),
    ),
    (
        "204 to kills that never reached the engine",
        true,
        Fault::Answers(|path| {
            path.contains("/kill")
                .then(|| raw(b"HTTP/1.1 204 No Content\r\n\r\n"))
                .flatten()
        }),
    ),
];

// Cut off or complete: the connection ends with it.
fn raw(bytes: &[u8]) -> Option<Answer> {
    endless(bytes, b"")
}

fn endless(once: &[u8], endlessly: &[u8]) -> Option<Answer> {
    Some(Answer {
        once: once.to_vec(),
        endlessly: endlessly.to_vec(),
    })
}

fn answer(status: u16, body: &str) -> Option<Answer> {
    let length = body.len();
    raw(format!("HTTP/1.1 {status} As Told\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())
}

struct Wire {
    engine: Engine,
    proxy: TcpProxy,
}

impl Wire {
    fn new() -> Self {
        let engine = Engine::start();
        engine.image("good:1");
        engine.image("bad:1");
        let proxy = TcpProxy::to(&engine.socket_path());
        Self { engine, proxy }
    }

    /// Sweeps are too far apart to help: what is found after a fault is found because of it.
    fn warden(&self) -> Warden {
        let warden = Warden::at(&self.proxy.url())
            .allowlist(LIST)
            .args(["--resync", "10m"])
            .start();
        warden.wait_ready();
        warden
    }
}

#[test]
fn whatever_the_wire_does_once_it_heals_all_is_as_it_should_be() {
    let wire = Wire::new();
    let (engine, proxy) = (&wire.engine, &wire.proxy);
    let warden = wire.warden();
    let control = engine.run_life(&[], "good:1");
    for (case, cuts, fault) in TABLE {
        proxy.fault(fault.clone());
        if *cuts {
            proxy.cut();
        }
        let bad = engine.run(&[], "bad:1", &["stubborn"]);
        eventually(case, SOON, || proxy.met() >= 2);
        // The controller's part and the API's are met by it, and more than once.
        std::thread::sleep(ms(500));
        assert!(warden.lives(), "{case}");
        proxy.fault(Fault::None);
        let state = engine.wait_until_dead(&bad, SOON);
        assert_eq!(state.as_deref(), Some("exited"), "{case}");
        let record = warden.wait_for_verdict(&bad, "denied");
        assert_ne!(record["outcome"], "ended-itself", "{case}: {record:#}");
        engine.assert_same(std::slice::from_ref(&control));
        eventually(case, SOON, || {
            let outcomes = warden.records_of(&bad);
            outcomes.iter().any(|one| one["outcome"] == "done")
        });
        warden.wait_ready();
    }
    let misfires: Vec<_> = warden
        .records_of(&control.id)
        .into_iter()
        .filter(|record| record["verdict"] != "allowed")
        .collect();
    assert!(misfires.is_empty(), "{misfires:#?}");
}
