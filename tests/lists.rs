//! Every list of a table, good and bad: what the parser says of it, what the schema does, what
//! `check` answers, and that a running dockwarden goes on without it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "lists/cases.rs"]
mod cases;
mod support;

use std::sync::LazyLock;
use std::time::Duration;

use cases::{EVERY_KEY, malformed, valid};
use dockwarden::allowlist::{Allowlist, InvalidAllowlist};
use dockwarden::grant::CAPABILITIES;
use jsonschema::Validator;
use serde_json::{Value, json};
use support::{Engine, Warden, dockwarden, eventually};

const SOON: Duration = Duration::from_secs(10);
const SCHEMA: &str = include_str!("../allowlist.schema.json");

// ---- The parser

#[test]
fn malformed_lists_are_refused_at_the_right_place() {
    assert!(malformed().len() > 60);
    let mut wrong = Vec::new();
    for case in malformed() {
        let told = match Allowlist::parse(&case.text) {
            Ok(_) => vec!["accepted".to_owned()],
            Err(invalid) => told(&invalid),
        };
        let is_right = told.iter().any(|error| {
            error.starts_with(&format!("{}: ", case.place)) && error.contains(case.message)
        });
        if !is_right {
            wrong.push(format!(
                "{}: {}: {}, and not {told:#?}",
                case.name, case.place, case.message
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The first errors, as `line:column: message (help)`.
fn told(invalid: &InvalidAllowlist) -> Vec<String> {
    let diagnostics = invalid.diagnostics().iter().take(5);
    diagnostics
        .map(|diagnostic| {
            let (line, column) = invalid.position(diagnostic.span.start);
            let help = diagnostic.help.as_deref().unwrap_or("no help");
            format!("{line}:{column}: {} ({help})", diagnostic.message)
        })
        .collect()
}

#[test]
fn valid_lists_load() {
    for (name, text) in valid() {
        if let Err(invalid) = Allowlist::parse(text.as_bytes()) {
            panic!("{name}:\n{}", invalid.report("allowlist.toml"));
        }
    }
}

#[test]
fn every_key_is_taken_up() {
    let list = Allowlist::parse(EVERY_KEY.as_bytes()).unwrap();
    let expected = json!({
        "version": 1,
        "mode": "audit",
        "audit-until": "2027-01-30T23:00:00Z",
        "action": "stop",
        "stop-timeout": 90,
        "on-create": "remove",
        "keep-dead": false,
        "guard": { "share": 0.25, "min": 3, "accept": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" },
        "allow-nothing": false,
        "defaults": { "grants": ["cap:NET_BIND_SERVICE"] },
        "allow": [{
            "rule": "web",
            "image": ["nginx:1.27*", "registry.example.com:5000/shop/**"],
            "container": ["web-*", "front"],
            "labels": { "com.docker.compose.project": "shop*", "tier": "" },
            "grants": ["host-network", "bind:/srv/www:ro"],
            "max": 3,
            "expires": "2027-01-31T00:00:00Z",
            "exec": false,
            "command": "image",
            "keep-running": true,
            "build-steps": true,
            "audit": true,
            "reason": "shop front, OPS-112",
        }],
    });
    assert_eq!(serde_json::to_value(&list).unwrap(), expected);
    let granted: Vec<_> = list.rules[0]
        .granted()
        .unwrap()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        granted,
        ["cap:NET_BIND_SERVICE", "host-network", "bind:/srv/www:ro"]
    );
}

#[test]
fn a_list_cut_anywhere_is_refused_or_whole_in_itself() {
    let whole = Allowlist::parse(EVERY_KEY.as_bytes()).unwrap();
    let last_rule = EVERY_KEY.find("image = ").unwrap();
    for cut in 0..EVERY_KEY.len() {
        match Allowlist::parse(&EVERY_KEY.as_bytes()[..cut]) {
            Err(invalid) => assert!(!invalid.report("f").is_empty()),
            // A key less, at the end of a line: only a file's writer can tell that it goes on.
            Ok(list) => assert!(
                cut > last_rule && list.rules.len() == whole.rules.len(),
                "{cut}"
            ),
        }
    }
}

#[test]
fn all_errors_are_told_at_once() {
    let text = "version = 3\nmode = \"x\"\nstop-timeout = \"\"\n[[allow]]\nimage = \"A\"\nfoo = 1\nmax = 0\n[[allow]]\ncontainer = [\"?\"]\ngrants = [\"?\"]\n";
    let invalid = Allowlist::parse(text.as_bytes()).unwrap_err();
    assert_eq!(invalid.diagnostics().len(), 8, "{}", invalid.report("f"));
    // What seems to be missing where the text is cut may only be unreadable.
    let invalid = Allowlist::parse(b"version = \n[[allow]]\n").unwrap_err();
    assert_eq!(invalid.diagnostics().len(), 1, "{}", invalid.report("f"));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        if let Err(invalid) = Allowlist::parse(text.as_bytes()) {
            proptest::prop_assert!(!invalid.report("f").is_empty());
        }
    }
}

// ---- The schema

#[test]
fn the_schema_says_what_the_parser_says() {
    let schema = schema();
    let mut wrong = Vec::new();
    for (name, text) in valid() {
        let list = as_json(text.as_bytes()).unwrap();
        for error in schema.iter_errors(&list) {
            wrong.push(format!("{name}: refused, {error}"));
        }
    }
    for case in malformed() {
        // What is no TOML is told by the editor's own reader.
        let Some(list) = as_json(&case.text) else {
            assert!(!case.schema_accepts, "{}: it never sees it", case.name);
            continue;
        };
        if schema.is_valid(&list) != case.schema_accepts {
            wrong.push(format!("{}: accepted {}", case.name, !case.schema_accepts));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_schema_describes_every_key_and_knows_every_capability() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    for properties in [
        &schema["properties"],
        &schema["$defs"]["rule"]["properties"],
    ] {
        for (key, property) in properties.as_object().unwrap() {
            assert!(property["description"].is_string(), "{key}");
        }
    }
    let grants = schema["$defs"]["grant"]["anyOf"].as_array().unwrap();
    for name in CAPABILITIES {
        let grant = json!(format!("cap:{name}"));
        let is_known = |one: &Value| {
            one["enum"]
                .as_array()
                .is_some_and(|all| all.contains(&grant))
        };
        assert!(grants.iter().any(is_known), "{grant}");
    }
}

#[test]
fn the_schema_is_printed_and_the_shipped_list_follows_it() {
    let printed = dockwarden(["schema"]);
    assert_eq!(printed.status.code(), Some(0));
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), SCHEMA);
    let shipped = include_bytes!("../allowlist.toml");
    assert!(shipped.starts_with(b"#:schema ./allowlist.schema.json\n"));
    assert!(Allowlist::parse(shipped).is_ok());
    assert!(schema().is_valid(&as_json(shipped).unwrap()));
}

/// Texts that are nearly right: what the schema says of them is what the parser says.
mod nearly_right {
    use super::*;

    static SCHEMA: LazyLock<Validator> = LazyLock::new(schema);

    fn agrees(key: &str, text: &str) -> Result<(), proptest::test_runner::TestCaseError> {
        let as_toml = format!("version = 1\n[[allow]]\nlabels.a = \"b\"\n{key} = [{text:?}]\n");
        let parsed = Allowlist::parse(as_toml.as_bytes());
        let list = as_json(as_toml.as_bytes()).unwrap();
        proptest::prop_assert_eq!(
            parsed.is_ok(),
            SCHEMA.is_valid(&list),
            "{}: {:?}",
            text,
            parsed
        );
        Ok(())
    }

    // Capabilities aside, which have more spellings than the schema.
    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..proptest::test_runner::Config::with_cases(2_000) })]

        #[test]
        fn images(text in "((sha256:|[A-Za*]{1,3}[._:-]{0,2}[a1*]{0,2}/)?[a-cA*]{0,3}[/._-]{0,3}[a-c1*]{0,3})(:[a-zA-Z*.-]{0,3})?(@sha256:[0-9a-f]{63,65})?") {
            agrees("image", &text)?;
        }

        #[test]
        fn containers(text in "[a-cA*_./ -]{0,5}") {
            agrees("container", &text)?;
        }

        #[test]
        fn grants(text in "(bind|device|join|volume|runtime|all|gpus):?(/?[a.*]{0,3}){0,3}(/\\*\\*)?(:r[ow])?") {
            agrees("grants", &text)?;
        }
    }
}

