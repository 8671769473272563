//! `GET /decisions/stream`: what is put on record, told as it happens, and resumed where a listener
//! left off.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::Value;
use support::{Engine, SOON, Stream, Warden};

const LIST: &str = "version = 1\n[[allow]]\nrule = \"good\"\nimage = \"good:1\"\n";

/// The next event: its id and its record.
#[track_caller]
fn next(stream: &Stream) -> (u64, Value) {
    let (mut id, mut record) = (None, None);
    loop {
        let line = stream.next_line(SOON).expect("another line");
        match line.split_once(": ") {
            Some(("id", text)) => id = text.parse().ok(),
            Some(("data", text)) => record = serde_json::from_str(text).ok(),
            _ => {}
        }
        if let (true, Some(id)) = (line.is_empty(), id) {
            return (id, record.expect("a record"));
        }
    }
}

fn resume(warden: &Warden, id: u64) -> Stream {
    warden.stream("/decisions/stream", &[("Last-Event-ID", &id.to_string())])
}

/// Where decisions are made, and where they are listened to.
fn are_told(engine: &Engine, listened: &Warden) {
    let stream = listened.stream("/decisions/stream", &[]);
    assert_eq!(stream.status, 200);
    let kind = stream
        .headers
        .iter()
        .find(|(name, _)| name == "content-type");
    assert_eq!(kind.unwrap().1, "text/event-stream");
    let mut told = Vec::new();
    for number in 1..=4 {
        let name = format!("evil-{number}");
        let evil = engine.run(&["--name", &name], "evil:1", &[]);
        let (id, record) = next(&stream);
        assert_eq!(record["container_id"], *evil);
        assert_eq!(record["container_name"], *name);
        assert_eq!(
            (&record["verdict"], &record["seq"]),
            (&"denied".into(), &id.into())
        );
        told.push(id);
    }
    assert!(told.is_sorted_by(|one, other| one < other), "{told:?}");
    // Whoever comes back is told what it missed, and then what is new.
    let resumed = resume(listened, told[0]);
    let missed: Vec<_> = told[1..].iter().map(|_| next(&resumed).0).collect();
    assert_eq!(missed, told[1..]);
    engine.run(&[], "good:1", &[]);
    let (id, record) = next(&resumed);
    assert_eq!(record["verdict"], "allowed");
    assert_eq!(next(&stream).0, id);
    // A number that this log never reached is another log's.
    assert!(next(&resume(listened, i64::MAX.unsigned_abs())).0 <= told[0]);
}

fn engine() -> Engine {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("evil:1");
    engine
}

#[test]
fn decisions_are_told_from_memory_and_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.jsonl").display().to_string();
    for options in [&[][..], &["--audit-log", &log]] {
        let engine = engine();
        let warden = Warden::on(&engine).allowlist(LIST).args(options).start();
        warden.wait_ready();
        are_told(&engine, &warden);
        for bad in ["", "x", "-1", "9223372036854775808"] {
            let answer = warden.get_with("/decisions/stream", &[("Last-Event-ID", bad)]);
            assert_eq!(answer.status, 400, "{bad:?}");
        }
        // It does not keep the process.
        let stream = resume(&warden, 0);
        next(&stream);
        let (status, _) = warden.sigterm();
        assert!(status.success());
    }
}

#[test]
fn the_api_alone_tells_what_the_controller_decides() {
    let engine = engine();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.jsonl").display().to_string();
    let state = directory.path().join("state").display().to_string();
    let options = ["--audit-log", &log, "--state-dir", &state];
    let start = |command, more: &[&str]| {
        let warden = Warden::on(&engine).subcommand(command).allowlist(LIST);
        let warden = warden.args(options).args(more).start();
        warden.wait_ready();
        warden
    };
    // Files so small that nearly each record has its own.
    let _controller = start(
        "controller",
        &["--audit-max-size", "1KiB", "--audit-keep", "20"],
    );
    let api = start("api", &[]);
    are_told(&engine, &api);
    assert!(directory.path().join("audit.jsonl.3").exists());
}

#[test]
fn so_many_listen_at_once_and_delay_no_end() {
    let engine = engine();
    let warden = Warden::on(&engine).allowlist(LIST).start();
    warden.wait_ready();
    let streams: Vec<_> = (0..32)
        .map(|_| warden.stream("/decisions/stream", &[]))
        .collect();
    assert!(streams.iter().all(|stream| stream.status == 200));
    assert_eq!(warden.get("/decisions/stream").status, 503);
    // What is forbidden is ended as ever. (Listeners that read nothing: held_up.rs.)
    let evil = engine.run(&[], "evil:1", &[]);
    engine.wait_until_dead(&evil, SOON);
    streams.iter().for_each(|stream| {
        assert_eq!(next(stream).1["container_id"], *evil);
    });
}
