//! Who is told, is told: the truth, once, and again where that helps; and what becomes of it costs
//! enforcement nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "notifications/receiver.rs"]
mod receiver;

use std::path::Path;
use std::process::{Command, Output};

use receiver::{Answer, Got, Receiver, SECRET};
use serde_json::{Value, json};
use support::scripted::{Scripted, listed, number, numbered};
use support::{Builder, Engine, SOON, Warden, dockwarden, eventually};

const LIST: &str = "version = 1\n[[allow]]\nrule = \"good\"\nimage = \"good:1\"\n";
const AUDIT: &str =
    "version = 1\nmode = \"audit\"\n[[allow]]\nrule = \"good\"\nimage = \"good:1\"\n";
const RESYNC: &str = "1h";

/// Logs all there is, so that a secret which is logged anywhere is seen.
fn telling(builder: Builder, url: &str) -> Builder {
    let file = builder.dir().join("url");
    std::fs::write(&file, format!("{url}\n")).unwrap();
    let file = file.to_string_lossy().into_owned();
    builder.args(["--notify-url-file", &file, "--log-level", "trace"])
}

#[track_caller]
fn assert_secret(warden: &Warden) {
    for line in warden.logs().iter().chain(&warden.stdout()) {
        assert!(!line.contains(SECRET), "{line}");
    }
    for path in [
        "/metrics",
        "/readyz",
        "/containers",
        "/allowlist",
        "/decisions",
    ] {
        let answer = warden.get(path).body;
        assert!(!answer.contains(SECRET), "{path}");
    }
}

fn counted(warden: &Warden, outcome: &str) -> f64 {
    let metrics = warden.get("/metrics").body;
    let series = format!("dockwarden_notifications_total{{outcome=\"{outcome}\"}}");
    number(&metrics, &series)
}

#[track_caller]
fn wait_until_counted(warden: &Warden, outcome: &str, wanted: f64) {
    eventually(&format!("{wanted} {outcome}"), SOON * 4, || {
        counted(warden, outcome) >= wanted
    });
}

#[test]
fn what_is_told_is_what_is_on_record() {
    let engine = Engine::start();
    engine.image("bad:1");
    let receiver = Receiver::start(&[Answer::Status(204)]);
    let warden = telling(Warden::on(&engine).allowlist(LIST), &receiver.url()).start();
    warden.wait_ready();

    let id = engine.run(&["--name", "web-2"], "bad:1", &[]);
    let told = receiver.wait_for(1).remove(0);
    assert_eq!(told.path, format!("/{SECRET}"));
    assert_eq!(told.content_type, "application/json");
    let records = warden.get_json("/decisions");
    let record = &records["data"][0];
    assert_eq!(record["container_id"], id.as_str());
    assert_eq!(record["outcome"], "done");
    assert_eq!(told.json(), *record);

    warden.write_list_by_rename("version = 2\n");
    let told = receiver.wait_for(2)[1].json();
    assert_eq!(told["event"], "allowlist");
    assert_eq!(told["outcome"], "invalid");

    engine.stop_dockerd();
    let told = receiver.wait_for(3)[2].json();
    assert_eq!(told["event"], "engine");
    assert_eq!(told["change"], "disconnected");

    wait_until_counted(&warden, "sent", 3.0);
    assert_secret(&warden);
}

#[test]
fn a_receiver_that_hangs_delays_no_end_and_is_told_later() {
    let engine = Scripted::start();
    let receiver = Receiver::start(&[Answer::Never, Answer::Status(200)]);
    let warden = telling(engine.builder(LIST, RESYNC), &receiver.url()).start();
    warden.wait_ready();
    engine.begin(&numbered(1), "bad:1");
    receiver.wait_for(1);
    // It holds the first one now.
    for id in 2..=5 {
        engine.begin(&numbered(id), "bad:1");
        engine.wait_for_kill(&numbered(id));
    }
    assert_eq!(counted(&warden, "sent"), 0.0);
    let got = receiver.wait_for(6);
    assert_eq!(got[0], got[1], "the first one again");
    let mut told: Vec<Value> = got[1..]
        .iter()
        .map(|got| got.json()["container_id"].clone())
        .collect();
    told.sort_by_key(Value::to_string);
    assert_eq!(
        told,
        (1..=5).map(|id| json!(numbered(id))).collect::<Vec<_>>()
    );
    warden.wait_for_log(|line| line.contains("did not answer within"), SOON);
    assert_secret(&warden);
}

