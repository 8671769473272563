//! A verdict taken apart: which key of which rule matched a container and which did not.

use std::fmt;
use std::iter;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::matching::{Facts, ImageMatch, Match, label_fits};
use super::{Command, Rule};
use crate::container::Container;

/// A key of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// `image`
    Image,
    /// `container`
    Container,
    /// One entry of `labels`
    Labels,
    /// `grants`
    Grants,
    /// `command`
    Command,
    /// `exec`
    Exec,
    /// `expires`
    Expires,
}

impl Key {
    /// The key as it stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Container => "container",
            Self::Labels => "labels",
            Self::Grants => "grants",
            Self::Command => "command",
            Self::Exec => "exec",
            Self::Expires => "expires",
        }
    }
}

/// How one key of a rule compares with a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct KeyCheck {
    /// Which key.
    pub key: Key,
    /// Whether it matches.
    pub matches: bool,
    /// What the rule asks for.
    pub wanted: String,
    /// What the container has.
    pub found: String,
}

impl fmt::Display for KeyCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, wanted, found) = (self.key.as_str(), &self.wanted, &self.found);
        let relation = if self.matches { "fits" } else { "does not fit" };
        write!(formatter, "`{key}`: {found} {relation} {wanted}")
    }
}

/// One rule compared with a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RuleCheck {
    /// The rule's name.
    pub rule: Arc<str>,
    /// Whether all its keys match.
    pub matches: bool,
    /// Its keys, one by one.
    pub keys: Vec<KeyCheck>,
}

/// Compares every key that `rule` gives with a container.
pub(super) fn check(rule: &Rule, facts: &Facts<'_>, now: Timestamp) -> RuleCheck {
    let keys: Vec<_> = keys(rule, facts, now).collect();
    RuleCheck {
        rule: rule.name.clone(),
        matches: keys.iter().all(|key| key.matches),
        keys,
    }
}

/// The same, one key at a time: none is written down before it is wanted.
pub(super) fn keys(
    rule: &Rule,
    facts: &Facts<'_>,
    now: Timestamp,
) -> impl Iterator<Item = KeyCheck> {
    let container = facts.container;
    let who = [image, name].into_iter();
    let who = who.filter_map(move |check| check(rule, facts));
    let labels = rule.labels.iter().map(|(label, pattern)| {
        let value = container.labels.as_ref().and_then(|all| all.get(label));
        KeyCheck {
            key: Key::Labels,
            matches: label_fits(label, pattern, container),
            wanted: format!("`{label}` = `{pattern}`"),
            found: quoted(value.map(String::as_str)),
        }
    });
    let what = [grants, command, exec].into_iter();
    let what = what.filter_map(move |check| check(rule, container));
    let until = iter::once_with(move || expires(rule, now)).flatten();
    who.chain(labels).chain(what).chain(until)
}

fn image(rule: &Rule, facts: &Facts<'_>) -> Option<KeyCheck> {
    if rule.image.is_empty() {
        return None;
    }
    let container = facts.container;
    let fits = rule.image_fits(facts);
    let content = match fits {
        ImageMatch::WrongContent => container.image_id.as_deref(),
        _ => None,
    };
    Some(KeyCheck {
        key: Key::Image,
        matches: fits == ImageMatch::Fits,
        wanted: any_of(&rule.image),
        found: match content {
            Some(id) => format!("{} with the content `{id}`", found_image(container)),
            None => found_image(container),
        },
    })
}

fn name(rule: &Rule, facts: &Facts<'_>) -> Option<KeyCheck> {
    (!rule.container.is_empty()).then(|| KeyCheck {
        key: Key::Container,
        matches: rule.container_fits(facts),
        wanted: any_of(&rule.container),
        found: quoted(facts.container.name.as_deref()),
    })
}

fn grants(rule: &Rule, container: &Container) -> Option<KeyCheck> {
    let granted: Vec<_> = rule.granted()?.collect();
    Some(KeyCheck {
        key: Key::Grants,
        matches: rule.grants_fit(container) == Match::Yes,
        wanted: match granted.as_slice() {
            [] => "an empty list".to_owned(),
            granted => all_of(granted),
        },
        found: match &container.powers {
            None => "what is not known yet".to_owned(),
            Some(powers) if powers.is_empty() && container.may_do_more => {
                "what is not known yet".to_owned()
            }
            Some(powers) if powers.is_empty() => "nothing".to_owned(),
            Some(powers) => all_of(&powers.iter().collect::<Vec<_>>()),
        },
    })
}

fn command(rule: &Rule, container: &Container) -> Option<KeyCheck> {
    let found = match container.runs_image_command {
        None => "what is not known yet",
        Some(true) => "the image's own command",
        Some(false) => "another command",
    };
    (rule.command == Command::Image).then(|| KeyCheck {
        key: Key::Command,
        matches: rule.command_fits(container) == Match::Yes,
        wanted: "the image's own command".to_owned(),
        found: found.to_owned(),
    })
}

fn exec(rule: &Rule, container: &Container) -> Option<KeyCheck> {
    (!rule.exec).then(|| KeyCheck {
        key: Key::Exec,
        matches: rule.exec_fits(container),
        wanted: "nothing executed".to_owned(),
        found: quoted(container.foreign_exec.as_deref()),
    })
}

fn expires(rule: &Rule, now: Timestamp) -> Option<KeyCheck> {
    rule.expires.map(|expires| KeyCheck {
        key: Key::Expires,
        matches: !rule.is_expired(now),
        wanted: format!("before {expires}"),
        found: now.to_string(),
    })
}

fn any_of(patterns: &[impl fmt::Display]) -> String {
    joined(patterns, " or ")
}

fn all_of(words: &[impl fmt::Display]) -> String {
    joined(words, ", ")
}

fn joined(words: &[impl fmt::Display], between: &str) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(between)
}

/// A foreign text as it is shown, in quotes.
pub(super) fn quoted(text: Option<&str>) -> String {
    match text {
        None => "nothing".to_owned(),
        Some(text) => format!("`{}`", shortened(text)),
    }
}

/// A foreign text cut to what can be shown: a label may hold a megabyte.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 200;
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn found_image(container: &Container) -> String {
    let names: Vec<_> = container
        .names_of_image()
        .map(|name| format!("`{name}`"))
        .collect();
    if names.is_empty() {
        quoted(container.image.as_deref())
    } else {
        names.join(" or ")
    }
}
