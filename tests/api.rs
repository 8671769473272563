//! What the services answer over HTTP, on a real engine: shapes, filters, what is hidden, and what
//! happens to nonsense.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use support::scripted::{Scripted, event, listed, numbered};
use support::{Builder, Engine, Response, Warden, eventually};

const SOON: Duration = Duration::from_secs(10);

const LIST: &str = r#"
version = 1
[[allow]]
rule = "web"
image = "good:*"
labels = { tier = "front*" }
reason = "shop front, OPS-112"
[[allow]]
rule = "shop"
image = "shop/front"
"#;

/// Two allowed, one denied that only was created, one denied and ended.
struct House {
    engine: Engine,
    warden: Warden,
    web: String,
    evil: String,
}

fn house() -> House {
    house_with(|builder| builder)
}

fn house_with(configure: impl FnOnce(Builder) -> Builder) -> House {
    let engine = Engine::start();
    for image in ["good:1", "shop/front:1", "evil:1"] {
        engine.image(image);
    }
    let project = "com.docker.compose.project=shop";
    let labels = [
        "--label",
        "tier=front",
        "--label",
        "secret=hunter2",
        "--label",
        project,
    ];
    let options = [&["--name", "web-1", "-e", "TOKEN=topsecret"][..], &labels].concat();
    let web = engine.run(&options, "good:1", &[]);
    engine.create(&["--name", "late"], "evil:1", &[]);
    let warden = configure(Warden::on(&engine).allowlist(LIST)).start();
    warden.wait_ready();
    engine.run(&["--name", "shop-1"], "shop/front:1", &[]);
    let evil = engine.run(&["--name", "evil-1"], "evil:1", &[]);
    engine.wait_until_dead(&evil, SOON);
    eventually("all is on record", SOON, || {
        data(&warden, "/decisions").len() == 3
    });
    eventually("all is shown", SOON, || {
        names(&warden, "?status=exited") == ["evil-1"] && names(&warden, "").len() == 4
    });
    House {
        engine,
        warden,
        web,
        evil,
    }
}

// ---- Containers

#[test]
fn containers_are_shown_with_all_their_fields() {
    let house = house();
    let answer = house.warden.get("/containers");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(
        keys(&body),
        ["as_of", "data", "enforcing", "engine", "host"]
    );
    let info = house.engine.api("GET", "/info", None).1;
    assert_eq!(body["host"], info["Name"]);
    assert_eq!(
        body["engine"],
        json!({"connected": true, "version": info["ServerVersion"]})
    );
    assert_eq!(body["enforcing"], true);
    assert!(body["as_of"].as_str().unwrap().ends_with('Z'));

    let one = |name: &str| {
        let all = body["data"].as_array().unwrap();
        all.iter()
            .find(|one| one["container_name"] == name)
            .unwrap()
            .clone()
    };
    let web = one("web-1");
    for key in [
        "container_id",
        "container_name",
        "image",
        "image_id",
        "status",
        "status_text",
        "created_at",
        "started_at",
        "labels",
        "ports",
        "powers",
        "verdict",
        "rule",
        "reason",
        "last_decision",
    ] {
        assert!(web.get(key).is_some(), "{key} is missing: {web}");
    }
    assert_eq!(web["container_id"], *house.web);
    assert_eq!(web["image"], "good:1");
    assert!(web["image_id"].as_str().unwrap().starts_with("sha256:"));
    assert!(web["status_text"].as_str().unwrap().starts_with("Up"));
    assert!(web["ports"].is_array());
    let started = house
        .engine
        .docker_ok(&["inspect", "-f", "{{.State.StartedAt}}", "web-1"]);
    // By an event or by an inspection: the engine itself tells two times, a moment apart.
    let apart = time(&json!(started)).duration_since(time(&web["started_at"]));
    assert!(apart.abs() < jiff::SignedDuration::from_secs(1), "{apart}");
    assert_eq!(
        (&web["verdict"], &web["rule"], &web["reason"]),
        (&json!("allowed"), &json!("web"), &Value::Null)
    );
    assert_eq!(web["last_decision"]["verdict"], "allowed");
    assert_eq!(web["last_decision"]["outcome"], Value::Null);

    let evil = one("evil-1");
    assert_eq!(
        (&evil["status"], &evil["verdict"], &evil["reason"]),
        (&json!("exited"), &json!("denied"), &json!("no-rule"))
    );
    assert_eq!(evil["last_decision"]["outcome"], "done");
    assert_eq!(evil["last_decision"]["trigger"], "start");
    let late = one("late");
    assert_eq!(
        (&late["status"], &late["verdict"], &late["started_at"]),
        (&json!("created"), &json!("denied"), &Value::Null)
    );
    assert_eq!(one("shop-1")["rule"], "shop");
}

/// What is shown is looked at before it is known whether this process sees the host's files.
#[test]
fn verdicts_are_the_controllers_for_what_ran_before() {
    let engine = Engine::start();
    engine.image("good:1");
    let dir = engine.dir().join("bound");
    std::fs::create_dir(&dir).unwrap();
    std::os::unix::fs::symlink("/etc", dir.join("link")).unwrap();
    let dir = dir.display();
    let id = engine.run(&["-v", &format!("{dir}/link:/x")], "good:1", &[]);
    let list = format!(
        "version = 1\nmode = \"audit\"\n[[allow]]\nimage = \"good:1\"\ngrants = [\"bind:{dir}/**\"]\n"
    );
    let warden = Warden::on(&engine).allowlist(&list).start();
    warden.wait_ready();
    let record = warden.wait_for_verdict(&id, "denied");
    assert_eq!(record["reason"], "not-granted", "{record:#}");
    // The verdict is the controller's, and what leads to it is found out here as well.
    eventually("it is shown so, with what leads there", SOON, || {
        let shown = warden.get_json(&format!("/containers/{id}"));
        let leads_there = shown["powers"].to_string().contains("bind:/etc");
        (shown["verdict"] == "denied" && leads_there).then_some(())
    });
}

