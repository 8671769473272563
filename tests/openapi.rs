//! `GET /openapi.json`: what is committed is what is served, and what is answered is what it says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use support::{Engine, Response, SOON, Warden, eventually};

const LIST: &str =
    "version = 1\n[[allow]]\nrule = \"web\"\nimage = \"good:*\"\nlabels = { tier = \"front\" }\n";

/// The answers that were seen, held against the description.
struct Seen<'a> {
    document: &'a Value,
    answers: BTreeSet<(String, u64)>,
}

impl Seen<'_> {
    /// Takes the answer of a path as the document writes it; gives its body.
    #[track_caller]
    fn take(&mut self, path: &str, status: u16, answer: &Response) -> Value {
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        self.answers.insert((path.to_owned(), status.into()));
        let described = &self.document["paths"][path]["get"]["responses"][status.to_string()];
        let kind = answer.header("content-type").unwrap();
        let kind = kind.split(';').next().unwrap();
        let schema = &described["content"][kind]["schema"];
        assert!(schema.is_object(), "{path} {status} {kind}: {described}");
        let body = match kind {
            "text/plain" | "text/html" => json!(answer.body),
            _ => answer.json(),
        };
        let schema = json!({"allOf": [schema], "components": self.document["components"]});
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let wrong: Vec<_> = validator
            .iter_errors(&body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{path}: {wrong:#?}\n{body:#}");
        body
    }
}

#[test]
fn answers_are_as_described_and_the_description_as_committed() {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("evil:1");
    let front = ["--label", "tier=front", "-p", "80", "--name", "web-1"];
    engine.run(&front, "good:1", &[]);
    engine.create(&["--name", "late", "--privileged"], "evil:1", &[]);
    let warden = Warden::on(&engine).allowlist(LIST).start();
    warden.wait_ready();
    let document = warden.get("/openapi.json");
    assert_eq!(document.header("content-type"), Some("application/json"));
    let document = document.json();
    is_committed(&document);
    jsonschema_dialect(&document);
    names_no_operation_twice(&document);
    let mut seen = Seen {
        document: &document,
        answers: BTreeSet::new(),
    };

    for name in ["evil-1", "evil-2"] {
        let evil = engine.run(&["--name", name], "evil:1", &[]);
        engine.wait_until_dead(&evil, SOON);
    }
    engine.docker_ok(&["rm", "evil-2"]);
    eventually("one is gone", SOON, || {
        let gone = warden.get("/containers/evil-2");
        (gone.status == 200 && gone.json()["gone"] == true).then_some(())
    });
    let all = seen.take("/containers", 200, &warden.get("/containers"));
    assert_eq!(all["data"].as_array().unwrap().len(), 3);
    for name in ["web-1", "late", "evil-1", "evil-2"] {
        let answer = warden.get(&format!("/containers/{name}"));
        seen.take("/containers/{name}", 200, &answer);
    }
    let found = seen.take("/decisions", 200, &warden.get("/decisions"));
    assert!(found["data"].as_array().unwrap().len() >= 3);
    warden.write_list_by_rename("version = 2\n");
    eventually("a wrong list is told", SOON, || {
        let shown = warden.get_json("/allowlist");
        (!shown["error"].is_null()).then_some(())
    });
    for path in [
        "/",
        "/allowlist",
        "/metrics",
        "/livez",
        "/readyz",
        "/openapi.json",
    ] {
        seen.take(path, 200, &warden.get(path));
    }
    let browser = [("Accept", "text/html")];
    seen.take(
        "/containers",
        200,
        &warden.get_with("/containers", &browser),
    );
    eventually("the list is unchanged for a moment", SOON, || {
        let tag = warden.get("/containers").header("etag")?.to_owned();
        let answer = warden.get_with("/containers", &[("If-None-Match", &tag)]);
        (answer.status == 304).then(|| assert_eq!(answer.body, ""))
    });
    seen.answers.insert(("/containers".to_owned(), 304)); // it has no content that could be looked at
    for path in ["/", "/containers", "/decisions", "/decisions/stream"] {
        seen.take(path, 400, &warden.get(&format!("{path}?nonsense=1")));
    }
    seen.take("/containers/{name}", 400, &warden.get("/containers/%ff"));
    seen.take("/containers/{name}", 404, &warden.get("/containers/nobody"));

    // Whom it does not let in.
    let tokens = engine.dir().join("tokens");
    std::fs::write(&tokens, "only-the-tests-have-this-one\n").unwrap();
    let options = [
        "--token-file",
        tokens.to_str().unwrap(),
        "--allowed-host",
        "me.example",
    ];
    let guarded = Warden::on(&engine).allowlist(LIST).args(options).start();
    guarded.wait_ready();
    let bare = seen.take("/readyz", 200, &guarded.get("/readyz"));
    assert_eq!(bare, json!({"ready": true}));
    for (path, status) in described(&document) {
        let asked = path.replace("{name}", "web-1");
        match status {
            401 => seen.take(&path, 401, &guarded.get(&asked)),
            421 => seen.take(
                &path,
                421,
                &guarded.get_with(&asked, &[("Host", "evil.example")]),
            ),
            _ => Value::Null,
        };
    }

    engine.stop_dockerd();
    eventually("the engine is away", SOON, || {
        (warden.get("/containers").status == 503).then_some(())
    });
    for path in ["/", "/containers", "/readyz"] {
        seen.take(path, 503, &warden.get(path));
    }
    seen.take("/containers/{name}", 503, &warden.get("/containers/web-1"));

    // What is described and was not seen is what this can't bring about.
    let unseen = described(&document)
        .difference(&seen.answers)
        .cloned()
        .collect::<Vec<_>>();
    let hard = |(path, status): &(String, u64)| {
        path == "/decisions/stream" || matches!(status, 409 | 500 | 503)
    };
    assert!(unseen.iter().all(hard), "{unseen:?}");
}

#[test]
fn a_controller_describes_what_it_serves() {
    let engine = Engine::start();
    let controller = Warden::on(&engine)
        .allowlist(LIST)
        .subcommand("controller")
        .start();
    controller.wait_ready();
    let document = controller.get_json("/openapi.json");
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        [
            "/decisions",
            "/decisions/stream",
            "/livez",
            "/metrics",
            "/openapi.json",
            "/readyz"
        ]
    );
}

/// `RENEW=1` writes it.
fn is_committed(document: &Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let text = format!("{document:#}\n");
    if std::env::var_os("RENEW").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "openapi.json is stale: RENEW=1 cargo test --test openapi"
    );
}

/// Every schema is one of the draft that OpenAPI 3.1 builds on.
fn jsonschema_dialect(document: &Value) {
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    for schema in document["components"]["schemas"]
        .as_object()
        .unwrap()
        .values()
    {
        jsonschema::draft202012::meta::validate(schema).unwrap();
    }
}

/// Clients that are generated have a function for each.
fn names_no_operation_twice(document: &Value) {
    let paths = document["paths"].as_object().unwrap();
    let names: Vec<_> = paths
        .values()
        .map(|item| item["get"]["operationId"].as_str().unwrap())
        .collect();
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
}

fn described(document: &Value) -> BTreeSet<(String, u64)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let responses = item["get"]["responses"].as_object().unwrap().keys();
            responses.map(|status| (path.clone(), status.parse().unwrap()))
        })
        .collect()
}
