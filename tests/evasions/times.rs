//! When nobody looks: dockwarden is away, the engine is away, the list is broken or not read again.

use crate::report::Row;
use crate::support::{Engine, SOON, Warden, eventually};
use crate::{LIST, engine, fence, warden};
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn row_14_while_dockwarden_is_away() {
    let row = Row::begin("14");
    let engine = engine();
    let control = engine.run_life(&[], "good:1");
    // What the engine has dropped it does not tell of: then only a sweep helps.
    let mut warden = Warden::on(&engine)
        .allowlist(LIST)
        .args(["--resync", "2s"])
        .start();
    warden.wait_ready();
    warden.sigkill();
    let away = engine.run(&[], "bad:1", &[]);
    warden.restart();
    row.ended((&engine, &warden), "while it is dead", &away, "no-rule");
    warden.wait_ready();

    // More than the 1,024 events that the engine keeps for a reader who does not read.
    warden.signal("STOP");
    let id = engine.run(&[], "bad:1", &[]);
    let other = engine.create(&[], "good:1", &[]);
    for number in 0..1240 {
        let path = format!("/containers/{other}/rename?name=flood-{number}");
        assert_eq!(engine.api("POST", &path, None).0, 204);
    }
    let last = engine.run(&[], "bad:1", &[]);
    warden.signal("CONT");
    let both = (&engine, &warden);
    row.ended(
        both,
        "while it is frozen, before a flood of events",
        &id,
        "no-rule",
    );
    row.ended(both, "while it is frozen, after it", &last, "no-rule");
    engine.assert_same(&[control]);
}

#[test]
fn row_15_the_engine_is_away_and_containers_live_on() {
    let row = Row::begin("15");
    let engine = Engine::start_with(&["--live-restore"]);
    engine.image("good:1");
    engine.image("bad:1");
    let control = engine.run_life(&[], "good:1");
    let warden = warden(&engine, LIST);
    warden.wait_for_verdict(&control.id, "allowed");
    for (what, kill) in [
        ("the engine is killed", true),
        ("the engine is stopped", false),
    ] {
        warden.signal("STOP");
        let survivor = engine.run(&[], "bad:1", &[]);
        if kill {
            engine.sigkill_dockerd();
        } else {
            engine.stop_dockerd();
        }
        engine.start_dockerd();
        // It has no event of it any more.
        assert_eq!(engine.state(&survivor).as_deref(), Some("running"));
        warden.signal("CONT");
        let what = format!("{what}: it lives on, without an event");
        row.ended((&engine, &warden), &what, &survivor, "no-rule");
    }
    engine.assert_same(&[control]);
}

#[test]
fn row_16_a_broken_list() {
    let row = Row::begin("16");
    let engine = engine();
    let control = engine.run_life(&[], "good:1");
    let warden = warden(&engine, LIST);
    let invalid = || warden.metric("dockwarden_allowlist_reloads_total{outcome=\"invalid\"}");
    for (what, text) in [
        ("empty", ""),
        ("cut within a line", &LIST[..LIST.len() - 4]),
        ("without its version", "[[allow]]\nimage = \"**\"\n"),
        (
            "allows everything, with an error",
            "version = 1\n[[allow]]\nimage = \"**\"\nimag = 1\n",
        ),
    ] {
        let before = invalid();
        warden.write_list_in_place(text);
        eventually("it is refused", SOON, || invalid() > before);
        let id = engine.run(&[], "bad:1", &[]);
        row.ended(
            (&engine, &warden),
            &format!("the list: {what}"),
            &id,
            "no-rule",
        );
    }
    fs::remove_file(warden.list_path()).unwrap();
    let id = engine.run(&[], "bad:1", &[]);
    row.ended((&engine, &warden), "the list: gone", &id, "no-rule");
    engine.assert_same(&[control]);
}

/// How a list is saved so that a watch on the old file sees nothing.
type Save = fn(&Warden, &str);

#[test]
fn row_17_a_list_that_is_never_read_again() {
    let by_link: Save = |warden, text| {
        let path = warden.list_path();
        let data = path.with_file_name("..data");
        let next = path.with_file_name(format!("..{}", text.len()));
        fs::create_dir(&next).unwrap();
        fs::write(next.join("allowlist.toml"), text).unwrap();
        let draft = path.with_file_name("..data_tmp");
        symlink(&next, &draft).unwrap();
        fs::rename(&draft, &data).unwrap();
        if !path.is_symlink() {
            symlink("..data/allowlist.toml", &draft).unwrap();
            fs::rename(&draft, &path).unwrap();
        }
    };
    let ways: &[(&str, Save)] = &[
        ("written in place", |warden, text| {
            warden.write_list_in_place(text)
        }),
        ("saved by rename", |warden, text| {
            warden.write_list_by_rename(text)
        }),
        ("saved by rename, again", |warden, text| {
            warden.write_list_by_rename(text)
        }),
        ("turned into symlinks", by_link),
        ("a symlink swapped, as in a ConfigMap", by_link),
    ];
    let row = Row::begin("17");
    let engine = engine();
    let control = engine.run_life(&[], "good:1");
    let warden = warden(&engine, LIST);
    let more = format!("{LIST}[[allow]]\nrule = \"trial\"\nimage = \"bad:1\"\n");
    let applied = || warden.metric("dockwarden_allowlist_reloads_total{outcome=\"applied\"}");
    for (number, (what, save)) in ways.iter().enumerate() {
        // Names of their own, as each save is another text.
        let comment = format!("# {}\n", "x".repeat(number + 1));
        let before = applied();
        save(&warden, &format!("{more}{comment}"));
        eventually("the longer list is in force", SOON, || applied() > before);
        let id = engine.run(&[], "bad:1", &[]);
        warden.wait_for_verdict(&id, "allowed");
        save(&warden, &format!("{LIST}{comment}"));
        let what = format!("the list: {what}");
        let record = row.ended((&engine, &warden), &what, &id, "no-rule");
        assert_eq!(record["trigger"], "reload", "{record:#}");
    }
    fence(&engine);
    engine.assert_same(&[control]);
}
