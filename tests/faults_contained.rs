//! dockwarden in a container of the engine that it enforces on, when that engine goes and comes back:
//! what it sees of the engine's socket is what was mounted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use support::{Engine, Life, SOON, eventually};

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

fn engine() -> Engine {
    let engine = Engine::start_with(&["--live-restore"]);
    for image in ["good:1", "bad:1", "own:1"] {
        engine.image(image);
    }
    engine
}

fn run_forbidden(engine: &Engine) -> String {
    engine.run(&["--restart", "always"], "bad:1", &["stubborn"])
}

#[test]
fn with_the_socket_s_directory_it_follows_the_engine_through_restarts() {
    let engine = engine();
    let socket = format!("{}:/host/run", engine.dir().display());
    let own = engine.run_dockwarden("own:1", LIST, &socket, &["--restart", "always"]);
    own.wait_ready();
    let lives: Vec<Life> = vec![engine.life(&own.id), engine.run_life(&[], "good:1")];
    for is_killed in [false, true] {
        if is_killed {
            engine.sigkill_dockerd();
        } else {
            engine.stop_dockerd();
        }
        engine.start_dockerd();
        let first = run_forbidden(&engine);
        engine.wait_until_dead(&first, SOON);
        own.wait_for_end(&first);
        // Its way in is lost, and not the engine.
        let hidden = engine.hide_socket();
        let second = hidden.run(&[], "bad:1");
        hidden.show();
        engine.wait_until_dead(&second, SOON);
        own.wait_for_end(&second);
    }
    engine.assert_same(&lives);
}

/// It could not speak to anyone any more, were that one gone.
#[test]
fn the_one_whose_network_it_joins_is_its_own_too() {
    let engine = engine();
    let socket = format!("{}:/host/run", engine.dir().display());
    let network = engine.run_life(&[], "bad:1");
    let joins = format!("--network=container:{}", network.id);
    let own = engine.run_dockwarden("own:1", LIST, &socket, &[&joins]);
    own.wait_ready();
    let lives = [engine.life(&own.id), network];
    let other = engine.run(&[&joins], "bad:1", &[]);
    engine.wait_until_dead(&other, SOON);
    own.wait_for_end(&other);
    engine.assert_same(&lives);
}

/// The mount stays with the socket of an engine that is gone. Over a minute: `make soak` runs it.
#[test]
#[ignore = "takes over a minute; `make soak` runs it"]
fn with_the_socket_s_file_alone_it_ends_and_its_restart_binds_the_new_one() {
    let engine = engine();
    let socket = format!("{}:/host/run/d.sock", engine.socket_path().display());
    let own = engine.run_dockwarden("own:1", LIST, &socket, &["--restart", "always"]);
    own.wait_ready();
    let control = engine.run_life(&[], "good:1");
    engine.restart_dockerd();
    let bad = run_forbidden(&engine);
    let begun = engine.life(&own.id);
    eventually("it ended and was started again", 4 * SOON, || {
        engine.life(&own.id).restarts > begun.restarts
    });
    assert!(own.log().contains("mounted as a file"), "{}", own.log());
    engine.wait_until_dead(&bad, SOON + Duration::from_secs(1));
    own.wait_for_end(&bad);
    engine.assert_same(&[control]);
}
