//! What a container is: by its names, labels and image, however it was started and whatever the
//! image's names have come to mean since.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use serde_json::json;
use support::{Engine, SOON, Warden, eventually};

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

fn warden(engine: &Engine, list: &str) -> Warden {
    let warden = Warden::on(engine)
        .allowlist(list)
        .args(["--resync", "1s"])
        .start();
    warden.wait_ready();
    warden
}

#[test]
fn rules_decide_by_every_key_they_give() {
    const RULES: &str = r#"
version = 1
[[allow]]
rule = "web"
image = ["team/web:1.*", "localhost:5000/*/api"]
labels = { stage = "prod-*", owner = "*" }
[[allow]]
rule = "cron"
container = ["cron-*", "*-job"]
image = "tool"
"#;
    const LABELS: &[&str] = &["--label", "stage=prod-eu", "--label", "owner=ops"];
    let cases: &[(&[&str], &str, Option<&str>)] = &[
        (LABELS, "team/web:1.27", Some("web")),
        (LABELS, "docker.io/team/web:1.27", Some("web")),
        (LABELS, "localhost:5000/shop/api:9", Some("web")),
        (LABELS, "localhost:5000/shop/sub/api:9", None),
        (LABELS, "team/web:2.0", None),
        (LABELS, "evil/team/web:1.27", None),
        (LABELS, "tool:3", None),
        (&["--label", "stage=prod-eu"], "team/web:1.27", None),
        (
            &["--label", "stage=test", "--label", "owner=ops"],
            "team/web:1.27",
            None,
        ),
        (&[], "team/web:1.27", None),
        (&["--name", "cron-1"], "tool:3", Some("cron")),
        (
            &["--name", "nightly-job"],
            "docker.io/library/tool:4",
            Some("cron"),
        ),
        (&["--name", "xcron-1"], "tool:3", None),
        (&["--name", "cron-2"], "team/web:1.27", None),
        (&["--name", "job"], "tool:3", None),
    ];
    let engine = Engine::start();
    let id = engine.image("tool:3");
    for (_, image, _) in cases {
        engine.docker_ok(&["tag", &id, image]);
    }
    let warden = warden(&engine, RULES);
    for (options, image, rule) in cases {
        let case = format!("{options:?} {image}");
        let id = engine.run(options, image, &[]);
        match rule {
            Some(rule) => {
                let record = warden.wait_for_verdict(&id, "allowed");
                assert_eq!(record["rule"], *rule, "{case}: {record:#}");
                let life = engine.life(&id);
                warden.wait_for_sweeps(2);
                engine.assert_same(&[life]);
            }
            None => {
                let record = warden.wait_for_verdict(&id, "denied");
                assert_eq!(record["reason"], "no-rule", "{case}: {record:#}");
                engine.wait_until_dead(&id, SOON);
            }
        }
    }
}

#[test]
fn an_id_is_as_good_as_the_name_of_what_it_means() {
    let engine = Engine::start();
    let ids = [engine.image("good:1"), engine.image("bad:1")];
    let digits = ids.each_ref().map(|id| &id["sha256:".len()..]);
    let forms = |at: usize| {
        [
            ids[at].clone(),
            digits[at].to_owned(),
            digits[at][..12].to_owned(),
            format!("sha256:{}", &digits[at][..12]),
        ]
    };
    let warden = warden(&engine, LIST);
    let control = forms(0).map(|form| engine.run_life(&[], &form));
    for life in &control {
        warden.wait_for_verdict(&life.id, "allowed");
    }
    for form in forms(1) {
        let id = engine.run(&[], &form, &[]);
        engine.wait_until_dead(&id, SOON);
        assert_eq!(engine.inspect(&id)["Config"]["Image"], form);
    }
    // A repository that is called like the allowed image's id wins the engine's look-up.
    let short = &digits[0][..12];
    engine.docker_ok(&["tag", "bad:1", short]);
    let id = engine.run(&[], short, &[]);
    assert_eq!(engine.inspect(&id)["Image"], ids[1], "the masquerade");
    engine.wait_until_dead(&id, SOON);
    // And so does a container that is called like another's.
    let name = &control[0].id[..12];
    let id = engine.run(&["--name", name], "bad:1", &[]);
    engine.wait_until_dead(&id, SOON);
    warden.wait_for_sweeps(2);
    engine.assert_same(&control);
}

