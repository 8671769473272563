//! An engine whose lists and inspections can't be read, in whole or in part: nothing is ended on the
//! strength of that, and nothing is sheltered by it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::scripted::{End, Scripted, event, image_id, listed, number, numbered};
use support::{SOON, dockwarden, eventually};

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

#[test]
fn an_element_that_is_no_container_costs_itself_alone() {
    let fake = Scripted::start();
    let (good, evil, bare) = (numbered(1), numbered(2), numbered(3));
    {
        let mut world = fake.world();
        world.noise = [
            json!(5),
            json!(null),
            json!("text"),
            json!([]),
            json!([{"Id": numbered(66)}]),
            json!({}),
            json!({"Id": "abc", "State": "running"}),
            json!({"Id": 5, "State": "running"}),
            json!({"Id": numbered(77).to_uppercase().replace('0', "A"), "State": "running"}),
            json!({"id": numbered(88), "State": "running"}),
        ]
        .to_vec();
        let mut odd = listed(&good, "good:1");
        odd["Ports"] = json!([{"PrivatePort": 81, "Type": "foo"}, 5, {"PrivatePort": -1}]);
        odd["Created"] = json!("yesterday");
        odd["Labels"] = json!({"a": 5});
        odd["Mounts"] = json!("none");
        odd["NewerField"] = json!({"deep": [[[]]]});
        world.containers.insert(good.clone(), odd);
        world
            .containers
            .insert(evil.clone(), listed(&evil, "evil:1"));
        let nothing_fits = json!({"Id": bare, "Names": 5, "Image": [], "Labels": "x", "State": 7});
        world.containers.insert(bare.clone(), nothing_fits);
    }
    let warden = fake.warden(LIST, "1s");
    fake.wait_for_kill(&evil);
    fake.wait_for_kill(&bare);
    assert_eq!(fake.killed(), BTreeSet::from([evil, bare]));
    let metrics = warden.get("/metrics").body;
    assert!(number(&metrics, "dockwarden_unreadable_total{what=\"container\"}") >= 10.0);
    assert_eq!(number(&metrics, "dockwarden_engine_reconnects_total"), 0.0);
}

#[test]
fn nothing_is_ended_on_a_reading_that_failed() {
    let fake = Scripted::start();
    let (good, twin) = (numbered(1), numbered(2));
    for id in [&good, &twin] {
        fake.world()
            .containers
            .insert(id.clone(), listed(id, "good:1"));
    }
    let warden = fake.warden(LIST, "1s");
    let whole = json!([listed(&good, "good:1"), listed(&twin, "good:1")]).to_string();
    let message = json!({"message": "driver failed"}).to_string();
    let table = [
        (200, "null".to_owned()),
        (200, "[]".to_owned()),
        (200, String::new()),
        (200, message.clone()),
        (200, "<html>maintenance</html>".to_owned()),
        (200, "[".to_owned()),
        (200, "5".to_owned()),
        (200, whole[..whole.len() - 1].to_owned()),
        (200, whole[..whole.len() / 2].to_owned()),
        (200, whole.replace("good:1", "\u{0}")),
        (500, message.clone()),
        (404, message),
        (503, String::new()),
        (418, "[]".to_owned()),
    ];
    for (status, body) in table {
        {
            let mut world = fake.world();
            world.lists = Some((status, body.clone()));
            world.listed = 0;
        }
        // Asked twice for a full list, and each time about one that an event speaks of.
        fake.say(event("start", &good).as_bytes());
        eventually("the bad list is read", SOON, || {
            let listed = fake.world().listed;
            fake.say(event("restart", &twin).as_bytes());
            listed >= 4
        });
        assert!(
            fake.killed().is_empty(),
            "{status} {body}: {:?}",
            fake.killed()
        );
        assert!(warden.lives());
    }
    fake.world().lists = None;
    let evil = numbered(9);
    fake.begin(&evil, "evil:1");
    fake.wait_for_kill(&evil);
    assert_eq!(fake.killed(), BTreeSet::from([evil]));
    // It shows them again as soon as it can read them.
    eventually("both are shown", SOON, || {
        warden.get("/containers").status == 200
            && warden.get_json("/containers?verdict=allowed")["data"]
                .as_array()
                .unwrap()
                .len()
                == 2
    });
}