#[test]
fn filters_narrow_and_nonsense_is_refused() {
    let house = house();
    let warden = &house.warden;
    let table: [(&str, &[&str]); 27] = [
        ("", &["evil-1", "late", "shop-1", "web-1"]),
        ("?", &["evil-1", "late", "shop-1", "web-1"]),
        ("?status=running", &["shop-1", "web-1"]),
        ("?status=created", &["late"]),
        ("?status=exited", &["evil-1"]),
        ("?status=paused", &[]),
        ("?verdict=denied", &["evil-1", "late"]),
        ("?verdict=allowed", &["shop-1", "web-1"]),
        ("?verdict=unknown", &[]),
        ("?name=web-1", &["web-1"]),
        ("?name=web", &[]),
        ("?name=*-1", &["evil-1", "shop-1", "web-1"]),
        ("?image=evil:1", &["evil-1", "late"]),
        ("?image=shop/*", &["shop-1"]),
        ("?image=shop%2Ffront:1", &["shop-1"]),
        ("?label=tier", &["web-1"]),
        ("?label=tier=front", &["web-1"]),
        ("?label=tier=back", &[]),
        ("?label=tier%3Dfr*", &["web-1"]),
        ("?label=com.docker.compose.project=shop", &["web-1"]),
        ("?label=nothing", &[]),
        ("?label=tier&label=nothing", &[]),
        ("?status=running&verdict=denied", &[]),
        ("?status=running&verdict=allowed&image=shop/**", &["shop-1"]),
        ("?name=*-1&status=running&label=tier=front", &["web-1"]),
        // What is hidden can't be guessed, letter by letter or whole.
        ("?label=secret=hunter2", &[]),
        ("?label=secret=h*", &[]),
    ];
    for (query, expected) in table {
        assert_eq!(names(warden, query), expected, "{query}");
    }
    let long = "x".repeat(256);
    let stars = "*x".repeat(8);
    for query in [format!("name={long}"), format!("label=tier={stars}")] {
        assert!(names(warden, &format!("?{query}")).is_empty());
    }
    for query in [
        format!("name={long}x"),
        format!("image={stars}*"),
        format!("label=tier={long}x"),
        format!("label=tier={}", "*".repeat(14_000)),
        "label=tier&".repeat(9),
    ] {
        let answer = warden.get(&format!("/containers?{query}"));
        is_problem(&answer, 400, &query);
        assert!(answer.body.contains(" 8 "), "{answer:?}");
    }
    for query in [
        "nonsense=1",
        "Status=running",
        "status=nonsense",
        "status=",
        "status=RUNNING",
        "verdict=guilty",
        "verdict=",
        "limit=5",
        "status=running&nonsense=1",
        "=",
        "status",
    ] {
        for path in ["/containers", "/"] {
            let answer = warden.get(&format!("{path}?{query}"));
            is_problem(&answer, 400, query);
        }
    }
}

#[test]
fn labels_are_masked_and_environments_never_shown() {
    for (options, secret) in [(&[][..], "…"), (&["--show-labels", "all"][..], "hunter2")] {
        let house = house_with(|builder| builder.args(options));
        let web = &data(&house.warden, "/containers?name=web-1")[0];
        assert_eq!(
            web["labels"],
            json!({"tier": "front", "secret": secret, "com.docker.compose.project": "shop"})
        );
        let one = house.warden.get_json("/containers/web-1");
        assert_eq!(one["labels"], web["labels"]);
        let found = names(&house.warden, "?label=secret=hunter2");
        assert_eq!(found.is_empty(), secret == "…");
        for path in [
            "/containers",
            "/containers/web-1",
            "/decisions",
            "/",
            "/metrics",
            "/allowlist",
        ] {
            let body = house.warden.get(path).body;
            assert!(!body.contains("topsecret"), "{path}: {body}");
            assert!(
                secret == "hunter2" || !body.contains("hunter2"),
                "{path}: {body}"
            );
        }
    }
}

#[test]
fn one_container_is_explained_and_remembered() {
    let house = house();
    let (engine, warden) = (&house.engine, &house.warden);
    for name in ["web-1", &house.web, &house.web[..12], &house.web[..6]] {
        let one = warden.get_json(&format!("/containers/{name}"));
        assert_eq!(one["container_id"], *house.web);
        let rules = one["explanation"].as_array().unwrap();
        assert_eq!(rules.len(), 2);
        assert_eq!(
            (&rules[0]["rule"], &rules[0]["matches"]),
            (&json!("web"), &json!(true))
        );
        assert_eq!(
            (&rules[1]["rule"], &rules[1]["matches"]),
            (&json!("shop"), &json!(false))
        );
        assert_eq!(rules[0]["keys"].as_array().unwrap().len(), 2);
    }
    let evil = warden.get_json("/containers/evil-1");
    assert_eq!(
        (&evil["verdict"], &evil["last_decision"]["outcome"]),
        (&json!("denied"), &json!("done"))
    );

    engine.docker_ok(&["rm", "evil-1"]);
    eventually("it is gone", SOON, || {
        names(warden, "?name=evil-1").is_empty()
    });
    for name in ["evil-1", &house.evil, &house.evil[..12]] {
        let gone = warden.get_json(&format!("/containers/{name}"));
        assert_eq!(gone["gone"], true, "{gone}");
        assert_eq!(gone["container_id"], *house.evil);
        assert_eq!(gone["decisions"][0]["outcome"], "done");
    }
    for name in [
        "nobody",
        &"0".repeat(64),
        "%00",
        "..%2f..%2fetc",
        "web-1%20",
        "WEB-1",
    ] {
        is_problem(&warden.get(&format!("/containers/{name}")), 404, name);
    }
}

