//! The answer: may this container run, by which rule or for which reason not.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a container is denied; one word everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No rule matches it.
    NoRule,
    /// It was created without an image.
    NoImage,
    /// A rule fits its image's name, and the content is not the one that the rule pins.
    WrongContent,
    /// A rule fits and does not grant what the container can do.
    NotGranted,
    /// Every rule that fits allows so many already.
    OverMax,
    /// Only rules that have expired match it.
    Expired,
    /// A rule fits and lets nobody execute anything in its containers, and someone did.
    ForeignExec,
}

impl Reason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "no-rule",
            Self::NoImage => "no-image",
            Self::WrongContent => "wrong-content",
            Self::NotGranted => "not-granted",
            Self::OverMax => "over-max",
            Self::Expired => "expired",
            Self::ForeignExec => "foreign-exec",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What is to be thought of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// A rule matches.
    Allowed {
        /// That rule's name.
        rule: Arc<str>,
        /// No rule but such with `audit = true` matches.
        would_deny: bool,
    },
    /// No rule allows it.
    Denied {
        /// Why.
        reason: Reason,
        /// The nearest rule, where one is near.
        rule: Option<Arc<str>>,
        /// A sentence for people: what kept the nearest rule from matching.
        detail: String,
    },
    /// The engine gave no answer that parses. Nothing is done on it.
    Unknown,
    /// dockwarden's own container, or the one whose network it joins: never touched.
    #[serde(rename = "self")]
    Own,
}

impl Verdict {
    /// The verdict on one that would be one too many.
    pub fn over_max(rule: &super::Rule) -> Self {
        let most = rule.max.unwrap_or_default();
        let detail = format!(
            "rule `{}` matches but allows {most} at once, and older ones run: raise its `max`",
            rule.name
        );
        Self::denied(Reason::OverMax, Some(rule.name.clone()), &detail)
    }

    pub(super) fn denied(reason: Reason, rule: Option<Arc<str>>, detail: &str) -> Self {
        Self::Denied {
            reason,
            rule,
            detail: detail.to_owned(),
        }
    }

    /// The words that [`Verdict::as_str`] may answer.
    pub const WORDS: [&'static str; 4] = ["allowed", "denied", "unknown", "self"];

    /// The word in logs, JSON and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allowed { .. } => "allowed",
            Self::Denied { .. } => "denied",
            Self::Unknown => "unknown",
            Self::Own => "self",
        }
    }

    /// The rule that allows, or the one that nearly does.
    pub fn rule(&self) -> Option<&str> {
        match self {
            Self::Allowed { rule, .. } => Some(rule),
            Self::Denied { rule, .. } => rule.as_deref(),
            Self::Unknown | Self::Own => None,
        }
    }

    /// Why it is denied.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Denied { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    /// The sentence that goes with a denial.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Denied { detail, .. } => Some(detail),
            _ => None,
        }
    }

    /// Whether a rule allows it.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    /// Whether it may not run.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }
}
