//! Programs that run as the steps of a build.

use crate::report::Row;
use crate::support::{SOON, eventually};
use crate::{LIST, engine, fence, warden};

const STEPS: &str = r#"
version = 1
[[allow]]
rule = "base"
image = "good:1"
build-steps = true
"#;

const TWO_STEPS: &str = r#"FROM good:1
ENV A=b
RUN ["/victim", "sleep", "1"]
LABEL step=2
RUN ["/victim", "exit", "0"]
"#;

/// Goes on until it is ended.
const ENDLESS: &str = r#"RUN ["/victim", "stubborn"]"#;

#[test]
fn row_26_hide_in_a_build() {
    let row = Row::begin("26");
    let engine = engine();
    let control = engine.run_life(&[], "good:1");
    let denied = |what: &str, warden: &_, base: &str| {
        let dockerfile = format!("FROM {base}\nLABEL what=\"{what}\"\n{ENDLESS}\n");
        std::thread::scope(|scope| {
            let build = scope.spawn(|| engine.build("evil:1", &dockerfile));
            // Its name is random, its image has none; the builder removes it when it is dead.
            let step = eventually("the step is listed", SOON, || {
                let all = engine.list();
                let step = all.into_iter().find(|one| one["Labels"]["what"] == what)?;
                let is_step = step["Command"] == "/victim stubborn";
                is_step.then(|| step["Id"].as_str().unwrap().to_owned())
            });
            row.ended((&engine, warden), what, &step, "no-rule");
            let build = build.join().unwrap();
            assert!(!build.status.success(), "{what}: {build:?}");
        });
        assert!(
            !engine
                .docker(&["image", "inspect", "evil:1"])
                .status
                .success()
        );
    };

    let strict = warden(&engine, LIST);
    denied("a step on an allowed image", &strict, "good:1");
    drop(strict);

    let warden = warden(&engine, STEPS);
    let built = engine.build("built:1", TWO_STEPS);
    assert!(built.status.success(), "{built:?}");
    let steps = warden.records();
    let steps = steps.iter().filter(|record| {
        let image = record["image"].as_str().unwrap_or_default();
        image.starts_with("sha256:") && record["verdict"] == "allowed" && record["rule"] == "base"
    });
    assert!(steps.count() >= 1, "{:#?}", warden.records());
    denied("a step on an image that is not allowed", &warden, "bad:1");
    engine.docker_ok(&["tag", "bad:1", "base:1"]);
    denied("the same by another name", &warden, "base:1");

    // What was built is no step any more when it is run by its name.
    let id = engine.run(&[], "built:1", &[]);
    row.ended(
        (&engine, &warden),
        "docker run of what was built",
        &id,
        "no-rule",
    );
    warden.wait_for_verdict(&control.id, "allowed");
    fence(&engine);
    engine.assert_same(&[control]);
}
