//! What each key of a list does to containers of a real engine: pins, `max`, `expires`, `audit`,
//! `keep-running`, `command` and `on-create`. Powers and execs are in `evasions.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use support::{Engine, Life, Registry, SOON, Warden, eventually};

/// An engine with an image that rules are about and one that none allows.
fn engine() -> Engine {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("bad:1");
    engine
}

/// A list whose first rule is about `good:1`.
fn rule(keys: &str) -> String {
    format!("version = 1\n[[allow]]\nrule = \"good\"\nimage = \"good:1\"\n{keys}\n")
}

/// A warden that is ready. Its sweeps are too far apart to help: events must suffice.
fn warden(engine: &Engine, list: &str) -> Warden {
    start(engine, list, "10m")
}

fn start(engine: &Engine, list: &str, resync: &str) -> Warden {
    let warden = Warden::on(engine)
        .allowlist(list)
        .args(["--resync", resync])
        .start();
    warden.wait_ready();
    warden
}

/// Waits until a forbidden container was run and ended: what came before is over then.
fn fence(engine: &Engine) {
    let id = engine.docker(&["run", "-d", "--name", "fence", "bad:1"]);
    println!("{id:?}");
    engine.wait_until_dead("fence", SOON);
    engine.docker(&["rm", "-f", "fence"]);
}

/// A container that is denied for this reason, and dead.
#[track_caller]
fn assert_ended(engine: &Engine, warden: &Warden, id: &str, reason: &str) -> Value {
    engine.wait_until_dead(id, SOON);
    let record = warden.wait_for_verdict(id, "denied");
    assert_eq!(
        (&record["reason"], &record["outcome"]),
        (&json!(reason), &json!("done")),
        "{record:#}"
    );
    record
}

/// A container that runs, and is allowed by this rule.
#[track_caller]
fn assert_allowed(engine: &Engine, warden: &Warden, id: &str, rule: &str) -> Life {
    let record = warden.wait_for_verdict(id, "allowed");
    assert_eq!(record["rule"], rule, "{record:#}");
    let life = engine.life(id);
    assert_eq!(life.state, "running");
    life
}

// ---- Pins

#[test]
fn a_pinned_id_is_what_it_is_under_every_name() {
    let engine = engine();
    let good = engine.image_id("good:1");
    let bare = engine.image("bare:1");
    let list = format!(
        r#"
version = 1
[[allow]]
rule = "named"
image = ["other:1", "good:1@{good}"]
[[allow]]
rule = "bare"
image = "{bare}"
"#
    );
    let warden = warden(&engine, &list);
    let mut control = Vec::new();
    let mut allowed = |image: &str, rule: &str| {
        let id = engine.run(&[], image, &[]);
        control.push(assert_allowed(&engine, &warden, &id, rule));
    };
    allowed("good:1", "named");
    allowed(&good, "named");
    allowed(&good["sha256:".len()..][..12], "named");
    allowed("bare:1", "bare");
    engine.docker_ok(&["tag", "good:1", "renamed:7"]);
    allowed("renamed:7", "named");
    engine.docker_ok(&["tag", "bare:1", "good:1"]);
    allowed("good:1", "bare");

    // Other content under the name, however it comes there, and the name of a pin alone.
    engine.docker_ok(&["tag", "bad:1", "good:1"]);
    let id = engine.run(&[], "good:1", &[]);
    assert_ended(&engine, &warden, &id, "wrong-content");
    engine.docker_ok(&["tag", "bad:1", "bare:1"]);
    let id = engine.run(&[], "bare:1", &[]);
    assert_ended(&engine, &warden, &id, "no-rule");

    // What runs is neither its tags nor what becomes of them.
    for name in ["good:1", "renamed:7", "bare:1"] {
        engine.docker_ok(&["rmi", "-f", name]);
    }
    judge_all_again(&engine, &control);
    engine.assert_same(&control);
}

/// Has every one of them looked at anew, by events.
fn judge_all_again(engine: &Engine, lives: &[Life]) {
    for (number, life) in lives.iter().enumerate() {
        let name = engine.inspect(&life.id)["Name"].take();
        engine.docker_ok(&["rename", &life.id, &format!("renamed-{number}")]);
        engine.docker_ok(&["update", "--cpu-shares", "512", &life.id]);
        let name = name.as_str().unwrap().trim_start_matches('/');
        engine.docker_ok(&["rename", &life.id, name]);
    }
    fence(engine);
}

