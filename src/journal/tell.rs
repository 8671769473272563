//! A decision, or what happened, as a log line, in the past tense.

use super::Decision;
use crate::allowlist::{Action, Verdict};
use crate::record::{Connection, Life, ListChange, ListOutcome, Outcome, What};

/// The log line of a decision, in the past tense, after one of how many like it had none.
pub(super) fn tell(decision: &Decision, left_out: u64) {
    let Decision {
        container, verdict, ..
    } = decision;
    let id = container.id.short();
    let name = container.name.as_deref().unwrap_or_default();
    let image = container.image.as_deref().unwrap_or_default();
    let rule = verdict.rule().unwrap_or_default();
    let trigger = decision.trigger.as_str();
    let reason = verdict.reason().map_or("", |reason| reason.as_str());
    let detail = verdict.detail().unwrap_or_default();
    let error = decision.error.as_deref().unwrap_or_default();
    let lived_ms = decision.lived.map(|lived| lived.as_secs_f64() * 1_000.0);
    let action = decision.action.map_or("", Action::as_str);
    if left_out > 0 {
        tracing::warn!(
            image,
            reason,
            left_out,
            "as many as this were like the next one and were left out here; the audit log has them"
        );
    }
    match decision.outcome {
        None if *verdict == Verdict::Unknown => tracing::error!(
            id,
            name,
            image,
            trigger,
            error,
            "container has run for ten seconds and can't be judged"
        ),
        None => tracing::info!(id, name, image, rule, trigger, "container was allowed"),
        Some(_) if *verdict == Verdict::Unknown => {
            tracing::warn!(
                id,
                trigger,
                "container was gone before anybody could look at it"
            );
        }
        Some(Outcome::Done) if decision.action == Some(Action::Pause) => tracing::warn!(
            id,
            name,
            image,
            reason,
            detail,
            trigger,
            "container was paused"
        ),
        Some(Outcome::Done) => tracing::warn!(
            id,
            name,
            image,
            reason,
            detail,
            trigger,
            action,
            lived_ms,
            "container was ended"
        ),
        Some(Outcome::NeverRan) => tracing::warn!(
            id,
            name,
            image,
            reason,
            detail,
            trigger,
            "container was ended before it ran"
        ),
        Some(Outcome::WouldDeny) => tracing::warn!(
            id,
            name,
            image,
            rule,
            trigger,
            "container was allowed by a rule that only audits: it would be denied"
        ),
        Some(Outcome::Gone) => tracing::warn!(
            id,
            name,
            image,
            reason,
            detail,
            trigger,
            "container was ended by someone else"
        ),
        Some(Outcome::EndedItself) => tracing::warn!(
            id,
            name,
            image,
            reason,
            detail,
            trigger,
            lived_ms,
            "denied container ended itself"
        ),
        Some(Outcome::AuditOnly) => tracing::warn!(
            id,
            name,
            image,
            reason,
            detail,
            trigger,
            "denied container was left running: audit"
        ),
        Some(Outcome::Failed) => tracing::error!(
            id,
            name,
            image,
            reason,
            detail,
            trigger,
            action,
            error,
            "container was not ended"
        ),
        Some(Outcome::Escaped) => tracing::error!(
            id,
            name,
            image,
            reason,
            detail,
            trigger,
            action,
            error,
            "denied container still runs ten seconds after its verdict"
        ),
    }
}

/// The log line of what happened, in the past tense, and no record: for a process that has none.
pub fn tell_happening(what: &What) {
    match what {
        What::Allowlist(change) => tell_list(change),
        What::Mode { mode, previous } => {
            let previous = previous.map(|previous| previous.as_str());
            tracing::info!(mode = mode.as_str(), previous, "mode came into force");
        }
        What::Lifecycle {
            change: Life::Started,
            version,
            command,
            pid,
            engine,
            allowlist,
            ..
        } => tracing::info!(
            version,
            command,
            pid,
            engine,
            allowlist,
            "dockwarden started"
        ),
        What::Lifecycle {
            error: Some(error), ..
        } => tracing::error!(error, "dockwarden stopped by itself"),
        What::Lifecycle { signal, .. } => tracing::info!(signal, "dockwarden stopped"),
        What::Engine {
            change: Connection::Connected,
            version,
            ..
        } => tracing::info!(version, "engine connected"),
        What::Engine { error, .. } => {
            tracing::error!(error, "engine is out of reach; trying again");
        }
        What::RestartPolicy {
            container_id,
            container_name,
            restart_policy,
            previous,
        } => {
            let id = container_id.short();
            let name = container_name.as_deref().unwrap_or_default();
            tracing::info!(id, name, restart_policy, previous, "restart policy was set");
        }
    }
}

fn tell_list(change: &ListChange) {
    let ListChange {
        outcome,
        allowlist_hash: hash,
        previous_hash: previous,
        rules,
        would_end,
        running,
        containers,
        error,
    } = change;
    let accept = || {
        hash.as_ref()
            .map(|hash| format!("guard = {{ accept = \"{hash}\" }}"))
    };
    // The same list in another mode.
    let (what, stays) = match hash == previous {
        true => ("leaving audit mode", "that mode"),
        false => ("allowlist", "the one before"),
    };
    match outcome {
        ListOutcome::Applied => {
            tracing::info!(hash, previous, rules, "allowlist came into force");
        }
        ListOutcome::Held if error.is_some() => tracing::error!(
            hash,
            in_force = previous,
            error,
            accept = accept(),
            "{what} was held until it is known what it would end; {stays} stays in force"
        ),
        ListOutcome::Held => tracing::error!(
            hash,
            in_force = previous,
            would_end,
            running,
            containers = containers.join(", "),
            accept = accept(),
            "{what} was held: it would end too much; {stays} stays in force"
        ),
        ListOutcome::Invalid => tracing::error!(
            error,
            "allowlist was not taken; the last good one stays in force"
        ),
        ListOutcome::LastAccepted if error.is_none() => tracing::warn!(
            hash,
            rules,
            "the last accepted allowlist came into force; the file's is weighed first"
        ),
        ListOutcome::LastAccepted => tracing::error!(
            hash,
            rules,
            error,
            "the last accepted allowlist came into force; the file can't be used"
        ),
    }
}
