//! What the process before had on record when it was killed. It may have ended containers and not lived
//! to write that down.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use super::search::from_the_end;
use crate::container::ContainerId;
use crate::record::{Life, Outcome};

/// How far back a log is read.
const LINES: usize = 1_000;

/// What stands in the log of a process that did not stop by itself.
#[derive(Debug, Default)]
pub struct Before {
    /// What started since then ought to be on record; none where the process before stopped cleanly.
    since: Option<Timestamp>,
    /// When the last end of each container was put on record.
    ends: BTreeMap<ContainerId, Timestamp>,
}

/// What is of interest in a line. One of another kind may not be read as this: then nothing in it is.
#[derive(Deserialize)]
struct Line {
    event: String,
    time: Timestamp,
    container_id: Option<ContainerId>,
    outcome: Option<Outcome>,
    change: Option<Life>,
}

impl Before {
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let mut before = Self::default();
        let mut lines = 0;
        from_the_end(path, |line| {
            lines += 1;
            let Ok(line) = serde_json::from_slice::<Line>(line) else {
                return ControlFlow::Continue(());
            };
            match (line.event.as_str(), line.change) {
                ("lifecycle", Some(Life::Stopped)) => return ControlFlow::Break(()),
                // That one may have been killed as well, and the one before it.
                ("lifecycle", Some(Life::Started)) => before.since = Some(line.time),
                _ if lines >= LINES => {
                    before.since = Some(line.time);
                    return ControlFlow::Break(());
                }
                _ => {}
            }
            if let (Some(id), Some(outcome)) = (line.container_id, line.outcome)
                && outcome.is_end()
            {
                before.ends.entry(id).or_insert(line.time);
            }
            ControlFlow::Continue(())
        })?;
        Ok(before)
    }

    /// Whether ends may be missing at all.
    pub fn is_cut_short(&self) -> bool {
        self.since.is_some()
    }

    /// Whether the end of a life that began then, by the engine, is missing.
    pub fn misses(&self, id: &ContainerId, started_at: Timestamp) -> bool {
        let is_on_record = self.ends.get(id).is_some_and(|end| *end > started_at);
        self.since.is_some_and(|since| started_at > since) && !is_on_record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Before {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.jsonl");
        std::fs::write(&path, lines.join("\n")).expect("written");
        Before::read(&path).expect("read")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn lifecycle(change: &str, second: i64) -> String {
        let time = at(second);
        format!(r#"{{"event":"lifecycle","time":"{time}","change":"{change}"}}"#)
    }

    fn end(id: &ContainerId, outcome: &str, second: i64) -> String {
        let (id, time) = (id.as_str(), at(second));
        format!(
            r#"{{"event":"decision","time":"{time}","container_id":"{id}","outcome":"{outcome}"}}"#
        )
    }

    #[test]
    fn only_a_process_that_was_killed_misses_ends() {
        let id = ContainerId::parse(&"ab".repeat(32)).expect("full id");
        let (started, stopped) = (lifecycle("started", 10), lifecycle("stopped", 20));
        let (done, failed) = (end(&id, "done", 16), end(&id, "failed", 16));
        let again = lifecycle("started", 30);
        // (lines, begin of a life, whether its end is missing)
        let table: &[(&[&str], i64, bool)] = &[
            (&[], 15, false),
            (&[&started], 15, true),
            (&[&started], 5, false),
            (&[&started, &stopped], 15, false),
            (&[&started, &stopped, &again], 15, false),
            (&[&started, &stopped, &again], 31, true),
            (&[&started, &again], 15, true),
            (&[&started, &done], 15, false),
            (&[&started, &done], 17, true),
            (&[&started, &failed], 15, true),
            (&[&started, &done, "{\"event\":\"deci"], 15, false),
        ];
        for (lines, begin, is_missing) in table {
            let before = read(lines);
            assert_eq!(before.misses(&id, at(*begin)), *is_missing, "{lines:?}");
        }
    }

    #[test]
    fn what_is_further_back_than_is_read_is_not_missed() {
        let id = ContainerId::parse(&"ab".repeat(32)).expect("full id");
        let other = ContainerId::parse(&"cd".repeat(32)).expect("full id");
        let mut lines = vec![lifecycle("started", 10)];
        lines.extend((0..1_500).map(|number| end(&other, "done", 100 + number)));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let before = read(&lines);
        assert!(!before.misses(&id, at(100 + 400)));
        assert!(before.misses(&id, at(100 + 600)));
    }
}