#[test]
fn a_pinned_repo_digest_outlives_its_names() {
    let engine = Engine::start();
    engine.image("bad:1");
    let registry = Registry::start(&engine);
    let name = registry.name("team/web:1");
    let digest = registry.publish("team/web:1");
    registry.publish("team/evil:1");
    let repository = name.trim_end_matches(":1");
    let list = format!("version = 1\n[[allow]]\nrule = \"web\"\nimage = \"{name}@{digest}\"\n");
    let warden = start(&engine, &list, "1s");

    engine.docker_ok(&["pull", &name]);
    let id = engine.image_id(&name);
    assert_ne!(id, digest);
    let mut control: Vec<Life> = [
        &name,
        &id,
        &format!("{repository}@{digest}"),
        &format!("{repository}:nonsense@{digest}"), // the engine ignores the tag
    ]
    .map(|image| {
        let id = engine.run(&[], image, &[]);
        assert_allowed(&engine, &warden, &id, "web")
    })
    .to_vec();

    // Another repository's digest is another one's, whatever it is called here.
    let evil = registry.name("team/evil:1");
    engine.docker_ok(&["pull", &evil]);
    let id_of_evil = engine.run(&[], &evil, &[]);
    assert_ended(&engine, &warden, &id_of_evil, "no-rule");
    engine.docker_ok(&["tag", &evil, &name]);
    let retagged = engine.run(&[], &name, &[]);
    assert_ended(&engine, &warden, &retagged, "wrong-content");

    // The tag moves on where it came from.
    engine.docker_ok(&["tag", &id, "second:1"]);
    let moved = registry.publish("team/web:1");
    assert_ne!(moved, digest);
    engine.docker_ok(&["pull", &name]);
    assert_ne!(engine.image_id(&name), id);
    let late = engine.run(&[], &name, &[]);
    assert_ended(&engine, &warden, &late, "wrong-content");
    judge_all_again(&engine, &control);
    engine.assert_same(&control);

    // The image comes again, and then loses its repo digest while it runs.
    engine.docker_ok(&["pull", &format!("{repository}@{digest}")]);
    engine.docker_ok(&["tag", &id, &name]);
    let life = engine.run(&[], &name, &[]);
    control.push(assert_allowed(&engine, &warden, &life, "web"));
    engine.docker_ok(&["rmi", &name]);
    engine.docker_ok(&["rmi", "-f", &format!("{repository}@{digest}")]);
    let left = engine.docker_ok(&[
        "image",
        "inspect",
        "--format",
        "{{.RepoTags}} {{.RepoDigests}}",
        &id,
    ]);
    assert_eq!(left, "[second:1] []");
    judge_all_again(&engine, &control);
    warden.wait_for_sweeps(2);
    engine.assert_same(&control);
}

#[test]
fn a_repo_digest_that_came_by_a_push_counts() {
    let engine = Engine::start();
    engine.image("bad:1");
    let registry = Registry::start(&engine);
    let name = registry.name("team/web:1");
    engine.image(&name);
    let named = format!("version = 1\n[[allow]]\nrule = \"web\"\nimage = \"{name}\"\n");
    let warden = start(&engine, &named, "1s");
    let id = engine.run(&[], &name, &[]);
    let control = assert_allowed(&engine, &warden, &id, "web");
    engine.docker_ok(&["push", &name]);
    let digest = "{{index .RepoDigests 0}}";
    let digest = engine.docker_ok(&["image", "inspect", "--format", digest, &name]);
    let (_, digest) = digest.split_once('@').unwrap();
    // What `dockwarden pin` makes of the list.
    warden.write_list_by_rename(&named.replace(&name, &format!("{name}@{digest}")));
    eventually("judged by the pin", SOON, || {
        (warden.records_of(&id).len() > 1).then_some(())
    });
    fence(&engine);
    warden.wait_for_sweeps(2);
    engine.assert_same(&[control]);
    let shown = warden.get_json(&format!("/containers/{id}"));
    assert_eq!(shown["verdict"], "allowed", "{shown:#}");
}

// ---- max

