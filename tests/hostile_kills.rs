//! An engine that kills late, falsely or not at all: the record tells what really was, and no
//! container's end waits for another's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::json;
use std::time::Duration;
use support::scripted::{Fate, Kill, Scripted, event, listed, number, numbered};
use support::{SOON, eventually};

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

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
            "500 and dead",
            vec![Kill::answer(500, Fate::Dies)],
            vec!["failed", "ended-itself"],
            1,
        ),
        (
            "304 and dead",
            vec![Kill::answer(304, Fate::Dies)],
            vec!["gone"],
            1,
        ),
        (
            "304 and alive",
            vec![Kill::answer(304, Fate::Lives)],
            vec!["failed", "done"],
            2,
        ),
        (
            "204 and alive",
            vec![
                Kill::answer(204, Fate::Lives),
                Kill::answer(204, Fate::Dies),
            ],
            vec!["escaped", "failed", "done"],
            2,
        ),
        (
            "no answer but the line's end",
            vec![Kill::Cut],
            vec!["failed", "done"],
            2,
        ),
    ];
    let fake = Scripted::start();
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
        eventually(case, SOON * 2, || recorded().len() >= outcomes.len());
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
    let fake = Scripted::start();
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

/// Nothing told of its start, and what ended it was no kill of ours that the engine owned up to.
#[test]
fn what_ends_after_a_kill_that_failed_is_on_record() {
    let fake = Scripted::start();
    let refusals = vec![Kill::answer(500, Fate::Lives); 1_000];
    let ids = [numbered(1), numbered(2), numbered(3)];
    for id in &ids {
        let mut world = fake.world();
        world.kills.insert(id.clone(), refusals.clone());
        world.containers.insert(id.clone(), listed(id, "evil:1"));
    }
    let warden = fake.warden(LIST, "1h");
    let outcomes = |id: &str| -> Vec<String> {
        let records = warden.records_of(id).into_iter();
        let outcomes = records.map(|one| one["outcome"].as_str().unwrap().to_owned());
        outcomes.collect()
    };
    for (id, (event_before, outcome)) in ids.iter().zip([
        (Some("kill"), "gone"),
        (None, "ended-itself"),
        (Some("kill"), "gone"),
    ]) {
        eventually("it failed", SOON, || outcomes(id) == ["failed"]);
        if *id == ids[2] {
            fake.world().containers.remove(id);
        } else {
            fake.world().containers.get_mut(id).unwrap()["State"] = json!("exited");
        }
        for word in event_before.into_iter().chain(["die"]) {
            fake.say(event(word, id).as_bytes());
        }
        eventually("its end is on record", SOON, || {
            outcomes(id) == ["failed", outcome]
        });
        let end = warden.records_of(id).pop().unwrap();
        assert_eq!(
            (&end["trigger"], &end["verdict"]),
            (&json!("sweep"), &json!("denied")),
            "{end:#}"
        );
    }
}

/// It died by another's hand while our kill was never answered.
#[test]
fn a_death_behind_a_kill_that_hangs_is_not_claimed() {
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1h");
    let id = numbered(1);
    fake.world().kills.insert(id.clone(), vec![Kill::Hangs]);
    fake.begin(&id, "evil:1");
    fake.wait_for_kill(&id);
    fake.world().containers.get_mut(&id).unwrap()["State"] = json!("exited");
    fake.say(event("die", &id).as_bytes());
    let outcomes = eventually("its end is on record", SOON * 2, || {
        let records = warden.records_of(&id);
        let outcomes: Vec<_> = records.iter().map(|one| one["outcome"].clone()).collect();
        outcomes
            .contains(&json!("ended-itself"))
            .then_some(outcomes)
    });
    for claim in ["done", "gone", "escaped"] {
        assert!(!outcomes.contains(&json!(claim)), "{outcomes:?}");
    }
}

/// Who pauses what is just being killed has it wait for nothing: the engine's kill knows of no pause after it.
#[test]
fn one_that_is_paused_behind_its_kill_is_killed_again() {
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1h");
    let id = numbered(1);
    fake.world().kills.insert(id.clone(), vec![Kill::Hangs]);
    fake.begin(&id, "evil:1");
    fake.wait_for_kill(&id);
    fake.say(event("kill", &id).as_bytes());
    fake.world().containers.get_mut(&id).unwrap()["State"] = json!("paused");
    eventually("its end is on record", SOON * 2, || {
        let mut records = warden.records_of(&id).into_iter();
        records.any(|one| one["outcome"] == "done")
    });
    let records = warden.records_of(&id);
    assert_eq!(records.len(), 1, "no escape: {records:#?}");
    assert_eq!(fake.world().killed.len(), 2);
}