// ---- Decisions

#[test]
fn decisions_are_found_newest_first() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.jsonl").display().to_string();
    for options in [vec![], vec!["--audit-log", &*log]] {
        let house = house_with(|builder| builder.args(&options));
        let warden = &house.warden;
        let all = data(warden, "/decisions");
        let seqs: Vec<u64> = all
            .iter()
            .map(|record| record["seq"].as_u64().unwrap())
            .collect();
        assert!(seqs.is_sorted_by(|one, other| one > other), "{seqs:?}");
        let evil = all
            .iter()
            .find(|record| record["container_name"] == "evil-1")
            .unwrap();
        for (key, value) in [
            ("v", json!(1)),
            ("event", json!("decision")),
            ("container_id", json!(house.evil)),
            ("image", json!("evil:1")),
            ("verdict", json!("denied")),
            ("reason", json!("no-rule")),
            ("trigger", json!("start")),
            ("mode", json!("enforce")),
            ("action", json!("kill")),
            ("outcome", json!("done")),
            ("path", json!("api")),
            ("error", Value::Null),
            ("restart_policy", json!("no")),
            (
                "allowlist_hash",
                warden.get_json("/allowlist")["hash"].clone(),
            ),
        ] {
            assert_eq!(evil[key], value, "{key}: {evil}");
        }
        assert!(
            evil["lived_ms"].as_f64().is_some_and(|lived| lived > 0.0),
            "{evil}"
        );

        let id = house.evil.clone();
        let (newest, oldest) = (seqs[0], seqs[2]);
        let count = |query: &str| data(warden, &format!("/decisions?{query}")).len();
        for (query, expected) in [
            ("limit=1", 1),
            ("limit=1000", 3),
            (&*format!("after={oldest}"), 2),
            (&format!("after={newest}"), 0),
            (&format!("after={oldest}&limit=1"), 1),
            ("container=evil-1", 1),
            (&format!("container={id}"), 1),
            (&format!("container={}", &id[..12]), 1),
            ("container=nobody", 0),
            ("verdict=denied", 1),
            ("verdict=allowed", 2),
            ("outcome=done", 1),
            ("outcome=failed", 0),
            ("outcome=audit-only", 0),
            ("verdict=allowed&outcome=done", 0),
            ("since=2020-01-01T00:00:00Z", 3),
            ("since=2020-01-01T00:00:00%2B02:00", 3),
            ("since=2999-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(count(query), expected, "{query}");
        }
        assert_eq!(data(warden, "/decisions?limit=1")[0]["seq"], newest);
        for query in [
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=x",
            "limit=",
            "after=x",
            "after=-1",
            "after=9223372036854775808",
            "container=",
            "verdict=x",
            "verdict=",
            "outcome=x",
            "outcome=Done",
            "since=yesterday",
            "since=",
            "since=5",
            "nonsense=1",
        ] {
            is_problem(&warden.get(&format!("/decisions?{query}")), 400, query);
        }
    }
}

// ---- The list, health and metrics

#[test]
fn the_list_in_force_is_shown() {
    let house = house();
    let shown = house.warden.get_json("/allowlist");
    assert_eq!(shown["hash"].as_str().unwrap().len(), 64);
    assert!(shown["loaded_at"].is_string());
    assert_eq!(shown["error"], Value::Null);
    assert_eq!(shown["list"]["version"], 1);
    assert_eq!(shown["list"]["mode"], "enforce");
    let rules = shown["list"]["allow"].as_array().unwrap();
    assert_eq!(
        (&rules[0]["rule"], &rules[0]["reason"]),
        (&json!("web"), &json!("shop front, OPS-112"))
    );
}

#[test]
fn health_is_told_with_what_is_missing() {
    let house = house_with(|builder| builder.args(["--resync", "1s"]));
    let warden = &house.warden;
    assert_eq!(warden.get("/livez").status, 200);
    let ready = warden.get_json("/readyz");
    assert_eq!(
        ready,
        json!({
            "ready": true, "missing": [], "enforcing": true, "mode": "enforce", "hindrance": null,
            "paths": ["api"],
            "allowlist_error": null, "allowlist_held": null, "audit_log_error": null,
        })
    );

    house.engine.stop_dockerd();
    eventually("it is told", SOON, || warden.get("/readyz").status == 503);
    let body = warden.get("/readyz").json();
    assert_eq!(
        (&body["ready"], &body["enforcing"]),
        (&json!(false), &json!(false))
    );
    assert!(
        body["missing"][0]
            .as_str()
            .unwrap()
            .contains("out of reach"),
        "{body}"
    );
    let answer = eventually("503 and no empty list", SOON, || {
        let answer = warden.get("/containers");
        (answer.status == 503).then_some(answer)
    });
    is_problem(&answer, 503, "/containers");
    assert!(answer.json()["age_seconds"].as_f64().unwrap() >= 0.0);
    assert_eq!(warden.get("/livez").status, 200);
    let page = warden.get_with("/", &[("Accept", "text/html")]);
    assert!(
        page.status == 503 && page.body.contains("out of reach"),
        "{page:?}"
    );

    house.engine.start_dockerd();
    warden.wait_ready();
    eventually("they are shown again", SOON, || {
        warden.get("/containers").status == 200 && names(warden, "").len() == 4
    });
}

