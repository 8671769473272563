//! Labels of megabytes: the engine takes them, and tells them in every event, list and inspection.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::json;
use std::time::Duration;
use support::{Engine, SOON, Warden};

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;
const MIB: usize = 1024 * 1024;

/// Runs a container with a label of that size.
fn run_labelled(engine: &Engine, image: &str, size: usize) -> String {
    let body = json!({
        "Image": image, "Cmd": ["stubborn"],
        "Labels": {"big": "x".repeat(size)}, "HostConfig": {"NetworkMode": "none"},
    });
    let (status, answer) = engine.api("POST", "/containers/create", Some(&body));
    assert_eq!(status, 201, "{answer}");
    let id = answer["Id"].as_str().expect("an id").to_owned();
    let (status, answer) = engine.api("POST", &format!("/containers/{id}/start"), None);
    assert_eq!(status, 204, "{answer}");
    id
}

fn labels_cost_nothing(size: usize) {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("bad:1");
    let earlier = run_labelled(&engine, "bad:1", size);
    let good = run_labelled(&engine, "good:1", size);
    let control = [engine.life(&good), engine.run_life(&[], "good:1")];
    let warden = Warden::on(&engine)
        .allowlist(LIST)
        .args(["--resync", "10m"])
        .start();
    engine.wait_until_dead(&earlier, SOON * 2);
    let bad = run_labelled(&engine, "bad:1", size);
    let small = engine.run(&[], "bad:1", &["stubborn"]);
    for id in [&bad, &small] {
        let state = engine.wait_until_dead(id, SOON * 2);
        assert_eq!(state.as_deref(), Some("exited"));
        warden.wait_for_verdict(id, "denied");
    }
    warden.wait_for_verdict(&good, "allowed");
    std::thread::sleep(Duration::from_millis(200));
    engine.assert_same(&control);
    let peak = warden.peak_memory();
    assert!(peak < 80, "{peak} MiB");
}

#[test]
fn a_label_of_4_mib_neither_shelters_nor_hurts() {
    labels_cost_nothing(4 * MIB);
}

#[test]
fn a_label_of_24_mib_neither_shelters_nor_hurts() {
    labels_cost_nothing(24 * MIB);
}
