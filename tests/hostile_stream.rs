//! An engine whose event stream lies, stammers, breaks off or goes silent: what dockwarden may not
//! believe, and what it must end all the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use support::scripted::{End, Fate, Kill, Scripted, Streams, event, listed, now, number, numbered};
use support::{SOON, eventually};

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

#[test]
fn nothing_on_the_stream_silences_the_events_behind_it() {
    let fake = Scripted::start();
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
    let fake = Scripted::start();
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
        let fake = Scripted::start();
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
    let fake = Scripted::start();
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
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1s");
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
    // What is listed for long and was never told of means a stream that is dead.
    eventually("another stream is asked for", SOON * 2, || {
        warden.metric("dockwarden_engine_reconnects_total") >= 1.0
    });
}

/// The engine drops events for a subscriber that does not read, and says nothing of it.
#[test]
fn what_was_dropped_while_it_was_stopped_is_found_at_once() {
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1h");
    let (good, evil) = (numbered(1), numbered(2));
    warden.signal("STOP");
    for (id, image) in [(&good, "good:1"), (&evil, "evil:1")] {
        fake.world()
            .containers
            .insert(id.clone(), listed(id, image));
    }
    // Longer than a stall has to be.
    std::thread::sleep(Duration::from_secs(4));
    warden.signal("CONT");
    fake.wait_for_kill(&evil);
    assert_eq!(fake.killed(), BTreeSet::from([evil]));
}

/// What was judged once is not asked again: it can do what it could in the life that it was inspected in.
#[test]
fn a_life_that_began_unheard_is_looked_at_anew() {
    let fake = Scripted::start();
    let good = numbered(1);
    let mut container = listed(&good, "good:1");
    container["Configured"] = json!({});
    fake.world().containers.insert(good.clone(), container);
    let list = LIST.replace("\nimage", "\ngrants = [\"unconfined\"]\nimage");
    let warden = fake.warden(&list, "1h");
    warden.wait_for_verdict(&good, "allowed");
    {
        let mut world = fake.world();
        let container = world.containers.get_mut(&good).unwrap();
        container["StartedAt"] = json!("2026-01-02T00:00:00Z");
        container["Configured"] = json!({"Privileged": true});
    }
    fake.say(b"{\"Type\":\"container\",\"Act\n");
    fake.wait_for_kill(&good);
    assert_eq!(warden.metric("dockwarden_engine_reconnects_total"), 0.0);
}

/// What was lost in an event that can't be read is found at once.
#[test]
fn half_a_line_costs_the_next_one_and_hides_nothing() {
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1h");
    for (number, half) in ["{\"Type\":\"container\",\"Act", "{", "\"", "x"]
        .iter()
        .enumerate()
    {
        let evil = numbered(number + 1);
        fake.say(half.as_bytes());
        fake.begin(&evil, "evil:1");
        fake.wait_for_kill(&evil);
    }
    assert_eq!(warden.metric("dockwarden_engine_reconnects_total"), 0.0);
}

/// The event was in the half that never came, and nothing comes any more.
#[test]
fn half_a_line_that_nothing_follows_is_a_stream_that_broke() {
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1h");
    let evil = numbered(1);
    fake.world()
        .containers
        .insert(evil.clone(), listed(&evil, "evil:1"));
    fake.say(b"{\"Type\":\"container\",\"Act");
    fake.wait_for_kill_within(&evil, SOON, "a kill");
    assert!(warden.metric("dockwarden_engine_reconnects_total") >= 1.0);
}

#[test]
fn lines_without_end_fill_no_memory() {
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1h");
    for (number, begin) in ["{\"x\":\"", "{\"x\":[{\"y\":\"", "\"", ""]
        .iter()
        .enumerate()
    {
        fake.say(begin.as_bytes());
        for _ in 0..96 {
            fake.say(&[b'y'; 1024 * 1024]);
        }
        fake.say(b"\"}]}\n");
        let evil = numbered(number + 1);
        fake.begin(&evil, "evil:1");
        fake.wait_for_kill_within(&evil, SOON, begin);
        fake.forget_what_was_said();
    }
    assert!(warden.peak_memory() < 150, "{} MiB", warden.peak_memory());
}