#[test]
fn the_oldest_stay_and_the_newest_goes() {
    let engine = engine();
    let before: Vec<_> = (0..4).map(|_| engine.create(&[], "good:1", &[])).collect();
    // The order is that of creation, not of starts.
    for id in before.iter().rev() {
        engine.docker_ok(&["start", id]);
    }
    let lives: Vec<Life> = before.iter().map(|id| engine.life(id)).collect();
    let warden = warden(&engine, &rule("max = 2"));
    assert_ended(&engine, &warden, &before[2], "over-max");
    assert_ended(&engine, &warden, &before[3], "over-max");
    let late = engine.run(&[], "good:1", &[]);
    assert_ended(&engine, &warden, &late, "over-max");
    engine.assert_same(&lives[..2]);

    // A frozen one still counts; a dead one makes room, and no more than that.
    engine.docker_ok(&["pause", &before[0]]);
    let late = engine.run(&[], "good:1", &[]);
    assert_ended(&engine, &warden, &late, "over-max");
    engine.docker_ok(&["kill", &before[0]]);
    let next = engine.run(&[], "good:1", &[]);
    let next = assert_allowed(&engine, &warden, &next, "good");
    let late = engine.run(&[], "good:1", &[]);
    assert_ended(&engine, &warden, &late, "over-max");
    engine.assert_same(&[lives[1].clone(), next]);
}

/// Who was let in before an older one came goes when that comes.
#[test]
fn an_older_one_takes_its_place_whenever_it_starts() {
    let engine = engine();
    let older = engine.create(&[], "good:1", &[]);
    let warden = warden(&engine, &rule("max = 1"));
    let younger = engine.run(&[], "good:1", &[]);
    assert_allowed(&engine, &warden, &younger, "good");
    engine.docker_ok(&["start", &older]);
    assert_allowed(&engine, &warden, &older, "good");
    assert_ended(&engine, &warden, &younger, "over-max");
}

/// So does one that comes under another rule's `max` by a new name.
#[test]
fn an_older_one_takes_its_place_under_the_rule_of_its_new_name() {
    let engine = engine();
    let named = |name: &str| {
        let rule = rule(&format!("container = \"{name}-*\"\nmax = 1"));
        rule.replace("rule = \"good\"", &format!("rule = \"{name}\""))
    };
    let list = named("a") + &named("b").replace("version = 1\n", "");
    let warden = warden(&engine, &list);
    let older = engine.run(&["--name=a-1"], "good:1", &[]);
    let older = assert_allowed(&engine, &warden, &older, "a");
    let younger = engine.run(&["--name=b-1"], "good:1", &[]);
    assert_allowed(&engine, &warden, &younger, "b");
    engine.docker_ok(&["rename", &older.id, "b-2"]);
    assert_ended(&engine, &warden, &younger, "over-max");
    engine.assert_same(&[older]);
}

#[test]
fn each_takes_the_first_rule_with_room() {
    let engine = engine();
    let list = rule("max = 1")
        + "[[allow]]\nrule = \"spare\"\nimage = \"good:1\"\nmax = 1\ngrants = []\n\
           [[allow]]\nrule = \"own\"\nimage = \"good:1\"\ncommand = \"image\"\nmax = 1\n\
           [[allow]]\nrule = \"named\"\ncontainer = \"extra\"\n";
    let warden = warden(&engine, &list);
    let first = engine.run(&[], "good:1", &[]);
    let first = assert_allowed(&engine, &warden, &first, "good");
    let second = engine.run(&[], "good:1", &[]);
    let second = assert_allowed(&engine, &warden, &second, "spare");
    let third = engine.run(&[], "good:1", &["stubborn"]);
    assert_ended(&engine, &warden, &third, "over-max");
    let own = engine.run(&[], "good:1", &[]);
    let own = assert_allowed(&engine, &warden, &own, "own");
    let extra = engine.run(&["--name=extra"], "good:1", &[]);
    let extra = assert_allowed(&engine, &warden, &extra, "named");
    fence(&engine);
    engine.assert_same(&[first, second, own, extra]);
}

