//! What allowed containers are made to wait: how long one takes to be created and started with nobody following the
//! engine, and with dockwarden on each of its paths.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::enforcers::{Enforcer, Kind};
use crate::support::Engine;

/// As many of each.
const STARTS: usize = 200;
const TURNS: usize = 4;
/// Nobody, and dockwarden on each of its paths.
const FOLLOWERS: [Option<Kind>; 4] = [None, Some(Kind::Api), Some(Kind::Pid), Some(Kind::Gate)];

/// How long the starts took under one follower.
pub(crate) struct Starts {
    pub(crate) follower: Option<Kind>,
    pub(crate) lengths: Vec<Duration>,
}

pub(crate) fn measure() -> Vec<Starts> {
    let engine = Engine::start();
    engine.image("good:1");
    let mut all = FOLLOWERS.map(|follower| Starts {
        follower,
        lengths: Vec::new(),
    });
    // The first ones find nothing in the page cache.
    for _ in 0..10 {
        start(&engine);
    }
    for turn in 0..TURNS {
        // Whoever came first comes last.
        for place in 0..all.len() {
            let starts = &mut all[(place + turn) % FOLLOWERS.len()];
            let _follower = starts.follower.map(|kind| Enforcer::start(&engine, kind));
            let lengths = (0..STARTS / TURNS).map(|_| start(&engine));
            starts.lengths.extend(lengths);
        }
    }
    all.into()
}

fn start(engine: &Engine) -> Duration {
    let body = json!({"Image": "good:1", "HostConfig": {"NetworkMode": "none"}});
    let begun = Instant::now();
    let (status, made) = engine.api("POST", "/containers/create", Some(&body));
    assert_eq!(status, 201, "{made}");
    let path = format!("/containers/{}", made["Id"].as_str().expect("an id"));
    let (status, answer) = engine.api("POST", &format!("{path}/start"), None);
    let length = begun.elapsed();
    assert_eq!(status, 204, "{answer}");
    let state = engine.api("GET", &format!("{path}/json"), None).1["State"].clone();
    assert_eq!(state["Running"], true, "an allowed container runs: {state}");
    engine.api("DELETE", &format!("{path}?force=1"), None);
    length
}
