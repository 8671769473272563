//! `make bench`: how long a forbidden container lives under dockwarden and under what else there is, what a
//! burst takes, what `GET /containers` serves, what dockwarden costs and what those wait whom it leaves alone, all
//! side by side in one run on engines of its own. Prints it, and writes docs/performance.md and docs/performance.svg.
//!
//! What a decision takes is measured by `cargo bench --bench decision` before; this one reports it.
//!
//! Lives are what the victims saw: each writes when it began, and then that it still lives, into a file that
//! all share (`victims.rs`). No log and no event has a say.
//!
//! `make bench STARTS=20` for a quick look; it writes nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod bystanders;
mod decisions;
mod enforcers;
mod floor;
mod report;
mod requests;
mod statistics;
#[path = "../../tests/support/mod.rs"]
mod support;
mod usage;
mod victims;

use enforcers::{Enforcer, Kind};
use report::Report;
use std::path::Path;
use support::Engine;
use victims::Victims;

/// How many starts of each kind, where nothing else is asked for.
const STARTS: usize = 200;
/// The starts of each are spread over so many turns, so that a slow minute of the machine is everyone's.
const TURNS: usize = 4;
/// How many start at once, where several do.
const AT_ONCE: usize = 8;
/// How many bursts each gets.
const BURSTS: usize = 2;
/// How many starts a burst has.
const BURST_STARTS: usize = 100;

fn main() {
    // `cargo bench` passes an option of its own as well.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("floor") => return floor::enforce(Path::new(&arguments[1])),
        Some("serve") => return requests::serve(Path::new(&arguments[1]), &arguments[2]),
        _ => {}
    }
    let asked = arguments.iter().find_map(|one| one.parse().ok());
    let starts = asked.unwrap_or(STARTS).next_multiple_of(TURNS);

    let mut report = Report::begin(starts);
    {
        let engine = Engine::start();
        engine.image("good:1");
        engine.image("bad:1");
        let victims = Victims::of(&engine);
        for turn in 0..TURNS {
            // Whoever came first comes last.
            for place in 0..Kind::ALL.len() {
                let kind = Kind::ALL[(place + turn) % Kind::ALL.len()];
                println!("turn {} of {TURNS}: {}", turn + 1, kind.name());
                let enforcer = Enforcer::start(&engine, kind);
                victims.wait_until_enforced();
                let figures = report.of(kind);
                figures.idle.extend(victims.one_by_one(starts / TURNS));
                let several = victims.several(starts / TURNS, AT_ONCE);
                figures.several.extend(several);
                if turn < BURSTS {
                    figures.bursts.push(victims.burst(BURST_STARTS, &enforcer));
                }
            }
        }
    }
    report.requests = requests::measure();
    report.usage = usage::measure();
    report.bystanders = bystanders::measure();
    let is_whole = starts >= STARTS;
    report.print();
    if is_whole {
        report.write(Path::new(env!("CARGO_MANIFEST_DIR")));
    }
}