fn schema() -> Validator {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap()
}

/// TOML as JSON, times as texts. `None` for what is no TOML.
fn as_json(text: &[u8]) -> Option<Value> {
    let text = str::from_utf8(text).ok()?;
    Some(value_as_json(toml::from_str::<toml::Value>(text).ok()?))
}

fn value_as_json(value: toml::Value) -> Value {
    match value {
        toml::Value::Datetime(time) => json!(time.to_string()),
        toml::Value::Array(all) => all.into_iter().map(value_as_json).collect(),
        toml::Value::Table(all) => all
            .into_iter()
            .map(|(key, value)| (key, value_as_json(value)))
            .collect(),
        other => serde_json::to_value(other).unwrap(),
    }
}

// ---- The commands

#[test]
fn check_refuses_every_malformed_list() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("allowlist.toml");
    let file = path.display().to_string();
    for case in malformed() {
        std::fs::write(&path, &case.text).unwrap();
        let checked = dockwarden(["check", &file]);
        let said = String::from_utf8(checked.stderr).unwrap();
        assert_eq!(checked.status.code(), Some(2), "{}: {said}", case.name);
        assert!(checked.stdout.is_empty(), "{}", case.name);
        assert!(
            said.contains(&format!("{file}:{}: error: ", case.place)),
            "{}: {said}",
            case.name
        );
        assert!(said.contains(case.message), "{}: {said}", case.name);
        assert!(
            !said.contains("panicked") && !said.contains('\u{1b}'),
            "{}: {said}",
            case.name
        );
    }
}

