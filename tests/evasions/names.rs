//! By what it is called: its own name, its image's, its labels.

use crate::report::Row;
use crate::support::{Engine, Life};
use crate::{LIST, create_raw, engine, fence, warden};
use serde_json::json;

/// A short id would be a fine name of one component.
const ONE_COMPONENT: &str = r#"
version = 1
[[allow]]
rule = "official"
image = "*"
"#;

#[test]
fn row_02_run_by_id() {
    let row = Row::begin("02");
    let engine = Engine::start();
    let good = engine.image("good:1");
    let bad = engine.image("evil/bad:1");
    let forms = |id: &str| {
        let digits = &id["sha256:".len()..];
        [
            id.to_owned(),
            digits.to_owned(),
            digits[..12].to_owned(),
            digits[..4].to_owned(),
            format!("sha256:{}", &digits[..12]),
        ]
    };
    let warden = warden(&engine, ONE_COMPONENT);
    let control = forms(&good).map(|form| engine.run_life(&[], &form));
    for form in forms(&bad) {
        let id = engine.run(&[], &form, &[]);
        assert_eq!(engine.inspect(&id)["Config"]["Image"], form);
        let length = form.len();
        let what = format!("docker run {form:.19}, {length} letters");
        row.ended((&engine, &warden), &what, &id, "no-rule");
    }
    for life in &control {
        let record = warden.wait_for_verdict(&life.id, "allowed");
        assert_eq!(record["rule"], "official");
    }
    engine.assert_same(&control);
}

#[test]
fn row_03_no_image_at_all() {
    const ANY: &str = r#"
version = 1
[[allow]]
rule = "image"
image = ["good:1", "**"]
[[allow]]
rule = "name"
container = "*"
[[allow]]
rule = "label"
labels = { image = "good:1" }
"#;
    let row = Row::begin("03");
    let engine = engine(); // compiles the victim, too
    let warden = warden(&engine, ANY);
    let control = engine.run_life(&[], "good:1");
    let body = json!({
        "Image": "", "Cmd": ["/x/victim"],
        "HostConfig": {"Binds": [format!("{}:/x:ro", env!("CARGO_TARGET_TMPDIR"))]},
        "Labels": {"image": "good:1"},
    });
    let id = create_raw(&engine, &body);
    engine.docker_ok(&["start", &id]);
    let what = "\"Image\": \"\", a program of the host, label image=good:1";
    row.ended((&engine, &warden), what, &id, "no-image");
    warden.wait_for_verdict(&control.id, "allowed");
    engine.assert_same(&[control]);
}

#[test]
fn row_04_labels_that_forge_events() {
    let row = Row::begin("04");
    let engine = engine();
    let warden = warden(&engine, LIST);
    let control = engine.run_life(&[], "good:1");
    let forged = format!("id={}", control.id);
    let labels = [
        "image=good:1",
        "name=good",
        "signal=9",
        "exitCode=0",
        "execID=1",
        "oldName=/good",
        "imageID=good:1",
        &forged,
    ];
    for label in labels {
        let id = engine.run(&["--label", label], "bad:1", &[]);
        let what = format!("--label {label:.20}");
        row.ended((&engine, &warden), &what, &id, "no-rule");
    }
    let all: Vec<_> = labels.iter().flat_map(|label| ["--label", label]).collect();
    let id = engine.run(&all, "bad:1", &[]);
    row.ended((&engine, &warden), "all of them", &id, "no-rule");
    engine.assert_same(&[control]);
}

