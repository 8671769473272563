//! The allowlist, version 1: from TOML text to a list that can't be wrong, and from a container to
//! its verdict. Pure: no file is read here and the time is an argument.

mod diagnostics;
mod edit;
mod explain;
mod guard;
mod index;
mod matching;
mod nearest;
mod parse;
mod places;
mod rule;
mod rules;
mod verdict;
mod warnings;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::container::Container;
use crate::grant::Grant;
use matching::{Facts, Match};

pub use diagnostics::{Diagnostic, InvalidAllowlist};
pub use explain::{Key, KeyCheck, RuleCheck};
pub use guard::Guard;
pub use matching::Question;
pub use parse::SIZE_MAX;
pub use places::{ImagePlace, image_places, quoted};
pub use rule::{Command, Rule};
pub use rules::Rules;
pub use verdict::{Reason, Verdict};
pub use warnings::Warning;

/// Whether denied containers are ended or only recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, ToSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// SIGKILL.
    Kill,
    /// SIGTERM, then SIGKILL after the list's `stop-timeout`, whatever the container asks for.
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

    /// Whether it begins with the end of the first process, which a signal brings about ahead of the engine.
    pub fn is_by_signal(self) -> bool {
        matches!(self, Self::Kill | Self::Remove)
    }
}

/// What becomes of a denied container that is created and not started yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnCreate {
    /// Nothing; it is judged when it starts.
    Wait,
    /// It is removed, mostly before it can start.
    Remove,
}

impl OnCreate {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Wait, Self::Remove];

    /// The word in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Remove => "remove",
        }
    }
}

/// What holds for every rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Defaults {
    /// The powers that every rule grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants: Option<Arc<[Grant]>>,
}

/// A valid list.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Allowlist {
    /// The version of the format, 1.
    pub version: u8,
    /// Enforce or audit.
    pub mode: Mode,
    /// Audit mode until this instant, whatever `mode` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_until: Option<Timestamp>,
    /// What is done to denied containers.
    pub action: Action,
    /// How long `action = "stop"` waits between SIGTERM and SIGKILL, in whole seconds.
    #[serde(
        skip_serializing_if = "is_default_stop_timeout",
        serialize_with = "in_seconds"
    )]
    pub stop_timeout: Duration,
    /// What becomes of denied containers that are only created.
    #[serde(skip_serializing_if = "is_wait")]
    pub on_create: OnCreate,
    /// Whether what was ended is kept from being started again by the engine itself.
    #[serde(skip_serializing_if = "is_true")]
    pub keep_dead: bool,
    /// When a change to another list is held back. Not part of the hash.
    #[serde(skip_serializing_if = "Guard::is_default")]
    pub guard: Guard,
    /// Whether the absence of rules was meant.
    pub allow_nothing: bool,
    /// What holds for every rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// The rules, in file order.
    #[serde(rename = "allow")]
    pub rules: Rules,
}

/// The `stop-timeout` of a list that gives none: Docker's own.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

