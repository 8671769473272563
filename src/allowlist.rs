//! The allowlist, version 1: from TOML text to a list that can't be wrong, and from a container to
//! its verdict. Pure: no file is read here and the time is an argument.

mod diagnostics;
mod explain;
mod parse;
mod verdict;
mod warnings;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::container::Container;
use crate::image::{ImagePattern, Reference};
use crate::pattern::Pattern;

pub use diagnostics::{Diagnostic, InvalidAllowlist};
pub use explain::{Key, KeyCheck, RuleCheck};
pub use parse::SIZE_MAX;
pub use verdict::{Reason, Verdict};
pub use warnings::Warning;

/// Whether denied containers are ended or only recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Denied containers are ended.
    Enforce,
    /// Judge, record, touch nothing.
    Audit,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Enforce, Self::Audit];

    /// The word in files, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

/// What is done to a denied container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// SIGKILL.
    Kill,
    /// SIGTERM, then SIGKILL after ten seconds, whatever the container asks for.
    Stop,
    /// Freeze it, so that it can be looked at.
    Pause,
    /// Kill and remove it; its volumes stay.
    Remove,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Stop, Self::Pause, Self::Remove];

    /// The word in files, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Remove => "remove",
        }
    }
}

/// One `[[allow]]`. It matches a container when every key it gives matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its name in logs and reports; unique.
    #[serde(rename = "rule")]
    pub name: Arc<str>,
    /// Patterns of image names, any one of which suffices; empty: not looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image: Vec<ImagePattern>,
    /// Patterns of container names, any one of which suffices; empty: not looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub container: Vec<Pattern>,
    /// Labels, all of which must be there with a fitting value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Pattern>,
    /// From this instant on the rule allows nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Why the rule is there, for its readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Rule {
    fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    fn image_matches(&self, names: &[Reference]) -> bool {
        names.iter().any(|name| {
            self.image
                .iter()
                .any(|image| image.pin().is_none() && image.name_matches(name))
        })
    }

    fn container_matches(&self, container: &Container) -> bool {
        container
            .name
            .as_deref()
            .is_some_and(|name| self.container.iter().any(|pattern| pattern.matches(name)))
    }

    fn label_matches(key: &str, pattern: &Pattern, container: &Container) -> bool {
        container
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key))
            .is_some_and(|value| pattern.matches(value))
    }

    /// Whether every key but the expiry matches; `names` are those of the container's image.
    fn matches(&self, container: &Container, names: &[Reference]) -> bool {
        (self.container.is_empty() || self.container_matches(container))
            && self
                .labels
                .iter()
                .all(|(key, pattern)| Self::label_matches(key, pattern, container))
            && (self.image.is_empty() || self.image_matches(names))
    }
}

/// A valid list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allowlist {
    /// The version of the format, 1.
    pub version: u8,
    /// Enforce or audit.
    pub mode: Mode,
    /// What is done to denied containers.
    pub action: Action,
    /// Whether the absence of rules was meant.
    #[serde(rename = "allow-nothing")]
    pub allow_nothing: bool,
    /// The rules, in file order.
    #[serde(rename = "allow")]
    pub rules: Vec<Rule>,
}

impl Allowlist {
    /// Parses the bytes of an `allowlist.toml`.
    ///
    /// # Errors
    /// Everything that is wrong with the text, all at once.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidAllowlist> {
        parse::parse(bytes)
    }

    /// The verdict on a container at an instant.
    pub fn judge(&self, container: &Container, now: Timestamp) -> Verdict {
        if container.image_id.as_deref() == Some("") {
            return Verdict::denied(
                Reason::NoImage,
                None,
                "it has no image, and a container without an image is never allowed",
            );
        }
        let names = names_of_image(container);
        let mut expired = None;
        let matching = self
            .rules
            .iter()
            .filter(|rule| rule.matches(container, &names));
        for rule in matching {
            if !rule.is_expired(now) {
                return Verdict::Allowed {
                    rule: rule.name.clone(),
                };
            }
            expired = expired.or(Some(rule));
        }
        if let Some(rule) = expired {
            let detail = match rule.expires {
                Some(expires) => format!("rule `{}` matches but expired at {expires}", rule.name),
                None => format!("rule `{}` matches but expired", rule.name),
            };
            return Verdict::denied(Reason::Expired, Some(rule.name.clone()), &detail);
        }
        match self.nearest_miss(container, &names, now) {
            Some((rule, detail)) => Verdict::denied(Reason::NoRule, Some(rule), &detail),
            None => Verdict::denied(Reason::NoRule, None, "no rule matches"),
        }
    }

    /// Checks every key of every rule against a container.
    pub fn explain(&self, container: &Container, now: Timestamp) -> Vec<RuleCheck> {
        let names = names_of_image(container);
        self.rules
            .iter()
            .map(|rule| explain::check(rule, container, &names, now))
            .collect()
    }

    /// What is easy to dodge or never takes effect in this list.
    pub fn warnings(&self, now: Timestamp) -> Vec<Warning> {
        warnings::warnings(self, now)
    }

    /// Whether a rule looks at the label `key`.
    pub fn looks_at_label(&self, key: &str) -> bool {
        self.rules.iter().any(|rule| rule.labels.contains_key(key))
    }

    /// SHA-256 of the parsed list as canonical JSON, in hex: two files that mean the same have the
    /// same hash.
    pub fn hash(&self) -> String {
        // A list is made of strings, numbers and maps with string keys: it always serialises.
        let canonical = serde_json::to_value(self)
            .map(|value| value.to_string())
            .unwrap_or_default();
        Sha256::digest(canonical)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The rule that only one key keeps from matching, with that key's miss.
    fn nearest_miss(
        &self,
        container: &Container,
        names: &[Reference],
        now: Timestamp,
    ) -> Option<(Arc<str>, String)> {
        self.rules.iter().find_map(|rule| {
            let check = explain::check(rule, container, names, now);
            let missed: Vec<_> = check.keys.iter().filter(|key| !key.matches).collect();
            match missed.as_slice() {
                [only] if check.keys.len() > 1 => Some((
                    rule.name.clone(),
                    format!("rule `{}` matches but for {only}", rule.name),
                )),
                _ => None,
            }
        })
    }
}

