//! `make soak`: forbidden and allowed containers start and end for minutes on an engine of its own, which
//! restarts again and again, and dockwarden's release build is watched. One table says what came of it;
//! the exit code is 1 where something escaped, misfired, leaked or is not on record as it was.
//!
//! The soak believes its own eyes: `watch.rs` asks the engine, `books.rs` keeps what was done and seen,
//! and only `report.rs` looks at what dockwarden says, to compare.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod books;
mod report;
#[path = "../../tests/support/mod.rs"]
mod support;
mod watch;
mod work;

use books::Books;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use support::{Engine, Warden};

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

/// More do not start any faster on two processors.
const WORKERS: u64 = 4;
/// How long what is under way at the end may take to be over.
const DRAIN: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    // `cargo bench` passes an option of its own as well.
    let minutes = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let length = Duration::from_secs_f64(60.0 * minutes.unwrap_or(10.0));

    let engine = Engine::start();
    engine.image("good:1");
    engine.image("bad:1");
    let builder = Warden::on(&engine).allowlist(LIST);
    let log = builder.dir().join("audit.jsonl");
    let log = log.to_str().expect("a path in UTF-8");
    // As the image and the service unit have it.
    let builder = builder
        .args(["--audit-log", log])
        .env("MALLOC_ARENA_MAX", "1");
    let warden = builder.start();
    warden.wait_ready();

    let (books, pid) = (Books::begin(length), warden.pid());
    let process = std::thread::scope(|scope| {
        scope.spawn(|| watch::containers(&engine, &books));
        scope.spawn(|| watch::events(&engine, &books));
        scope.spawn(|| work::clear_away(&engine, &books));
        let process = scope.spawn(|| watch::process(pid, &books));
        for worker in 0..WORKERS {
            let (engine, books) = (&engine, &books);
            scope.spawn(move || work::start_containers(engine, books, worker));
        }
        work::restart_engine(&engine, &books);
        books.close();
        let drained = Instant::now();
        while !books.is_all_over() && drained.elapsed() < DRAIN && !books.has_failed() {
            std::thread::sleep(Duration::from_millis(100));
        }
        books.end();
        process.join().expect("the process is watched")
    });
    report::print(&books, &warden, log, &process)
}