#[test]
fn every_metric_is_there_and_sane() {
    let house = house();
    let warden = &house.warden;
    warden.signal("HUP");
    eventually("the reload is counted", SOON, || {
        warden
            .get("/metrics")
            .body
            .contains("allowlist_reloads_total{outcome=\"unchanged\"} 1")
    });
    let answer = warden.get("/metrics");
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let text = answer.body;
    let missing: Vec<_> = ALL_METRICS
        .iter()
        .filter(|name| {
            !text.contains(&format!("# HELP dockwarden_{name} "))
                || !text.contains(&format!("# TYPE dockwarden_{name} "))
        })
        .collect();
    for sample in [
        "enforcing 1",
        "hindered 0",
        "mode{mode=\"enforce\"} 1",
        "mode{mode=\"audit\"} 0",
        "containers{status=\"running\",verdict=\"allowed\"} 2",
        "containers{status=\"created\",verdict=\"denied\"} 1",
        "containers{status=\"exited\",verdict=\"denied\"} 1",
        "denied_running 0",
        "rule_containers{rule=\"web\"} 1",
        "rule_containers{rule=\"shop\"} 1",
        "decisions_total{reason=\"no-rule\",trigger=\"start\",verdict=\"denied\"} 1",
        "actions_total{action=\"kill\",outcome=\"done\"} 1",
        // What is counted is there before that.
        "actions_total{action=\"kill\",outcome=\"failed\"} 0",
        "actions_total{action=\"stop\",outcome=\"escaped\"} 0",
        "notifications_total{outcome=\"failed\"} 0",
        "unreadable_total{what=\"container\"} 0",
        "path_fallbacks_total{path=\"gate\"} 0",
        "lived_seconds_count 1",
        "reaction_seconds_count 1",
        "escaped_total 0",
        "engine_connected 1",
        "engine_reconnects_total 0",
        "allowlist_rules 2",
        "allowlist_last_reload_successful 1",
        "allowlist_held 0",
        "path_info{path=\"api\"} 1",
        "rules_expiring 0",
        "audit_write_errors_total 0",
    ] {
        assert!(
            text.contains(&format!("\ndockwarden_{sample}\n")),
            "{sample}\n{text}"
        );
    }
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    let hash = warden.get_json("/allowlist")["hash"].clone();
    assert!(text.contains(&format!("dockwarden_allowlist_info{{hash={hash}}} 1")));
    // No path, name or id makes a time series.
    for path in [
        "/containers/web-1",
        "/containers/nobody",
        "/nowhere/at/all",
        "/containers?name=x",
    ] {
        warden.get(path);
    }
    let text = warden.get("/metrics").body;
    for part in ["web-1\"", "nobody", "nowhere", &house.web, &house.web[..12]] {
        assert!(!text.contains(part), "{part}\n{text}");
    }
    assert!(
        missing.is_empty(),
        "no HELP or TYPE for {missing:?}\n{text}"
    );
}

const ALL_METRICS: &[&str] = &[
    "enforcing",
    "hindered",
    "mode",
    "containers",
    "denied_running",
    "rule_containers",
    "decisions_total",
    "actions_total",
    "lived_seconds",
    "reaction_seconds",
    "escaped_total",
    "engine_connected",
    "engine_reconnects_total",
    "events_total",
    "unreadable_total",
    "last_sweep_timestamp_seconds",
    "sweep_duration_seconds",
    "allowlist_info",
    "allowlist_rules",
    "allowlist_loaded_timestamp_seconds",
    "allowlist_last_reload_successful",
    "allowlist_held",
    "allowlist_reloads_total",
    "rules_expiring",
    "path_info",
    "path_fallbacks_total",
    "notifications_total",
    "audit_write_errors_total",
    "http_request_duration_seconds",
    "build_info",
];

