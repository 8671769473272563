//! A verdict taken apart: which key of which rule matched a container and which did not.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::Rule;
use crate::container::Container;
use crate::image::Reference;

/// A key of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// `image`
    Image,
    /// `container`
    Container,
    /// One entry of `labels`
    Labels,
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
            Self::Expires => "expires",
        }
    }
}

/// How one key of a rule compares with a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleCheck {
    /// The rule's name.
    pub rule: Arc<str>,
    /// Whether all its keys match.
    pub matches: bool,
    /// Its keys, one by one.
    pub keys: Vec<KeyCheck>,
}

/// Compares every key that `rule` gives with `container`.
pub(super) fn check(
    rule: &Rule,
    container: &Container,
    names: &[Reference],
    now: Timestamp,
) -> RuleCheck {
    let mut keys = Vec::new();
    if !rule.image.is_empty() {
        keys.push(KeyCheck {
            key: Key::Image,
            matches: rule.image_matches(names),
            wanted: any_of(&rule.image),
            found: found_image(container),
        });
    }
    if !rule.container.is_empty() {
        keys.push(KeyCheck {
            key: Key::Container,
            matches: rule.container_matches(container),
            wanted: any_of(&rule.container),
            found: quoted(container.name.as_deref()),
        });
    }
    for (label, pattern) in &rule.labels {
        let value = container.labels.as_ref().and_then(|all| all.get(label));
        keys.push(KeyCheck {
            key: Key::Labels,
            matches: Rule::label_matches(label, pattern, container),
            wanted: format!("`{label}` = `{pattern}`"),
            found: quoted(value.map(String::as_str)),
        });
    }
    if let Some(expires) = rule.expires {
        keys.push(KeyCheck {
            key: Key::Expires,
            matches: !rule.is_expired(now),
            wanted: format!("before {expires}"),
            found: now.to_string(),
        });
    }
    RuleCheck {
        rule: rule.name.clone(),
        matches: keys.iter().all(|key| key.matches),
        keys,
    }
}

fn any_of(patterns: &[impl fmt::Display]) -> String {
    let quoted: Vec<_> = patterns
        .iter()
        .map(|pattern| format!("`{pattern}`"))
        .collect();
    quoted.join(" or ")
}

/// A foreign text as it is shown: a label may hold a megabyte.
fn quoted(text: Option<&str>) -> String {
    const SHOWN: usize = 200;
    match text {
        None => "nothing".to_owned(),
        Some(text) => match text.char_indices().nth(SHOWN) {
            None => format!("`{text}`"),
            Some((end, _)) => format!("`{}…`", &text[..end]),
        },
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