// A key at its default is not part of the hash: new keys never change that of an older list.

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_wait(on_create: &OnCreate) -> bool {
    *on_create == OnCreate::Wait
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_true(value: &bool) -> bool {
    *value
}

fn is_default_stop_timeout(timeout: &Duration) -> bool {
    *timeout == STOP_TIMEOUT
}

fn in_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

impl Allowlist {
    /// Parses the bytes of an `allowlist.toml`.
    ///
    /// # Errors
    /// Everything that is wrong with the text, all at once.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidAllowlist> {
        parse::parse(bytes)
    }

    /// The mode at an instant.
    pub fn mode_at(&self, now: Timestamp) -> Mode {
        match self.audit_until {
            Some(until) if now < until => Mode::Audit,
            _ => self.mode,
        }
    }

    /// The verdict on a container at an instant, other containers and so `max` aside;
    /// [`Verdict::Unknown`] while [`Allowlist::question`] has something to ask.
    pub fn judge(&self, container: &Container, now: Timestamp) -> Verdict {
        self.consider(&Facts::of(container), now)
            .unwrap_or(Verdict::Unknown)
    }

    /// What must still be asked about a container before it can be judged.
    pub fn question(&self, container: &Container, now: Timestamp) -> Option<Question> {
        self.consider(&Facts::of(container), now).err()
    }

    /// The verdict on a container that is created and not started: under the name that it has now
    /// it may never run, and so names don't deny it, nor does the number of its like.
    pub fn judge_at_create(&self, container: &Container, now: Timestamp) -> Verdict {
        self.consider(&Facts::at_create(container), now)
            .unwrap_or(Verdict::Unknown)
    }

    /// As [`Allowlist::question`], for [`Allowlist::judge_at_create`].
    pub fn question_at_create(&self, container: &Container, now: Timestamp) -> Option<Question> {
        self.consider(&Facts::at_create(container), now).err()
    }

    /// The rules that match a container, in the order in which they are asked: those that only
    /// audit come last.
    pub fn matching(&self, container: &Container, now: Timestamp) -> Vec<&Rule> {
        let facts = Facts::of(container);
        let candidates = self.rules.candidates(&facts);
        candidates
            .iter()
            .filter(|rule| matches!(rule.compare(&facts, now), Match::Yes))
            .collect()
    }

    /// Checks every key of every rule against a container.
    pub fn explain(&self, container: &Container, now: Timestamp) -> Vec<RuleCheck> {
        let facts = Facts::of(container);
        self.rules
            .iter()
            .map(|rule| explain::check(rule, &facts, now))
            .collect()
    }

    /// What is easy to dodge or never takes effect in this list.
    pub fn warnings(&self, now: Timestamp) -> Vec<Warning> {
        warnings::warnings(self, now)
    }

    /// The rule of this name.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.named(name)
    }

    /// Whether a rule looks at the label `key`.
    pub fn looks_at_label(&self, key: &str) -> bool {
        self.rules.look_at_label(key)
    }

    /// Whether a rule limits how many containers it allows at once.
    pub fn has_max(&self) -> bool {
        self.rules.have_max()
    }

    /// Whether a rule lets nobody execute anything in its containers.
    pub fn forbids_exec(&self) -> bool {
        self.rules.forbid_exec()
    }

    /// Whether a rule pins content.
    pub fn has_pins(&self) -> bool {
        self.rules.have_pins()
    }

    /// Whether every rule looks at powers.
    pub fn looks_at_powers(&self) -> bool {
        self.rules.iter().all(|rule| rule.granted().is_some())
    }

    /// SHA-256 of the parsed list as canonical JSON, in hex: two files that mean the same have the
    /// same hash. `guard` aside, which names a hash itself.
    pub fn hash(&self) -> String {
        // A list is made of strings, numbers and maps with string keys: it always serialises.
        let mut canonical = serde_json::to_value(self).unwrap_or_default();
        if let Some(list) = canonical.as_object_mut() {
            list.remove("guard");
        }
        let canonical = canonical.to_string();
        Sha256::digest(canonical)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The verdict, or what is to be asked first. The first rule that is not ruled out decides, so
    /// that the answer never depends on what happens to be known of later ones. Where that one may have no room
    /// left, it is to be known which others have.
    fn consider(&self, facts: &Facts<'_>, now: Timestamp) -> Result<Verdict, Question> {
        if facts.container.image_id.as_deref() == Some("") {
            return Ok(Verdict::denied(
                Reason::NoImage,
                None,
                "it has no image, and a container without an image is never allowed",
            ));
        }
        let candidates = self.rules.candidates(facts);
        let allowed = allowing(candidates.iter(), facts, now)?;
        Ok(allowed.unwrap_or_else(|| nearest::denial(self, &candidates, facts, now)))
    }
}

/// The verdict of the first of these rules that matches; `None` where all are ruled out.
fn allowing<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Result<Option<Verdict>, Question> {
    let mut allowed = None;
    for rule in rules {
        match rule.compare(facts, now) {
            Match::Yes => {
                allowed.get_or_insert_with(|| Verdict::Allowed {
                    rule: rule.name.clone(),
                    would_deny: rule.audit,
                });
                if rule.max.is_none() {
                    break;
                }
            }
            Match::Open(question) => return Err(question),
            Match::No => {}
        }
    }
    Ok(allowed)
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
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        container.labels = Some(Arc::new(labels.collect()));
        container
    }

    #[test]
    fn of_who_may_be_one_too_many_all_is_asked_that_other_rules_look_at() {
        let list = list(
            "[[allow]]\nimage = \"a\"\nmax = 1\n[[allow]]\nimage = \"a\"\ncommand = \"image\"\n",
        );
        let now = at("2026-01-01T00:00:00Z");
        let mut container = container("a", "web", &[]);
        container.powers = Some(Default::default());
        assert_eq!(list.question(&container, now), Some(Question::Command));
        container.runs_image_command = Some(false);
        assert_eq!(list.question(&container, now), None);
        assert!(list.judge(&container, now).is_allowed());
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
        let guarded = list(
            "guard = { min = 1, accept = \"00\" }\n[[allow]]\nimage = \"a\"\n"
                .replace("00", &one.hash())
                .as_str(),
        );
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.hash(), guarded.hash());
        assert!(guarded.guard.accepts(&one.hash()));
        assert_eq!(one.hash().len(), 64);
    }
}
