//! The list is edited while dockwarden runs: every way of saving, every kind of bad file, on a real
//! engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Engine, Warden, eventually};

const SOON: Duration = Duration::from_secs(5);

/// A list that allows `keep:1` and one other image, in one line that `sed` can change.
fn list(other: &str) -> String {
    format!(
        "version = 1\n[[allow]]\nimage = [\"keep:1\", \"{other}\"]\nreason = \"é, for a byte more\"\n"
    )
}

// ---- Ways of saving

struct Way {
    name: &'static str,
    /// Makes of the file what the way needs, with the same text.
    prepare: fn(&Path),
    save: fn(&Path, &str),
}

const WAYS: &[Way] = &[
    Way {
        name: "in place",
        prepare: |_| {},
        save: |path, text| fs::write(path, text).unwrap(),
    },
    Way {
        name: "by rename",
        prepare: |_| {},
        save: by_rename,
    },
    Way {
        name: "as vim does",
        prepare: |_| {},
        save: |path, text| {
            let backup = path.with_extension("toml~");
            fs::rename(path, &backup).unwrap();
            let mut file = File::create_new(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            drop(file);
            fs::remove_file(backup).unwrap();
        },
    },
    Way {
        name: "by sed -i",
        prepare: |_| {},
        save: |path, text| {
            let line = text.lines().nth(2).unwrap();
            let script = format!("s|^image = .*|{line}|");
            let done = Command::new("sed").args(["-i", &script]).arg(path).status();
            assert!(done.unwrap().success());
        },
    },
    Way {
        name: "as a ConfigMap",
        prepare: |path| {
            let data = path.with_file_name("..first");
            fs::create_dir(&data).unwrap();
            fs::copy(path, data.join("allowlist.toml")).unwrap();
            symlink("..first", path.with_file_name("..data")).unwrap();
            link_by_rename(path, Path::new("..data/allowlist.toml"));
        },
        save: |path, text| {
            let link = path.with_file_name("..data");
            let before = fs::read_link(&link).unwrap();
            let after = format!("{}x", before.display());
            let data = path.with_file_name(&after);
            fs::create_dir(&data).unwrap();
            fs::write(data.join("allowlist.toml"), text).unwrap();
            let draft = path.with_file_name("..data_tmp");
            symlink(&after, &draft).unwrap();
            fs::rename(&draft, &link).unwrap();
            fs::remove_dir_all(path.with_file_name(before)).unwrap();
        },
    },
    Way {
        name: "through a symlink, in place",
        prepare: elsewhere,
        save: |path, text| fs::write(fs::canonicalize(path).unwrap(), text).unwrap(),
    },
    Way {
        name: "through a symlink, by rename",
        prepare: elsewhere,
        save: |path, text| by_rename(&fs::canonicalize(path).unwrap(), text),
    },
];

fn by_rename(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(&draft, path).unwrap();
}

fn link_by_rename(path: &Path, target: &Path) {
    let draft = path.with_extension("draft");
    symlink(target, &draft).unwrap();
    fs::rename(&draft, path).unwrap();
}

/// The file becomes a link into a directory that nobody watches.
fn elsewhere(path: &Path) {
    let directory = path.parent().unwrap().with_file_name("elsewhere");
    fs::create_dir(&directory).unwrap();
    let target = directory.join("shared.toml");
    fs::copy(path, &target).unwrap();
    link_by_rename(path, &target);
}

#[test]
fn every_way_of_saving_is_in_force_at_once() {
    let engine = engine();
    for way in WAYS {
        let warden = Warden::on(&engine).allowlist(&list("one:1")).start();
        warden.wait_ready();
        (way.prepare)(&warden.list_path());
        let keep = engine.run(&[], "keep:1", &[]);
        let begun = started_at(&engine, &keep);
        // Twice there and back: a second save is what a watch on the old file misses.
        let mut running = engine.run(&[], "one:1", &[]);
        for next in ["two:1", "one:1", "two:1"] {
            let before = hash(&warden);
            let saved = Instant::now();
            (way.save)(&warden.list_path(), &list(next));
            eventually(way.name, SOON, || hash(&warden) != before);
            println!("saved {}: in force after {:?}", way.name, saved.elapsed());
            engine.wait_until_dead(&running, SOON);
            running = engine.run(&[], next, &[]);
            ends_what_is_denied(&engine);
            assert_eq!(
                engine.state(&running).as_deref(),
                Some("running"),
                "{}",
                way.name
            );
        }
        assert_eq!(started_at(&engine, &keep), begun, "{}", way.name);
        assert_eq!(engine.state(&keep).as_deref(), Some("running"));
        engine.docker_ok(&["rm", "-f", &keep, &running]);
    }
}

// ---- Bad files

#[test]
fn a_bad_file_changes_nothing_but_what_is_told() {
    let good = list("one:1");
    let cut = good.len() - 4;
    type Bad = (&'static str, Box<dyn Fn(&Path)>);
    let text = |text: &str| -> Box<dyn Fn(&Path)> {
        let text = text.as_bytes().to_vec();
        Box::new(move |path| fs::write(path, &text).unwrap())
    };
    let table: Vec<Bad> = vec![
        ("empty", text("")),
        ("missing", Box::new(|path| fs::remove_file(path).unwrap())),
        (
            "syntax",
            text("version = 1\n[[allow]\nimage = \"keep:1\"\n"),
        ),
        (
            "unknown key",
            text("version = 1\n[[allow]]\nimage = \"keep:1\"\nimagge = \"x\"\n"),
        ),
        ("wrong type", text("version = 1\n[[allow]]\nimage = 5\n")),
        ("cut", text(&good[..cut])),
        (
            "binary",
            Box::new(|path| fs::write(path, [0x7f, b'E', b'L', b'F', 0xff, 0, 0xfe]).unwrap()),
        ),
        ("no version", text("[[allow]]\nimage = \"keep:1\"\n")),
        (
            "a directory",
            Box::new(|path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }),
        ),
        (
            "unreadable",
            Box::new(|path| link_by_rename(path, Path::new("nowhere"))),
        ),
        (
            "a key in the wrong place",
            text("version = 1\n[[allow]]\nimage = \"keep:1\"\nkeep-dead = true\n"),
        ),
        ("no rules", text("version = 1\n")),
    ];

    let engine = engine();
    let warden = Warden::on(&engine).allowlist(&good).start();
    warden.wait_ready();
    let keep = engine.run(&[], "keep:1", &[]);
    let one = engine.run(&[], "one:1", &[]);
    let begun = (started_at(&engine, &keep), started_at(&engine, &one));
    let in_force = hash(&warden);
    let invalid = "allowlist_reloads_total{outcome=\"invalid\"}";
    for (kind, spoil) in table {
        let count = metric(&warden, invalid).unwrap_or(0.0);
        spoil(&warden.list_path());
        let error = eventually(kind, SOON, || {
            let error = warden.get_json("/allowlist")["error"].clone();
            (!error.is_null()).then_some(error)
        });
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("allowlist.toml"), "{kind}: {message}");
        assert_eq!(hash(&warden), in_force, "{kind}");
        assert_eq!(
            metric(&warden, "allowlist_last_reload_successful"),
            Some(0.0),
            "{kind}"
        );
        assert!(
            metric(&warden, invalid).unwrap_or(0.0) > count,
            "{kind} is not counted"
        );
        let ready = warden.get("/readyz");
        assert_eq!(ready.status, 200, "{kind}");
        assert_eq!(ready.json()["allowlist_error"], message, "{kind}");
        ends_what_is_denied(&engine);

        if warden.list_path().is_dir() {
            fs::remove_dir(warden.list_path()).unwrap();
        }
        warden.write_list_by_rename(&good);
        eventually("a good one clears it", SOON, || {
            warden.get_json("/allowlist")["error"].is_null()
        });
        assert_eq!(
            metric(&warden, "allowlist_last_reload_successful"),
            Some(1.0)
        );
        assert_eq!(hash(&warden), in_force);
    }
    assert_eq!(
        (started_at(&engine, &keep), started_at(&engine, &one)),
        begun
    );
    for id in [&keep, &one] {
        assert_eq!(engine.state(id).as_deref(), Some("running"));
    }
}

