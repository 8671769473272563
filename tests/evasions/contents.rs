//! What the image is, whatever it is called: pins.

use crate::report::Row;
use crate::{engine, fence, warden};

fn pinned(id: &str) -> String {
    format!(
        r#"
version = 1
[[allow]]
rule = "pinned"
image = "good:1@{id}"
"#
    )
}

#[test]
fn row_01_a_name_that_means_other_content() {
    let row = Row::begin("01");
    let engine = engine();
    let good = engine.image_id("good:1");
    let bad = engine.image_id("bad:1");
    let warden = warden(&engine, &pinned(&good));
    let both = (&engine, &warden);
    let mut control = vec![engine.run_life(&[], "good:1")];
    let give_back = || engine.docker_ok(&["tag", &good, "good:1"]);

    engine.docker_ok(&["tag", "bad:1", "good:1"]);
    let id = engine.run(&[], "good:1", &[]);
    let what = "docker tag bad:1 good:1";
    let record = row.ended(both, what, &id, "wrong-content");
    assert_eq!(record["image_id"], bad, "{record:#}");
    // What is meant runs by its id, and by any other name.
    control.push(engine.run_life(&[], &good));
    engine.docker_ok(&["tag", &good, "other:1"]);
    control.push(engine.run_life(&[], "other:1"));

    let archive = engine.dir().join("bad.tar").display().to_string();
    engine.docker_ok(&["save", "-o", &archive, "good:1"]);
    give_back();
    engine.docker_ok(&["load", "-i", &archive]);
    assert_eq!(engine.image_id("good:1"), bad);
    let id = engine.run(&[], "good:1", &[]);
    row.ended(both, "docker load moves the tag", &id, "wrong-content");

    give_back();
    engine.image("good:1");
    let id = engine.run(&[], "good:1", &[]);
    row.ended(both, "docker import good:1", &id, "wrong-content");

    give_back();
    engine.docker_ok(&["commit", &control[0].id, "good:1"]);
    let id = engine.run(&[], "good:1", &[]);
    row.ended(both, "docker commit … good:1", &id, "wrong-content");

    give_back();
    // Without a step that runs there is nothing to end on the way.
    let built = engine.build("good:1", "FROM good:1\nLABEL evil=1\n");
    assert!(built.status.success(), "{built:?}");
    let id = engine.run(&[], "good:1", &[]);
    row.ended(both, "docker build -t good:1", &id, "wrong-content");

    give_back();
    control.push(engine.run_life(&[], "good:1"));
    for life in &control {
        warden.wait_for_verdict(&life.id, "allowed");
    }
    fence(&engine);
    engine.assert_same(&control);
}

#[test]
fn row_07_cp_and_commit() {
    let row = Row::begin("07");
    let engine = engine();
    let good = engine.image_id("good:1");
    let warden = warden(&engine, &pinned(&good));
    let control = engine.run_life(&[], "good:1");
    warden.wait_for_verdict(&control.id, "allowed");

    // The container that is allowed stays so: only what is made of it is other content.
    let program = format!("{}/victim", env!("CARGO_TARGET_TMPDIR"));
    engine.docker_ok(&["cp", &program, &format!("{}:/evil", control.id)]);
    let committed = engine.docker_ok(&["commit", &control.id, "evil:1"]);
    let run = |what: &str, image: &str, reason: &str| {
        let id = engine.run(&["--entrypoint", "/evil"], image, &[]);
        row.ended((&engine, &warden), what, &id, reason);
    };
    run("cp, commit, run by name", "evil:1", "no-rule");
    run("cp, commit, run by id", &committed, "no-rule");
    engine.docker_ok(&["tag", "evil:1", "good:1"]);
    run("cp, commit, tag, run as good:1", "good:1", "wrong-content");
    engine.assert_same(&[control]);
}
