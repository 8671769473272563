//! An engine that tells late, or never, of where one life of a container ends and the next one begins.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use support::scripted::{Fate, Kill, Scripted, Streams, event, event_at, listed, numbered};
use support::{SOON, eventually};

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

/// The same without execs.
fn no_execs() -> String {
    format!("{LIST}exec = false\n")
}

fn exec_start(id: &str, time: Timestamp) -> String {
    event_at("exec_start: /x", id, time, json!({"execID": "ab"}))
}

/// An exec that the engine does not know is foreign.
#[test]
fn an_exec_in_a_life_that_ended_unheard_is_over_with_it() {
    let fake = Scripted::start();
    let warden = fake.warden(&no_execs(), "1s");
    let id = numbered(1);
    fake.begin(&id, "good:1");
    warden.wait_for_verdict(&id, "allowed");
    let refusals = vec![Kill::answer(500, Fate::Lives); 1_000];
    fake.world().kills.insert(id.clone(), refusals);
    fake.say(exec_start(&id, Timestamp::now()).as_bytes());
    let kills = || fake.world().killed.len();
    // By now it is tried again after seconds.
    eventually("its kill was refused again and again", SOON, || {
        kills() == 6
    });
    fake.world().streams = Streams::Refused;
    let begun = Timestamp::now().to_string();
    fake.world().containers.get_mut(&id).unwrap()["StartedAt"] = json!(begun);
    fake.end_streams(support::scripted::End::Clean);
    eventually("the engine is away", SOON, || {
        warden.metric("dockwarden_engine_connected") == 0.0
    });
    fake.world().streams = Streams::Open;
    eventually("its next life is allowed", SOON, || {
        let allowed = |one: &serde_json::Value| one["verdict"] == "allowed";
        warden
            .records_of(&id)
            .iter()
            .filter(|one| allowed(one))
            .count()
            == 2
    });
    warden.wait_for_sweeps(3);
    assert_eq!(kills(), 6);
    // The next exec is one of this life.
    fake.world().kills.clear();
    fake.say(exec_start(&id, Timestamp::now()).as_bytes());
    eventually("a kill", SOON, || kills() == 7);
}

/// Of what was ended for what it did, its list knows nothing once it is dead: it would be allowed.
#[test]
fn a_list_that_was_begun_before_an_end_brings_nobody_back() {
    let fake = Scripted::start();
    let warden = fake.warden(&no_execs(), "1s");
    let id = numbered(1);
    fake.begin(&id, "good:1");
    warden.wait_for_verdict(&id, "allowed");
    fake.world().list_pause = SOON / 10;
    let before = fake.world().listed;
    eventually("a list is begun", SOON, || fake.world().listed > before);
    fake.say(exec_start(&id, Timestamp::now()).as_bytes());
    fake.wait_for_kill(&id);
    warden.wait_for_verdict(&id, "denied");
    assert_eq!(
        fake.world().listed_slowly,
        0,
        "the list is still being told"
    );
    fake.world().list_pause = std::time::Duration::ZERO;
    eventually("it is told", SOON, || fake.world().listed_slowly > 0);
    warden.wait_for_sweeps(3);
    let records = warden.records_of(&id);
    let verdicts = records.iter().map(|one| one["verdict"].as_str().unwrap());
    assert_eq!(verdicts.collect::<Vec<_>>(), ["allowed", "denied"]);
}

/// Such a list shows it dead, and it keeps its place all the same.
#[test]
fn a_list_that_was_begun_before_a_start_takes_nobody_s_place() {
    let fake = Scripted::start();
    let (older, younger) = (numbered(1), numbered(2));
    let mut dead = listed(&older, "good:1");
    dead["State"] = json!("exited");
    fake.world().containers.insert(older.clone(), dead);
    let warden = fake.builder(&format!("{LIST}max = 1\n"), "10s");
    let warden = warden.subcommand("controller").start();
    warden.wait_ready();
    fake.world().list_pause = SOON / 10;
    let before = fake.world().listed;
    eventually("a list is begun", SOON, || fake.world().listed > before);
    let swept = || warden.metric("dockwarden_last_sweep_timestamp_seconds");
    let swept_before = swept();
    fake.begin(&older, "good:1");
    warden.wait_for_verdict(&older, "allowed");
    assert_eq!(
        fake.world().listed_slowly,
        0,
        "the list is still being told"
    );
    fake.world().list_pause = std::time::Duration::ZERO;
    eventually("it is judged by", SOON, || swept() > swept_before);
    let listed = fake.world().listed;
    fake.begin(&younger, "good:1");
    fake.wait_for_kill(&younger);
    assert_eq!(fake.world().listed, listed, "no other list has helped");
    warden.wait_for_verdict(&younger, "denied");
    assert!(!fake.killed().contains(&older));
}

