//! What outlives dockwarden, and what a controller tells the api beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use support::scripted::{Scripted, event, listed, numbered};
use support::{Builder, Engine, SOON, Warden, eventually};

fn engine() -> Engine {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("bad:1");
    engine
}

fn with_state(builder: Builder, state: &Path) -> Builder {
    builder.args(["--resync", "1s", "--state-dir", state.to_str().unwrap()])
}

/// A controller and an api, each with a list of its own, and one state.
struct Pair {
    controller: Warden,
    api: Warden,
    state: PathBuf,
}

fn pair(engine: &Engine, list: &str, own_list_of_api: &str) -> Pair {
    let controller = Warden::on(engine).subcommand("controller").allowlist(list);
    let state = controller.dir().join("state");
    let controller = with_state(controller, &state).start();
    controller.wait_ready();
    let api = Warden::on(engine)
        .subcommand("api")
        .allowlist(own_list_of_api);
    let api = with_state(api, &state).start();
    api.wait_ready();
    Pair {
        controller,
        api,
        state,
    }
}

fn shown(warden: &Warden, id: &str) -> Value {
    warden.get_json(&format!("/containers/{id}"))
}

const GOOD: &str = "version = 1\n[[allow]]\nrule = \"good\"\nimage = \"good:1\"\n";
const BAD: &str = "version = 1\n[[allow]]\nrule = \"bad\"\nimage = \"bad:1\"\n";

#[test]
fn the_api_shows_the_controllers_truth_and_says_when_it_is_silent() {
    let engine = engine();
    let Pair {
        controller, api, ..
    } = pair(&engine, GOOD, BAD);
    let good = engine.run_life(&[], "good:1");
    controller.wait_for_verdict(&good.id, "allowed");
    eventually(
        "the controller's list is shown, not the api's own",
        SOON,
        || {
            let shown = shown(&api, &good.id);
            (shown["verdict"] == "allowed" && shown["rule"] == "good").then_some(())
        },
    );
    assert_eq!(api.get_json("/containers")["enforcing"], true);
    assert!(api.metric("dockwarden_controller_state_age_seconds") < 5.0);
    assert!(
        !controller
            .get("/metrics")
            .body
            .contains("controller_state_age_seconds")
    );

    // A newer list, and a bad one.
    let newer = GOOD.replace("rule = \"good\"", "rule = \"newer\"");
    controller.write_list_by_rename(&newer);
    eventually("the newer list is shown", SOON, || {
        shown(&api, &good.id)["rule"] == "newer"
    });
    controller.write_list_by_rename("version = 2");
    eventually("what keeps a bad list out is shown", SOON, || {
        api.get_json("/allowlist")["error"].is_object()
    });
    controller.write_list_by_rename(&newer.replace("[[allow]]", "mode = \"audit\"\n[[allow]]"));
    eventually("audit mode is shown", SOON, || {
        let ready = api.get_json("/readyz");
        (ready["mode"] == "audit" && ready["enforcing"] == false).then_some(())
    });
    controller.write_list_by_rename(&newer);
    eventually("and its end", SOON, || {
        api.get_json("/containers")["enforcing"] == true
    });

    // One that is stopped says so itself; one that is killed falls silent.
    controller.signal("STOP");
    eventually("it says that the controller is silent", SOON, || {
        let ready = api.get_json("/readyz");
        let is_told = ready["hindrance"]
            .as_str()
            .is_some_and(|why| why.contains("silent"));
        (is_told && ready["enforcing"] == false).then_some(())
    });
    assert_eq!(api.get_json("/containers")["enforcing"], false);
    assert!(api.get("/").body.contains("the controller is silent"));
    assert_eq!(shown(&api, &good.id)["verdict"], "allowed");
    controller.signal("CONT");
    eventually("it is back", SOON, || {
        api.get_json("/containers")["enforcing"] == true
    });
    controller.sigterm();
    eventually("it is told at once that it was stopped", SOON, || {
        api.get_json("/readyz")["hindrance"] == "the controller was stopped"
    });
    engine.assert_same(&[good]);
}

