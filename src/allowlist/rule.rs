//! One `[[allow]]`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::grant::Grant;
use crate::image::ImagePattern;
use crate::pattern::Pattern;

/// What a container may run under a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Whatever whoever started it typed.
    Any,
    /// Its image's own entrypoint and command.
    Image,
}

impl Command {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Any, Self::Image];

    /// The word in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Image => "image",
        }
    }
}

/// One `[[allow]]`. It matches a container when every key it gives matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rule {
    /// Its name in logs and reports; unique.
    #[serde(rename = "rule")]
    pub name: Arc<str>,
    /// Patterns of images, any one of which suffices; empty: not looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image: Vec<ImagePattern>,
    /// Patterns of container names, any one of which suffices; empty: not looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub container: Vec<Pattern>,
    /// Labels, all of which must be there with a fitting value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Pattern>,
    /// The powers that it grants by itself, beside those of `[defaults]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<Grant>>,
    /// Those of `[defaults]`.
    #[serde(skip)]
    pub default_grants: Option<Arc<[Grant]>>,
    /// At most so many at once; the oldest stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// From this instant on the rule allows nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Whether a container stays allowed when someone executes a program in it.
    #[serde(skip_serializing_if = "is_true")]
    pub exec: bool,
    /// What it may run.
    #[serde(skip_serializing_if = "is_any")]
    pub command: Command,
    /// Whether it is started again when it stops by itself.
    #[serde(skip_serializing_if = "is_false")]
    pub keep_running: bool,
    /// Whether the classic builder's steps on top of its images are allowed.
    #[serde(skip_serializing_if = "is_false")]
    pub build_steps: bool,
    /// Whether what only this rule allows is recorded as what would be denied.
    #[serde(skip_serializing_if = "is_false")]
    pub audit: bool,
    /// Why the rule is there, for its readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Rule {
    /// All powers that it grants; `None` where it does not look at powers.
    pub fn granted(&self) -> Option<impl Iterator<Item = &Grant>> {
        let looks_at_powers = self.grants.is_some() || self.default_grants.is_some();
        let defaults = self.default_grants.iter().flat_map(|grants| grants.iter());
        looks_at_powers.then(|| defaults.chain(self.grants.iter().flatten()))
    }
}

// A key at its default is not part of the hash: new keys never change that of an older list.

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature, here and below
fn is_true(value: &bool) -> bool {
    *value
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_any(command: &Command) -> bool {
    *command == Command::Any
}