#[test]
fn row_05_an_allowed_container_s_name() {
    const NAMED: &str = r#"
version = 1
[[allow]]
rule = "front"
container = ["front", "web-*"]
image = "good:1"
[[allow]]
rule = "alias"
container = "alias"
"#;
    let row = Row::begin("05");
    let engine = engine();
    let control = engine.run_life(&["--name", "front"], "good:1");
    let warden = warden(&engine, NAMED);
    let both = (&engine, &warden);

    let id = engine.run(&["--name", "web-1"], "bad:1", &[]);
    row.ended(both, "--name web-1", &id, "no-rule");

    let id = engine.create(&["--name", "other"], "bad:1", &[]);
    engine.docker_ok(&["rename", "other", "web-2"]);
    engine.docker_ok(&["start", &id]);
    row.ended(both, "docker rename other web-2", &id, "no-rule");

    let id = engine.run(&["--name", &control.id[..12]], "bad:1", &[]);
    row.ended(both, "an allowed one's id as a name", &id, "no-rule");

    // The target of a link is listed under the linking one's alias as well.
    let id = engine.create(&["--name", "linked"], "bad:1", &[]);
    engine.create(
        &["--name", "web-3", "--link", "linked:alias"],
        "good:1",
        &[],
    );
    let listed = engine.list().into_iter().find(|one| one["Id"] == id);
    let names = listed.unwrap()["Names"].clone();
    assert!(names.to_string().contains("/web-3/alias"), "{names}");
    engine.docker_ok(&["start", &id]);
    row.ended(both, "--link linked:alias", &id, "no-rule");

    let renamed = engine.run(&["--name", "web-4"], "good:1", &[]);
    warden.wait_for_verdict(&renamed, "allowed");
    engine.docker_ok(&["rename", "web-4", "miner"]);
    let record = row.ended(both, "an allowed one, renamed", &renamed, "no-rule");
    assert_eq!(record["trigger"], "rename", "{record:#}");

    warden.wait_for_verdict(&control.id, "allowed");
    engine.assert_same(&[control]);
}

#[test]
fn row_10_holes_in_patterns() {
    const PATTERNS: &str = r#"
version = 1
[[allow]]
rule = "web"
image = ["web", "shop/*", "registry.test/team/*:1.*", "host.test:5000/**"]
"#;
    let row = Row::begin("10");
    let engine = Engine::start();
    let image = engine.image("web:1");
    let warden = warden(&engine, PATTERNS);
    let run = |name: &str| {
        engine.docker_ok(&["tag", &image, name]);
        engine.run(&[], name, &[])
    };
    let control: Vec<Life> = [
        "web:1",
        "web:other",
        "shop/api",
        "registry.test/team/api:1.2",
        "host.test:5000/a/b/c",
    ]
    .map(|name| engine.life(&run(name)))
    .to_vec();
    for name in [
        "web-evil",
        "evil-web",
        "evil/web",
        "localhost/web",
        "docker.io.test/library/web",
        "web.test/web",
        "shop/sub/api",
        "shop-evil/api",
        "shop.test/api",
        "registry.test.evil/team/api:1.2",
        "registry.test:5000/team/api:1.2",
        "registry.test/team/sub/api:1.2",
        "registry.test/team-evil/api:1.2",
        "registry.test/team/api:2.1.1",
        "host.test/a",
        "host.test:5001/a",
    ] {
        row.ended((&engine, &warden), name, &run(name), "no-rule");
    }
    for life in &control {
        warden.wait_for_verdict(&life.id, "allowed");
    }
    engine.assert_same(&control);
}

#[test]
fn row_11_many_spellings_of_one_image() {
    const SPELLINGS: &str = r#"
version = 1
[[allow]]
image = [
  "one:1",
  "library/two:1",
  "docker.io/three:1",
  "docker.io/library/four:1",
  "index.docker.io/five:1",
  "index.docker.io/library/six:1",
  "docker.io/team/seven:1",
]
"#;
    let row = Row::begin("11");
    let engine = Engine::start();
    let image = engine.image("base:1");
    let warden = warden(&engine, SPELLINGS);
    let mut control = Vec::new();
    for name in ["one", "two", "three", "four", "five", "six"] {
        for prefix in [
            "",
            "library/",
            "docker.io/",
            "docker.io/library/",
            "index.docker.io/",
            "index.docker.io/library/",
        ] {
            let spelling = format!("{prefix}{name}:1");
            engine.docker_ok(&["tag", &image, &spelling]);
            let life = engine.run_life(&[], &spelling);
            warden.wait_for_verdict(&life.id, "allowed");
            control.push(life);
        }
    }
    engine.docker_ok(&["tag", &image, "team/seven:1"]);
    control.push(engine.run_life(&[], "index.docker.io/team/seven:1"));
    for name in [
        "localhost/one:1",
        "localhost:5000/one:1",
        "docker.io:443/library/one:1",
        "evil.docker.io/library/one:1",
        "team/one:1",
        "seven:1",
        "one", // latest
    ] {
        engine.docker_ok(&["tag", &image, name]);
        let id = engine.run(&[], name, &[]);
        row.ended((&engine, &warden), name, &id, "no-rule");
    }
    engine.docker_ok(&["tag", &image, "bad:1"]);
    fence(&engine);
    engine.assert_same(&control);
}
