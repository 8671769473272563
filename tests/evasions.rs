//! Every known way round an allowlist, carried out on a real engine. What dodges does not live, and
//! what is allowed beside it does.
//!
//! Each row of [`ROWS`] is a test named after it. When the last one is done, a table of all dodges
//! goes to stderr, past the test runner's capture: what came of each, and how long it lived.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

#[path = "evasions/builds.rs"]
mod builds;
#[path = "evasions/contents.rs"]
mod contents;
#[path = "evasions/names.rs"]
mod names;
#[path = "evasions/powers.rs"]
mod powers;
#[path = "evasions/report.rs"]
mod report;
#[path = "evasions/times.rs"]
mod times;
#[path = "evasions/volume_plugin.rs"]
mod volume_plugin;
#[path = "evasions/ways.rs"]
mod ways;

use serde_json::Value;
use support::{Engine, SOON, Warden, eventually};

/// A row, and what it is about. The rows that are missing here are no dodges of a list: who stops
/// dockwarden (21), the size of objects (22), other runtimes (23), the plugin (24), the API (25).
const ROWS: &[(&str, &str)] = &[
    ("01", "a name that means other content"),
    ("02", "run by id"),
    ("03", "no image at all"),
    ("04", "labels that forge events"),
    ("05", "an allowed container's name"),
    ("06", "exec into an allowed container"),
    ("07", "cp into it, commit it"),
    ("08", "start, restart, unpause, update"),
    ("09", "an allowed image with more power"),
    ("09 start", "power that a start brings"),
    ("09 words", "power in too many words"),
    ("09 symlink", "a path that leads elsewhere"),
    ("10", "holes in patterns"),
    ("11", "many spellings of one image"),
    ("12", "it comes back"),
    ("13", "be done before the end comes"),
    ("14", "while dockwarden is away"),
    ("15", "the engine is away, containers live on"),
    ("16", "a broken list"),
    ("17", "a list that is never read again"),
    ("19", "a storm"),
    ("20", "one that can't be ended"),
    ("26", "hide in a build"),
    ("27", "choose one's own end"),
    ("28", "a bind in disguise"),
    ("29", "another's namespaces, and other powers"),
    ("29 defaults", "what other engines give to everyone"),
    ("29 name", "the namespaces of whoever comes by that name"),
];

/// Rows that have a test file of their own.
const ELSEWHERE: &[(&str, &str)] = &[("18", "a list that ends everything: tests/guard.rs")];

/// Allows `good:1` and nothing else.
const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

/// An engine with an image that is allowed and one that is not.
fn engine() -> Engine {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("bad:1");
    engine
}

/// A warden that is ready. Its sweeps are too far apart to help: events must suffice.
fn warden(engine: &Engine, list: &str) -> Warden {
    let warden = Warden::on(engine)
        .allowlist(list)
        .args(["--resync", "10m"])
        .start();
    warden.wait_ready();
    warden
}

/// Waits until a forbidden container was run and ended: what came before is over then.
fn fence(engine: &Engine) {
    let id = engine.run(&[], "bad:1", &[]);
    engine.wait_until_dead(&id, SOON);
}

/// `docker create` by the raw API, for what the CLI refuses to send or puts in order; the full id.
#[track_caller]
fn create_raw(engine: &Engine, body: &Value) -> String {
    let (status, answer) = engine.api("POST", "/containers/create", Some(body));
    assert_eq!(status, 201, "{body} {answer}");
    answer["Id"].as_str().unwrap().to_owned()
}

/// How `GET /containers` shows it once it has this verdict, running or not.
#[track_caller]
fn wait_until_shown(warden: &Warden, id: &str, verdict: &str) -> Value {
    eventually(&format!("{id} is shown as {verdict}"), SOON, || {
        let answer = warden.get("/containers");
        let mut all = (answer.status == 200).then(|| answer.json()["data"].take())?;
        let all = all.as_array_mut()?;
        let found = all.iter_mut().find(|one| one["container_id"] == id)?;
        (found["verdict"] == verdict).then(|| found.take())
    })
}