#[test]
fn one_that_cannot_be_killed_holds_up_none_of_twenty() {
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1h");
    for (number, status) in [500, 409, 404].into_iter().enumerate() {
        let (undead, good) = (numbered(number + 1), numbered(number + 51));
        let refusals = vec![Kill::answer(status, Fate::Lives); 1_000];
        fake.world().kills.insert(undead.clone(), refusals);
        fake.begin(&undead, "evil:1");
        fake.begin(&good, "good:1");
        fake.wait_for_kill(&undead);
        let others: Vec<String> = (101..=120)
            .map(|other| numbered(100 * number + other))
            .collect();
        for id in &others {
            fake.begin(id, "evil:1");
        }
        for id in &others {
            fake.wait_for_kill(id);
        }
        let outcomes = |id: &str| -> Vec<String> {
            let records = warden.records_of(id);
            let outcomes = records.iter().filter_map(|one| one["outcome"].as_str());
            outcomes.map(str::to_owned).collect()
        };
        // All twenty before the tenth second of the one.
        assert_eq!(outcomes(&undead), ["failed"], "{status}");
        eventually("its escape is on record", SOON, || {
            outcomes(&undead) == ["failed", "escaped"]
        });
        assert_eq!(warden.metric("dockwarden_denied_running"), 1.0, "{status}");
        // It is tried again until it is ended.
        fake.world().kills.remove(&undead);
        eventually("its end is on record", SOON, || {
            outcomes(&undead) == ["failed", "escaped", "done"]
        });
        for id in &others {
            eventually("a record", SOON, || outcomes(id) == ["done"]);
        }
        assert!(!fake.killed().contains(&good));
        let escapes = warden.metric("dockwarden_escaped_total");
        assert_eq!(escapes, f64::from(u32::try_from(number + 1).unwrap()));
    }
}

/// Its time to say goodbye is not counted.
#[test]
fn what_outlives_its_stop_has_escaped() {
    let fake = Scripted::start();
    let list = LIST.replace(
        "[[allow]]",
        "action = \"stop\"\nstop-timeout = \"1s\"\n[[allow]]",
    );
    let warden = fake.warden(&list, "1h");
    let id = numbered(1);
    fake.world().kills.insert(id.clone(), vec![Kill::Hangs]);
    fake.begin(&id, "evil:1");
    let record = eventually("its escape is on record", SOON, || {
        let mut records = warden.records_of(&id).into_iter();
        records.find(|one| one["outcome"] == "escaped")
    });
    assert_eq!(record["action"], "stop", "{record:#}");
    assert_eq!(warden.metric("dockwarden_escaped_total"), 1.0);
}