#[test]
fn a_replacement_is_never_one_too_many() {
    let engine = engine();
    let warden = warden(&engine, &rule("max = 1"));
    let mut id = engine.run(&["--name=web"], "good:1", &[]);
    for way in ["kill", "stop", "remove", "restart", "create first"].repeat(3) {
        match way {
            "remove" => {
                engine.docker_ok(&["rm", "-f", &id]);
                id = engine.run(&[], "good:1", &[]);
            }
            "restart" => {
                engine.docker_ok(&["restart", "-t", "0", &id]);
            }
            "create first" => {
                let next = engine.create(&[], "good:1", &[]);
                engine.docker_ok(&["kill", &id]);
                engine.docker_ok(&["start", &next]);
                id = next;
            }
            way => {
                engine.docker_ok(&[way, &id]);
                id = engine.run(&[], "good:1", &[]);
            }
        }
        let life = engine.life(&id);
        assert_eq!(life.state, "running", "{way}");
        warden.wait_for_verdict(&id, "allowed");
        fence(&engine);
        engine.assert_same(&[life]);
    }
    let over: Vec<_> = warden.records();
    assert!(over.iter().all(|record| record["reason"] != "over-max"));
}

#[test]
fn a_name_that_was_given_away_takes_no_place() {
    let engine = engine();
    let list = "version = 1\n[[allow]]\nrule = \"web\"\nimage = \"good:1\"\ncontainer = \"web\"\nmax = 1\n\
                [[allow]]\nrule = \"old\"\nimage = \"good:1\"\ncontainer = \"old-*\"\n";
    let warden = warden(&engine, list);
    let mut lives = Vec::new();
    for number in 0..5 {
        let id = engine.create(&[], "good:1", &[]);
        if number > 0 {
            engine.docker_ok(&["rename", "web", &format!("old-{number}")]);
        }
        engine.docker_ok(&["rename", &id, "web"]);
        engine.docker_ok(&["start", &id]);
        warden.wait_for_verdict(&id, "allowed");
        lives.push(engine.life(&id));
    }
    fence(&engine);
    engine.assert_same(&lives);
}

// ---- exec

/// Where its image has a shell of its own, and where the image is gone by the time it starts.
#[test]
fn a_health_check_is_never_foreign() {
    let engine = engine();
    let check = "HEALTHCHECK --interval=1s CMD";
    let shell = format!("FROM good:1\nSHELL [\"/victim\", \"exit\"]\n{check} 0\n");
    let built = engine.build("shell:1", &shell);
    assert!(built.status.success(), "{built:?}");
    engine.image_with(
        "lost:1",
        &[&format!("{check} [\"/victim\", \"exit\", \"0\"]")],
    );
    let list = "version = 1\n[[allow]]\nrule = \"checked\"\nimage = [\"shell:1\", \"lost:1\"]\nexec = false\n";
    let warden = start(&engine, list, "1s");
    let lost = engine.create(&[], "lost:1", &[]);
    fence(&engine);
    engine.docker_ok(&["rmi", "-f", "lost:1"]);
    engine.docker_ok(&["start", &lost]);
    let control = [
        engine.life(&lost),
        engine.run_life(&[], "shell:1"),
        engine.run_life(&["--user=7"], "shell:1"),
    ];
    for life in &control {
        eventually("its health is checked", SOON, || {
            let health = engine.inspect(&life.id)["State"]["Health"].take();
            health["Log"].as_array().is_some_and(|log| log.len() > 1)
        });
    }
    warden.wait_for_sweeps(2);
    fence(&engine);
    engine.assert_same(&control);
    engine.docker(&["exec", &lost, "/victim", "exit", "1"]);
    assert_ended(&engine, &warden, &lost, "foreign-exec");
}

// ---- Time

#[test]
fn a_rule_expires_at_its_second() {
    let engine = engine();
    engine.image("both:1");
    let alone = engine.run(&[], "good:1", &[]);
    let both = engine.run_life(&[], "both:1");
    let expires = jiff::Timestamp::now() + Duration::from_secs(6);
    let list = format!(
        r#"
version = 1
[[allow]]
rule = "trial"
image = ["good:1", "both:1"]
expires = {expires}
[[allow]]
rule = "stays"
image = "both:1"
"#
    );
    let warden = warden(&engine, &list);
    assert_eq!(warden.wait_for_verdict(&alone, "allowed")["rule"], "trial");
    let record = assert_ended(&engine, &warden, &alone, "expired");
    assert_eq!(record["trigger"], "expiry", "{record:#}");
    assert!(jiff::Timestamp::now() >= expires);
    let late = engine.run(&[], "good:1", &[]);
    assert_ended(&engine, &warden, &late, "expired");
    engine.assert_same(&[both]);
}

