//! Lists judged by saved answers of `GET /containers`, and two lists compared.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::{Value, json};
use std::process::Output;
use std::sync::LazyLock;
use support::{Engine, SOON, Warden, dockwarden, eventually};
use tempfile::TempDir;

const OLD: &str = r#"
version = 1
mode = "audit"
[defaults]
grants = []
[[allow]]
rule = "web"
image = "shop/web:*"
max = 2
[[allow]]
rule = "front"
labels = { tier = "front" }
[[allow]]
rule = "own-command"
image = "good:1"
command = "image"
"#;
/// Every key here looks at something else.
const NEW: &str = r#"
version = 1
[[allow]]
rule = "web"
image = "shop/web:*"
max = 3
[[allow]]
rule = "owner"
labels = { owner = "me" }
[[allow]]
rule = "tools"
image = "good:1"
grants = ["bind:/usr:ro"]
"#;

/// An engine, what a dockwarden said of it, and the files of this test.
struct Fleet {
    engine: Engine,
    directory: TempDir,
}

static FLEET: LazyLock<Fleet> = LazyLock::new(|| {
    let engine = Engine::start();
    // The engine's guard removes it.
    let directory = tempfile::tempdir_in(engine.dir()).unwrap();
    for image in ["shop/web:1", "good:1", "evil:1"] {
        engine.image(image);
    }
    for number in 1..=4 {
        engine.run(&["--name", &format!("web-{number}")], "shop/web:1", &[]);
    }
    let good = engine.image_id("good:1");
    engine.run(&["--name", "bound", "-v", "/usr:/usr:ro"], "good:1", &[]);
    engine.run(&["--name", "by-id"], &good, &["sleep", "9999"]);
    engine.run(&["--name", "front", "--label", "tier=front"], "evil:1", &[]);
    engine.run(&["--name", "mine", "--label", "owner=me"], "evil:1", &[]);
    engine.create(&["--name", "idle"], "evil:1", &[]);
    for (name, options) in [
        ("known.json", &[][..]),
        ("all.json", &["--show-labels", "all"]),
    ] {
        let warden = Warden::on(&engine)
            .subcommand("api")
            .allowlist(OLD)
            .args(["--host-name", "one"])
            .args(options)
            .start();
        let is_whole = |answer: &Value| {
            let all = answer["data"].as_array().unwrap();
            let is_open = |one: &Value| one["image_names"].is_null() || one["powers"].is_null();
            all.len() == 9 && !all.iter().any(is_open)
        };
        let mut answer = Value::Null;
        eventually("all is known", SOON, || {
            let response = warden.get("/containers");
            response.status == 200 && {
                answer = response.json();
                is_whole(&answer)
            }
        });
        write(&directory, name, &answer.to_string());
    }
    write(&directory, "old.toml", OLD);
    write(&directory, "new.toml", NEW);
    Fleet { engine, directory }
});

impl Fleet {
    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// With the options that name this engine.
    fn live(&self, arguments: &[&str]) -> Output {
        let host = self.engine.host();
        dockwarden([arguments, &["--engine", &host]].concat())
    }

    /// With these files in the place of an engine.
    fn saved(&self, arguments: &[&str], files: &[&str]) -> Output {
        let files: Vec<_> = files.iter().map(|name| self.path(name)).collect();
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        dockwarden([arguments, &["--containers"], &files].concat())
    }
}

fn write(directory: &TempDir, name: &str, text: &str) {
    std::fs::write(directory.path().join(name), text).unwrap();
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The containers of an answer without what only a fleet's has.
fn without_hosts(mut containers: Value) -> Value {
    for one in containers.as_array_mut().unwrap() {
        one.as_object_mut().unwrap().remove("host");
    }
    containers
}

#[test]
fn what_was_saved_is_judged_as_the_engine_is() {
    for list in ["old.toml", "new.toml"] {
        let path = FLEET.path(list);
        let ps = ["ps", "--allowlist", &path, "--output", "json"];
        let (live, saved) = (FLEET.live(&ps), FLEET.saved(&ps, &["all.json"]));
        assert_eq!(json_of(&live), without_hosts(json_of(&saved)), "{list}");
        let check = ["check", &path, "--running", "--output", "json"];
        let (live, saved) = (FLEET.live(&check), FLEET.saved(&check, &["all.json"]));
        assert_eq!(live.status.code(), Some(1), "{live:?}");
        assert_eq!(saved.status.code(), Some(1), "{saved:?}");
        let ended = |output: &Output| without_hosts(json_of(output)["would_end"].take());
        assert_eq!(ended(&live), ended(&saved));
        assert!(ended(&live).as_array().unwrap().len() >= 2, "{live:?}");
        assert_eq!(said(&saved), "", "no engine is named");
    }
    let web = dockwarden([
        "explain",
        "web-4",
        "--allowlist",
        &FLEET.path("new.toml"),
        "--containers",
        &FLEET.path("all.json"),
    ]);
    assert_eq!(web.status.code(), Some(1), "{web:?}");
    assert!(
        String::from_utf8_lossy(&web.stdout).contains("over-max"),
        "{web:?}"
    );
}

#[test]
fn hosts_are_kept_apart() {
    let text = std::fs::read_to_string(FLEET.path("all.json")).unwrap();
    let mut other: Value = serde_json::from_str(&text).unwrap();
    other["host"] = json!("two");
    write(&FLEET.directory, "two.json", &other.to_string());
    let check = ["check", &FLEET.path("new.toml"), "--output", "json"];
    let of = |files: &[&str]| json_of(&FLEET.saved(&check, files))["would_end"].take();
    let (one, both) = (of(&["all.json"]), of(&["all.json", "two.json"]));
    // `max` counts host by host, and the same id on another host is another container.
    assert_eq!(
        both.as_array().unwrap().len(),
        2 * one.as_array().unwrap().len()
    );
    let hosts: Vec<_> = both
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["host"])
        .collect();
    assert!(
        hosts.contains(&&json!("one")) && hosts.contains(&&json!("two")),
        "{both}"
    );
    assert_eq!(of(&["all.json", "all.json"]), one, "saved twice");
    let table = FLEET.saved(
        &["check", &FLEET.path("new.toml")],
        &["all.json", "two.json"],
    );
    assert!(
        String::from_utf8_lossy(&table.stdout).contains("HOST"),
        "{table:?}"
    );

    let learned = FLEET.saved(&["learn"], &["all.json", "two.json"]);
    let learned = String::from_utf8_lossy(&learned.stdout).into_owned();
    assert!(
        learned.contains("what runs on one, what runs on two"),
        "{learned}"
    );
    write(&FLEET.directory, "learned.toml", &learned);
    let path = FLEET.path("learned.toml");
    for output in [
        FLEET.saved(&["check", &path], &["all.json", "two.json"]),
        FLEET.live(&["check", &path, "--running"]),
    ] {
        assert_eq!(output.status.code(), Some(0), "{output:?}\n{learned}");
    }
}

