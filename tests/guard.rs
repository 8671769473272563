//! A change that would end too much of what runs is held back until someone accepts exactly that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use support::scripted::{End, Scripted, Streams, image_id, listed, numbered};
use support::{Builder, Engine, Life, SOON, Warden, dockwarden, eventually};

/// Allows `shop` and `db`.
const GOOD: &str = "version = 1\n[[allow]]\nimage = [\"shop:1\", \"db:1\"]\n";
/// Allows `db` alone: ends six of eight.
const BAD: &str = "version = 1\n[[allow]]\nimage = \"db:1\"\n";

/// Six containers of one kind and two of another, under a list that allows both.
struct Shop {
    engine: Engine,
    lives: Vec<Life>,
}

impl Shop {
    fn open() -> Self {
        let engine = Engine::start();
        engine.image("shop:1");
        engine.image("db:1");
        engine.image("evil:1");
        let kinds = ["shop:1"; 6].into_iter().chain(["db:1"; 2]);
        let lives = kinds.map(|image| engine.run_life(&[], image)).collect();
        Self { engine, lives }
    }

    fn warden(&self, list: &str) -> Builder {
        let warden = Warden::on(&self.engine).allowlist(list);
        let state = warden.dir().join("state");
        warden.args(["--resync", "1s", "--state-dir", state.to_str().unwrap()])
    }

    fn is_whole(&self) {
        self.engine.assert_same(&self.lives);
    }

    /// Enforcement goes on: what no list allows is ended.
    fn ends_evil(&self) {
        let evil = self.engine.run(&[], "evil:1", &[]);
        self.engine.wait_until_dead(&evil, SOON);
    }

    fn shops_are_ended(&self) {
        for life in &self.lives[..6] {
            self.engine.wait_until_dead(&life.id, SOON);
        }
        self.engine.assert_same(&self.lives[6..]);
    }
}

/// What `/allowlist` says of a held list.
fn held(warden: &Warden) -> Value {
    eventually("a list is held", SOON, || {
        let held = warden.get_json("/allowlist")["held"].clone();
        (!held.is_null()).then_some(held)
    })
}