#[test]
fn an_api_that_starts_beside_a_bad_list_shows_the_controllers() {
    let engine = engine();
    let good = engine.run_life(&[], "good:1");
    let Pair {
        controller,
        api,
        state,
    } = pair(&engine, GOOD, GOOD);
    drop(api);
    let start = || {
        let api = Warden::on(&engine)
            .subcommand("api")
            .allowlist("version = 2");
        let api = with_state(api, &state).start();
        api.wait_ready();
        eventually("the controller's verdict", SOON, || {
            shown(&api, &good.id)["rule"] == "good"
        });
        api
    };
    let api = start();
    eventually("the controller's truth", SOON, || {
        let list = api.get_json("/allowlist");
        api.get_json("/containers")["enforcing"] == true && list["error"].is_null()
    });
    drop(api);
    // What is known of the controller's list holds without one, too.
    controller.sigkill();
    std::fs::remove_file(state.join("state.json")).unwrap();
    let api = start();
    let list = api.get_json("/allowlist");
    assert!(list["error"]["message"].is_string(), "{list:#}");
    assert_eq!(api.get_json("/containers")["enforcing"], false);
    api.write_list_by_rename(BAD);
    eventually("its own list counts", SOON, || {
        shown(&api, &good.id)["verdict"] == "denied"
    });
    engine.assert_same(&[good]);
}

#[test]
fn without_a_controller_the_api_judges_by_its_own_file() {
    let engine = engine();
    let good = engine.run_life(&[], "good:1");
    let state = engine.dir().join("nobody");
    let api = Warden::on(&engine).subcommand("api").allowlist(GOOD);
    let api = with_state(api, &state).start();
    api.wait_ready();
    eventually("it is shown", SOON, || {
        shown(&api, &good.id)["verdict"] == "allowed"
    });
    assert_eq!(api.get_json("/containers")["enforcing"], false);
    let age = api.metric("dockwarden_controller_state_age_seconds");
    assert_eq!(age, f64::INFINITY);
    api.write_list_by_rename(BAD);
    eventually("its own list counts", SOON, || {
        shown(&api, &good.id)["verdict"] == "denied"
    });
    assert!(!state.exists(), "it never writes");
}

