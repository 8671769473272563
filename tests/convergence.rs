//! The central property: after any sequence of what may happen to a host, once things are quiet, what
//! runs is what a fresh full look would leave, and what was allowed all along was never touched.
//!
//! `DOCKWARDEN_SCENARIOS=200 cargo test --test convergence` tries more of them;
//! `DOCKWARDEN_SEED=17 cargo test --test convergence` tries one again and tells it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "convergence/model.rs"]
mod model;
#[path = "convergence/play.rs"]
mod play;
#[path = "convergence/story.rs"]
mod story;
mod support;

use play::Play;
use std::sync::atomic::{AtomicU64, Ordering};
use story::Story;

/// So many take about a minute on two processors.
const SCENARIOS: u64 = 12;
/// Engines that run beside each other.
const AT_ONCE: usize = 2;

#[test]
fn whatever_happens_what_runs_is_what_a_full_sweep_would_leave() {
    let number = |name: &str| Some(std::env::var(name).ok()?.parse().expect("a number"));
    if let Some(seed) = number("DOCKWARDEN_SEED") {
        return play(seed);
    }
    let count = number("DOCKWARDEN_SCENARIOS").unwrap_or(SCENARIOS);
    let next = AtomicU64::new(0);
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let players: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= count {
                            return failed;
                        }
                        if std::panic::catch_unwind(|| play(seed)).is_err() {
                            eprintln!(
                                "try it again: DOCKWARDEN_SEED={seed} cargo test --test convergence"
                            );
                            failed.push(seed);
                        }
                    }
                })
            })
            .collect();
        let players = players.into_iter();
        players.flat_map(|player| player.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "failed: seeds {failed:?}");
}

/// Drawn stories seldom need each event: another one tells of the same container, or a full list comes.
#[test]
fn what_one_event_alone_tells_is_heard() {
    tell("events", &Story::of_single_events());
}

fn play(seed: u64) {
    tell(&format!("seed {seed}"), &Story::draw(seed));
}

fn tell(title: &str, story: &Story) {
    let mut play = Play::begin(title, story);
    for step in &story.steps {
        play.step(step);
    }
    play.end();
}
