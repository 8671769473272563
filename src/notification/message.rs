//! What is told, of all that is put on record: what was ended or should have been, and what keeps
//! dockwarden from its work.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::sentence;
use crate::record::{Connection, Entry, Outcome, Record, What};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Level {
    Info,
    /// dockwarden did what it is there for.
    Warning,
    /// It could not, or can't.
    Critical,
}

/// How many there are, by what they are.
pub(super) type Counts = BTreeMap<&'static str, usize>;

/// One notification.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// A sentence for people.
    pub(super) text: String,
    pub(super) level: Level,
    /// The audit record, or what takes its place.
    pub(super) record: Value,
    /// What it counts as, a summary as all that it sums up.
    pub(super) counts: Counts,
}

impl Message {
    /// One that says it is a test.
    pub(super) fn test(host: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let text = format!("this is a test: notifications of dockwarden {version} arrive");
        Self::without_record("test", host, text, Level::Info, [("test", 1)].into())
    }

    /// How many were not told one by one.
    pub(super) fn summary(counts: Counts, host: &str) -> Self {
        let text = sentence::of_counts(&counts);
        Self::without_record("summary", host, text, Level::Warning, counts)
    }

    /// What is told of a decision: all but that something is allowed.
    pub(super) fn of_decision(record: &Record) -> Option<Self> {
        let (kind, level) = match record.outcome {
            Some(outcome @ (Outcome::Failed | Outcome::Escaped)) => {
                (outcome.as_str(), Level::Critical)
            }
            Some(outcome) => (outcome.as_str(), Level::Warning),
            None if record.verdict == "unknown" => ("unknown", Level::Critical),
            None => return None,
        };
        let text = sentence::of_decision(record);
        Self::on_record(kind, &record.host, &text, level, record)
    }

    fn on_record(
        kind: &'static str,
        host: &str,
        text: &str,
        level: Level,
        record: &impl Serialize,
    ) -> Option<Self> {
        Some(Self {
            text: sentence::on_host(host, text),
            level,
            // A record is made of strings, numbers and maps with string keys: it always serialises.
            record: serde_json::to_value(record).ok()?,
            counts: [(kind, 1)].into(),
        })
    }

    fn without_record(event: &str, host: &str, text: String, level: Level, counts: Counts) -> Self {
        Self {
            record: json!({
                "v": 1,
                "event": event,
                "time": Timestamp::now(),
                "host": host,
                "text": text,
                "counts": counts,
            }),
            text: sentence::on_host(host, &text),
            level,
            counts,
        }
    }

    pub(super) fn host(&self) -> &str {
        self.record["host"].as_str().unwrap_or_default()
    }
}

/// Hears all that is put on record, and picks what is told.
#[derive(Debug, Default)]
pub(super) struct Listener {
    engine_is_lost: bool,
}

impl Listener {
    pub(super) fn hear(&mut self, entry: &Entry) -> Option<Message> {
        let happening = match entry {
            Entry::Decision(record) => return Message::of_decision(record),
            Entry::Happening(happening) => happening,
        };
        let (kind, level, text) = self.of_happening(&happening.what)?;
        Message::on_record(kind, &happening.host, &text, level, &**happening)
    }

    fn of_happening(&mut self, what: &What) -> Option<(&'static str, Level, String)> {
        match what {
            What::Allowlist(change) => {
                let (kind, text) = sentence::of_list(change)?;
                Some((kind, Level::Critical, text))
            }
            // The first one of a process is no change.
            What::Mode { previous: None, .. } => None,
            What::Mode { mode, .. } => {
                let text = format!("the mode is {} now", mode.as_str());
                Some(("mode", Level::Warning, text))
            }
            What::Engine { change, error, .. } => {
                let was_lost = self.engine_is_lost;
                self.engine_is_lost = *change == Connection::Disconnected;
                match (was_lost, self.engine_is_lost) {
                    (false, true) => {
                        let text = "the engine is out of reach, and nothing can be ended";
                        let text = sentence::with(text, error.as_deref());
                        Some(("engine-lost", Level::Critical, text))
                    }
                    (true, false) => {
                        let text = "the engine answers again".to_owned();
                        Some(("engine-back", Level::Info, text))
                    }
                    _ => None,
                }
            }
            What::Lifecycle { .. } | What::RestartPolicy { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowlist::Mode;
    use crate::record::{Happening, ListChange, ListOutcome};

    fn happening(what: What) -> Entry {
        let happening = Happening {
            v: 1,
            seq: 1,
            time: Timestamp::UNIX_EPOCH,
            host: "vm".to_owned(),
            what,
        };
        Entry::Happening(happening.into())
    }

    fn engine(change: Connection) -> Entry {
        happening(What::Engine {
            change,
            version: None,
            error: None,
        })
    }

    #[test]
    fn an_engine_is_told_when_it_is_lost_and_when_it_is_back() {
        let mut listener = Listener::default();
        let mut kind = |change| {
            let message = listener.hear(&engine(change))?;
            message.counts.into_keys().next()
        };
        assert_eq!(kind(Connection::Connected), None);
        assert_eq!(kind(Connection::Disconnected), Some("engine-lost"));
        assert_eq!(kind(Connection::Disconnected), None);
        assert_eq!(kind(Connection::Connected), Some("engine-back"));
    }

    #[test]
    fn lists_that_are_kept_out_and_modes_that_change_are_told() {
        let list = |outcome| What::Allowlist(ListChange::new(outcome));
        let mode = |previous| What::Mode {
            mode: Mode::Audit,
            previous,
        };
        for (what, kind) in [
            (list(ListOutcome::Applied), None),
            (list(ListOutcome::Invalid), Some("allowlist-invalid")),
            (list(ListOutcome::Held), Some("allowlist-held")),
            (
                list(ListOutcome::LastAccepted),
                Some("allowlist-last-accepted"),
            ),
            (mode(None), None),
            (mode(Some(Mode::Enforce)), Some("mode")),
        ] {
            let message = Listener::default().hear(&happening(what.clone()));
            let found = message.and_then(|message| message.counts.into_keys().next());
            assert_eq!(found, kind, "{what:?}");
        }
    }
}