/// What begins the ids of several is none of them, neither where they are here nor where all are gone.
#[test]
fn an_id_s_beginning_names_one_container_or_is_refused() {
    let fake = Scripted::start();
    let (one, other, gone) = (numbered(0x1a), numbered(0x1b), "f".repeat(64));
    for id in [&one, &other] {
        let container = listed(id, "good:1");
        fake.world().containers.insert(id.clone(), container);
    }
    let warden = fake.warden(LIST, "1h");
    let answer = |name: &str| warden.get(&format!("/containers/{name}"));
    eventually("all are shown", SOON, || answer(&other).status == 200);
    let refused = answer(&one[..63]);
    is_problem(&refused, 409, "what begins both");
    for id in [&one, &other] {
        assert!(refused.body.contains(&**id), "{refused:?}");
    }
    assert_eq!(answer("n1a").json()["container_id"], *one);

    // Two were called so; the last of them is meant.
    for id in [&gone, &"e".repeat(64)] {
        comes_and_goes(&fake, &warden, id, "again");
    }
    let last = answer("again").json();
    assert_eq!(last["container_id"], "e".repeat(64));
    for record in last["decisions"].as_array().unwrap() {
        assert_eq!(record["container_id"], "e".repeat(64), "{last}");
    }

    let like_one = format!("{}1c", "0".repeat(62));
    let like_gone = format!("{}0", "f".repeat(63));
    for id in [&like_one, &like_gone] {
        comes_and_goes(&fake, &warden, id, "other");
    }
    let beginning = "f".repeat(60);
    for path in ["/containers/", "/decisions?container="] {
        let refused = warden.get(&format!("{path}{beginning}"));
        is_problem(&refused, 409, path);
        assert!(refused.body.contains(&*like_gone), "{refused:?}");
    }
    // Who is here goes before who is gone.
    fake.world().containers.remove(&other);
    fake.say(event("destroy", &other).as_bytes());
    eventually("one of them is left", SOON, || {
        answer(&one[..63]).json()["container_id"] == *one
    });
}

/// What is written like the beginning of an id, or like a whole one, is a name where Docker takes it for one.
#[test]
fn a_name_that_looks_like_an_id_means_nobody_else() {
    let fake = Scripted::start();
    let (db, like_db) = ("a".repeat(64), format!("db{}", "0".repeat(62)));
    let named_like_db = "c".repeat(64);
    let warden = fake.warden(LIST, "1h");
    // Whose id looks like a name is on record later than who has the name.
    comes_and_goes(&fake, &warden, &db, "db");
    comes_and_goes(&fake, &warden, &like_db, "web");
    comes_and_goes(&fake, &warden, &named_like_db, &like_db);
    let expect = |word: &str, id: &str| {
        let gone = warden.get_json(&format!("/containers/{word}"));
        assert_eq!(gone["container_id"], *id, "{word}: {gone}");
        let found = data(&warden, &format!("/decisions?container={word}"));
        assert!(!found.is_empty(), "{word}");
        for record in found {
            assert_eq!(record["container_id"], *id, "{word}: {record}");
        }
    };
    expect("db", &db);
    expect("db0", &like_db);
    expect(&like_db, &like_db);
    expect(&named_like_db, &named_like_db);
    // Who is meant does not depend on what else is asked for.
    let newest = data(&warden, "/decisions?container=db")[0]["seq"].clone();
    for more in ["verdict=allowed", &format!("after={newest}")] {
        let found = data(&warden, &format!("/decisions?container=db&{more}"));
        assert!(found.is_empty(), "{found:?}");
    }

    // The same among those that are here.
    let mut named = listed(&named_like_db, "good:1");
    named["Names"] = json!([format!("/{like_db}")]);
    let like_db_again = listed(&like_db, "good:1");
    for (id, container) in [(&named_like_db, named), (&like_db, like_db_again)] {
        fake.world().containers.insert(id.clone(), container);
        fake.say(event("create", id).as_bytes());
        eventually("it is here", SOON, || {
            let shown = warden.get_json(&format!("/containers/{id}"));
            (shown["container_id"] == **id && shown["gone"].is_null()).then_some(())
        });
    }
    let shown = warden.get_json(&format!("/containers/{like_db}"));
    assert_eq!(shown["container_id"], *like_db, "{shown}");
    let gone = warden.get_json("/containers/db");
    assert_eq!(gone["container_id"], *db, "{gone}");
}

/// A container that is denied, ended, on record and removed.
#[track_caller]
fn comes_and_goes(fake: &Scripted, warden: &Warden, id: &str, name: &str) {
    let mut container = listed(id, "evil:1");
    container["Names"] = json!([format!("/{name}")]);
    fake.world().containers.insert(id.to_owned(), container);
    fake.say(event("start", id).as_bytes());
    fake.wait_for_kill(id);
    warden.wait_for_verdict(id, "denied");
    fake.world().containers.remove(id);
    fake.say(event("destroy", id).as_bytes());
    eventually("it is gone", SOON, || {
        warden.get(&format!("/containers/{id}")).json()["gone"] == true
    });
}

/// Whoever has another name now is here, and not gone.
#[test]
fn a_name_that_one_had_leads_to_it() {
    let fake = Scripted::start();
    let id = numbered(1);
    let mut container = listed(&id, "good:1");
    container["Labels"] = json!({"tier": "front"});
    fake.world().containers.insert(id.clone(), container);
    let warden = fake.warden(LIST, "1h");
    warden.wait_for_verdict(&id, "allowed");
    fake.world().containers.get_mut(&id).unwrap()["Names"] = json!(["/renamed"]);
    fake.say(event("rename", &id).as_bytes());
    eventually("it has another name", SOON, || {
        names(&warden, "") == ["renamed"]
    });
    let shown = warden.get_json("/containers/n1");
    assert_eq!(shown["container_name"], "renamed", "{shown}");
}

// ---- Errors, the page