#[test]
fn a_receiver_that_hangs_keeps_no_one_from_ending() {
    let engine = Scripted::start();
    let receiver = Receiver::start(&[Answer::Never]);
    let warden = telling(engine.builder(LIST, RESYNC), &receiver.url()).start();
    warden.wait_ready();
    engine.begin(&numbered(1), "bad:1");
    receiver.wait_for(1);
    assert!(warden.sigterm().0.success());
    let said = warden.wait_for_log(|line| line.contains("were not sent"), SOON);
    assert!(said.contains("\"left\":1"), "{said}");
}

#[test]
fn one_that_fails_is_asked_again_and_one_that_refuses_is_not() {
    let engine = Scripted::start();
    let elsewhere = Receiver::start(&[Answer::Status(200)]);
    let receiver = Receiver::start(&[
        Answer::Status(500),
        Answer::Cut,
        Answer::Status(200),
        Answer::Redirect(elsewhere.port()),
        Answer::Status(404),
        Answer::Status(200),
    ]);
    let warden = telling(engine.builder(LIST, RESYNC), &receiver.url()).start();
    warden.wait_ready();
    engine.begin(&numbered(1), "bad:1");
    let got = receiver.wait_for(3);
    assert_eq!((&got[0], &got[0]), (&got[1], &got[2]));
    wait_until_counted(&warden, "sent", 1.0);

    engine.begin(&numbered(2), "bad:1");
    wait_until_counted(&warden, "refused", 1.0);
    engine.begin(&numbered(3), "bad:1");
    wait_until_counted(&warden, "refused", 2.0);
    engine.begin(&numbered(4), "bad:1");
    wait_until_counted(&warden, "sent", 2.0);

    let ids: Vec<_> = receiver.got()[3..]
        .iter()
        .map(|got| got.json()["container_id"].clone())
        .collect();
    assert_eq!(
        ids,
        [numbered(2), numbered(3), numbered(4)].map(Value::from)
    );
    assert!(elsewhere.got().is_empty());
    warden.wait_for_log(|line| line.contains("redirects are not followed"), SOON);
    assert_secret(&warden);
}

#[test]
fn a_flood_is_told_by_number() {
    let engine = Scripted::start();
    for id in (1..=200).map(numbered) {
        engine
            .world()
            .containers
            .insert(id.clone(), listed(&id, "bad:1"));
    }
    let receiver = Receiver::start(&[Answer::Status(200)]);
    let warden = telling(engine.builder(AUDIT, RESYNC), &receiver.url()).start();
    warden.wait_ready();
    let told = |got: &Got| match got.json() {
        one if one["event"] == "decision" => 1,
        summary => summary["counts"]["audit-only"].as_u64().unwrap(),
    };
    let got = eventually("all of them told", SOON * 10, || {
        let got = receiver.got().clone();
        (got.iter().map(told).sum::<u64>() == 200).then_some(got)
    });
    // A slow machine may need more than one summary.
    assert!((11..30).contains(&got.len()), "{got:?}");
    assert!(got[..10].iter().all(|got| told(got) == 1), "{got:?}");
    assert!(counted(&warden, "summarised") >= 170.0);
}

#[test]
fn an_address_is_read_again_and_a_bad_one_leaves_the_last() {
    let engine = Scripted::start();
    let (one, two) = (
        Receiver::start(&[Answer::Status(200)]),
        Receiver::start(&[Answer::Status(200)]),
    );
    let warden = telling(engine.builder(LIST, RESYNC), &one.url()).start();
    warden.wait_ready();
    engine.begin(&numbered(1), "bad:1");
    one.wait_for(1);
    let file = warden.dir().join("url");
    std::fs::write(&file, two.url()).unwrap();
    engine.begin(&numbered(2), "bad:1");
    two.wait_for(1);
    std::fs::write(&file, format!("no address: {SECRET}")).unwrap();
    engine.begin(&numbered(3), "bad:1");
    two.wait_for(2);
    assert_eq!(one.got().len(), 1);
    assert_secret(&warden);
}

