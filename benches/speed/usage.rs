//! What dockwarden takes: resident memory, and of one processor.

use std::time::{Duration, Instant};

use crate::enforcers::{Enforcer, Kind};
use crate::support::Engine;

/// For so long it is watched.
const LENGTH: Duration = Duration::from_secs(30);
/// As many threads start containers as bring two processors to their limit.
const STARTERS: usize = 4;
const ONE_BY_ONE: u32 = 50;

/// Of dockwarden on an engine with nothing to do, and with as many starts as the machine can do.
#[derive(Default)]
pub(crate) struct Usage {
    /// MiB.
    pub(crate) idle_resident: f64,
    /// Hundredths of one processor.
    pub(crate) idle_processor: f64,
    pub(crate) starts_a_second: f64,
    pub(crate) busy_resident: f64,
    pub(crate) busy_processor: f64,
}

pub(crate) fn measure() -> Usage {
    let engine = Engine::start();
    engine.image("good:1");
    let warden = Enforcer::start(&engine, Kind::Gate);
    let idle_processor = processor(warden.pid(), LENGTH);
    let idle_resident = resident(warden.pid());
    let begun = Instant::now();
    let (starts, busy_processor) = std::thread::scope(|scope| {
        let start = || {
            let mut starts = 0;
            while begun.elapsed() < LENGTH {
                let options = ["--rm", "--network=none"];
                engine.run(&options, "good:1", &["exit", "0"]);
                starts += 1;
            }
            starts
        };
        let starters: Vec<_> = (0..STARTERS).map(|_| scope.spawn(start)).collect();
        let processor = processor(warden.pid(), LENGTH);
        let starts = starters.into_iter();
        let starts: u32 = starts.map(|one| one.join().expect("a starter")).sum();
        (starts, processor)
    });
    Usage {
        idle_resident,
        idle_processor,
        starts_a_second: f64::from(starts) / begun.elapsed().as_secs_f64(),
        busy_resident: resident(warden.pid()),
        busy_processor,
    }
}

/// In MiB.
pub(crate) fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.expect("its memory") / 1_024.0
}

/// In hundredths of one processor, over so long.
pub(crate) fn processor(pid: u32, length: Duration) -> f64 {
    let (before, begun) = (nanoseconds(pid), Instant::now());
    std::thread::sleep(length);
    let used = nanoseconds(pid).saturating_sub(before);
    100.0 * used as f64 / begun.elapsed().as_nanos() as f64
}

/// What the start and the end of one allowed container takes of a processor, in milliseconds.
pub(crate) fn of_one_start(engine: &Engine, pid: u32) -> f64 {
    let before = nanoseconds(pid);
    for _ in 0..ONE_BY_ONE {
        engine.run(&["--rm", "--network=none"], "good:1", &["exit", "0"]);
    }
    // What follows the last end belongs to it.
    std::thread::sleep(Duration::from_secs(1));
    let used = nanoseconds(pid).saturating_sub(before);
    used as f64 / 1e6 / f64::from(ONE_BY_ONE)
}

/// What all its threads have run: the kernel's ticks of 10 ms are too coarse for an idle one.
fn nanoseconds(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    threads.filter_map(of_thread).sum()
}
