//! What the soak sees: the engine's containers and events, and dockwarden's process.

use crate::books::{Books, ESCAPED};
use crate::support::Engine;
use crate::work::call;
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often the engine is asked for its containers.
const LOOK_EACH: Duration = Duration::from_millis(250);
/// How long an engine may be quiet before its events are asked for anew.
const QUIET: Duration = Duration::from_secs(5);

/// Sees which containers live and which are dead, and since when.
pub(crate) fn containers(engine: &Engine, books: &Books) {
    let _guard = books.ends_with_me();
    while !books.is_over() {
        let before = Instant::now();
        let list = call(engine, "GET", "/containers/json?all=1", &Value::Null);
        match list {
            Some((200, Value::Array(list))) => look(books, &list, before),
            // Nobody can end anything without the engine: that time does not count.
            _ => {
                for container in books.kept().containers.values_mut() {
                    container.lives_since = None;
                }
            }
        }
        std::thread::sleep(LOOK_EACH);
    }
}

fn look(books: &Books, list: &[Value], before: Instant) {
    let states: HashMap<&str, &str> = list
        .iter()
        .filter_map(|one| Some((one["Id"].as_str()?, one["State"].as_str()?)))
        .collect();
    let now = Instant::now();
    for (id, container) in &mut books.kept().containers {
        if container.cleared_at.is_some() || container.called_at >= before {
            continue;
        }
        match states.get(&**id) {
            Some(&("running" | "paused" | "restarting")) => {
                container.dead_since = None;
                let since = *container.lives_since.get_or_insert(container.called_at.max(
                    // Seen dead or not at all before: it has begun to live again since.
                    now.checked_sub(LOOK_EACH * 2).unwrap_or(now),
                ));
                container.has_escaped |=
                    !container.is_allowed && now.duration_since(since) > ESCAPED;
            }
            // Not started yet, or never.
            Some(&"created") if now.duration_since(container.called_at) < ESCAPED => {}
            _ => {
                container.lives_since = None;
                container.dead_since.get_or_insert(now);
            }
        }
    }
}

/// Hears of starts, signals and deaths, across the engine's restarts.
pub(crate) fn events(engine: &Engine, books: &Books) {
    let _guard = books.ends_with_me();
    let filters = "%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22start%22%2C%22kill%22%2C%22die%22%5D%7D";
    let mut since = 0;
    while !books.is_over() {
        // A second of overlap: sets don't count twice.
        let path = format!("/events?since={}&filters={filters}", since - 1);
        let Ok(stream) = engine.stream(&path) else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        while let Some(line) = stream.next_line(QUIET) {
            let event: Value = serde_json::from_str(&line).expect("an event");
            let time = event["timeNano"].as_i64().expect("a time");
            since = time / 1_000_000_000;
            let id = event["Actor"]["ID"].as_str().expect("an id");
            if event["Action"] == "kill" {
                let signal = event["Actor"]["Attributes"]["signal"].to_string();
                let mut kept = books.kept();
                let known = kept.signals.entry(id.to_owned()).or_default();
                known.insert((time, signal));
                continue;
            }
            let exit = (event["Action"] == "die").then(|| {
                let code = event["Actor"]["Attributes"]["exitCode"].as_str();
                code.and_then(|code| code.parse().ok()).unwrap_or(-1)
            });
            let mut kept = books.kept();
            let known = kept.events.entry(id.to_owned()).or_default();
            known.insert((time, exit));
        }
    }
}

/// A process at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) memory_kib: u64,
    pub(crate) files: usize,
}

/// Looks at a process each second.
pub(crate) fn process(pid: u32, books: &Books) -> Vec<Sample> {
    let _guard = books.ends_with_me();
    let mut samples = Vec::new();
    while !books.is_over() {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        let status = status.expect("dockwarden lives");
        let memory = status.lines().find_map(|line| {
            let rest = line.strip_prefix("VmRSS:")?;
            rest.trim().trim_end_matches(" kB").parse().ok()
        });
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
        samples.push(Sample {
            at: books.elapsed(),
            memory_kib: memory.expect("it has memory"),
            files: files.expect("its files").count(),
        });
        std::thread::sleep(Duration::from_secs(1));
    }
    samples
}