#[test]
fn a_list_that_is_cut_off_hides_nobody() {
    let fake = Scripted::start();
    let (good, twin) = (numbered(1), numbered(2));
    for id in [&good, &twin] {
        let container = listed(id, "good:1");
        fake.world().containers.insert(id.clone(), container);
    }
    let warden = fake.warden(LIST, "1s");
    let shown = || {
        let answer = warden.get("/containers");
        let count = |answer: serde_json::Value| answer["data"].as_array().map(Vec::len);
        (answer.status == 200)
            .then(|| count(answer.json()))
            .flatten()
    };
    eventually("both are shown", SOON, || shown() == Some(2));
    let whole = json!([listed(&good, "good:1"), listed(&twin, "good:1")]).to_string();
    {
        let mut world = fake.world();
        world.lists = Some((200, whole[..whole.len() / 2].to_owned()));
        world.listed = 0;
    }
    eventually("it is read again and again", SOON, || {
        assert!(matches!(shown(), None | Some(2)), "{:?}", shown());
        fake.world().listed >= 6
    });
}

#[test]
fn what_is_unknown_never_shelters_and_what_is_missing_never_matches() {
    const LIST: &str = r#"
version = 1
[[allow]]
rule = "named"
container = "web-*"
[[allow]]
rule = "labelled"
labels = { tier = "front" }
"#;
    let fake = Scripted::start();
    let change = |mut container: Value, key: &str, value: Value| {
        container[key] = value;
        container
    };
    let none = Value::Null;
    let web = |id: &str| change(listed(id, "x"), "Names", json!(["/web-1"]));
    let front = |id: &str| change(listed(id, "x"), "Labels", json!({"tier": "front"}));
    type Make<'a> = Box<dyn Fn(&str) -> Value + 'a>;
    let table: [(bool, Make<'_>); 17] = [
        (true, Box::new(web)),
        (true, Box::new(front)),
        (
            true,
            Box::new(|id| change(web(id), "State", json!("hibernating"))),
        ),
        (
            true,
            Box::new(|id| change(web(id), "Names", json!(["/other/alias", "/web-2"]))),
        ),
        (true, Box::new(|id| change(web(id), "Labels", none.clone()))),
        (
            false,
            Box::new(|id| change(listed(id, "x"), "State", json!("hibernating"))),
        ),
        (
            false,
            Box::new(|id| change(listed(id, "x"), "State", json!("RUNNING"))),
        ),
        (
            false,
            Box::new(|id| change(listed(id, "x"), "State", none.clone())),
        ),
        (
            false,
            Box::new(|id| change(listed(id, "x"), "State", json!("restarting"))),
        ),
        (false, Box::new(|id| change(web(id), "Names", none.clone()))),
        (false, Box::new(|id| change(web(id), "Names", json!([])))),
        (
            false,
            Box::new(|id| change(web(id), "Names", json!("/web-1"))),
        ),
        (
            false,
            Box::new(|id| change(web(id), "Names", json!(["/web-1/alias", "/db"]))),
        ),
        (
            false,
            Box::new(|id| change(front(id), "Labels", none.clone())),
        ),
        (
            false,
            Box::new(|id| change(front(id), "Labels", json!({"tier": ["front"]}))),
        ),
        (
            false,
            Box::new(|id| change(front(id), "Labels", json!({"Tier": "front"}))),
        ),
        // Without an image nothing is allowed.
        (false, Box::new(|id| change(web(id), "ImageID", json!("")))),
    ];
    let mut expected = BTreeSet::new();
    for (number, (is_allowed, make)) in table.iter().enumerate() {
        let id = numbered(number + 1);
        fake.world().containers.insert(id.clone(), make(&id));
        if !is_allowed {
            expected.insert(id);
        }
    }
    let warden = fake.warden(LIST, "1h");
    eventually("all that are denied get a kill", SOON, || {
        fake.killed().len() >= expected.len()
    });
    assert_eq!(fake.killed(), expected);
    let shown = warden.get_json("/containers?verdict=allowed");
    assert_eq!(shown["data"].as_array().unwrap().len(), 5);
}

#[test]
fn a_container_that_cannot_be_inspected_is_unknown_and_alone() {
    let fake = Scripted::start();
    let (open, good, evil) = (numbered(1), numbered(2), numbered(3));
    {
        let mut world = fake.world();
        // Its list entry tells no name, so that it has to be inspected.
        world
            .containers
            .insert(open.clone(), listed(&open, &image_id()));
        world
            .containers
            .insert(good.clone(), listed(&good, "good:1"));
        world
            .containers
            .insert(evil.clone(), listed(&evil, "evil:1"));
        world.broken_inspections.insert(open.clone(), 500);
    }
    let warden = fake.warden(LIST, "1h");
    fake.wait_for_kill(&evil);
    eventually("it is asked again", SOON, || {
        fake.world().inspected.values().sum::<usize>() >= 9
    });
    assert_eq!(fake.killed(), BTreeSet::from([evil]));

    let shown = warden.get_json(&format!("/containers/{open}"));
    eventually("no other is denied and runs", SOON, || {
        let metrics = warden.get("/metrics").body;
        number(&metrics, "dockwarden_denied_running") == 0.0
    });
    let unjudged = "dockwarden_containers{status=\"running\",verdict=\"unknown\"}";
    assert_eq!(warden.metric(unjudged), 1.0);
    let list = warden.list_path().display().to_string();
    let ps = dockwarden([
        "ps",
        "--output",
        "json",
        "--engine",
        &fake.url(),
        "--allowlist",
        &list,
    ]);
    let record = eventually("that it lives unjudged is on record", SOON * 3, || {
        warden.records_of(&open).into_iter().next()
    });
    assert_eq!(record["verdict"], "unknown", "{record:#}");
    assert!(
        record["error"]
            .as_str()
            .is_some_and(|error| error.contains("layer not found"))
    );
    assert!(record["outcome"].is_null(), "{record:#}");
    // Once its names can be read, it is what it is.
    fake.world().broken_inspections.clear();
    fake.wait_for_kill(&open);
    assert!(!fake.killed().contains(&good));

    assert_eq!(shown["verdict"], "unknown", "{shown}");
    assert_eq!(ps.status.code(), Some(0), "{ps:?}");
    let ps: Value = serde_json::from_slice(&ps.stdout).unwrap();
    let verdicts: BTreeMap<&str, &str> = ps
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["container_id"].as_str().unwrap(),
                one["verdict"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(verdicts[&*open], "unknown");
    assert_eq!(verdicts[&*good], "allowed");
}

#[test]
fn thousands_of_containers_cost_one_list_and_hide_no_event() {
    let fake = Scripted::start();
    let mut forbidden = BTreeSet::new();
    for number in 1..=5_000 {
        let id = numbered(number);
        // Mostly stopped; of those that run every other one is forbidden.
        let (image, state) = match number % 50 {
            0 => ("evil:1", "running"),
            25 => ("good:1", "running"),
            1 => ("evil:1", "exited"),
            _ => ("good:1", "exited"),
        };
        let mut container = listed(&id, image);
        container["State"] = json!(state);
        fake.world().containers.insert(id.clone(), container);
        if (image, state) == ("evil:1", "running") {
            forbidden.insert(id);
        }
    }
    let warden = fake.warden(LIST, "3s");
    eventually("all that is forbidden is ended", SOON * 2, || {
        fake.killed().len() >= forbidden.len()
    });
    // Each is inspected once to be shown, and a few times where it is ended. What is known is not asked again,
    // however often it is listed.
    let inspections = || fake.world().inspected.values().sum::<usize>();
    let swept = || warden.metric("dockwarden_sweep_duration_seconds_count");
    let sweeps = |count: f64| {
        let (so_far, inspected) = (swept(), inspections());
        eventually("more sweeps", SOON * 4, || swept() >= so_far + count);
        inspections() - inspected
    };
    eventually("a sweep that asks nothing", SOON * 2, || sweeps(1.0) == 0);
    assert_eq!(sweeps(4.0), 0);
    assert!(inspections() < 6_000, "{} inspections", inspections());

    // An event is not kept waiting by a list that is being read.
    fake.world().list_pause = SOON;
    let listed_before = fake.world().listed;
    eventually("a slow list", SOON, || {
        fake.world().listed >= listed_before + 2
    });
    let evil = numbered(9_000);
    fake.begin(&evil, "evil:1");
    fake.wait_for_kill(&evil);
    assert_eq!(fake.world().listed_slowly, 0, "a list was complete before");
    fake.world().list_pause = std::time::Duration::ZERO;

    forbidden.insert(evil);
    assert_eq!(fake.killed(), forbidden);
    assert!(warden.peak_memory() < 100, "{} MiB", warden.peak_memory());
}

#[test]
fn a_list_without_end_ends_nothing_and_fills_no_memory() {
    for text in ["5,", "{\"Id\":\"abc\"},", "\"", "x"] {
        let fake = Scripted::start();
        let (good, evil) = (numbered(1), numbered(2));
        fake.world()
            .containers
            .insert(good.clone(), listed(&good, "good:1"));
        let warden = fake.warden(LIST, "1s");
        fake.world().endless_list = Some(text);
        let before = fake.world().listed;
        eventually("it is asked again", SOON * 2, || {
            fake.world().listed >= before + 4
        });
        fake.world().endless_list = None;
        fake.begin(&evil, "evil:1");
        fake.wait_for_kill_within(&evil, SOON * 3, text);
        assert_eq!(fake.killed(), BTreeSet::from([evil]), "{text}");
        assert!(
            warden.peak_memory() < 150,
            "{text}: {} MiB",
            warden.peak_memory()
        );
    }
}

/// What a container of the fake engine is configured to do, beside what is ordinary there.
fn configured(id: &str, image: &str, configuration: Value) -> Value {
    let mut container = listed(id, image);
    container["Configured"] = configuration;
    container
}

/// Powers only add: what one of them denies needs no word of the rest.
#[test]
fn what_is_denied_for_itself_does_not_wait_for_what_it_joins() {
    let fake = Scripted::start();
    let (joined, open, evil) = (numbered(1), numbered(2), numbered(3));
    let mode = format!("container:{joined}");
    {
        let mut world = fake.world();
        let mut created = configured(&joined, "evil:1", json!({}));
        created["State"] = json!("created");
        world.containers.insert(joined.clone(), created);
        world.hanging_inspections.insert(joined.clone());
        let joins = json!({"NetworkMode": mode});
        let container = configured(&open, "good:1", joins);
        world.containers.insert(open.clone(), container);
        let joins = json!({"NetworkMode": mode, "Privileged": true});
        let container = configured(&evil, "good:1", joins);
        world.containers.insert(evil.clone(), container);
    }
    let list = LIST.replace("\nimage", "\ngrants = [\"join:*\", \"unconfined\"]\nimage");
    let warden = fake.builder(&list, "1s").start();
    fake.wait_for_kill(&evil);
    let record = warden.wait_for_verdict(&evil, "denied");
    assert_eq!(record["reason"], "not-granted", "{record:#}");
    eventually("the other one's look hangs", SOON, || {
        fake.world()
            .inspected
            .get(&joined)
            .is_some_and(|times| *times > 1)
    });
    fake.world().hanging_inspections.clear();
    warden.wait_for_verdict(&open, "allowed");
    assert_eq!(fake.killed(), BTreeSet::from([evil]));
}

/// Each of these looks hangs, and there are only so many at once.
#[test]
fn a_start_does_not_wait_for_looks_at_what_is_created() {
    const MANY: usize = 400;
    let fake = Scripted::start();
    let (joined, evil) = (numbered(1), numbered(2));
    fake.world().hanging_inspections.insert(joined.clone());
    let list = LIST.replace("\nimage", "\ngrants = [\"join:*\", \"unconfined\"]\nimage");
    let warden = fake.warden(&list, "1h");
    let create = |mut container: Value| {
        let id = container["Id"].as_str().unwrap().to_owned();
        container["State"] = json!("created");
        fake.world().containers.insert(id.clone(), container);
        fake.say(event("create", &id).as_bytes());
    };
    let joins = json!({"NetworkMode": format!("container:{joined}")});
    for number in 0..MANY {
        let id = numbered(1_000 + number);
        create(configured(&id, "good:1", joins.clone()));
    }
    create(listed(&evil, "evil:1"));
    let hanging = || fake.world().inspected.get(&joined).copied().unwrap_or(0);
    eventually("looks hang", SOON, || hanging() > 0);
    fake.world().containers.get_mut(&evil).unwrap()["State"] = json!("running");
    fake.say(event("start", &evil).as_bytes());
    fake.wait_for_kill(&evil);
    // Those that were asked for first would all have begun.
    assert!(hanging() < MANY, "{}", hanging());
    assert_eq!(fake.killed(), BTreeSet::from([evil]));
    assert!(warden.lives());
}

/// A link adds to the names of its target, and may be as long as whoever makes it likes.
#[test]
fn a_name_that_can_not_be_read_in_a_list_is_asked_for() {
    let fake = Scripted::start();
    let (good, evil) = (numbered(1), numbered(2));
    let alias = format!("/other/{}", "x".repeat(9 * 1024 * 1024));
    let linked = |id: &str, name: &str| {
        let mut container = listed(id, "good:1");
        container["Names"] = json!([alias, name]);
        container["Name"] = json!(name);
        container
    };
    let insert = |id: &String, name| {
        let container = linked(id, name);
        fake.world().containers.insert(id.clone(), container);
    };
    insert(&good, "/web-1");
    insert(&evil, "/miner");
    let list = LIST.replace("\nimage", "\ncontainer = \"web-*\"\nimage");
    let warden = fake.warden(&list, "1s");
    fake.wait_for_kill(&evil);
    warden.wait_for_verdict(&good, "allowed");
    warden.wait_for_sweeps(2);
    assert_eq!(fake.killed(), BTreeSet::from([evil.clone()]));
    insert(&good, "/other");
    fake.say(event("rename", &good).as_bytes());
    fake.wait_for_kill(&good);
}

/// Nor does it give its place to another.
#[test]
fn a_name_that_can_not_be_read_is_no_other_one() {
    let fake = Scripted::start();
    let (first, second) = (numbered(1), numbered(2));
    let mut container = listed(&first, "good:1");
    container["Name"] = json!("/n1");
    let alias = format!("/other/{}", "x".repeat(9 * 1024 * 1024));
    let names = json!([alias, "/n1"]);
    fake.world().containers.insert(first.clone(), container);
    let warden = fake.warden(&LIST.replace("\nimage", "\nmax = 1\nimage"), "1h");
    warden.wait_for_verdict(&first, "allowed");
    fake.world().containers.get_mut(&first).unwrap()["Names"] = names;
    fake.begin(&second, "good:1");
    fake.wait_for_kill(&second);
    let record = warden.wait_for_verdict(&second, "denied");
    assert_eq!(record["reason"], "over-max", "{record:#}");
    assert_eq!(fake.killed(), BTreeSet::from([second]));
}

/// A runtime that is the default gives no power, and would be one by the answer that is left.
#[test]
fn what_is_ordinary_on_an_engine_is_known_through_a_bad_moment() {
    let fake = Scripted::start();
    let (good, evil) = (numbered(1), numbered(2));
    {
        let mut world = fake.world();
        world.default_runtime = Some("nvidia");
        let container = configured(&good, "good:1", json!({"Runtime": "nvidia"}));
        world.containers.insert(good.clone(), container);
    }
    let list = LIST.replace("\nimage", "\ngrants = [\"unconfined\"]\nimage");
    let warden = fake.warden(&list, "1s");
    warden.wait_for_verdict(&good, "allowed");
    let inspected = fake.world().inspected[&good];
    fake.world().info_refused = Some(503);
    fake.end_streams(End::Clean);
    eventually("it is looked at anew", SOON, || {
        fake.world().inspected[&good] > inspected
    });
    fake.begin(&evil, "evil:1");
    fake.wait_for_kill(&evil);
    warden.wait_for_sweeps(2);
    assert_eq!(fake.killed(), BTreeSet::from([evil]));
}

/// A proxy answers so while the engine behind it starts.
#[test]
fn what_is_not_found_and_listed_is_not_gone() {
    let fake = Scripted::start();
    let list = LIST.replace("\nimage", "\ngrants = [\"unconfined\"]\nimage");
    let warden = fake.warden(&list, "1h");
    let is_told = || {
        let lines = warden.logs().into_iter();
        lines
            .filter(|line| line.contains("container can't be looked at"))
            .count()
    };

    // No list tells of it.
    let evil = numbered(1);
    fake.world().lists = Some((404, json!({"message": "page not found"}).to_string()));
    fake.begin(&evil, "evil:1");
    eventually("it is asked for", SOON, || is_told() >= 1);
    fake.world().lists = None;
    fake.wait_for_kill(&evil);

    // No inspection tells what it can do.
    let (strong, told) = (numbered(2), is_told());
    {
        let mut world = fake.world();
        world.broken_inspections.insert(strong.clone(), 404);
        let container = configured(&strong, "good:1", json!({"Privileged": true}));
        world.containers.insert(strong.clone(), container);
    }
    fake.say(event("start", &strong).as_bytes());
    eventually("it is inspected", SOON, || is_told() > told);
    fake.world().broken_inspections.clear();
    fake.wait_for_kill(&strong);
}

#[test]
fn an_engine_that_tells_nothing_of_itself_is_enforced_on() {
    for status in [403, 404] {
        let fake = Scripted::start();
        fake.world().info_refused = Some(status);
        let _warden = fake.warden(LIST, "1h");
        let evil = numbered(1);
        fake.begin(&evil, "evil:1");
        fake.wait_for_kill(&evil);
    }
}