#[test]
fn a_state_that_was_cut_off_or_forged_misleads_nobody() {
    let engine = engine();
    let Pair {
        mut controller,
        api,
        state,
    } = pair(&engine, GOOD, GOOD);
    let good = engine.run_life(&[], "good:1");
    controller.wait_for_verdict(&good.id, "allowed");
    controller.sigkill();
    let accepted = std::fs::read_dir(state.join("accepted")).unwrap();
    let accepted: Vec<_> = accepted.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(accepted.len(), 1);
    // What is called by another list's hash is no list that was in force.
    std::fs::write(&accepted[0], BAD).unwrap();
    for name in ["state.json", "containers.json"] {
        let path = state.join(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    assert_eq!(
        api.get_json("/allowlist")["list"]["allow"][0]["rule"],
        "good"
    );
    controller.restart();
    controller.wait_ready();
    controller.wait_for_sweeps(2);
    engine.assert_same(&[good]);
    let bad = engine.run(&[], "bad:1", &[]);
    engine.wait_until_dead(&bad, SOON);
    eventually("the api believes it again", SOON, || {
        api.get_json("/containers")["enforcing"] == true
    });
}

#[test]
fn one_writes_a_state() {
    let engine = engine();
    let Pair {
        controller,
        api,
        state,
    } = pair(&engine, GOOD, GOOD);
    let second = Warden::on(&engine).subcommand("controller").allowlist(GOOD);
    let second = with_state(second, &state).spawn();
    assert_eq!(second.wait_exit(SOON).code(), Some(2));
    second.wait_for_log(|line| line.contains("another process writes"), SOON);
    assert!(controller.lives() && api.lives());
}

#[test]
fn names_that_an_engine_has_forgotten_are_remembered() {
    let engine = engine();
    let warden = Warden::on(&engine).allowlist(GOOD);
    let state = warden.dir().join("state");
    let mut warden = with_state(warden, &state).start();
    warden.wait_ready();
    let image = engine.docker_ok(&["image", "inspect", "--format", "{{.Id}}", "good:1"]);
    let by_id = engine.run_life(&[], image.trim());
    warden.wait_for_verdict(&by_id.id, "allowed");
    // The name goes to other content, and dockwarden starts anew.
    engine.docker_ok(&["tag", "bad:1", "good:1"]);
    warden.wait_for_sweeps(2);
    engine.assert_same(std::slice::from_ref(&by_id));
    for _ in 0..2 {
        // It is written down within a second.
        eventually("it is written down", SOON, || {
            let known = std::fs::read_to_string(state.join("containers.json")).unwrap_or_default();
            (known.contains(&by_id.id) && known.contains("good:1")).then_some(())
        });
        warden.sigkill();
        warden.restart();
        warden.wait_ready();
        warden.wait_for_sweeps(2);
        engine.assert_same(std::slice::from_ref(&by_id));
    }
    // A new one from that image has never had the name.
    let late = engine.run(&[], image.trim(), &[]);
    engine.wait_until_dead(&late, SOON);
}

#[test]
fn a_foreign_exec_is_shown_and_remembered_for_its_life() {
    let engine = engine();
    let list = "version = 1\nmode = \"audit\"\n[[allow]]\nimage = \"good:1\"\nexec = false\n";
    let Pair {
        mut controller,
        api,
        state,
    } = pair(&engine, list, list);
    let good = engine.run(&[], "good:1", &[]);
    controller.wait_for_verdict(&good, "allowed");
    let _ = engine.docker(&["exec", &good, "/victim", "exit", "0"]);
    let record = controller.wait_for_verdict(&good, "denied");
    assert_eq!(record["reason"], "foreign-exec");
    let is_shown = |what: &str| {
        eventually(what, SOON, || {
            shown(&api, &good)["reason"] == "foreign-exec"
        });
    };
    is_shown("it is shown");
    eventually("it is written down", SOON, || {
        let known = std::fs::read_to_string(state.join("containers.json")).unwrap_or_default();
        known.contains("foreign_exec\":{").then_some(())
    });
    controller.sigkill();
    controller.restart();
    controller.wait_ready();
    controller.wait_for_sweeps(2);
    is_shown("it is known after a restart");
    // Another life of it is as good as new, also where nobody saw it begin.
    controller.sigkill();
    engine.docker_ok(&["restart", "-t", "0", &good]);
    controller.restart();
    controller.wait_ready();
    eventually("its next life is allowed", SOON, || {
        shown(&api, &good)["verdict"] == json!("allowed")
    });
}

/// An engine without its disk lists nothing for a while.
#[test]
fn what_is_known_outlives_an_engine_that_lists_nothing() {
    let fake = Scripted::start();
    let evil = numbered(1);
    let container = listed(&evil, "evil:1");
    fake.world().containers.insert(evil.clone(), container);
    let warden = fake.builder(GOOD, "1s");
    let state = warden.dir().join("state");
    let warden = warden
        .args(["--state-dir", state.to_str().unwrap()])
        .start();
    fake.wait_for_kill(&evil);
    let is_known = || {
        let known = std::fs::read_to_string(state.join("containers.json"));
        known.is_ok_and(|known| known.contains(&evil))
    };
    eventually("it is written down", SOON, is_known);
    fake.world().lists = Some((200, "[]".to_owned()));
    warden.wait_for_sweeps(4);
    assert!(is_known());
    // What was removed is forgotten, whatever is listed.
    fake.say(event("destroy", &evil).as_bytes());
    eventually("it is forgotten", SOON, || !is_known());
}