/// A stream that lags tells of a start and of a death when both are on record already.
#[test]
fn what_is_told_of_a_life_after_its_end_is_no_other_life() {
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1s");
    let outcomes = |id: &str| -> Vec<String> {
        let records = warden.records_of(id).into_iter();
        records
            .map(|record| record["outcome"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    fake.world().hides_deaths = true;
    let (stays, goes) = (numbered(1), numbered(2));
    fake.world()
        .kills
        .insert(goes.clone(), vec![Kill::answer(204, Fate::Vanishes)]);
    for id in [&stays, &goes] {
        let mut container = listed(id, "evil:1");
        container["StartedAt"] = json!(jiff::Timestamp::now().to_string());
        fake.world().containers.insert(id.clone(), container);
    }
    for id in [&stays, &goes] {
        eventually("its end is on record", SOON, || outcomes(id) == ["done"]);
    }
    for id in [&stays, &goes] {
        fake.say(event("start", id).as_bytes());
        fake.say(event("die", id).as_bytes());
    }
    warden.wait_for_sweeps(3);
    for id in [&stays, &goes] {
        assert_eq!(outcomes(id), ["done"]);
    }

    // The next start is one, also where it is over before anybody looks.
    fake.say(event("start", &stays).as_bytes());
    fake.say(event("die", &stays).as_bytes());
    eventually("the next life is on record", SOON, || {
        outcomes(&stays) == ["done", "ended-itself"]
    });
}

/// A start that no list shows before it is over is on record, also where sweeps cross it.
#[test]
fn a_sweep_that_crosses_a_short_life_does_not_hide_it() {
    let fake = Scripted::start();
    // (What is to be killed may be killed on word of its start alone.)
    let warden = fake.warden(&format!("action = \"stop\"\n{LIST}"), "1s");
    let id = numbered(1);
    let mut container = listed(&id, "evil:1");
    container["State"] = json!("created");
    fake.world().containers.insert(id.clone(), container);
    warden.wait_for_sweeps(2);
    fake.say(event("start", &id).as_bytes());
    warden.wait_for_sweeps(3);
    fake.say(event("die", &id).as_bytes());
    let record = warden.wait_for_verdict(&id, "denied");
    assert_eq!(
        (&record["outcome"], &record["trigger"]),
        (&json!("ended-itself"), &json!("start")),
        "{record:#}"
    );
    fake.world().containers.remove(&id);
    warden.wait_for_sweeps(3);
    assert_eq!(warden.records_of(&id).len(), 1);
}

/// Its name and its image are known to nobody: what the event says of them can be forged.
#[test]
fn a_start_of_what_is_gone_already_is_on_record() {
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1h");
    let id = numbered(1);
    for action in ["create", "start", "die", "destroy"] {
        fake.say(event(action, &id).as_bytes());
    }
    let record = eventually("its life is on record", SOON, || {
        warden.records_of(&id).into_iter().next()
    });
    assert_eq!(record["verdict"], "unknown", "{record:#}");
    assert_eq!(record["outcome"], "ended-itself", "{record:#}");
    assert!(record["image"].is_null(), "{record:#}");
}

/// Nothing is enforced before the own container is known: that is asked again each second, whatever happens.
#[test]
fn events_without_pause_do_not_keep_it_from_finding_itself() {
    let fake = Scripted::start();
    let warden = fake.builder(LIST, "1h").args(["--self-id", "n5"]).start();
    eventually("nothing is found", SOON, || {
        warden.get("/readyz").body.contains("no container `n5`")
    });
    let so_far = fake.world().listed;
    for _ in 0..20 {
        fake.say(event("top", &numbered(1)).as_bytes());
        std::thread::sleep(Duration::from_millis(200));
    }
    let listed = fake.world().listed - so_far;
    assert!(listed >= 2, "{listed}");
    assert!(warden.lives());
}
