//! An engine that lies, stammers, hangs or goes silent: what dockwarden may not believe, and what it
//! must end all the same. The engine is a script in this file; what counts is who got a kill.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use support::{Builder, Warden, dockwarden, eventually};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(10);

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

// ---- The event stream

#[test]
fn nothing_on_the_stream_silences_the_events_behind_it() {
    let fake = Fake::start();
    let warden = fake.warden(LIST, "1h");
    let id = numbered(1);
    let nested = format!("{{\"Type\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let long = format!(
        "{{\"Type\":\"container\",\"x\":\"{}\"}}",
        "y".repeat(200_000)
    );
    let table = [
        "garbage",
        "",
        "null",
        "5",
        "[1,2]",
        "\"text\"",
        "{}",
        "}}}]]",
        "{\"Type\":\"container\",\"Action\":\"sta",
        "{\"Type\":5}",
        "{\"Type\":\"container\"}",
        "{\"Type\":\"pod\",\"Action\":\"start\"}",
        "{\"Type\":\"container\",\"Action\":\"start\",\"timeNano\":1}",
        "{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"abc\"},\"time\":1}",
        "{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":5},\"time\":1}",
        &format!("{{\"Type\":\"container\",\"Action\":7,\"Actor\":{{\"ID\":\"{id}\"}}}}"),
        &format!(
            "{{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{{\"ID\":\"{id}\"}},\"timeNano\":99999999999999999999}}"
        ),
        &nested,
        &long,
    ];
    for (number, line) in table.into_iter().enumerate() {
        fake.say(format!("{line}\n").as_bytes());
        let id = numbered(100 + number);
        fake.begin(&id, "evil:1");
        fake.wait_for_kill(&id);
    }
    fake.say(b"\xff\xfe\x00\x01\r\n");
    let id = numbered(200);
    fake.world()
        .containers
        .insert(id.clone(), listed(&id, "evil:1"));
    // One event in three chunks.
    let line = event("start", &id);
    for part in line.as_bytes().chunks(line.len() / 3 + 1) {
        fake.say(part);
    }
    fake.wait_for_kill(&id);
    // An event may come before its container shows in any list.
    let id = numbered(201);
    fake.say(event("create", &id).as_bytes());
    fake.say(event("attack_of_the_clones", &id).as_bytes());
    fake.begin(&id, "evil:1");
    fake.wait_for_kill(&id);

    let metrics = warden.get("/metrics").body;
    assert_eq!(number(&metrics, "dockwarden_engine_reconnects_total"), 0.0);
    assert!(number(&metrics, "dockwarden_unreadable_total{what=\"event\"}") >= 10.0);
    assert!(warden.lives());
}

#[test]
fn an_event_is_believed_in_its_id_alone() {
    let fake = Fake::start();
    let _warden = fake.warden(LIST, "1h");
    let (good, evil) = (numbered(1), numbered(2));
    fake.begin(&good, "good:1");
    for action in [
        "start", "restart", "unpause", "rename", "update", "kill", "die",
    ] {
        fake.say(
            format!(
                "{}\n",
                json!({"Type": "container", "Action": action, "timeNano": now(), "id": evil,
                       "Actor": {"ID": good, "Attributes": {"image": "evil:1", "name": "x"}}})
            )
            .as_bytes(),
        );
    }
    // The other way round: what says it is good is not.
    fake.world()
        .containers
        .insert(evil.clone(), listed(&evil, "evil:1"));
    let forged = json!({"Type": "container", "Action": "start", "timeNano": now(),
                        "Actor": {"ID": evil, "Attributes": {"image": "good:1"}}});
    fake.say(format!("{forged}\n").as_bytes());
    fake.wait_for_kill(&evil);
    assert_eq!(fake.killed(), BTreeSet::from([evil]));
}

#[test]
fn a_stream_that_ends_is_made_anew() {
    for end in [End::Clean, End::Torn] {
        let fake = Fake::start();
        let warden = fake.warden(LIST, "1h");
        for round in 0..3 {
            fake.end_streams(end);
            // Started while nobody listens.
            let id = numbered(10 + round);
            fake.begin(&id, "evil:1");
            fake.wait_for_kill(&id);
        }
        let metrics = warden.get("/metrics").body;
        assert!(
            number(&metrics, "dockwarden_engine_reconnects_total") >= 3.0,
            "{end:?}"
        );
    }
}