/// As many rules as nobody writes by hand.
fn ten_thousand_rules() -> String {
    let rules = (0..10_000).map(|number| {
        format!("[[allow]]\nrule = \"r{number}\"\nimage = \"team/app-{number}:*\"\ngrants = [\"bind:/srv/{number}\"]\n")
    });
    format!(
        "version = 1\n{}[[allow]]\nrule = \"last\"\nimage = \"keep:1\"\n",
        rules.collect::<String>()
    )
}

#[test]
fn ten_thousand_rules_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("allowlist.toml");
    std::fs::write(&path, ten_thousand_rules()).unwrap();
    let checked = dockwarden(["check", &path.display().to_string()]);
    let said = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert!(said.contains("valid, 10001 rules"), "{said}");
}

#[test]
fn no_malformed_list_is_taken_up_and_a_long_one_is() {
    let engine = Engine::start();
    for image in ["keep:1", "evil:1"] {
        engine.image(image);
    }
    let good = "version = 1\n[[allow]]\nimage = \"keep:1\"\n";
    let warden = Warden::on(&engine).allowlist(good).start();
    warden.wait_ready();
    let keep = engine.run(&[], "keep:1", &[]);
    let started = started_at(&engine, &keep);
    let in_force = warden.get_json("/allowlist")["hash"].clone();
    for case in malformed() {
        rename_over(&warden, &case.text);
        let (line, column) = case.place.split_once(':').unwrap();
        let place = format!("line {line}, column {column}: ");
        eventually(case.name, SOON, || {
            let answer = warden.get_json("/allowlist");
            assert_eq!(answer["hash"], in_force, "{}", case.name);
            let told = answer["error"]["message"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            told.contains(&place) && told.contains(case.message)
        });
        assert_eq!(warden.get("/readyz").status, 200, "{}", case.name);
    }
    // It enforces still, and what it allows was never touched.
    let evil = engine.run(&[], "evil:1", &[]);
    engine.wait_until_dead(&evil, SOON);
    assert_eq!(started_at(&engine, &keep), started);

    rename_over(&warden, ten_thousand_rules().as_bytes());
    eventually("the long list is in force", SOON, || {
        let answer = warden.get_json("/allowlist");
        answer["hash"] != in_force && answer["error"].is_null()
    });
    let evil = engine.run(&[], "evil:1", &[]);
    engine.wait_until_dead(&evil, SOON);
    assert_eq!(engine.state(&keep).as_deref(), Some("running"));
    assert_eq!(started_at(&engine, &keep), started);
}

fn rename_over(warden: &Warden, text: &[u8]) {
    let draft = warden.list_path().with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(&draft, warden.list_path()).unwrap();
}

#[track_caller]
fn started_at(engine: &Engine, id: &str) -> String {
    engine.docker_ok(&["inspect", "-f", "{{.State.StartedAt}}", id])
}