/// Whoever was stopped for minutes hears then of execs that the engine itself has forgotten.
#[test]
fn an_exec_of_long_ago_is_let_go() {
    for ahead in [
        None,
        Some(SignedDuration::from_hours(1)),
        Some(SignedDuration::from_hours(-1)),
    ] {
        let fake = Scripted::start();
        fake.world().clock_ahead = ahead;
        let warden = fake.warden(&no_execs(), "1h");
        let now = || Timestamp::now() + ahead.unwrap_or_default();
        let (stays, goes) = (numbered(1), numbered(2));
        for id in [&stays, &goes] {
            fake.world()
                .containers
                .insert(id.clone(), listed(id, "good:1"));
            fake.say(
                event_at(
                    "start",
                    id,
                    now() - SignedDuration::from_hours(1),
                    json!({}),
                )
                .as_bytes(),
            );
            warden.wait_for_verdict(id, "allowed");
        }
        // More than the engine tells at once.
        for minutes in (5..16).rev() {
            for second in 0..60 {
                let ago = SignedDuration::from_secs(minutes * 60 - second);
                fake.say(exec_start(&stays, now() - ago).as_bytes());
            }
        }
        fake.say(exec_start(&goes, now()).as_bytes());
        fake.wait_for_kill(&goes);
        // Each look has the execs before it looked at first.
        let inspected = || fake.world().inspected[&stays];
        let before = inspected();
        eventually("it was looked at", SOON, || {
            fake.say(event("rename", &stays).as_bytes());
            inspected() > before + 2
        });
        assert!(!fake.killed().contains(&stays), "{ahead:?}");
        fake.say(exec_start(&stays, now()).as_bytes());
        fake.wait_for_kill(&stays);
    }
}

/// What does not run has time, and its start has none.
#[test]
fn a_start_does_not_wait_for_a_look_of_before() {
    let fake = Scripted::start();
    let id = numbered(1);
    let mut dead = listed(&id, "good:1");
    dead["State"] = json!("exited");
    fake.world().containers.insert(id.clone(), dead);
    fake.world().hanging_inspections.insert(id.clone());
    // What it can do is not told, and so it can do too much.
    let list = LIST.replace("[[", "[defaults]\ngrants = []\n[[");
    let warden = fake.warden(&list, "1h");
    eventually("it is inspected", SOON, || {
        fake.world().inspected.contains_key(&id)
    });
    fake.world().hanging_inspections.clear();
    fake.begin(&id, "good:1");
    fake.wait_for_kill(&id);
    let gave_up = |line: &String| line.contains("can't be looked at");
    assert!(
        !warden.logs().iter().any(gave_up),
        "it waited for the engine"
    );
}

/// What happens then is told to have happened before what happened before.
#[test]
fn a_clock_of_the_engine_that_is_set_back_hides_nothing() {
    let fake = Scripted::start();
    let ahead = SignedDuration::from_hours(1);
    fake.world().clock_ahead = Some(ahead);
    fake.world().hides_deaths = true;
    let warden = fake.warden(&no_execs(), "1h");
    let (good, evil) = (numbered(1), numbered(2));
    let say = |word, id: &str, time| fake.say(event_at(word, id, time, json!({})).as_bytes());
    for (id, image) in [(&good, "good:1"), (&evil, "evil:1")] {
        fake.world()
            .containers
            .insert(id.clone(), listed(id, image));
        say("start", id, Timestamp::now() + ahead);
    }
    fake.wait_for_kill(&evil);
    say("die", &evil, Timestamp::now() + ahead);
    warden.wait_for_verdict(&good, "allowed");
    warden.wait_for_verdict(&evil, "denied");

    fake.world().clock_ahead = Some(SignedDuration::ZERO);
    // It is over before anybody looks.
    say("start", &evil, Timestamp::now());
    say("die", &evil, Timestamp::now());
    eventually("the second life is on record", SOON, || {
        let records = warden.records_of(&evil);
        records.len() == 2 && records[1]["outcome"] == "ended-itself"
    });
    fake.say(exec_start(&good, Timestamp::now()).as_bytes());
    fake.wait_for_kill(&good);
}