#[test]
fn sixty_saves_in_two_steps_touch_nothing() {
    let engine = engine();
    // `keep` is allowed by the last rule alone: the first half is often a valid list without it.
    let whole = |save: usize| {
        let mut text = "version = 1\n".to_owned();
        for rule in 0..8 {
            text.push_str(&format!("[[allow]]\nimage = \"other-{rule}:{save}\"\n"));
        }
        text + "[[allow]]\nrule = \"last\"\nimage = \"keep:1\"\n"
    };
    let warden = Warden::on(&engine).allowlist(&whole(0)).start();
    warden.wait_ready();
    let keep = engine.run(&[], "keep:1", &[]);
    let begun = started_at(&engine, &keep);
    for save in 1..=60 {
        let text = whole(save);
        let rules: Vec<usize> = text.match_indices("[[allow]]").map(|(at, _)| at).collect();
        let cut = match save % 3 {
            0 => rules[1 + save % (rules.len() - 1)],
            1 => text.len() * save / 61,
            _ => 0,
        };
        let mut file = File::create(warden.list_path()).unwrap();
        file.write_all(&text.as_bytes()[..cut]).unwrap();
        std::thread::sleep(Duration::from_millis(save as u64 * 7 % 90));
        file.write_all(&text.as_bytes()[cut..]).unwrap();
    }
    let last = expected_hash(&whole(60));
    eventually("the last one is in force", SOON, || hash(&warden) == last);
    ends_what_is_denied(&engine);
    assert_eq!(engine.state(&keep).as_deref(), Some("running"));
    assert_eq!(started_at(&engine, &keep), begun);
    let kept = warden.get_json(&format!("/decisions?container={keep}&verdict=denied"));
    assert_eq!(kept["data"], Value::Array(Vec::new()));
}

