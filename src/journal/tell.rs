//! A decision as a log line, in the past tense.

use super::Decision;
use crate::allowlist::{Action, Verdict};
use crate::record::Outcome;

/// The log line of a decision, in the past tense.
pub(super) fn tell(decision: &Decision) {
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
            "container was removed before it ran"
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
