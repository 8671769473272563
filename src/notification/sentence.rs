//! What happened, as a sentence for people. What strangers wrote stands in it with all that hides
//! escaped, and no longer than a chat service takes.

use super::message::Counts;
use crate::allowlist::{Action, Verdict};
use crate::printable::{self, counted};
use crate::record::{ListChange, ListOutcome, Outcome, Record};
use crate::weigh::hold;

/// More is for the audit log.
const LONGEST: usize = 1_500;

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

/// What was only counted, in words for each kind.
pub(super) fn of_counts(counts: &Counts) -> String {
    let of_kind = |(kind, &number): (&&str, &usize)| match *kind {
        "done" => format!("{number} ended"),
        "never-ran" => format!("{number} ended before they ran"),
        "gone" => format!("{number} ended by someone else"),
        "ended-itself" => format!("{number} ended by themselves"),
        "failed" => format!("{number} could not be ended"),
        "escaped" => format!("{number} still running"),
        "audit-only" => format!("{number} left running (audit mode)"),
        "would-deny" => format!("{number} allowed by rules that only audit"),
        "unknown" => format!("{number} can't be judged"),
        "allowlist-held" => counted(number, "change") + " held back",
        "allowlist-invalid" => counted(number, "invalid allowlist"),
        "allowlist-last-accepted" => counted(number, "start") + " with the last accepted allowlist",
        "mode" => counted(number, "other mode"),
        "engine-lost" => counted(number, "time") + " the engine was lost",
        "engine-back" => counted(number, "time") + " the engine came back",
        other => counted(number, other),
    };
    let kinds: Vec<_> = counts.iter().map(of_kind).collect();
    let all: usize = counts.values().sum();
    format!("{all} more in the meantime: {}", kinds.join(", "))
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
    let Some(became) = record.became() else {
        return "has run for ten seconds and can't be judged".to_owned();
    };
    let lived = match record.lived_ms {
        Some(lived) => format!(" after {lived:.0} ms"),
        None => String::new(),
    };
    let is = match record.verdict == Verdict::Unknown.as_str() {
        true => "can't be judged",
        false => "is denied",
    };
    match record.outcome {
        Some(Outcome::Done) if record.action == Some(Action::Pause) => format!("was {became}"),
        Some(Outcome::Done) => format!("was {became}{lived}"),
        Some(Outcome::Gone | Outcome::AuditOnly) => format!("{is}, and was {became}"),
        Some(Outcome::EndedItself) => format!("{is}, and {became}{lived}"),
        Some(Outcome::Failed | Outcome::Escaped) => format!("{is} and {became}"),
        Some(Outcome::WouldDeny) => format!("would be denied: it is {became}"),
        Some(Outcome::NeverRan) | None => format!("was {became}"),
    }
}

/// What became of a list, where that is told: its kind and the sentence.
pub(super) fn of_list(change: &ListChange) -> Option<(&'static str, String)> {
    let error = change.error.as_deref();
    Some(match change.outcome {
        ListOutcome::Applied => return None,
        ListOutcome::Invalid => {
            let text = "the allowlist is not valid, and is kept out";
            ("allowlist-invalid", with(text, error))
        }
        ListOutcome::LastAccepted => {
            let text = "the last accepted allowlist is in force, not the file's";
            ("allowlist-last-accepted", with(text, error))
        }
        ListOutcome::Held => ("allowlist-held", of_hold(change)),
    })
}

fn of_hold(change: &ListChange) -> String {
    let hash = change.allowlist_hash.as_deref().unwrap_or_default();
    let in_force = change.previous_hash.as_deref().unwrap_or_default();
    let weighed = match (change.would_end, change.running) {
        (Some(would_end), Some(running)) => Ok((would_end, running, &*change.containers)),
        _ => Err(change.error.as_deref().unwrap_or("not weighed yet")),
    };
    match hold(hash, in_force, weighed) {
        text if weighed.is_ok() => text + "; `dockwarden check --accept` accepts it",
        text => text,
    }
}

/// A sentence, with the words of who knows more.
pub(super) fn with(text: &str, error: Option<&str>) -> String {
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

    fn told(verdict: &str, action: &str, outcome: &str) -> String {
        let record = serde_json::json!({
            "v": 1, "seq": 1, "event": "decision", "time": "1970-01-01T00:00:00Z", "host": "h",
            "container_id": "ab".repeat(32), "labels": {}, "verdict": verdict, "trigger": "start",
            "mode": "enforce", "action": action, "outcome": outcome, "lived_ms": 7.0, "allowlist_hash": "00",
        });
        became(&serde_json::from_value(record).expect("a record"))
    }

    #[test]
    fn what_cannot_be_judged_is_not_said_to_be_denied() {
        let ended_itself = |verdict| told(verdict, "kill", "ended-itself");
        let denied = "is denied, and ended by itself after 7 ms";
        assert_eq!(ended_itself("denied"), denied);
        let unknown = "can't be judged, and ended by itself after 7 ms";
        assert_eq!(ended_itself("unknown"), unknown);
    }

    #[test]
    fn what_became_of_it_is_told_as_everywhere() {
        for (action, outcome, became) in [
            ("kill", "done", "was killed after 7 ms"),
            ("stop", "done", "was stopped after 7 ms"),
            ("remove", "done", "was removed after 7 ms"),
            ("pause", "done", "was paused"),
            ("kill", "never-ran", "was ended before it ran"),
            ("kill", "gone", "is denied, and was ended by someone else"),
            (
                "kill",
                "failed",
                "is denied and could not be ended; trying again",
            ),
            ("kill", "escaped", "is denied and still runs"),
            (
                "kill",
                "audit-only",
                "is denied, and was left running (audit mode)",
            ),
            (
                "kill",
                "would-deny",
                "would be denied: it is allowed by a rule that only audits",
            ),
        ] {
            assert_eq!(told("denied", action, outcome), became);
        }
    }

    #[test]
    fn what_is_held_is_told_with_what_it_would_end() {
        let told = |weighed: Option<usize>, previous_hash: &str| {
            let change = ListChange {
                allowlist_hash: Some("ab".to_owned()),
                previous_hash: Some(previous_hash.to_owned()),
                would_end: weighed,
                running: weighed.map(|_| 40),
                containers: (0..weighed.unwrap_or(0))
                    .map(|number| format!("n{number}"))
                    .collect(),
                error: weighed
                    .is_none()
                    .then(|| "the engine is out of reach".to_owned()),
                ..ListChange::new(ListOutcome::Held)
            };
            of_list(&change).expect("it is told").1
        };
        let ending = "it would end 12 of the 40 running containers: n0, n1, n2, n3, n4, n5, n6, n7, n8, n9 and 2 more; `dockwarden check --accept` accepts it";
        assert_eq!(
            told(Some(12), "cd"),
            format!("a newer list is held back: {ending}")
        );
        assert_eq!(
            told(Some(12), "ab"),
            format!("leaving audit mode is held back: {ending}")
        );
        assert_eq!(
            told(None, "ab"),
            "leaving audit mode waits: what it would end is not known (the engine is out of reach)"
        );
    }

    #[test]
    fn a_summary_counts_by_kind() {
        let counts = [("escaped", 2), ("done", 488)].into();
        assert_eq!(
            of_counts(&counts),
            "490 more in the meantime: 488 ended, 2 still running"
        );
    }
}
