//! The answer: may this container run, by which rule or for which reason not.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a container is denied; one word everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No rule matches it.
    NoRule,
    /// It was created without an image.
    NoImage,
    /// Only rules that have expired match it.
    Expired,
}

impl Reason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "no-rule",
            Self::NoImage => "no-image",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What is to be thought of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A rule matches.
    Allowed {
        /// That rule's name.
        rule: Arc<str>,
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
    Own,
}

impl Verdict {
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
            Self::Allowed { rule } => Some(rule),
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