/// What is asked for is shown; what is counted is all there is. Nothing hides in what strangers wrote.
#[test]
fn the_page_counts_all_and_shows_what_hides() {
    let fake = Scripted::start();
    let images = ["good:1", "shop/front", "evil\u{202e}:1", "open:1"];
    for (number, image) in (1..).zip(images) {
        let mut container = listed(&numbered(number), image);
        container["Labels"] = json!({"tier": "front"});
        fake.world().containers.insert(numbered(number), container);
    }
    // Between two lives it counts as running everywhere; and one can't be judged.
    fake.world().containers.get_mut(&numbered(2)).unwrap()["State"] = json!("restarting");
    fake.world().broken_inspections.insert(numbered(4), 500);
    let open = "[[allow]]\nrule = \"open\"\nimage = \"open\"\ngrants = []\n";
    let list = format!("mode = \"audit\"\n{LIST}{open}");
    let warden = fake.warden(&list, "1h");
    let page = |query: &str| warden.get(&format!("/{query}")).body;
    let all = "<dd>2 allowed, 1 denied, 1 unknown</dd>";
    eventually("all are counted", SOON, || page("").contains(all));
    let counts: Vec<_> = page("")
        .split("data-label=\"Running\">")
        .skip(1)
        .map(|rest| rest.chars().next())
        .collect();
    assert_eq!(counts, ['1', '1', '0'].map(Some), "of each rule");
    assert!(page("").contains("can't be judged yet"));
    warden.write_list_by_rename("version = 2\n");
    eventually("a bad list is told with its time", SOON, || {
        let page = page("");
        let told = page.split_once("A newer list is not in force: ");
        let banner = told.and_then(|(_, rest)| rest.split_once("</p>"));
        // To the second.
        banner.is_some_and(|(banner, _)| {
            let read = banner.rsplit_once("(read ").map(|(_, read)| read.len());
            read == Some("2026-01-01 00:00:00 UTC)".len())
        })
    });
    let some = page("?name=n1");
    assert!(some.contains(all), "{some}");
    assert!(some.contains(&numbered(1)[..12]) && some.contains("shop/front"));
    assert_eq!(
        some.matches("<th scope=\"row\" data-sort").count(),
        1,
        "{some}"
    );
    let whole = page("");
    assert!(whole.contains("evil\\u{202e}:1"), "{whole}");
    assert!(!whole.contains('\u{202e}'), "{whole}");
}

/// Nothing was denied, or nobody can tell: that is not the same.
#[test]
fn the_page_says_what_is_not_known_of_denials() {
    let fake = Scripted::start();
    let api = |options: &[&str]| {
        let api = fake.builder(LIST, "1h").subcommand("api");
        let api = api.args(options).start();
        api.wait_ready();
        api
    };
    let told = |api: &Warden, text: &str| {
        let page = api.get("/").body;
        assert!(page.contains(text), "{text}\n{page}");
    };
    told(
        &api(&[]),
        "No audit log is read here: what was denied is not known.",
    );
    told(
        &fake.warden(LIST, "1h"),
        "Nothing since dockwarden started.",
    );
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.jsonl");
    let api = api(&["--audit-log", log.to_str().unwrap()]);
    told(
        &api,
        "There is no audit log yet: what was denied is not known.",
    );
    std::os::unix::fs::symlink(&log, &log).unwrap();
    told(
        &api,
        "The audit log can't be read: what was denied is not known.",
    );

    std::fs::remove_file(&log).unwrap();
    let now = jiff::Timestamp::now();
    let record = |seq: i64| {
        let record = json!({
            "v": 1, "seq": seq, "event": "decision", "host": "h", "container_id": numbered(1),
            "time": now - jiff::SignedDuration::from_secs(1_100 - seq), "labels": {}, "image": "evil",
            "verdict": "denied", "reason": "no-rule", "detail": "no rule matches", "trigger": "start",
            "mode": "enforce", "action": "kill", "outcome": "done", "allowlist_hash": "00",
        });
        format!("{record}\n")
    };
    let records = |count: i64| (1..=count).map(record).collect::<String>();
    std::fs::write(&log, records(0)).unwrap();
    told(&api, ">Nothing.<");
    std::fs::write(&log, records(60)).unwrap();
    told(&api, "The newest 50 of 60.");
    told(&api, "Ended per hour, the last day (UTC): 60 in all");
    std::fs::write(&log, records(1_100)).unwrap();
    told(&api, "The newest 50 of the last 1,000 denials.");
    told(
        &api,
        "Ended per hour (UTC), of the last 1,000 denials: 1000 in all",
    );
    assert_eq!(api.get("/").body.matches(">killed<").count(), 50);
}

#[test]
fn what_is_not_there_or_not_read_only_is_a_problem() {
    let house = house();
    let warden = &house.warden;
    for path in [
        "/nope",
        "/containers/",
        "/Containers",
        "/containers/web-1/kill",
        "/..",
        "//",
        "/decisions/1",
    ] {
        is_problem(&warden.get(path), 404, path);
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "NONSENSE"] {
        for path in [
            "/",
            "/containers",
            "/containers/web-1",
            "/decisions",
            "/decisions/stream",
            "/allowlist",
            "/metrics",
            "/livez",
            "/readyz",
            "/openapi.json",
        ] {
            let answer = warden.request(method, path, &[]).unwrap();
            is_problem(&answer, 405, &format!("{method} {path}"));
            assert!(
                answer.header("allow").unwrap_or_default().contains("GET"),
                "{method} {path}"
            );
        }
    }
    for path in [
        "/",
        "/containers",
        "/metrics",
        "/livez",
        "/readyz",
        "/openapi.json",
    ] {
        assert_eq!(
            warden.request("HEAD", path, &[]).unwrap().status,
            200,
            "{path}"
        );
    }
    assert_eq!(house.engine.state("web-1").as_deref(), Some("running"));
}