#[test]
fn audit_until_is_over_by_itself() {
    let engine = engine();
    let before = engine.run_life(&[], "bad:1");
    let control = engine.run_life(&[], "good:1");
    let until = jiff::Timestamp::now() + Duration::from_secs(6);
    let list = rule("").replace(
        "version = 1",
        &format!("version = 1\naudit-until = {until}"),
    );
    let warden = warden(&engine, &list);
    let after = engine.run_life(&[], "bad:1");
    for life in [&before, &after] {
        let record = warden.wait_for_verdict(&life.id, "denied");
        assert_eq!(
            (&record["mode"], &record["outcome"]),
            (&json!("audit"), &json!("audit-only")),
            "{record:#}"
        );
    }
    assert_eq!(warden.metric("dockwarden_enforcing"), 0.0);
    for life in [&before, &after] {
        engine.wait_until_dead(&life.id, SOON);
        let end = eventually("its end is on record", SOON, || {
            let mut records = warden.records_of(&life.id);
            records.retain(|record| record["outcome"] == "done");
            records.pop()
        });
        assert_eq!(
            (&end["mode"], &end["reason"]),
            (&json!("enforce"), &json!("no-rule")),
            "{end:#}"
        );
    }
    assert!(jiff::Timestamp::now() >= until);
    fence(&engine);
    assert_eq!(warden.metric("dockwarden_enforcing"), 1.0);
    engine.assert_same(&[control]);
}

// ---- Rules that only look on

#[test]
fn what_only_an_audit_rule_allows_runs_and_is_told() {
    let engine = engine();
    engine.image("both:1");
    let list = r#"
version = 1
[[allow]]
rule = "trial"
image = ["good:1", "both:1"]
audit = true
[[allow]]
rule = "sure"
image = "both:1"
"#;
    let before = engine.run_life(&[], "good:1");
    let warden = warden(&engine, list);
    let after = engine.run_life(&[], "good:1");
    for life in [&before, &after] {
        let record = warden.wait_for_verdict(&life.id, "allowed");
        assert_eq!(
            (&record["rule"], &record["outcome"], &record["mode"]),
            (&json!("trial"), &json!("would-deny"), &json!("enforce")),
            "{record:#}"
        );
    }
    let sure = engine.run_life(&[], "both:1");
    let record = warden.wait_for_verdict(&sure.id, "allowed");
    assert_eq!(
        (&record["rule"], &record["outcome"]),
        (&json!("sure"), &Value::Null),
        "{record:#}"
    );
    fence(&engine);
    engine.assert_same(&[before, after, sure]);
}

// ---- keep-running

#[test]
fn what_ends_by_itself_is_started_again() {
    let engine = engine();
    let warden = warden(&engine, &rule("keep-running = true"));
    let brief = engine.run(&[], "good:1", &["sleep", "1"]);
    let failing = engine.run(&[], "good:1", &["exit", "3"]);
    let killed = engine.run(&[], "good:1", &["stubborn"]);
    let first = assert_allowed(&engine, &warden, &killed, "good");
    // By nobody that the engine knows of.
    let sent = engine.inside(&["bash", "-c", &format!("kill -KILL {}", first.pid)]);
    assert!(sent.status.success(), "{sent:?}");
    // By the engine: what is over before anybody looks is allowed, and on no record.
    let mut starts = BTreeSet::new();
    eventually("each has lived again", SOON, || {
        let lives = |id: &str, starts: &mut BTreeSet<_>| {
            starts.insert((id.to_owned(), engine.life(id).started_at));
            starts.iter().filter(|(one, _)| one == id).count()
        };
        let [brief, failing, killed] = [&brief, &failing, &killed].map(|id| lives(id, &mut starts));
        brief >= 3 && failing >= 3 && killed >= 2
    });
    assert_ne!(engine.life(&first.id).started_at, first.started_at);
}

#[test]
fn what_was_over_before_anybody_looked_is_started_again() {
    let engine = engine();
    let warden = warden(&engine, &rule("keep-running = true"));
    warden.signal("STOP");
    let brief = engine.run(&[], "good:1", &["exit", "3"]);
    engine.wait_until_dead(&brief, SOON);
    let first = engine.life(&brief).started_at;
    warden.signal("CONT");
    eventually("it has lived again", SOON, || {
        engine.life(&brief).started_at != first
    });
}