#[test]
fn a_stream_that_ends_at_once_hides_nothing_from_the_sweep() {
    lists_are_judged_with(Streams::EndAtOnce);
}

#[test]
fn a_stream_that_is_refused_hides_nothing_from_the_sweep() {
    lists_are_judged_with(Streams::Refused);
}

#[test]
fn a_stream_that_never_begins_hides_nothing_from_the_sweep() {
    lists_are_judged_with(Streams::NoHeaders);
}

fn lists_are_judged_with(streams: Streams) {
    let fake = Fake::start();
    fake.world().streams = streams;
    let (good, evil) = (numbered(1), numbered(2));
    for (id, image) in [(&good, "good:1"), (&evil, "evil:1")] {
        fake.world()
            .containers
            .insert(id.clone(), listed(id, image));
    }
    let _warden = fake.builder(LIST, "1s").start();
    fake.wait_for_kill_within(&evil, Duration::from_secs(20), "a kill");
    assert_eq!(fake.killed(), BTreeSet::from([evil]));
}

#[test]
fn a_stream_that_stays_silent_hides_nothing_from_the_sweep() {
    let fake = Fake::start();
    let _warden = fake.warden(LIST, "1s");
    for round in 0..3 {
        let (good, evil) = (numbered(10 + round), numbered(20 + round));
        fake.world()
            .containers
            .insert(good.clone(), listed(&good, "good:1"));
        fake.world()
            .containers
            .insert(evil.clone(), listed(&evil, "evil:1"));
        fake.wait_for_kill(&evil);
        assert!(!fake.killed().contains(&good));
    }
}

// ---- Lists

#[test]
fn an_element_that_is_no_container_costs_itself_alone() {
    let fake = Fake::start();
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
    let fake = Fake::start();
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
    let fake = Fake::start();
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
    let fake = Fake::start();
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
        world.broken_inspections.insert(open.clone());
    }
    let warden = fake.warden(LIST, "1s");
    fake.wait_for_kill(&evil);
    eventually("it is asked again", SOON, || fake.world().inspected >= 9);
    assert_eq!(fake.killed(), BTreeSet::from([evil]));

    let shown = warden.get_json(&format!("/containers/{open}"));
    eventually("no other is denied and runs", SOON, || {
        let metrics = warden.get("/metrics").body;
        number(&metrics, "dockwarden_denied_running") == 0.0
    });
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

// ---- Kills

#[test]
fn what_a_kill_is_answered_is_put_on_record_as_it_was() {
    // What is answered, what becomes of the container, the outcomes in order, how many kills.
    let table = [
        (
            "204 and dead",
            vec![Kill::answer(204, Fate::Dies)],
            vec!["done"],
            1,
        ),
        (
            "404 and gone",
            vec![Kill::answer(404, Fate::Vanishes)],
            vec!["gone"],
            1,
        ),
        (
            "409 and dead",
            vec![Kill::answer(409, Fate::Dies)],
            vec!["gone"],
            1,
        ),
        (
            "500 twice",
            vec![
                Kill::answer(500, Fate::Lives),
                Kill::answer(500, Fate::Lives),
            ],
            vec!["failed", "done"],
            3,
        ),
        (
            "409 and alive",
            vec![Kill::answer(409, Fate::Lives)],
            vec!["failed", "done"],
            2,
        ),
        (
            "404 and alive",
            vec![Kill::answer(404, Fate::Lives)],
            vec!["failed", "done"],
            2,
        ),
        (
            "no answer but the line's end",
            vec![Kill::Cut],
            vec!["failed", "done"],
            2,
        ),
    ];
    let fake = Fake::start();
    let warden = fake.warden(LIST, "1h");
    for (number, (case, answers, outcomes, kills)) in table.into_iter().enumerate() {
        let id = numbered(number + 1);
        fake.world().kills.insert(id.clone(), answers);
        fake.begin(&id, "evil:1");
        let recorded = || -> Vec<String> {
            let found = warden.get_json(&format!("/decisions?container={id}"));
            let oldest_first = found["data"].as_array().unwrap().iter().rev();
            oldest_first
                .map(|record| record["outcome"].as_str().unwrap().to_owned())
                .collect()
        };
        eventually(case, SOON, || recorded().len() >= outcomes.len());
        let found = recorded();
        let is_ended = found
            .last()
            .is_some_and(|last| last == "ended-itself" || last == "gone");
        assert!(
            found == outcomes || (outcomes == ["gone"] && is_ended && found.len() == 1),
            "{case}: {found:?}"
        );
        assert_eq!(
            fake.world().killed.iter().filter(|one| **one == id).count(),
            kills,
            "{case}"
        );
    }
}