#[test]
fn an_address_or_a_template_that_can_not_be_used_is_told_at_the_start() {
    let engine = Scripted::start();
    let faults: [(&str, &str, &str); 3] = [
        ("nowhere", "json", "expected one line"),
        (
            "http://127.0.0.1:1/",
            "{\"text\": \"{{ text }}\"}",
            "does not make JSON",
        ),
        ("http://127.0.0.1:1/", "{{ txet }}", "undefined"),
    ];
    for (url, template, fault) in faults {
        let builder = telling(engine.builder(LIST, RESYNC), url);
        let file = builder.dir().join("template");
        std::fs::write(&file, template).unwrap();
        let name = match template {
            "json" => template.to_owned(),
            _ => file.to_string_lossy().into_owned(),
        };
        let warden = builder.args(["--notify-template", &name]).spawn();
        assert_eq!(warden.wait_exit(SOON * 4).code(), Some(2), "{fault}");
        assert!(
            warden.logs().join("\n").contains(fault),
            "{:?}",
            warden.logs()
        );
    }
}

// ---- `dockwarden notify-test`

fn notify_test(directory: &Path, url: &str, more: &[&str]) -> Output {
    let file = directory.join("url");
    std::fs::write(&file, url).unwrap();
    let file = file.to_string_lossy().into_owned();
    dockwarden([&["notify-test", "--notify-url-file", &file], more].concat())
}

#[track_caller]
fn assert_said(output: &Output, code: i32, text: &str) {
    let said = [&*output.stdout, &*output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(text), "{said}");
    assert!(!said.contains(SECRET), "{said}");
}

#[test]
fn a_test_is_sent_once_and_says_what_became_of_it() {
    let directory = tempfile::tempdir().unwrap();
    for (answer, code, text) in [
        (Answer::Status(204), 0, "sent: the receiver answered 204"),
        (
            Answer::Status(500),
            1,
            "not sent: the receiver answered 500",
        ),
        (Answer::Redirect(1), 1, "redirects are not followed"),
        (Answer::Cut, 1, "not sent: the receiver can't be reached"),
        (Answer::Never, 1, "did not answer within 5 s"),
    ] {
        let receiver = Receiver::start(&[answer]);
        let output = notify_test(directory.path(), &receiver.url(), &[]);
        assert_said(&output, code, text);
        let got = receiver.got();
        assert_eq!(got.len(), 1, "{answer:?}");
        assert_eq!(got[0].json()["event"], "test");
    }
    let receiver = Receiver::start(&[Answer::Status(200)]);
    let more = ["--notify-template", "text"];
    assert_said(
        &notify_test(directory.path(), &receiver.url(), &more),
        0,
        "sent",
    );
    let got = receiver.got().remove(0);
    assert_eq!(got.content_type, "text/plain; charset=utf-8");
    assert!(got.body.contains(": this is a test"), "{got:?}");

    let closed = format!("http://127.0.0.1:1/{SECRET}");
    assert_said(&notify_test(directory.path(), &closed, &[]), 1, "refused");
    let wrong = format!("{SECRET} of ours");
    assert_said(
        &notify_test(directory.path(), &wrong, &[]),
        2,
        "expected one line",
    );
    let none = dockwarden(["notify-test"]);
    assert_said(&none, 2, "--notify-url-file");
}

#[test]
fn who_is_told_by_https_has_proven_who_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = certified.signing_key.serialize_der();
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certified.cert.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key).into(),
        )
        .unwrap();
    let receiver = Receiver::start_tls(config);
    let trusted = directory.path().join("ca.pem");
    std::fs::write(&trusted, certified.cert.pem()).unwrap();

    let stranger = notify_test(directory.path(), &receiver.url_by("localhost"), &[]);
    assert_said(
        &stranger,
        1,
        "nobody whom this host trusts signed its certificate",
    );
    for (name, code, text) in [
        ("localhost", 0, "sent: the receiver answered 200"),
        ("127.0.0.1", 1, "its certificate is for another name"),
    ] {
        std::fs::write(directory.path().join("url"), receiver.url_by(name)).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_dockwarden"))
            .args(["notify-test", "--notify-url-file"])
            .arg(directory.path().join("url"))
            .env("SSL_CERT_FILE", &trusted)
            .output()
            .unwrap();
        assert_said(&output, code, text);
    }
    assert_eq!(receiver.got().len(), 1);
}