#[test]
fn what_fails_to_start_again_is_tried_again() {
    let engine = engine();
    let dir = engine.dir().display();
    let keys = format!("keep-running = true\ngrants = [\"bind:{dir}/source\"]");
    let warden = warden(&engine, &rule(&keys));
    let [source, away] = ["source", "away"].map(|name| engine.dir().join(name));
    std::fs::create_dir(&source).expect("a directory to bind");
    let mount = format!("--mount=type=bind,source={},target=/mnt", source.display());
    let id = engine.run(&[&mount], "good:1", &["sleep", "1"]);
    let first = assert_allowed(&engine, &warden, &id, "good");
    std::fs::rename(&source, &away).expect("the mount's source goes");
    warden.wait_for_log(|line| line.contains("could not be started again"), SOON);
    std::fs::rename(&away, &source).expect("and comes back");
    eventually("it has lived again", SOON, || {
        engine.life(&id).started_at != first.started_at
    });
}

/// What ended before a rule kept it running is left as it is, though its start was heard.
#[test]
fn a_rule_that_comes_to_keep_running_starts_nothing_that_was_over() {
    let engine = engine();
    let warden = warden(&engine, &rule(""));
    let over = engine.run(&[], "good:1", &["sleep", "1"]);
    assert_allowed(&engine, &warden, &over, "good");
    engine.wait_until_dead(&over, SOON);
    let over = engine.life(&over);
    let applied = || warden.metric("dockwarden_allowlist_reloads_total{outcome=\"applied\"}");
    let before = applied();
    warden.write_list_by_rename(&rule("keep-running = true"));
    eventually("the list is in force", SOON, || applied() > before);
    // It is looked at for that.
    engine.docker_ok(&["rename", &over.id, "over"]);
    let kept = engine.run(&[], "good:1", &["sleep", "1"]);
    let first = engine.life(&kept).started_at;
    eventually("another one has lived again", SOON, || {
        engine.life(&kept).started_at != first
    });
    engine.assert_same(&[over]);
}

#[test]
fn what_was_ended_stays_so() {
    let engine = engine();
    let keep = rule("keep-running = true");
    let warden = start(&engine, &keep, "1s");
    let ended: Vec<_> = [
        &["stop"][..],
        &["kill"],
        &["kill", "--signal=TERM"],
        &["stop", "--time=0"],
    ]
    .into_iter()
    .map(|command| {
        let id = engine.run(&[], "good:1", &[]);
        assert_allowed(&engine, &warden, &id, "good");
        engine.docker_ok(&[command, &[&id]].concat());
        // A signal is only sent when the command returns.
        engine.wait_until_dead(&id, SOON);
        engine.life(&id)
    })
    .collect();
    warden.wait_for_sweeps(2);
    fence(&engine);
    engine.assert_same(&ended);
    assert!(ended.iter().all(|life| life.state == "exited"));

    // Nor what is denied, whoever ended it.
    let denied = engine.run(&[], "bad:1", &["exit", "0"]);
    engine.wait_until_dead(&denied, SOON);
    // Nor what ended while nobody was there to see how.
    let unseen = engine.run(&[], "good:1", &["sleep", "2"]);
    assert_allowed(&engine, &warden, &unseen, "good");
    warden.sigkill();
    engine.wait_until_dead(&unseen, SOON);
    let (denied, unseen) = (engine.life(&denied), engine.life(&unseen));
    drop(warden);
    let warden = start(&engine, &keep, "1s");
    warden.wait_for_sweeps(2);
    engine.assert_same(&[denied, unseen]);
    drop(warden);

    let audit = keep.replace("version = 1", "version = 1\nmode = \"audit\"");
    let warden = start(&engine, &audit, "1s");
    let id = engine.run(&[], "good:1", &["sleep", "2"]);
    warden.wait_for_verdict(&id, "allowed");
    engine.wait_until_dead(&id, SOON);
    let life = engine.life(&id);
    warden.wait_for_sweeps(2);
    engine.assert_same(&[life]);
}

// ---- command