#[test]
fn what_is_not_told_is_not_judged() {
    let path = FLEET.path("new.toml");
    let output = FLEET.saved(
        &["ps", "--allowlist", &path, "--output", "json"],
        &["known.json"],
    );
    let verdict = |output: &Output, name: &str| {
        let all = json_of(output);
        let found = all
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["container_name"] == name);
        found.unwrap()["verdict"].clone()
    };
    assert_eq!(verdict(&output, "mine"), "unknown");
    assert_eq!(verdict(&output, "front"), "denied");
    assert_eq!(verdict(&output, "web-1"), "allowed");
    let told = said(&output);
    assert_eq!(told.matches("--show-labels all").count(), 1, "{told}");
    assert!(told.contains("1 container can't be judged"), "{told}");

    let text = std::fs::read_to_string(FLEET.path("all.json")).unwrap();
    let mut open: Value = serde_json::from_str(&text).unwrap();
    for one in open["data"].as_array_mut().unwrap() {
        one["powers"] = Value::Null;
        one["a-new-field"] = json!(5);
    }
    write(&FLEET.directory, "open.json", &open.to_string());
    let output = FLEET.saved(
        &["ps", "--allowlist", &path, "--output", "json"],
        &["open.json"],
    );
    assert_eq!(verdict(&output, "bound"), "unknown");
    assert!(
        said(&output).contains("what rules look at is not known"),
        "{output:?}"
    );

    for (text, part) in [
        ("", "no saved answer"),
        ("[]", "no saved answer"),
        ("{\"host\": \"x\"}", "data"),
        ("{\"data\": [{\"container_id\": \"abc\"}]}", "container_id"),
    ] {
        write(&FLEET.directory, "bad.json", text);
        let output = FLEET.saved(&["ps", "--allowlist", &path], &["bad.json"]);
        assert_eq!(output.status.code(), Some(2), "{text}: {output:?}");
        let told = said(&output);
        assert!(told.contains(part) && told.contains("bad.json"), "{told}");
    }
    let output = FLEET.saved(&["ps", "--allowlist", &path], &["nowhere.json"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn diff_shows_what_changes_verdict() {
    let (old, new) = (FLEET.path("old.toml"), FLEET.path("new.toml"));
    for output in [
        FLEET.live(&["diff", &old, &new, "--output", "json"]),
        FLEET.saved(&["diff", &old, &new, "--output", "json"], &["all.json"]),
    ] {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let answer = json_of(&output);
        let changed: Vec<_> = answer["changed"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                let of = |list: &str, key: &str| one[list][key].as_str().unwrap_or("-").to_owned();
                let name = one["container_name"].as_str().unwrap().to_owned();
                (
                    name,
                    of("old", "verdict"),
                    of("old", "reason"),
                    of("new", "verdict"),
                    of("new", "rule"),
                )
            })
            .collect();
        let expected = [
            ("bound", "denied", "not-granted", "allowed", "tools"),
            ("by-id", "denied", "no-rule", "allowed", "tools"),
            ("front", "allowed", "-", "denied", "-"),
            ("mine", "denied", "no-rule", "allowed", "owner"),
            ("web-3", "denied", "over-max", "allowed", "web"),
        ];
        let expected = expected.map(|(name, old, why, new, rule)| {
            [name, old, why, new, rule].map(str::to_owned).into()
        });
        assert_eq!(changed, expected, "{answer:#}");
        assert_eq!(answer["new"]["hash"].as_str().unwrap().len(), 64);
    }
    let table = FLEET.live(&["diff", &old, &new]);
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    for part in [
        "5 containers change verdict",
        "denied, over-max",
        "allowed, rule owner",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let same = FLEET.live(&["diff", &old, &old]);
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    // Another rule allows, and the verdict is the same.
    let renamed = NEW.replace("\"web\"", "\"renamed\"");
    write(&FLEET.directory, "renamed.toml", &renamed);
    let output = FLEET.live(&[
        "diff",
        &new,
        &FLEET.path("renamed.toml"),
        "--output",
        "json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let same = json_of(&output)["same_verdict"].take();
    assert_eq!(same.as_array().unwrap().len(), 4, "{same:#}");
    for arguments in [&["diff", &old][..], &["diff", &old, "/nowhere.toml"]] {
        assert_eq!(FLEET.live(arguments).status.code(), Some(2));
    }
}