#[test]
fn kills_that_hang_hold_up_nobody_else() {
    let fake = Scripted::start();
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

/// Creates a container, and returns when its removal is under way, which gets nowhere.
fn create_what_cannot_be_removed(fake: &Scripted, id: &str) {
    let mut container = listed(id, "evil:1");
    container["State"] = json!("created");
    {
        let mut world = fake.world();
        world.containers.insert(id.to_owned(), container);
        world.hanging_removals.insert(id.to_owned());
    }
    fake.say(event("create", id).as_bytes());
    eventually("its removal is asked for", SOON, || {
        fake.world().removals_asked > 0
    });
}

/// Created, and to be removed; then it runs, and its removal gets nowhere.
#[test]
fn one_that_starts_while_its_removal_hangs_is_killed() {
    for action in ["kill", "remove"] {
        let fake = Scripted::start();
        let list = LIST.replace(
            "[[",
            &format!("on-create = \"remove\"\naction = \"{action}\"\n[["),
        );
        let warden = fake.warden(&list, "1h");
        let id = numbered(1);
        create_what_cannot_be_removed(&fake, &id);
        fake.begin(&id, "evil:1");
        fake.wait_for_kill(&id);
        let record = warden.wait_for_verdict(&id, "denied");
        assert_eq!(
            (&record["outcome"], &record["action"]),
            (&json!("done"), &json!("kill"))
        );
    }
}

/// It has lived for milliseconds, however long its removal was tried before.
#[test]
fn one_that_starts_after_its_removal_hung_for_long_has_not_escaped() {
    let fake = Scripted::start();
    let list = LIST.replace("[[", "on-create = \"remove\"\n[[");
    let warden = fake.warden(&list, "1h");
    let id = numbered(1);
    fake.world().kills.insert(id.clone(), vec![Kill::Hangs]);
    create_what_cannot_be_removed(&fake, &id);
    std::thread::sleep(Duration::from_secs(11)); // longer than what counts as an escape
    fake.begin(&id, "evil:1");
    fake.wait_for_kill(&id);
    std::thread::sleep(Duration::from_secs(1)); // an escape would be told at once
    assert_eq!(warden.metric("dockwarden_escaped_total"), 0.0);
}

/// Numbers of forbidden containers, kills of which hang: so many that others wait for their turn behind the first
/// half.
fn crowd(fake: &Scripted) -> Vec<String> {
    let evil: Vec<String> = (101..=228).map(numbered).collect();
    for id in &evil {
        fake.world().kills.insert(id.clone(), vec![Kill::Hangs]);
    }
    evil
}

/// The one before it has gone by the time that its turn comes.
#[test]
fn one_too_many_that_waits_for_its_turn_lives_when_there_is_room() {
    let fake = Scripted::start();
    let list = LIST.replace("image = \"good:1\"", "image = \"good:1\"\nmax = 1");
    let (first, second) = (numbered(1), numbered(2));
    let evil = crowd(&fake);
    fake.begin(&first, "good:1");
    let warden = fake.builder(&list, "1h").subcommand("controller").start();
    warden.wait_ready();
    warden.wait_for_verdict(&first, "allowed");
    fake.world().looked_at.clear();
    let (before, after) = evil.split_at(evil.len() / 2);
    before.iter().for_each(|id| fake.begin(id, "evil:1"));
    fake.begin(&second, "good:1");
    after.iter().for_each(|id| fake.begin(id, "evil:1"));
    // It waits behind those for its turn to be ended: the one before it was found to be there.
    eventually("both are looked at", SOON, || {
        let world = fake.world();
        [&first, &second]
            .iter()
            .all(|id| world.looked_at.contains(*id))
    });
    fake.world().containers.get_mut(&first).unwrap()["State"] = json!("exited");
    fake.say(event("die", &first).as_bytes());
    eventually("all others had their turn", SOON, || {
        evil.iter().all(|id| fake.killed().contains(id))
    });
    warden.wait_for_verdict(&second, "allowed");
    assert!(!fake.killed().contains(&second));
}

/// By the time that its turn comes it has died, was given a name that is allowed, and was started.
#[test]
fn another_life_does_not_end_by_the_verdict_on_the_last_one() {
    let fake = Scripted::start();
    let list = LIST.replace("image", "container = \"web\"\nimage");
    let warden = fake.warden(&list, "1h");
    let renamed = numbered(1);
    let evil = crowd(&fake);
    let (before, after) = evil.split_at(evil.len() / 2);
    before.iter().for_each(|id| fake.begin(id, "evil:1"));
    fake.begin(&renamed, "good:1");
    after.iter().for_each(|id| fake.begin(id, "evil:1"));
    eventually("it is looked at", SOON, || {
        fake.world().looked_at.contains(&renamed)
    });
    assert!(!fake.killed().contains(&renamed), "nobody was before it");
    fake.world().containers.get_mut(&renamed).unwrap()["Names"] = json!(["/web"]);
    for action in ["die", "rename", "start"] {
        fake.say(event(action, &renamed).as_bytes());
    }
    eventually("all others had their turn", SOON, || {
        evil.iter().all(|id| fake.killed().contains(id))
    });
    warden.wait_for_verdict(&renamed, "allowed");
    assert!(!fake.killed().contains(&renamed));
}

/// Ends that wait for their turn while another list comes into force are judged anew.
#[test]
fn what_a_newer_list_allows_is_not_ended_by_the_older_one() {
    let fake = Scripted::start();
    let all: Vec<String> = (1..=160).map(numbered).collect();
    for id in &all {
        let mut world = fake.world();
        world.kills.insert(id.clone(), vec![Kill::Hangs]);
        world.containers.insert(id.clone(), listed(id, "evil:1"));
    }
    // No guard: the list that would end them all is to come into force.
    let list = LIST.replace(
        "version = 1",
        "version = 1\nguard = { share = 1.0, min = 1000 }",
    );
    let audit = list.replace("version = 1", "version = 1\nmode = \"audit\"");
    let warden = fake.warden(&audit, "1s");
    warden.write_list_by_rename(&list);
    eventually("the first hang", SOON, || fake.killed().len() >= 8);
    warden.write_list_by_rename(&list.replace("good:1", "*:1"));
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