#[test]
fn a_tag_that_moves_on_ends_nothing_that_runs() {
    let engine = Engine::start();
    let good = engine.image("good:1");
    engine.image("bad:1");
    let before = engine.run_life(&[], "good:1");
    let mut warden = warden(&engine, LIST);
    let after = engine.run_life(&[], "good:1");
    let by_id = engine.run_life(&[], &good);
    let control = [before, after];
    for life in control.iter().chain([&by_id]) {
        warden.wait_for_verdict(&life.id, "allowed");
    }

    engine.docker_ok(&["tag", "bad:1", "good:1"]);
    // The list tells an id now, where it told a name.
    let listed = engine.list();
    let entry = listed.iter().find(|one| one["Id"] == control[1].id);
    assert!(
        entry.unwrap()["Image"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    let judged_again = |warden: &Warden| {
        warden.wait_for_sweeps(2);
        for (number, life) in control.iter().enumerate() {
            engine.docker_ok(&["rename", &life.id, &format!("name-{number}")]);
            engine.docker_ok(&["update", "--cpu-shares", "512", &life.id]);
            engine.docker_ok(&["rename", &life.id, &format!("other-{number}")]);
        }
        // Later than all that, so that it is over when this is.
        let bad = engine.run(&[], "bad:1", &[]);
        engine.wait_until_dead(&bad, SOON);
        warden.wait_for_sweeps(2);
        engine.assert_same(&control);
    };
    judged_again(&warden);
    engine.assert_same(std::slice::from_ref(&by_id));
    for life in control.iter().chain([&by_id]) {
        assert_eq!(warden.records_of(&life.id).len(), 1, "nothing new to say");
    }

    // What was run by id is known by the image's names; without a state dir a new life of dockwarden
    // can't know those that are no more.
    engine.docker_ok(&["kill", &by_id.id]);
    let (status, _) = warden.sigterm();
    assert!(status.success());
    warden.restart();
    warden.wait_ready();
    for life in &control {
        warden.wait_for_verdict(&life.id, "allowed");
    }
    judged_again(&warden);
}

#[test]
fn a_name_that_is_removed_ends_nothing_that_runs() {
    let engine = Engine::start();
    let good = engine.image("good:1");
    engine.image("bad:1");
    engine.docker_ok(&["tag", "good:1", "second:1"]);
    let mut warden = warden(&engine, LIST);
    let by_name = engine.run_life(&[], "good:1");
    let by_id = engine.run_life(&[], &good);
    for life in [&by_name, &by_id] {
        warden.wait_for_verdict(&life.id, "allowed");
    }
    engine.docker_ok(&["rmi", "good:1"]);
    engine.docker_ok(&["rmi", "-f", "second:1"]);
    assert_eq!(
        engine.docker(&["image", "inspect", "good:1"]).status.code(),
        Some(1)
    );
    let lives = [by_name.clone(), by_id.clone()];
    for life in &lives {
        engine.docker_ok(&["update", "--cpu-shares", "512", &life.id]);
    }
    let bad = engine.run(&[], "bad:1", &[]);
    engine.wait_until_dead(&bad, SOON);
    warden.wait_for_sweeps(2);
    engine.assert_same(&lives);

    engine.docker_ok(&["kill", &by_id.id]);
    warden.sigkill();
    warden.restart();
    warden.wait_ready();
    warden.wait_for_verdict(&by_name.id, "allowed");
    warden.wait_for_sweeps(2);
    engine.assert_same(&[by_name]);
}

#[test]
fn a_container_without_an_image_is_denied_whatever_else_matches() {
    const ANY: &str = r#"
version = 1
[[allow]]
rule = "image"
image = "good:1"
[[allow]]
rule = "name"
container = "*"
[[allow]]
rule = "label"
labels = { image = "good:1" }
"#;
    let engine = Engine::start();
    engine.image("good:1"); // compiles the victim, too
    let warden = warden(&engine, ANY);
    let body = json!({
        "Image": "", "Cmd": ["/x/victim"],
        "HostConfig": {"Binds": [format!("{}:/x:ro", env!("CARGO_TARGET_TMPDIR"))]},
        "Labels": {"image": "good:1", "name": "good"},
    });
    let (status, answer) = engine.api("POST", "/containers/create?name=good", Some(&body));
    assert_eq!(status, 201, "{answer}");
    let id = answer["Id"].as_str().unwrap();
    engine.docker_ok(&["start", id]);
    engine.wait_until_dead(id, SOON);
    let record = warden.wait_for_verdict(id, "denied");
    assert_eq!(record["reason"], "no-image", "{record:#}");
    let control = engine.run_life(&[], "good:1");
    warden.wait_for_verdict(&control.id, "allowed");
    engine.assert_same(&[control]);
}

#[test]
fn labels_forge_nothing() {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("bad:1");
    let warden = warden(&engine, LIST);
    let control = engine.run_life(&[], "good:1");
    let labels = [
        "image=good:1",
        "name=good",
        "signal=9",
        "exitCode=0",
        "execID=1",
        "oldName=/good",
        "imageID=good:1",
        "container=good",
    ];
    let options: Vec<&str> = labels.iter().flat_map(|label| ["--label", label]).collect();
    for restart in ["no", "always"] {
        let id = engine.run(
            &[&options[..], &["--restart", restart]].concat(),
            "bad:1",
            &[],
        );
        engine.wait_until_dead(&id, SOON);
        assert_eq!(warden.wait_for_verdict(&id, "denied")["outcome"], "done");
    }
    // Another's id in place of its own ends nobody else.
    let forged = format!("id={}", control.id);
    let id = engine.run(&["--label", &forged], "bad:1", &[]);
    engine.wait_until_dead(&id, SOON);
    warden.wait_for_sweeps(2);
    engine.assert_same(&[control]);
}

/// One that may be its own could be among what it ends.
#[test]
fn who_can_not_prove_its_own_container_ends_nothing_and_says_so() {
    let engine = Engine::start();
    for image in ["good:1", "bad:1"] {
        engine.image(image);
    }
    let lives = [
        engine.run_life(&[], "good:1"),
        engine.run_life(&[], "bad:1"),
    ];
    let warden = Warden::on(&engine)
        .allowlist(LIST)
        .args(["--resync", "1s", "--self-id", &lives[0].id])
        .start();
    eventually("it says so", SOON, || {
        let ready = warden.get("/readyz").json();
        let hindrance = ready["hindrance"].as_str().unwrap_or_default();
        hindrance.contains("own container not proven") && ready["enforcing"] == false
    });
    eventually("it is shown", SOON, || {
        let shown = warden.get_json(&format!("/containers/{}", lives[1].id));
        shown["verdict"] == "denied"
    });
    warden.wait_for_sweeps(2);
    assert_eq!(warden.get("/readyz").status, 503);
    assert_eq!(warden.metric("dockwarden_enforcing"), 0.0);
    assert_eq!(warden.metric("dockwarden_hindered"), 1.0);
    engine.assert_same(&lives);
}
