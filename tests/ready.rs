//! The whole list over HTTP is ready when it is asked for, and never an old one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use support::scripted::{Scripted, event, listed, numbered};
use support::{Response, SOON, Warden, eventually};

const LIST: &str = r#"
version = 1
mode = "audit"
[[allow]]
rule = "good"
image = "good:1"
"#;

#[test]
fn it_is_known_by_its_tag_until_anything_changes() {
    let fake = Scripted::start();
    fake.begin(&numbered(1), "good:1");
    let warden = fake.warden(LIST, "1h");
    let mut tag = settled_tag(&warden);
    // A container more, one that stops, one that is gone, a record, and the list.
    fake.begin(&numbered(2), "good:1");
    tag = changed(&warden, &tag, |all| all.len() == 2);
    {
        let mut world = fake.world();
        world.containers.get_mut(&numbered(2)).unwrap()["State"] = json!("exited");
    }
    fake.say(event("die", &numbered(2)).as_bytes());
    tag = changed(&warden, &tag, |all| all[1]["status"] == "exited");
    fake.world().containers.remove(&numbered(2));
    fake.say(event("destroy", &numbered(2)).as_bytes());
    tag = changed(&warden, &tag, |all| all.len() == 1);
    fake.begin(&numbered(3), "evil:1");
    tag = changed(&warden, &tag, |all| {
        all.len() == 2 && all[1]["last_decision"]["outcome"] == "audit-only"
    });
    warden.write_list_by_rename(&LIST.replace("good:1", "evil:1"));
    changed(&warden, &tag, |all| {
        all[0]["verdict"] == "denied" && all[1]["verdict"] == "allowed"
    });
}

/// What another process writes down shows without any other change.
#[test]
fn the_api_alone_shows_what_another_process_recorded() {
    let fake = Scripted::start();
    fake.begin(&numbered(1), "evil:1");
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.jsonl");
    let api = fake.builder(LIST, "1h").subcommand("api");
    let api = api.args(["--audit-log", log.to_str().unwrap()]).start();
    api.wait_ready();
    let tag = settled_tag(&api);
    let record = {
        let warden = fake.warden(LIST, "1h");
        warden.wait_for_verdict(&numbered(1), "denied")
    };
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .unwrap();
    writeln!(file, "{record}").unwrap();
    changed(&api, &tag, |all| {
        all[0]["last_decision"]["seq"] == record["seq"]
    });
}

#[test]
fn it_is_sent_compressed_to_those_who_take_that() {
    let fake = Scripted::start();
    for number in 1..=200 {
        let id = numbered(number);
        let container = listed(&id, "good:1");
        fake.world().containers.insert(id, container);
    }
    let warden = fake.warden(LIST, "1h");
    settled_tag(&warden);
    let plain = warden.get("/containers");
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(plain.header("vary"), Some("accept, accept-encoding"));
    let (head, body) = raw(&warden, "/containers", "gzip");
    assert!(head.contains("\r\ncontent-encoding: gzip\r\n"), "{head}");
    let tag = plain.header("etag").unwrap();
    assert!(head.contains(&format!("\r\netag: {tag}\r\n")), "{head}");
    assert!(
        head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())),
        "{head}"
    );
    assert!(body.len() * 5 < plain.body.len(), "{}", body.len());
    assert_eq!(unpacked(&body), plain.body);
    let (head, body) = raw(&warden, "/containers", "gzip;q=0, br");
    assert!(!head.contains("content-encoding"), "{head}");
    assert_eq!(body, plain.body.as_bytes());
    // Other answers, too, but for the stream, which must not wait for more.
    let (head, _) = raw(&warden, "/openapi.json", "gzip");
    assert!(head.contains("\r\ncontent-encoding: gzip\r\n"), "{head}");
    let stream = warden.stream("/decisions/stream", &[("accept-encoding", "gzip")]);
    assert!(
        stream
            .headers
            .iter()
            .all(|(name, _)| name != "content-encoding")
    );
}

/// Its tag, when it has come to rest.
#[track_caller]
fn settled_tag(warden: &Warden) -> String {
    eventually("the list comes to rest", SOON, || {
        let tag = warden.get("/containers").header("etag")?.to_owned();
        std::thread::sleep(std::time::Duration::from_millis(300));
        let again = asked(warden, &tag);
        (again.status == 304 && again.body.is_empty()).then_some(tag)
    })
}

/// The tag of the list when that is so, which is another one.
#[track_caller]
fn changed(warden: &Warden, tag: &str, is_so: impl Fn(&[Value]) -> bool) -> String {
    eventually("the list has changed", SOON, || {
        let answer = asked(warden, tag);
        let is_new = answer.status == 200 && is_so(answer.json()["data"].as_array().unwrap());
        is_new.then_some(())
    });
    settled_tag(warden)
}

fn asked(warden: &Warden, tag: &str) -> Response {
    warden.get_with("/containers", &[("if-none-match", tag)])
}

/// An answer's head, and its body as it was sent.
fn raw(warden: &Warden, path: &str, encoding: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(warden.address()).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept-Encoding: {encoding}\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = answer.split_off(end.unwrap() + 4);
    (String::from_utf8(answer).unwrap(), body)
}

fn unpacked(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}