#[test]
fn a_stop_of_what_has_stopped_is_no_failure() {
    let fake = Fake::start();
    let warden = fake.warden(
        &LIST.replace("version = 1", "version = 1\naction = \"stop\""),
        "1h",
    );
    let id = numbered(1);
    fake.world()
        .kills
        .insert(id.clone(), vec![Kill::answer(304, Fate::Dies)]);
    fake.begin(&id, "evil:1");
    fake.wait_for_kill(&id);
    let record = eventually("it is on record", SOON, || {
        warden.get_json("/decisions")["data"]
            .as_array()
            .unwrap()
            .last()
            .cloned()
    });
    assert!(
        ["gone", "ended-itself"].contains(&record["outcome"].as_str().unwrap()),
        "{record}"
    );
}

#[test]
fn kills_that_hang_hold_up_nobody_else() {
    let fake = Fake::start();
    let stuck: Vec<String> = (1..=20).map(numbered).collect();
    let others: Vec<String> = (101..=120).map(numbered).collect();
    for id in &stuck {
        fake.world().kills.insert(id.clone(), vec![Kill::Hangs]);
        fake.world()
            .containers
            .insert(id.clone(), listed(id, "evil:1"));
    }
    let warden = fake.warden(LIST, "1s");
    eventually("all hang", SOON, || fake.killed().len() == stuck.len());
    for id in &others {
        fake.begin(id, "evil:1");
    }
    for id in &others {
        fake.wait_for_kill(id);
    }
    // What still runs ten seconds after its verdict is told as it is, the call still under way.
    for id in &stuck {
        eventually("an escape is on record", Duration::from_secs(30), || {
            let path = format!("/decisions?container={id}&outcome=escaped");
            warden.get_json(&path)["data"]
                .as_array()
                .is_some_and(|found| found.len() == 1)
        });
    }
    let metrics = warden.get("/metrics").body;
    assert_eq!(number(&metrics, "dockwarden_escaped_total"), 20.0);
    assert_eq!(number(&metrics, "dockwarden_denied_running"), 20.0);
    // It is not given up.
    eventually("another attempt", Duration::from_secs(40), || {
        fake.world()
            .killed
            .iter()
            .filter(|one| **one == stuck[0])
            .count()
            >= 2
    });
}

/// Ends that wait for their turn while another list comes into force are judged anew.
#[test]
fn what_a_newer_list_allows_is_not_ended_by_the_older_one() {
    let fake = Fake::start();
    let all: Vec<String> = (1..=160).map(numbered).collect();
    for id in &all {
        let mut world = fake.world();
        world.kills.insert(id.clone(), vec![Kill::Hangs]);
        world.containers.insert(id.clone(), listed(id, "evil:1"));
    }
    let audit = LIST.replace("version = 1", "version = 1\nmode = \"audit\"");
    let warden = fake.warden(&audit, "1s");
    warden.write_list_by_rename(LIST);
    eventually("the first hang", SOON, || fake.killed().len() >= 8);
    warden.write_list_by_rename(&LIST.replace("good:1", "*:1"));
    eventually("the newer list is in force", SOON, || {
        warden.get_json("/allowlist")["list"]["allow"][0]["image"][0] == "*:1"
    });
    let before = fake.killed().len();
    assert!(
        before < all.len() / 2,
        "{before} were ended before the newer list came"
    );
    // Long enough for all the others to have had their turn.
    let listed = fake.world().listed;
    eventually("six more sweeps", SOON, || {
        fake.world().listed >= listed + 12
    });
    let after = fake.killed().len();
    assert!(after <= before + 16, "{before} were ended, then {after}");
}

// ---- The engine

/// An engine on a socket of its own. Its threads end with the test process.
struct Fake {
    dir: TempDir,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    world: Mutex<World>,
    said: Condvar,
}