fn hash(list: &str, dir: &Path) -> String {
    let file = dir.join("hashed.toml");
    std::fs::write(&file, list).unwrap();
    let output = dockwarden(["check", file.to_str().unwrap(), "--output", "json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["hash"].as_str().unwrap().to_owned()
}

fn accepting(list: &str, hash: &str) -> String {
    list.replace(
        "version = 1\n",
        &format!("version = 1\nguard = {{ accept = \"{hash}\" }}\n"),
    )
}

#[test]
fn a_list_that_would_end_six_of_eight_is_held_until_its_hash_is_accepted() {
    let shop = Shop::open();
    let warden = shop.warden(GOOD).start();
    warden.wait_ready();
    let in_force = warden.get_json("/allowlist")["hash"].clone();
    warden.write_list_by_rename(BAD);
    let held = held(&warden);
    let wanted = hash(BAD, warden.dir());
    assert_eq!(held["hash"], *wanted, "{held}");
    assert_eq!(
        (&held["running"], &held["error"]),
        (&8.into(), &Value::Null)
    );
    let mut named: Vec<_> = held["would_end"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["container_id"].as_str().unwrap().to_owned())
        .collect();
    let mut shops: Vec<_> = shop.lives[..6].iter().map(|life| life.id.clone()).collect();
    named.sort();
    shops.sort();
    assert_eq!(named, shops);

    // It says so everywhere, and the other list is in force.
    assert_eq!(warden.get_json("/allowlist")["hash"], in_force);
    assert_eq!(warden.metric("dockwarden_allowlist_held"), 1.0);
    assert_eq!(
        warden.metric("dockwarden_allowlist_reloads_total{outcome=\"held\"}"),
        1.0
    );
    assert_eq!(warden.get_json("/readyz")["allowlist_held"], *wanted);
    assert!(warden.get("/").body.contains(&wanted));
    warden.wait_for_log(|line| line.contains(&wanted) && line.contains("held"), SOON);
    warden.wait_for_sweeps(2);
    shop.is_whole();
    shop.ends_evil();

    // Another list's hash, or that of the one in force, accepts nothing.
    for wrong in ["0".repeat(64), in_force.as_str().unwrap().to_owned()] {
        let before = warden.metric("dockwarden_allowlist_reloads_total{outcome=\"held\"}");
        warden.write_list_by_rename(&accepting(BAD, &wrong));
        eventually("it is held again", SOON, || {
            warden.metric("dockwarden_allowlist_reloads_total{outcome=\"held\"}") > before
        });
        warden.wait_for_sweeps(2);
        shop.is_whole();
    }
    // Nor does its hash accept yet another list.
    let other = BAD.replace("db:1", "db:2");
    let before = warden.metric("dockwarden_allowlist_reloads_total{outcome=\"held\"}");
    warden.write_list_by_rename(&accepting(&other, &wanted));
    eventually("the other one is held", SOON, || {
        warden.metric("dockwarden_allowlist_reloads_total{outcome=\"held\"}") > before
    });
    warden.wait_for_sweeps(2);
    shop.is_whole();

    warden.write_list_by_rename(BAD);
    eventually("it is held again", SOON, || {
        warden.get_json("/allowlist")["held"]["hash"] == *wanted
    });
    let list = warden.list_path();
    let output = dockwarden(["check", "--accept", list.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    shop.shops_are_ended();
    assert_eq!(warden.get_json("/allowlist")["hash"], *wanted);
    assert_eq!(warden.get_json("/allowlist")["held"], Value::Null);
    assert_eq!(warden.metric("dockwarden_allowlist_held"), 0.0);
}

#[test]
fn a_held_list_that_is_taken_back_leaves_nothing_behind() {
    let shop = Shop::open();
    let warden = shop.warden(GOOD).start();
    warden.wait_ready();
    warden.write_list_by_rename(BAD);
    held(&warden);
    warden.write_list_by_rename(GOOD);
    eventually("nothing is held", SOON, || {
        warden.get_json("/allowlist")["held"].is_null()
    });
    assert_eq!(warden.metric("dockwarden_allowlist_held"), 0.0);
    warden.wait_for_sweeps(2);
    shop.is_whole();
}

#[test]
fn a_small_change_is_never_held() {
    let shop = Shop::open();
    let few = GOOD.replace("[[allow]]", "guard = { min = 2 }\n[[allow]]");
    let warden = shop.warden(&few).start();
    warden.wait_ready();
    // Two of eight: as many as `min`, and too small a share.
    warden.write_list_by_rename("version = 1\n[[allow]]\nimage = \"shop:1\"\n");
    for life in &shop.lives[6..] {
        shop.engine.wait_until_dead(&life.id, SOON);
    }
    shop.engine.assert_same(&shop.lives[..6]);
    assert_eq!(warden.metric("dockwarden_allowlist_held"), 0.0);
    assert_eq!(
        warden.metric("dockwarden_allowlist_reloads_total{outcome=\"held\"}"),
        0.0
    );

    // All that runs, and less than `min`.
    for life in &shop.lives[..2] {
        shop.engine.docker_ok(&["kill", &life.id]);
    }
    warden.write_list_by_rename("version = 1\nallow-nothing = true\n");
    for life in &shop.lives[2..6] {
        shop.engine.wait_until_dead(&life.id, SOON);
    }
    assert_eq!(
        warden.metric("dockwarden_allowlist_reloads_total{outcome=\"held\"}"),
        0.0
    );
}

#[test]
fn the_list_in_force_says_what_is_too_much() {
    let shop = Shop::open();
    let strict = GOOD.replace("[[allow]]", "guard = { share = 0, min = 1 }\n[[allow]]");
    let warden = shop.warden(GOOD).start();
    warden.wait_ready();
    // Another guard is no other list: it is in force at once.
    warden.write_list_by_rename(&strict);
    eventually("the guard is in force", SOON, || {
        warden.get_json("/allowlist")["list"]["guard"]["min"] == 1
    });
    let loose = "version = 1\nguard = { share = 1 }\n[[allow]]\nimage = \"shop:1\"\n";
    warden.write_list_by_rename(loose);
    assert_eq!(held(&warden)["would_end"].as_array().unwrap().len(), 2);
    warden.wait_for_sweeps(2);
    shop.is_whole();
}

#[test]
fn the_end_of_audit_mode_is_weighed_and_that_of_audit_until_is_not() {
    let shop = Shop::open();
    let audit = BAD.replace("[[allow]]", "mode = \"audit\"\n[[allow]]");
    let warden = shop.warden(&audit).start();
    warden.wait_ready();
    warden.write_list_by_rename(BAD);
    assert_eq!(held(&warden)["would_end"].as_array().unwrap().len(), 6);
    warden.wait_for_sweeps(2);
    shop.is_whole();
    assert_eq!(warden.get_json("/readyz")["mode"], "audit");

    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let until = format!("audit-until = {now}\n[[allow]]");
    warden.write_list_by_rename(&BAD.replace("[[allow]]", &until));
    shop.shops_are_ended();
    assert!(jiff::Timestamp::now() >= now, "not before its time");
}

#[test]
fn a_restart_with_a_bad_or_another_file_enforces_the_accepted_list() {
    let shop = Shop::open();
    let mut warden = shop.warden(GOOD).start();
    warden.wait_ready();
    // One that came into force while it ran, as most do.
    let newer = GOOD.replace("db:1\"", "db:1\", \"more:1\"");
    let accepted = hash(&newer, warden.dir());
    warden.write_list_by_rename(&newer);
    eventually("the newer list is in force", SOON, || {
        warden.get_json("/allowlist")["hash"] == *accepted
    });
    for (what, text) in [
        ("cut off", "version = 1\n[[all"),
        ("empty", ""),
        ("another list", BAD),
        (
            "one that allows nothing",
            "version = 1\nallow-nothing = true\n",
        ),
    ] {
        warden.sigkill();
        warden.write_list_by_rename(text);
        warden.restart();
        warden.wait_ready();
        let answer = warden.get_json("/allowlist");
        assert_eq!(answer["hash"], accepted, "{what}");
        // As soon as another list is weighed.
        eventually("it enforces", SOON, || {
            warden.get_json("/readyz")["enforcing"] == true
        });
        if text.contains("allow") {
            held(&warden);
        } else {
            assert!(answer["error"]["message"].is_string(), "{what}: {answer}");
        }
        warden.wait_for_sweeps(2);
        shop.is_whole();
        shop.ends_evil();
    }
    // No file at all.
    warden.sigkill();
    std::fs::remove_file(warden.list_path()).unwrap();
    warden.restart();
    warden.wait_ready();
    assert_eq!(warden.get_json("/allowlist")["hash"], accepted);
    shop.ends_evil();
    // And a good one again, which is accepted.
    warden.sigkill();
    warden.write_list_by_rename(&accepting(BAD, &hash(BAD, warden.dir())));
    warden.restart();
    shop.shops_are_ended();
}

#[test]
fn audit_mode_that_is_no_longer_asked_for_is_weighed() {
    let shop = Shop::open();
    let audit = shop.warden(BAD).args(["--mode", "audit"]).start();
    audit.wait_ready();
    audit.wait_for_sweeps(2);
    shop.is_whole();
    let state = audit.dir().join("state");
    audit.sigterm();
    let list = audit.list_path();
    // The same state and the same list, without the option.
    let warden = Warden::on(&shop.engine)
        .allowlist(&std::fs::read_to_string(&list).unwrap())
        .args(["--resync", "1s", "--state-dir", state.to_str().unwrap()])
        .start();
    warden.wait_ready();
    assert_eq!(held(&warden)["would_end"].as_array().unwrap().len(), 6);
    assert_eq!(warden.get_json("/readyz")["mode"], "audit");
    let page = warden.get("/").body;
    let told = "Leaving audit mode is held back: it would end 6 of the ";
    assert!(page.contains(told), "{page}");
    let command = format!("check --accept {}", warden.list_path().display());
    assert!(page.contains(&command), "{page}");
    warden.wait_for_log(|line| line.contains("leaving audit mode was held"), SOON);
    warden.wait_for_sweeps(2);
    shop.is_whole();
    let output = dockwarden(["check", "--accept", warden.list_path().to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    shop.shops_are_ended();
}

#[test]
fn with_the_engine_away_a_change_is_held_until_it_answers() {
    let shop = Shop::open();
    let warden = shop.warden(GOOD).start();
    warden.wait_ready();
    shop.engine.pause_dockerd();
    warden.write_list_by_rename(BAD);
    // Whether it is found to be away before or while it is asked.
    let held_for_now = held(&warden);
    assert!(held_for_now["error"].is_string(), "{held_for_now}");
    shop.engine.resume_dockerd();
    eventually("it is weighed", SOON, || {
        let held = warden.get_json("/allowlist")["held"].clone();
        (held["would_end"].as_array().map(Vec::len) == Some(6)).then_some(())
    });
    warden.wait_for_sweeps(2);
    shop.is_whole();

    shop.engine.pause_dockerd();
    let harmless = GOOD.replace("db:1\"", "db:1\", \"more:1\"");
    warden.write_list_by_rename(&harmless);
    held(&warden);
    shop.engine.resume_dockerd();
    eventually("it is in force", SOON, || {
        warden.get_json("/allowlist")["hash"] == *hash(&harmless, warden.dir())
    });
    shop.is_whole();
}

/// It is known to be away, and nobody is asked.
#[test]
fn with_no_engine_to_ask_nothing_comes_into_force() {
    let shop = Shop::open();
    let warden = shop.warden(GOOD).start();
    warden.wait_ready();
    let in_force = warden.get_json("/allowlist")["hash"].clone();
    shop.engine.set_live_restore(true);
    shop.engine.sigkill_dockerd();
    eventually("it knows that the engine is away", SOON, || {
        warden.metric("dockwarden_engine_connected") == 0.0
    });
    warden.write_list_by_rename(BAD);
    let held = held(&warden);
    assert_eq!(held["error"], "the engine is out of reach", "{held}");
    assert_eq!(warden.get_json("/allowlist")["hash"], in_force);
    shop.engine.start_dockerd();
    eventually("it is weighed", SOON, || {
        let held = warden.get_json("/allowlist")["held"].clone();
        held["would_end"].as_array().map(Vec::len) == Some(6)
    });
    warden.wait_for_sweeps(2);
    shop.is_whole();
}

/// An engine that is there and does not tell what runs.
#[test]
fn with_a_reading_that_failed_nothing_comes_into_force() {
    let fake = Scripted::start();
    for id in (1..=8).map(numbered) {
        let shop = listed(&id, "shop:1");
        fake.world().containers.insert(id, shop);
    }
    let warden = fake.warden(GOOD, "1h");
    let in_force = warden.get_json("/allowlist")["hash"].clone();
    for (status, body) in [(500, "{}"), (200, "[{"), (200, "null")] {
        fake.world().lists = Some((status, body.to_owned()));
        warden.write_list_by_rename(BAD);
        let held = held(&warden);
        assert!(held["error"].is_string(), "{status} {body}: {held}");
        assert_eq!(warden.get_json("/allowlist")["hash"], in_force);
        fake.world().lists = None;
        warden.write_list_by_rename(GOOD);
        eventually("nothing is held", SOON, || {
            warden.get_json("/allowlist")["held"].is_null()
        });
    }
    assert!(fake.killed().is_empty(), "{:?}", fake.killed());
}

/// One whose list has elements that are none.
#[test]
fn what_cannot_be_read_is_not_taken_for_what_does_not_run() {
    let fake = Scripted::start();
    run_there(&fake, 1..=2, "shop:1");
    fake.world().noise = vec![json!({"Id": 5}); 6];
    let warden = fake.warden(GOOD, "1s");
    warden.write_list_by_rename(BAD);
    let held = held(&warden);
    assert_eq!(held["error"], "containers that can't be read: 6", "{held}");
    warden.wait_for_sweeps(2);
    assert!(fake.killed().is_empty(), "{:?}", fake.killed());
    // Two of two are less than any guard holds.
    fake.world().noise.clear();
    fake.wait_for_kill(&numbered(1));
    fake.wait_for_kill(&numbered(2));
}

/// The list that was accepted allows less than the one that is written, and is not enforced before
/// that one is weighed.
#[test]
fn what_a_wider_list_allows_is_not_ended_by_the_accepted_one_at_the_start() {
    let fake = Scripted::start();
    let mut warden = accepted(&fake, BAD);
    run_there(&fake, 1..=7, "shop:1");
    run_there(&fake, 8..=8, "evil:1");
    warden.write_list_by_rename(GOOD);
    warden.restart();
    fake.wait_for_kill(&numbered(8));
    wait_in_force(&warden, GOOD);
    warden.wait_for_sweeps(2);
    assert_eq!(fake.killed(), BTreeSet::from([numbered(8)]));
}

#[test]
fn what_a_wider_list_allows_is_not_ended_when_the_engine_comes_back() {
    let fake = Scripted::start();
    let warden = accepted_and_running(&fake, BAD);
    fake.world().streams = Streams::Refused;
    fake.end_streams(End::Clean);
    eventually("it knows that the engine is away", SOON, || {
        warden.metric("dockwarden_engine_connected") == 0.0
    });
    warden.write_list_by_rename(GOOD);
    assert_eq!(held(&warden)["error"], "the engine is out of reach");
    run_there(&fake, 1..=7, "shop:1");
    run_there(&fake, 8..=8, "evil:1");
    fake.world().streams = Streams::Open;
    fake.wait_for_kill(&numbered(8));
    wait_in_force(&warden, GOOD);
    warden.wait_for_sweeps(2);
    assert_eq!(fake.killed(), BTreeSet::from([numbered(8)]));
}

/// Nor where that one is written anew while it is waited for.
#[test]
fn what_a_wider_list_allows_is_not_ended_by_the_accepted_one_when_another_is_written() {
    let fake = Scripted::start();
    let mut warden = accepted(&fake, BAD);
    run_there(&fake, 1..=7, "shop:1");
    fake.world().noise = vec![json!({"Id": 5})];
    warden.write_list_by_rename(GOOD);
    warden.restart();
    assert_eq!(held(&warden)["error"], "containers that can't be read: 1");
    let another = GOOD.replace("version = 1", "version = 1 # anew");
    warden.write_list_by_rename(&another);
    let written = hash(&another, warden.dir());
    eventually("the other one is held", SOON, || {
        warden.get_json("/allowlist")["held"]["hash"] == *written
    });
    fake.world().noise.clear();
    wait_in_force(&warden, &another);
    warden.wait_for_sweeps(2);
    assert!(fake.killed().is_empty(), "{:?}", fake.killed());
}

/// Nor where it is written while the engine is being read for the first time.
#[test]
fn what_a_wider_list_allows_is_not_ended_when_it_is_written_before_all_is_known() {
    let fake = Scripted::start();
    let mut warden = accepted(&fake, BAD);
    run_there(&fake, 1..=7, "shop:1");
    fake.world().list_pause = Duration::from_secs(3);
    let listed = fake.world().listed;
    warden.restart();
    eventually("the engine is read", SOON, || fake.world().listed > listed);
    warden.write_list_by_rename(GOOD);
    held(&warden);
    fake.world().list_pause = Duration::ZERO;
    wait_in_force(&warden, GOOD);
    warden.wait_for_sweeps(2);
    assert!(fake.killed().is_empty(), "{:?}", fake.killed());
}

/// Nobody waits for ever for a list that can't be weighed.
#[test]
fn the_accepted_list_is_enforced_where_the_other_one_cannot_be_weighed() {
    let fake = Scripted::start();
    let mut warden = accepted(&fake, BAD);
    run_there(&fake, 1..=1, "evil:1");
    fake.world().noise = vec![json!({"Id": 5})];
    warden.write_list_by_rename(GOOD);
    warden.restart();
    fake.wait_for_kill(&numbered(1));
    assert_eq!(
        warden.get_json("/allowlist")["hash"],
        hash(BAD, warden.dir())
    );
    assert_eq!(warden.get_json("/readyz")["enforcing"], true);
    fake.world().noise.clear();
    wait_in_force(&warden, GOOD);
}

/// A harmless change is not held for good because the engine was slow when it was weighed.
#[test]
fn what_cannot_be_judged_yet_is_weighed_again() {
    let fake = Scripted::start();
    // The name that the engine's images tell.
    let list = "version = 1\n[[allow]]\nimage = \"evil:1\"\n";
    let harmless = list.replace("\"evil:1\"", "[\"evil:1\", \"more:1\"]");
    let mut warden = accepted(&fake, list);
    // Their list entries tell no name, so that they have to be inspected.
    run_there(&fake, 1..=8, &image_id());
    fake.world().broken_inspections = (1..=8).map(|number| (numbered(number), 500)).collect();
    warden.write_list_by_rename(&harmless);
    warden.restart();
    eventually("it waits for their names", SOON, || {
        warden.get_json("/allowlist")["held"]["error"] == "containers that can't be judged yet: 8"
    });
    fake.world().broken_inspections.clear();
    wait_in_force(&warden, &harmless);
    warden.wait_for_sweeps(2);
    assert!(fake.killed().is_empty(), "{:?}", fake.killed());
}

fn run_there(fake: &Scripted, numbers: std::ops::RangeInclusive<usize>, image: &str) {
    for id in numbers.map(numbered) {
        let container = listed(&id, image);
        fake.world().containers.insert(id, container);
    }
}

/// Its list is accepted, where nothing runs.
fn accepted_and_running(fake: &Scripted, list: &str) -> Warden {
    let warden = fake.builder(list, "1s");
    let state = warden.dir().join("state");
    let warden = warden
        .args(["--state-dir", state.to_str().unwrap()])
        .start();
    warden.wait_ready();
    warden
}

/// The same, and ended.
fn accepted(fake: &Scripted, list: &str) -> Warden {
    let warden = accepted_and_running(fake, list);
    warden.sigterm();
    warden
}

fn wait_in_force(warden: &Warden, list: &str) {
    let hash = hash(list, warden.dir());
    eventually("the list is in force", SOON, || {
        warden.get_json("/allowlist")["hash"] == *hash
    });
}

#[test]
fn the_first_start_ever_enforces_what_is_written() {
    let shop = Shop::open();
    let warden = shop.warden(BAD).start();
    shop.shops_are_ended();
    assert_eq!(warden.metric("dockwarden_allowlist_held"), 0.0);
}