/// The names of a container's image, parsed once for all rules.
fn names_of_image(container: &Container) -> Vec<Reference> {
    container
        .names_of_image()
        .filter_map(Reference::parse)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::ContainerId;

    fn list(rules: &str) -> Allowlist {
        Allowlist::parse(format!("version = 1\n{rules}").as_bytes()).expect("a valid list")
    }

    fn container(image: &str, name: &str, labels: &[(&str, &str)]) -> Container {
        let mut container = Container::new(ContainerId::parse(&"ab".repeat(32)).expect("full id"));
        container.image = Some(image.to_owned());
        container.image_id = Some(format!("sha256:{}", "1a".repeat(32)));
        container.name = Some(name.to_owned());
        container.labels = Some(
            labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        );
        container
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_rule_matches_when_every_key_it_gives_matches() {
        let list = list(
            r#"
            [[allow]]
            rule = "web"
            image = ["nginx:1.27*", "caddy"]
            container = "web-*"
            labels = { "com.docker.compose.project" = "shop*", "tier" = "front" }
            "#,
        );
        let labels = [("com.docker.compose.project", "shop-1"), ("tier", "front")];
        let table = [
            (container("nginx:1.27", "web-1", &labels), None),
            (
                container("docker.io/library/caddy:9", "web-", &labels),
                None,
            ),
            (container("nginx:1.26", "web-1", &labels), Some("image")),
            (container("nginx:1.27", "db-1", &labels), Some("container")),
            (
                container("nginx:1.27", "web-1", &labels[..1]),
                Some("labels"),
            ),
        ];
        for (container, missed) in table {
            let verdict = list.judge(&container, Timestamp::UNIX_EPOCH);
            match missed {
                None => assert_eq!(verdict.rule(), Some("web")),
                Some(key) => {
                    assert_eq!(verdict.reason(), Some(Reason::NoRule));
                    assert!(
                        verdict.detail().expect("a detail").contains(key),
                        "{verdict:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_first_rule_that_matches_is_named_and_any_suffices() {
        let list =
            list("[[allow]]\nimage = \"a\"\n[[allow]]\nimage = \"b\"\n[[allow]]\nimage = \"*\"\n");
        for (image, rule) in [("a", "allow-1"), ("b", "allow-2"), ("c", "allow-3")] {
            let verdict = list.judge(&container(image, "x", &[]), Timestamp::UNIX_EPOCH);
            assert_eq!(verdict.rule(), Some(rule));
        }
    }

    #[test]
    fn no_image_is_denied_whatever_the_rules_say() {
        let list = list("[[allow]]\nimage = \"**\"\n[[allow]]\ncontainer = \"*\"\n");
        let mut empty = container("good:1", "good", &[]);
        empty.image_id = Some(String::new());
        let verdict = list.judge(&empty, Timestamp::UNIX_EPOCH);
        assert_eq!(verdict.reason(), Some(Reason::NoImage));
    }

    #[test]
    fn facts_that_are_missing_never_match() {
        let unknown = Container::new(ContainerId::parse(&"ab".repeat(32)).expect("full id"));
        for rule in [
            "image = \"**\"",
            "container = \"*\"",
            "labels = { a = \"*\" }",
        ] {
            let verdict =
                list(&format!("[[allow]]\n{rule}\n")).judge(&unknown, Timestamp::UNIX_EPOCH);
            assert_eq!(verdict.reason(), Some(Reason::NoRule), "{rule}");
        }
    }

    #[test]
    fn a_rule_ends_at_the_instant_it_expires() {
        let list = list("[[allow]]\nimage = \"a\"\nexpires = 2027-01-31T00:00:00+01:00\n");
        let allowed = container("a", "x", &[]);
        assert!(
            list.judge(&allowed, at("2027-01-30T22:59:59.999Z"))
                .is_allowed()
        );
        let verdict = list.judge(&allowed, at("2027-01-30T23:00:00Z"));
        assert_eq!(verdict.reason(), Some(Reason::Expired));
        assert_eq!(verdict.rule(), Some("allow-1"));
    }

    #[test]
    fn the_hash_is_of_what_the_list_means() {
        let one = list("# a comment\n[[allow]]\nimage = [\"a\"]\n");
        let same = list("mode='enforce'\n\n[[allow]]\nimage = \"a\"\nrule = \"allow-1\"\n");
        let other = list("mode = \"audit\"\n[[allow]]\nimage = \"a\"\n");
        assert_eq!(one.hash(), same.hash());
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.hash().len(), 64);
    }
}