#[derive(Default)]
struct World {
    containers: BTreeMap<String, Value>,
    /// Elements of every full list beside them.
    noise: Vec<Value>,
    /// Status and body of every list in place of the true one.
    lists: Option<(u16, String)>,
    listed: usize,
    broken_inspections: BTreeSet<String>,
    inspected: usize,
    streams: Streams,
    /// What was said to subscribers, and how often their streams were ended.
    chunks: Vec<Vec<u8>>,
    ends: usize,
    end: End,
    /// How kills and stops are answered, one by one; then they do what they say.
    kills: HashMap<String, Vec<Kill>>,
    /// Everyone who got a kill or a stop, in order.
    killed: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Streams {
    #[default]
    Open,
    EndAtOnce,
    Refused,
    NoHeaders,
}

#[derive(Clone, Copy, Debug, Default)]
enum End {
    #[default]
    Clean,
    /// In the middle of a chunk.
    Torn,
}

#[derive(Clone, Copy, Debug)]
enum Kill {
    Answer(u16, Fate),
    Cut,
    Hangs,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Dies,
    Vanishes,
    Lives,
}

impl Kill {
    fn answer(status: u16, fate: Fate) -> Self {
        Self::Answer(status, fate)
    }
}

impl Fake {
    fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("dw-fake.")
            .tempdir()
            .unwrap();
        let listener = UnixListener::bind(dir.path().join("d.sock")).unwrap();
        let shared = Arc::new(Shared::default());
        std::thread::spawn({
            let shared = shared.clone();
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let shared = shared.clone();
                    std::thread::spawn(move || serve(stream, &shared));
                }
            }
        });
        Self { dir, shared }
    }

    fn url(&self) -> String {
        format!("unix://{}", self.dir.path().join("d.sock").display())
    }

    fn builder(&self, list: &str, resync: &str) -> Builder {
        Warden::at(&self.url())
            .allowlist(list)
            .args(["--resync", resync])
    }

    fn warden(&self, list: &str, resync: &str) -> Warden {
        let warden = self.builder(list, resync).start();
        warden.wait_ready();
        warden
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap()
    }

    /// Writes to every subscriber, as one chunk.
    fn say(&self, chunk: &[u8]) {
        self.world().chunks.push(chunk.to_vec());
        self.shared.said.notify_all();
    }

    fn end_streams(&self, end: End) {
        let mut world = self.world();
        (world.ends, world.end) = (world.ends + 1, end);
        drop(world);
        self.shared.said.notify_all();
    }

    /// A container begins to run, and the stream says so.
    fn begin(&self, id: &str, image: &str) {
        let mut world = self.world();
        world.containers.insert(id.to_owned(), listed(id, image));
        drop(world);
        self.say(event("start", id).as_bytes());
    }

    fn killed(&self) -> BTreeSet<String> {
        self.world().killed.iter().cloned().collect()
    }

    #[track_caller]
    fn wait_for_kill(&self, id: &str) {
        self.wait_for_kill_within(id, SOON, "a kill");
    }

    #[track_caller]
    fn wait_for_kill_within(&self, id: &str, timeout: Duration, what: &str) {
        eventually(&format!("{what} of {id}"), timeout, || {
            self.killed().contains(id)
        });
    }
}

/// One request on one connection.
fn serve(mut stream: UnixStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;

    let mut words = line.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && !part.starts_with("v1."))
        .collect();
    let (status, body) = match (method, parts.as_slice()) {
        ("GET", ["info"]) => (
            200,
            json!({"ServerVersion": "99.1", "Name": "fake"}).to_string(),
        ),
        ("GET", ["events"]) => return events(stream, shared),
        ("GET", ["containers", "json"]) => list(query, shared),
        ("GET", ["containers", id, "json"]) => inspect(id, shared),
        ("GET", ["images", ..]) => (200, json!({"RepoTags": ["evil:1"]}).to_string()),
        ("POST", ["containers", id, "kill" | "stop"]) => match kill(id, shared)? {
            Kill::Answer(status, _) => (status, String::new()),
            Kill::Cut => return None,
            Kill::Hangs => {
                // Until the other side gives up.
                stream.read_to_end(&mut Vec::new()).ok()?;
                return None;
            }
        },
        _ => (404, json!({"message": "page not found"}).to_string()),
    };
    // Neither body nor its length where HTTP knows none.
    let head = format!(
        "HTTP/1.1 {status} As Told\r\nContent-Type: application/json\r\nConnection: close\r\n"
    );
    let answer = match status {
        204 | 304 => format!("{head}\r\n"),
        _ => format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
    };
    stream.write_all(answer.as_bytes()).ok()
}