#[test]
fn a_list_is_not_taken_before_it_is_whole() {
    let engine = engine();
    for is_elsewhere in [false, true] {
        let old = list("one:1");
        let mut whole = vec!["version = 1\n".to_owned()];
        for rule in 0..8 {
            whole.push(format!("[[allow]]\nimage = \"other-{rule}:1\"\n"));
        }
        whole.push("[[allow]]\nrule = \"last\"\nimage = \"keep:1\"\n".to_owned());
        let allowed = BTreeSet::from([expected_hash(&old), expected_hash(&whole.concat())]);

        let warden = Warden::on(&engine).allowlist(&old).start();
        warden.wait_ready();
        if is_elsewhere {
            elsewhere(&warden.list_path());
        }
        let keep = engine.run(&[], "keep:1", &[]);
        let begun = started_at(&engine, &keep);
        let last = expected_hash(&whole.concat());
        let path = warden.list_path();
        let writer = std::thread::spawn(move || {
            let mut file = File::create(path).unwrap();
            for part in &whole {
                file.write_all(part.as_bytes()).unwrap();
                // What is tested is a writer that pauses.
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let mut seen = BTreeSet::new();
        eventually("it is taken once whole", 2 * SOON, || {
            let found = hash(&warden);
            seen.insert(found.clone());
            found == last
        });
        writer.join().unwrap();
        assert_eq!(seen, allowed, "elsewhere: {is_elsewhere}");
        assert_eq!(
            metric(&warden, "allowlist_reloads_total{outcome=\"invalid\"}").unwrap_or(0.0),
            0.0
        );
        ends_what_is_denied(&engine);
        assert_eq!(engine.state(&keep).as_deref(), Some("running"));
        assert_eq!(started_at(&engine, &keep), begun);
        engine.docker_ok(&["rm", "-f", &keep]);
    }
}

// ---- What a list may change

#[test]
fn sighup_reads_the_file_again() {
    let engine = engine();
    let warden = Warden::on(&engine).allowlist(&list("one:1")).start();
    warden.wait_ready();
    let before = hash(&warden);
    for count in 1..=3 {
        warden.signal("HUP");
        eventually("it is read and unchanged", SOON, || {
            metric(&warden, "allowlist_reloads_total{outcome=\"unchanged\"}")
                == Some(f64::from(count))
        });
    }
    assert_eq!(hash(&warden), before);
    warden.write_list_in_place(&list("two:1"));
    warden.signal("HUP");
    eventually("it is in force", SOON, || hash(&warden) != before);
    assert!(warden.lives());
}

#[test]
fn mode_and_action_change_with_the_list() {
    let engine = engine();
    let with = |lines: &str| list("one:1").replacen('\n', &format!("\n{lines}\n"), 1);
    let warden = Warden::on(&engine)
        .allowlist(&with("mode = \"audit\""))
        .start();
    warden.wait_ready();
    let outcome = |id: &str| {
        let found = warden.get_json(&format!("/decisions?container={id}&limit=1"));
        found["data"][0]["outcome"].as_str().map(str::to_owned)
    };
    let save = |lines: &str| {
        let before = hash(&warden);
        warden.write_list_by_rename(&with(lines));
        eventually(lines, SOON, || hash(&warden) != before);
    };
    let spared = engine.run(&[], "evil:1", &[]);
    eventually("audited", SOON, || {
        outcome(&spared).as_deref() == Some("audit-only")
    });
    assert_eq!(engine.state(&spared).as_deref(), Some("running"));
    assert_eq!(warden.get_json("/containers")["enforcing"], false);

    save("mode = \"enforce\"");
    assert_eq!(
        engine.wait_until_dead(&spared, SOON).as_deref(),
        Some("exited")
    );
    assert_eq!(warden.get_json("/containers")["enforcing"], true);

    save("action = \"pause\"");
    let frozen = engine.run(&[], "evil:1", &[]);
    eventually("frozen", SOON, || {
        engine.state(&frozen).as_deref() == Some("paused")
    });
    eventually("on record", SOON, || {
        outcome(&frozen).as_deref() == Some("done")
    });

    save("action = \"remove\"");
    eventually("the frozen one is removed too", SOON, || {
        engine.state(&frozen).is_none()
    });

    // Audited first: a program that has just begun does not listen to signals yet.
    save("mode = \"audit\"");
    let polite = engine.run(&[], "evil:1", &[]);
    eventually("audited", SOON, || {
        outcome(&polite).as_deref() == Some("audit-only")
    });
    save("action = \"stop\"");
    engine.wait_until_dead(&polite, 3 * SOON);
    let exit = engine.docker_ok(&["inspect", "-f", "{{.State.ExitCode}}", &polite]);
    assert_eq!(exit, "0", "it was asked to stop, not killed");

    save("mode = \"audit\"");
    let spared = engine.run(&[], "evil:1", &[]);
    eventually("audited", SOON, || {
        outcome(&spared).as_deref() == Some("audit-only")
    });
    assert_eq!(engine.state(&spared).as_deref(), Some("running"));
}

#[test]
fn no_list_wins_over_audit_on_the_command_line() {
    let engine = engine();
    let warden = Warden::on(&engine)
        .allowlist(&list("one:1"))
        .env("DOCKWARDEN_MODE", "audit")
        .start();
    warden.wait_ready();
    let before = hash(&warden);
    let evil = engine.run(&[], "evil:1", &[]);
    warden.write_list_by_rename(
        &list("two:1").replace("version = 1", "version = 1\nmode = \"enforce\""),
    );
    eventually("it is in force", SOON, || hash(&warden) != before);
    eventually("both lists only report", SOON, || {
        let found = warden.get_json(&format!("/decisions?container={evil}&outcome=audit-only"));
        found["data"].as_array().unwrap().len() == 2
    });
    assert_eq!(engine.state(&evil).as_deref(), Some("running"));
    assert_eq!(warden.get_json("/allowlist")["mode"], "audit");
}

#[test]
fn a_rule_that_has_expired_ends_with_its_list() {
    let engine = engine();
    let warden = Warden::on(&engine).allowlist(&list("one:1")).start();
    warden.wait_ready();
    let one = engine.run(&[], "one:1", &[]);
    warden.write_list_by_rename(
        "version = 1\n[[allow]]\nimage = \"one:1\"\nexpires = 2020-01-01T00:00:00Z\n",
    );
    engine.wait_until_dead(&one, SOON);
    let record = eventually("on record", SOON, || {
        let found = warden.get_json(&format!("/decisions?container={one}&verdict=denied"));
        found["data"].get(0).cloned()
    });
    assert_eq!(
        (record["reason"].as_str(), record["trigger"].as_str()),
        (Some("expired"), Some("reload"))
    );
}

#[test]
fn a_bad_list_at_the_start_ends_with_2_and_carets() {
    let engine = engine();
    let keep = engine.run(&[], "keep:1", &[]);
    let bad = "version = 1\nmoode = \"audit\"\n[[allow]]\nimage = 5\n";
    for (subcommand, text, expected) in [
        (
            "run",
            Some(bad),
            vec!["allowlist.toml:2:1:", "allowlist.toml:4:9:", "^"],
        ),
        (
            "controller",
            Some(bad),
            vec!["allowlist.toml:2:1:", "^^^^^"],
        ),
        ("api", Some(bad), vec!["allowlist.toml:2:1:", "^^^^^"]),
        ("run", Some(""), vec!["allowlist.toml:1:1:", "version"]),
        ("run", None, vec!["allowlist.toml", "No such file"]),
    ] {
        let mut builder = Warden::on(&engine).subcommand(subcommand);
        if let Some(text) = text {
            builder = builder.allowlist(text);
        }
        let warden = builder.spawn();
        let status = warden.wait_exit(SOON);
        let said = warden.logs().join("\n");
        assert_eq!(status.code(), Some(2), "{subcommand} {text:?}: {said}");
        for part in expected {
            assert!(
                said.contains(part),
                "{subcommand} {text:?}: no {part} in {said}"
            );
        }
    }
    assert_eq!(engine.state(&keep).as_deref(), Some("running"));
}

// ---- Helpers

fn engine() -> Engine {
    let engine = Engine::start();
    for name in ["keep:1", "one:1", "two:1", "evil:1"] {
        engine.image(name);
    }
    engine
}

/// Proves that enforcement goes on, and that everything before it has been looked at.
#[track_caller]
fn ends_what_is_denied(engine: &Engine) {
    let evil = engine.run(&[], "evil:1", &[]);
    engine.wait_until_dead(&evil, SOON);
}

#[track_caller]
fn started_at(engine: &Engine, id: &str) -> String {
    engine.docker_ok(&["inspect", "-f", "{{.State.StartedAt}}", id])
}

#[track_caller]
fn hash(warden: &Warden) -> String {
    let hash = warden.get_json("/allowlist")["hash"].clone();
    hash.as_str().unwrap().to_owned()
}

/// By `check`, which reads the same file to the same list.
fn expected_hash(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("allowlist.toml");
    fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    let checked = support::dockwarden(["check", &path, "--output", "json"]);
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    checked["hash"].as_str().unwrap().to_owned()
}

#[track_caller]
fn metric(warden: &Warden, sample: &str) -> Option<f64> {
    let text = warden.get("/metrics").body;
    let wanted = format!("dockwarden_{sample} ");
    text.lines()
        .find_map(|line| line.strip_prefix(&*wanted))
        .map(|value| value.parse().unwrap())
}