#[test]
fn the_page_is_plain_and_escapes_what_is_foreign() {
    const HOSTILE: &str = "</td><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;";
    let engine = Engine::start();
    engine.image("good:1");
    let list = format!(
        "version = 1\n[[allow]]\nrule = '<i>sly</i>'\nimage = \"good:*\"\nlabels = {{ tier = \"front\" }}\nreason = \"\"\"{HOSTILE}\"\"\"\n"
    );
    engine.run(
        &["--label", &format!("tier={HOSTILE}"), "--name", "sly"],
        "good:1",
        &[],
    );
    engine.run(&["--label", "tier=front", "--name", "web-1"], "good:1", &[]);
    let warden = Warden::on(&engine)
        .allowlist(&list)
        .args(["--show-labels", "all", "--host-name", "<b>host</b>"])
        .start();
    warden.wait_ready();
    engine.wait_until_dead("sly", SOON);
    eventually("it is shown", SOON, || {
        names(&warden, "?status=exited") == ["sly"] && data(&warden, "/decisions").len() == 2
    });
    let browser = [(
        "Accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    )];
    for (path, headers) in [("/", &[][..]), ("/", &browser), ("/containers", &browser)] {
        let page = warden.get_with(path, headers);
        assert_eq!(page.status, 200);
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        for part in [
            "<script>alert",
            "<img",
            "<i>",
            "<b>host",
            "onerror=alert(1)>",
        ] {
            assert!(!page.body.contains(part), "{part}\n{}", page.body);
        }
        for part in [
            "&lt;script&gt;",
            "&lt;i&gt;sly",
            "&lt;b&gt;host",
            "web-1",
            "denied",
            "no-rule",
        ] {
            assert!(page.body.contains(part), "{part}\n{}", page.body);
        }
    }
    // Only a browser gets it.
    for accept in ["application/json", "*/*"] {
        let answer = warden.get_with("/containers", &[("Accept", accept)]);
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{accept}"
        );
    }
}

// ---- Which service, which settings

#[test]
fn the_controller_serves_what_is_its_own() {
    let house = Engine::start();
    house.image("evil:1");
    let controller = Warden::on(&house)
        .allowlist(LIST)
        .subcommand("controller")
        .start();
    controller.wait_ready();
    let evil = house.run(&[], "evil:1", &[]);
    house.wait_until_dead(&evil, SOON);
    eventually("it is on record", SOON, || {
        data(&controller, "/decisions").len() == 1
    });
    for path in [
        "/metrics",
        "/livez",
        "/readyz",
        "/decisions",
        "/openapi.json",
    ] {
        assert_eq!(controller.get(path).status, 200, "{path}");
    }
    for path in ["/", "/containers", "/containers/x"] {
        is_problem(&controller.get(path), 404, path);
    }
}

#[test]
fn the_api_alone_judges_and_never_touches() {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("evil:1");
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.jsonl").display().to_string();
    let api = Warden::on(&engine)
        .allowlist(LIST)
        .subcommand("api")
        .args(["--audit-log", &log, "--resync", "1s"])
        .start();
    api.wait_ready();
    // The log is not there yet.
    assert!(data(&api, "/decisions").is_empty());
    let evil = engine.run(&["--name", "evil-1"], "evil:1", &[]);
    let good = engine.run(&["--label", "tier=front"], "good:1", &[]);
    eventually("it is judged", SOON, || {
        names(&api, "?verdict=denied&status=running") == ["evil-1"]
    });
    assert_eq!(api.get_json("/containers")["enforcing"], false);
    assert_eq!(api.get_json("/readyz")["enforcing"], false);
    // By its own file.
    api.write_list_by_rename("version = 1\n[[allow]]\nimage = \"evil:*\"\n");
    eventually("judged by the new list", SOON, || {
        names(&api, "?verdict=allowed") == ["evil-1"] && names(&api, "?verdict=denied").len() == 1
    });
    assert!(engine.running_ids().contains(&evil) && engine.running_ids().contains(&good));

    // A controller ends it, and the api shows what was done.
    let controller = Warden::on(&engine)
        .allowlist(LIST)
        .subcommand("controller")
        .args(["--audit-log", &log])
        .start();
    engine.wait_until_dead(&evil, SOON);
    let record = eventually("the api knows", SOON, || {
        data(&api, "/decisions?verdict=denied").first().cloned()
    });
    assert_eq!(
        (&record["container_name"], &record["outcome"]),
        (&json!("evil-1"), &json!("done"))
    );
    eventually("and shows it with the container", SOON, || {
        api.get_json("/containers/evil-1")["last_decision"]["outcome"] == "done"
    });
    engine.docker_ok(&["rm", "evil-1"]);
    eventually("and when it is gone", SOON, || {
        api.get_json("/containers/evil-1")["gone"] == true
    });
    // One log, one writer.
    let second = Warden::on(&engine)
        .allowlist(LIST)
        .subcommand("controller")
        .args(["--audit-log", &log])
        .spawn();
    assert_eq!(second.wait_exit(SOON).code(), Some(2));
    assert!(controller.lives());
}

#[test]
fn the_api_alone_tells_no_metric_of_enforcement() {
    let engine = Engine::start();
    let api = Warden::on(&engine)
        .allowlist(LIST)
        .subcommand("api")
        .start();
    api.wait_ready();
    let text = api.get("/metrics").body;
    assert!(text.contains("dockwarden_build_info"), "{text}");
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    // A zero here would be an alarm that never ends.
    for sample in [
        "enforcing",
        "engine_connected",
        "allowlist_last_reload_successful",
        "allowlist_rules",
        "last_sweep_timestamp_seconds",
        "denied_running",
        "escaped_total",
    ] {
        assert!(
            !text.contains(&format!("\ndockwarden_{sample}")),
            "{sample}\n{text}"
        );
    }
}

#[test]
fn an_option_wins_over_its_variable_and_empty_is_unset() {
    let engine = Engine::start();
    let own = engine.api("GET", "/info", None).1["Name"]
        .as_str()
        .unwrap()
        .to_owned();
    for (variable, option, expected) in [
        (Some("by-variable"), None, "by-variable"),
        (Some("by-variable"), Some("by-option"), "by-option"),
        (Some(""), None, &*own),
        (None, None, &*own),
    ] {
        let mut builder = Warden::on(&engine).allowlist(LIST);
        for (name, value) in [
            ("DOCKWARDEN_HOST_NAME", variable),
            ("DOCKWARDEN_MODE", variable.map(|_| "")),
            ("DOCKWARDEN_RESYNC", variable.map(|_| "")),
            ("DOCKWARDEN_SELF_ID", variable.map(|_| "")),
            ("DOCKWARDEN_AUDIT_LOG", variable.map(|_| "")),
            ("DOCKWARDEN_LOG_LEVEL", variable.map(|_| "")),
            ("DOCKER_HOST", Some("unix:///nowhere.sock")),
            ("DOCKWARDEN_LISTEN", Some("nonsense")),
        ] {
            if let Some(value) = value {
                builder = builder.env(name, value);
            }
        }
        if let Some(option) = option {
            builder = builder.args(["--host-name", option]);
        }
        let warden = builder.start();
        warden.wait_ready();
        assert_eq!(warden.get_json("/containers")["host"], expected);
        assert_eq!(warden.get_json("/readyz")["enforcing"], true);
    }
}

// ---- Load and abuse

#[test]
fn a_request_needs_no_engine() {
    let house = house_with(|builder| builder.args(["--resync", "1h"]));
    house.engine.pause_dockerd();
    for _ in 0..200 {
        assert_eq!(names(&house.warden, "").len(), 4);
    }
    for path in [
        "/",
        "/containers/web-1",
        "/decisions",
        "/metrics",
        "/allowlist",
        "/openapi.json",
        "/readyz",
    ] {
        assert_eq!(house.warden.get(path).status, 200, "{path}");
    }
    house.engine.resume_dockerd();
}

#[test]
fn garbage_and_crowds_stop_nothing() {
    let house = house();
    let warden = &house.warden;
    let address = warden.address();
    let large = vec![b'x'; 10 * 1024 * 1024];
    let length = large.len();
    let many_headers = "X-Y: z\r\n".repeat(5_000);
    let long = "a".repeat(200_000);
    let garbage: Vec<Vec<u8>> = vec![
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"\r\n\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /containers HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"GET /containers?name=%ff%00%zz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes(),
        format!("GET /containers?name={long} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many_headers}\r\n").into_bytes(),
        [
            format!(
                "POST /containers HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
            )
            .as_bytes(),
            &large,
        ]
        .concat(),
        [
            format!(
                "GET /containers HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
            )
            .as_bytes(),
            &large,
        ]
        .concat(),
    ];
    for bytes in &garbage {
        throw(address, bytes);
        assert!(warden.lives());
        assert_eq!(warden.get("/livez").status, 200);
    }
    // Half a request each, held open while others ask.
    let idle: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /containers HTTP/1.1\r\nHo").unwrap();
            stream
        })
        .collect();
    let crowd: Vec<_> = (0..200)
        .map(|number| {
            std::thread::spawn(move || {
                let path = ["/containers", "/decisions", "/metrics", "/"][number % 4];
                let request =
                    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
                ask(address, request.as_bytes())
            })
        })
        .collect();
    for asked in crowd {
        let answer = asked.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // No Host, or a strange one, and an older protocol.
    assert!(ask(address, b"GET /livez HTTP/1.0\r\n\r\n").contains(" 200 "));
    assert_eq!(
        warden
            .get_with("/containers", &[("Host", "evil.example:1")])
            .status,
        421
    );
    let evil = house.engine.run(&[], "evil:1", &[]);
    house.engine.wait_until_dead(&evil, SOON);
    drop(idle);
    assert!(warden.lives());
}

// ---- Helpers

#[track_caller]
fn data(warden: &Warden, path: &str) -> Vec<Value> {
    warden.get_json(path)["data"].as_array().unwrap().clone()
}

/// The names of the containers that a query finds, in order.
#[track_caller]
fn names(warden: &Warden, query: &str) -> Vec<String> {
    let mut names: Vec<String> = data(warden, &format!("/containers{query}"))
        .iter()
        .map(|one| one["container_name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn is_problem(answer: &Response, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{what}: {answer:?}"
    );
    let body = answer.json();
    assert_eq!(body["status"], status, "{what}: {body}");
    for key in ["type", "title", "detail"] {
        assert!(
            body[key].as_str().is_some_and(|text| !text.is_empty()),
            "{what}: {body}"
        );
    }
}

/// Sends bytes and returns what comes back, if anything does.
fn throw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    // The other side may have heard enough before the end.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    heard(stream)
}

/// The same for a whole request; the line stays open for the answer.
fn ask(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).unwrap();
    heard(stream)
}

fn heard(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn time(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap().parse().unwrap()
}