fn list(query: &str, shared: &Shared) -> (u16, String) {
    let mut world = shared.world.lock().unwrap();
    let is_full = !query.contains("filters");
    if let Some(answer) = world.lists.clone() {
        world.listed += usize::from(is_full);
        return answer;
    }
    let mut found: Vec<Value> = world
        .containers
        .iter()
        .filter(|(id, _)| is_full || query.contains(id.as_str()))
        .map(|(_, container)| container.clone())
        .collect();
    if is_full {
        found.extend(world.noise.clone());
        world.listed += 1;
    }
    (200, json!(found).to_string())
}

fn inspect(id: &str, shared: &Shared) -> (u16, String) {
    let mut world = shared.world.lock().unwrap();
    world.inspected += 1;
    match world.containers.get(id) {
        None => (404, json!({"message": "No such container"}).to_string()),
        Some(_) if world.broken_inspections.contains(id) => {
            (500, json!({"message": "layer not found"}).to_string())
        }
        Some(container) => (
            200,
            json!({"Id": id, "Config": {"Image": container["Image"]}, "State": {}}).to_string(),
        ),
    }
}

/// Does what is scripted for it, and says how to answer.
fn kill(id: &str, shared: &Shared) -> Option<Kill> {
    let mut world = shared.world.lock().ok()?;
    world.killed.push(id.to_owned());
    let answer = match world.kills.get_mut(id) {
        Some(script) if !script.is_empty() => script.remove(0),
        _ => Kill::Answer(204, Fate::Dies),
    };
    if let Kill::Answer(_, fate) = answer {
        match fate {
            Fate::Dies => world.containers.get_mut(id)?["State"] = json!("exited"),
            Fate::Vanishes => drop(world.containers.remove(id)),
            Fate::Lives => {}
        }
        if !matches!(fate, Fate::Lives) {
            world.chunks.push(event("die", id).into_bytes());
            shared.said.notify_all();
        }
    }
    Some(answer)
}

/// Chunks as they are said; what was said before is not repeated.
fn events(mut stream: UnixStream, shared: &Shared) -> Option<()> {
    let mut world = shared.world.lock().ok()?;
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    match world.streams {
        Streams::Open => {}
        Streams::EndAtOnce => return write!(stream, "{head}0\r\n\r\n").ok(),
        Streams::Refused => {
            return write!(stream, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").ok();
        }
        Streams::NoHeaders => {
            drop(world);
            stream.read_to_end(&mut Vec::new()).ok()?;
            return None;
        }
    }
    stream.write_all(head.as_bytes()).ok()?;
    let (mut next, ends) = (world.chunks.len(), world.ends);
    loop {
        if world.ends > ends {
            return match world.end {
                End::Clean => stream.write_all(b"0\r\n\r\n").ok(),
                End::Torn => stream.write_all(b"ff\r\n{\"Type\":\"con").ok(),
            };
        }
        while let Some(chunk) = world.chunks.get(next).cloned() {
            next += 1;
            if !chunk.is_empty() {
                write!(stream, "{:x}\r\n", chunk.len()).ok()?;
                stream.write_all(&chunk).ok()?;
                stream.write_all(b"\r\n").ok()?;
            }
        }
        world = shared.said.wait(world).ok()?;
    }
}

fn numbered(number: usize) -> String {
    format!("{number:064x}")
}

fn image_id() -> String {
    format!("sha256:{}", "1a".repeat(32))
}

/// An element of a list: it runs.
fn listed(id: &str, image: &str) -> Value {
    json!({
        "Id": id, "Names": [format!("/n{}", id.trim_start_matches('0'))], "Image": image,
        "ImageID": image_id(), "Command": "/victim", "Created": 1_700_000_000, "Ports": [],
        "Labels": {}, "State": "running", "Status": "Up", "HostConfig": {"NetworkMode": "none"},
    })
}

fn event(action: &str, id: &str) -> String {
    let event = json!({"Type": "container", "Action": action, "timeNano": now(),
                       "Actor": {"ID": id, "Attributes": {}}});
    format!("{event}\n")
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

/// The value of a sample.
#[track_caller]
fn number(metrics: &str, sample: &str) -> f64 {
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value
        .unwrap_or_else(|| panic!("no {sample} in\n{metrics}"))
        .parse()
        .unwrap()
}
