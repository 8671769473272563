//! What happened, as a sentence for people. What strangers wrote stands in it with all that hides
//! escaped, and no longer than a chat service takes.

use super::message::Counts;
use crate::allowlist::{Action, Verdict};
use crate::printable;
use crate::record::{Connection, ListChange, ListOutcome, Outcome, Record, What};

/// More is for the audit log.
const LONGEST: usize = 1_500;
/// Of many containers so many are named.
const NAMED: usize = 10;

pub(super) fn on_host(host: &str, text: &str) -> String {
    let begin = match host.is_empty() {
        true => String::new(),
        false => format!("{host}: "),
    };
    let whole = printable::line(&format!("{begin}{text}"));
    match whole.char_indices().nth(LONGEST) {
        None => whole,
        Some((end, _)) => format!("{}…", &whole[..end]),
    }
}

pub(super) fn of_counts(counts: &Counts) -> String {
    let of_kind = |(kind, number): (&&str, &usize)| format!("{number} {kind}");
    let kinds: Vec<_> = counts.iter().map(of_kind).collect();
    let all: usize = counts.values().sum();
    format!("{all} more were not told one by one: {}", kinds.join(", "))
}

pub(super) fn of_decision(record: &Record) -> String {
    let id = record.container_id.short();
    let name = record.container_name.as_deref().unwrap_or(id);
    let image = record.image.as_deref().unwrap_or("no image");
    let detail = record.detail.as_deref();
    let mut text = format!("container {name} ({image}) {}", became(record));
    for more in [detail, record.error.as_deref()].into_iter().flatten() {
        text = format!("{text}: {more}");
    }
    text
}

fn became(record: &Record) -> String {
    let lived = match record.lived_ms {
        Some(lived) => format!(" after {lived:.0} ms"),
        None => String::new(),
    };
    let is = match record.verdict == Verdict::Unknown.as_str() {
        true => "can't be judged",
        false => "is denied",
    };
    let text = match record.outcome {
        Some(Outcome::Done) if record.action == Some(Action::Pause) => "was paused",
        Some(Outcome::Done) => return format!("was ended{lived}"),
        Some(Outcome::NeverRan) => "was ended before it ran",
        Some(Outcome::Gone) => return format!("{is}, and was ended by someone else"),
        Some(Outcome::EndedItself) => return format!("{is}, and ended by itself{lived}"),
        Some(Outcome::Failed) => {
            return format!("{is} and could not be ended; that is tried again");
        }
        Some(Outcome::Escaped) => {
            return format!("{is} and still runs ten seconds after its verdict");
        }
        Some(Outcome::AuditOnly) => return format!("{is}, and was left running in audit mode"),
        Some(Outcome::WouldDeny) => "would be denied: it is allowed by a rule that only audits",
        None => "has run for ten seconds and can't be judged",
    };
    text.to_owned()
}

pub(super) fn of_happening(what: &What) -> String {
    match what {
        What::Allowlist(change) => of_list(change),
        What::Mode { mode, .. } => format!("the mode is {} now", mode.as_str()),
        What::Engine {
            change: Connection::Disconnected,
            error,
            ..
        } => with(
            "the engine is out of reach, and nothing can be ended",
            error.as_deref(),
        ),
        What::Engine { .. } => "the engine answers again".to_owned(),
        What::Lifecycle { .. } => "dockwarden started or stopped".to_owned(),
        What::RestartPolicy { .. } => "a restart policy was changed".to_owned(),
    }
}

fn of_list(change: &ListChange) -> String {
    let error = change.error.as_deref();
    match change.outcome {
        ListOutcome::Applied => "another allowlist is in force".to_owned(),
        ListOutcome::Invalid => with("the allowlist is not valid, and is kept out", error),
        ListOutcome::LastAccepted => with(
            "the last accepted allowlist is in force, not the file's",
            error,
        ),
        ListOutcome::Held => {
            let names = &change.containers;
            let named = names.get(..NAMED).unwrap_or(names).join(", ");
            let would_end = match (change.would_end, change.running) {
                (Some(would_end), Some(running)) => {
                    format!("it would end {would_end} of {running} containers that run ({named})")
                }
                _ => "nobody can tell yet what it would end".to_owned(),
            };
            with(&format!("the allowlist is held back: {would_end}"), error)
        }
    }
}

fn with(text: &str, error: Option<&str>) -> String {
    match error {
        Some(error) => format!("{text}: {error}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_wrote_is_made_plain_and_short() {
        let shown = "vm: a\\u{d}\\u{a}\\u{1b}[2J\\u{202e}b";
        assert_eq!(on_host("vm", "a\r\n\u{1b}[2J\u{202e}b"), shown);
        assert_eq!(on_host("", "a"), "a");
        let long = on_host("vm", &"ä".repeat(5_000));
        assert_eq!(long.chars().count(), LONGEST + 1);
    }

    #[test]
    fn what_cannot_be_judged_is_not_said_to_be_denied() {
        let told = |verdict: &str| {
            let record = serde_json::json!({
                "v": 1, "seq": 1, "event": "decision", "time": "1970-01-01T00:00:00Z", "host": "h",
                "container_id": "ab".repeat(32), "labels": {}, "verdict": verdict, "trigger": "start",
                "mode": "enforce", "outcome": "ended-itself", "lived_ms": 7.0, "allowlist_hash": "00",
            });
            became(&serde_json::from_value(record).expect("a record"))
        };
        assert_eq!(told("denied"), "is denied, and ended by itself after 7 ms");
        let unknown = "can't be judged, and ended by itself after 7 ms";
        assert_eq!(told("unknown"), unknown);
    }

    #[test]
    fn a_summary_counts_by_kind() {
        let counts = [("escaped", 2), ("done", 488)].into();
        assert_eq!(
            of_counts(&counts),
            "490 more were not told one by one: 488 done, 2 escaped"
        );
    }
}
