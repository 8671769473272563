//! What a valid list may still get wrong: rules that anyone can satisfy, and rules that are over.

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Allowlist, Rule};

/// How long before its end an expiry is worth a warning.
const NEAR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A remark on one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The rule's name.
    pub rule: Arc<str>,
    /// What is weak about it.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "rule `{}`: {}", self.rule, self.message)
    }
}

pub(super) fn warnings(list: &Allowlist, now: Timestamp) -> Vec<Warning> {
    list.rules
        .iter()
        .flat_map(|rule| {
            of_rule(rule, now).into_iter().map(|message| Warning {
                rule: rule.name.clone(),
                message,
            })
        })
        .collect()
}

fn of_rule(rule: &Rule, now: Timestamp) -> Vec<String> {
    let mut messages = Vec::new();
    if rule.image.is_empty() {
        messages.push(
            "names no image; container names and labels are typed by whoever starts the container"
                .to_owned(),
        );
    }
    if rule.image.iter().any(|pattern| pattern.is_everything()) {
        messages.push("image `**` is every image there is".to_owned());
    }
    match rule.expires {
        Some(expires) if expires <= now => {
            messages.push(format!("expired at {expires} and allows nothing"));
        }
        Some(expires) if expires.duration_since(now) < NEAR => {
            messages.push(format!("expires soon, at {expires}"));
        }
        _ => {}
    }
    messages
}