#[test]
fn only_the_image_s_own_command_runs() {
    let engine = engine();
    let own = ["CMD [\"stubborn\"]"];
    engine.image_with("own:1", &own);
    let list = rule("command = \"image\"").replace("good:1", "own:1");
    let warden = warden(&engine, &list);
    let control: Vec<Life> = [
        (&[][..], &[][..]),
        (&[], &["stubborn"]), // typed, and the same
        (&["--user=1000", "--env=A=b"], &[]),
    ]
    .map(|(options, command)| {
        let id = engine.run(options, "own:1", command);
        assert_allowed(&engine, &warden, &id, "good")
    })
    .to_vec();
    for (options, command) in [
        (&[][..], &["run"][..]),
        (&[], &["stubborn", "stubborn"]),
        (&["--entrypoint=/victim"], &[]), // without the image's arguments
        (&["--entrypoint=/victim"], &["run"]),
        (&["--entrypoint=/../victim"], &["stubborn"]),
    ] {
        let id = engine.run(options, "own:1", command);
        let record = assert_ended(&engine, &warden, &id, "no-rule");
        let detail = record["detail"].as_str().unwrap();
        assert!(
            detail.contains("command"),
            "{options:?} {command:?}: {detail}"
        );
    }
    engine.assert_same(&control);
}

// ---- stop-timeout

#[test]
fn a_stop_waits_as_long_as_the_list_says() {
    let engine = engine();
    let head = "version = 1\naction = \"stop\"\nstop-timeout = \"2s\"";
    let deaf = ["--stop-signal=SIGWINCH", "--stop-timeout=3600"];
    let polite = engine.run(&["--stop-timeout=0"], "bad:1", &[]);
    let deaf_ones = [
        engine.run(&deaf, "bad:1", &[]),
        engine.run(&[], "bad:1", &["stubborn"]),
    ];
    let control = engine.run_life(&deaf, "good:1");
    let warden = warden(&engine, &rule("").replace("version = 1", head));
    let code = |id: &str| {
        let record = assert_ended(&engine, &warden, id, "no-rule");
        assert_eq!(record["action"], "stop", "{record:#}");
        engine.inspect(id)["State"]["ExitCode"].as_i64().unwrap()
    };
    assert_eq!(code(&polite), 0);
    for id in &deaf_ones {
        assert_eq!(code(id), 137);
    }
    engine.assert_same(&[control]);
}

// ---- on-create

#[test]
fn what_is_denied_is_removed_as_soon_as_it_is_created() {
    const LIST: &str = r#"
version = 1
on-create = "remove"
[[allow]]
rule = "web"
image = "good:1"
container = "web"
max = 1
"#;
    let engine = engine();
    let old = engine.run(&[], "bad:1", &[]);
    engine.docker_ok(&["kill", &old]);
    let mut warden = warden(&engine, LIST);
    let gone = |id: &str| eventually("it is removed", SOON, || engine.state(id).is_none());

    let id = engine.create(&["--name=web"], "bad:1", &[]);
    gone(&id);
    let record = warden.wait_for_verdict(&id, "denied");
    assert_eq!(
        (&record["outcome"], &record["trigger"]),
        (&json!("never-ran"), &json!("create")),
        "{record:#}"
    );
    assert_eq!(record["lived_ms"].as_f64(), Some(0.0));

    let first = engine.run(&["--name=web"], "good:1", &[]);
    let first = assert_allowed(&engine, &warden, &first, "web");
    // As Compose replaces a container: one more of them, by a name of its own at first.
    let second = engine.create(&["--name=0123456789ab_web"], "good:1", &[]);
    gone(&engine.create(&[], "bad:1", &[]));
    assert_eq!(engine.state(&second).as_deref(), Some("created"));
    engine.assert_same(std::slice::from_ref(&first));
    engine.docker_ok(&["rm", "-f", &first.id]);
    engine.docker_ok(&["rename", &second, "web"]);
    engine.docker_ok(&["start", &second]);
    let second = assert_allowed(&engine, &warden, &second, "web");

    // It says what happens at create; what is dead stays where it is.
    assert_eq!(engine.state(&old).as_deref(), Some("exited"));
    engine.assert_same(std::slice::from_ref(&second));

    let audit = LIST.replace("version = 1", "version = 1\nmode = \"audit\"");
    let (status, _) = warden.sigterm();
    assert!(status.success());
    warden.write_list_in_place(&audit);
    warden.restart();
    warden.wait_ready();
    let id = engine.create(&[], "bad:1", &[]);
    let other = engine.run(&[], "bad:1", &[]);
    warden.wait_for_verdict(&other, "denied");
    assert_eq!(engine.state(&id).as_deref(), Some("created"));
    engine.assert_same(&[second]);
}
