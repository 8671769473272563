//! Does a rule match a container? Yes, no, or open until the engine has been asked for a fact.
//!
//! What an event or a list tells is compared first, so that nothing is asked about a container
//! that no rule could allow anyway.

use jiff::Timestamp;

use super::{Command, Rule};
use crate::container::{Ancestor, Container};
use crate::grant::Power;
use crate::image::{self, Reference};
use crate::pattern::Pattern;

/// A fact that must be known before a container can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Question {
    /// What it was created from, and its powers: an inspection of the container.
    Inspection,
    /// The tags and repo digests of its image.
    ImageNames,
    /// Whether it runs its image's own command.
    Command,
    /// What its image was built on.
    Ancestors,
}

/// How a rule, or a key of it, compares with a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    Open(Question),
}

impl From<bool> for Match {
    fn from(fits: bool) -> Self {
        if fits { Self::Yes } else { Self::No }
    }
}

/// How a rule's `image` compares with a container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ImageMatch {
    Fits,
    Misses,
    /// The name fits a pinned pattern, and the content is another.
    WrongContent,
    Open(Question),
}

/// What may still have to be asked about an image: patterns that don't fit it are open until then.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unsettled {
    /// Its names, which patterns without a pin are about.
    Names,
    /// Its repo digests, which pins are about.
    Content,
    /// What it was built on, which `build-steps` is about.
    Ancestors,
}

impl Unsettled {
    pub(super) const ALL: [Self; 3] = [Self::Names, Self::Content, Self::Ancestors];

    /// Whether it is still to be asked about a container.
    pub(super) fn is_of(self, container: &Container) -> bool {
        match self {
            Self::Names => container.image_question().is_some(),
            Self::Content => container.image_id.is_some() && container.image_names.is_none(),
            Self::Ancestors => container.image_is_full_id() && container.ancestors.is_none(),
        }
    }

    /// Whether it may leave a rule open.
    pub(super) fn concerns(self, rule: &Rule) -> bool {
        let mut patterns = rule.image.iter();
        match self {
            Self::Names => patterns.any(|pattern| pattern.pin().is_none()),
            Self::Content => patterns.any(|pattern| pattern.pin().is_some()),
            Self::Ancestors => rule.build_steps && !rule.image.is_empty(),
        }
    }
}

/// A container with what is derived from it once for all rules.
pub(super) struct Facts<'a> {
    pub(super) container: &'a Container,
    /// The names of its image, parsed.
    pub(super) names: Vec<Reference>,
    /// Its name may be another one when it starts.
    pub(super) is_name_open: bool,
}

impl<'a> Facts<'a> {
    pub(super) fn of(container: &'a Container) -> Self {
        Self {
            container,
            names: references(container.names_of_image()),
            is_name_open: container.name_is_open,
        }
    }

    pub(super) fn at_create(container: &'a Container) -> Self {
        Self {
            is_name_open: true,
            ..Self::of(container)
        }
    }
}

impl Rule {
    /// Whether every key matches.
    pub(super) fn compare(&self, facts: &Facts<'_>, now: Timestamp) -> Match {
        let is_ruled_out = self.is_expired(now)
            || !self.container_fits(facts)
            || !self.exec_fits(facts.container)
            || !self
                .labels
                .iter()
                .all(|(key, pattern)| label_fits(key, pattern, facts.container));
        if is_ruled_out {
            return Match::No;
        }
        let image = match self.image_fits(facts) {
            ImageMatch::Fits => Match::Yes,
            ImageMatch::Misses | ImageMatch::WrongContent => Match::No,
            ImageMatch::Open(question) => Match::Open(question),
        };
        // Lists tell the second of creation only.
        let age = match (self.max, &facts.container.powers) {
            (Some(_), None) => Match::Open(Question::Inspection),
            _ => Match::Yes,
        };
        let name = match self.container.as_slice() {
            [_, ..] if facts.container.name_is_open => Match::Open(Question::Inspection),
            _ => Match::Yes,
        };
        let keys = [
            image,
            name,
            self.grants_fit(facts.container),
            self.command_fits(facts.container),
            age,
        ];
        if keys.contains(&Match::No) {
            return Match::No;
        }
        let open = keys.into_iter().find(|key| matches!(key, Match::Open(_)));
        open.unwrap_or(Match::Yes)
    }

    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    pub(super) fn container_fits(&self, facts: &Facts<'_>) -> bool {
        if self.container.is_empty() || facts.is_name_open {
            return true;
        }
        let name = facts.container.name.as_deref();
        name.is_some_and(|name| self.container.iter().any(|pattern| pattern.matches(name)))
    }

    pub(super) fn image_fits(&self, facts: &Facts<'_>) -> ImageMatch {
        if self.image.is_empty() {
            return ImageMatch::Fits;
        }
        let container = facts.container;
        let image_id = container.image_id.as_deref();
        let known = container.image_names.as_deref();
        let mut wrong_content = false;
        let mut open = None;
        for pattern in &self.image {
            let name_fits = facts.names.iter().any(|name| pattern.name_matches(name));
            let fits = match pattern.pin() {
                Some(pin) => content_is(pin, image_id, known),
                None if name_fits => Match::Yes,
                None => container.image_question().map_or(Match::No, Match::Open),
            };
            match fits {
                Match::Yes => return ImageMatch::Fits,
                Match::No => wrong_content |= name_fits && pattern.pin().is_some(),
                Match::Open(question) => open = Some(question),
            }
        }
        if open.is_none() && self.build_steps && container.image_is_full_id() {
            match &container.ancestors {
                None => open = Some(Question::Ancestors),
                Some(ancestors) if ancestors.iter().any(|image| self.allows_ancestor(image)) => {
                    return ImageMatch::Fits;
                }
                Some(_) => {}
            }
        }
        match open {
            Some(question) => ImageMatch::Open(question),
            None if wrong_content => ImageMatch::WrongContent,
            None => ImageMatch::Misses,
        }
    }

    pub(super) fn grants_fit(&self, container: &Container) -> Match {
        match self.granted() {
            None => Match::Yes,
            // What else it can do changes nothing about what is not granted.
            Some(_) if !self.missing_grants(container).is_empty() => Match::No,
            Some(_) if container.powers_are_open() => Match::Open(Question::Inspection),
            Some(_) => Match::Yes,
        }
    }

    /// The powers that it does not grant.
    pub(super) fn missing_grants<'a>(&self, container: &'a Container) -> Vec<&'a Power> {
        let is_granted = |power: &Power| match self.granted() {
            None => true,
            Some(mut grants) => grants.any(|grant| grant.covers(power)),
        };
        let powers = container.powers.iter().flatten();
        powers.filter(|power| !is_granted(power)).collect()
    }

    pub(super) fn command_fits(&self, container: &Container) -> Match {
        match (self.command, container.runs_image_command) {
            (Command::Any, _) => Match::Yes,
            (Command::Image, Some(is_own)) => is_own.into(),
            (Command::Image, None) => Match::Open(Question::Command),
        }
    }

    pub(super) fn exec_fits(&self, container: &Container) -> bool {
        self.exec || container.foreign_exec.is_none()
    }

    fn allows_ancestor(&self, ancestor: &Ancestor) -> bool {
        let names = references(ancestor.names.iter().map(String::as_str));
        self.image.iter().any(|pattern| match pattern.pin() {
            Some(pin) => content_is(pin, Some(&ancestor.id), Some(&ancestor.names)) == Match::Yes,
            None => names.iter().any(|name| pattern.name_matches(name)),
        })
    }
}

pub(super) fn label_fits(key: &str, pattern: &Pattern, container: &Container) -> bool {
    let labels = container.labels.as_ref();
    labels
        .and_then(|labels| labels.get(key))
        .is_some_and(|value| pattern.matches(value))
}

impl Container {
    /// What is still to be asked before the names of its image are all known.
    fn image_question(&self) -> Option<Question> {
        if !self.image_is_id() {
            return None;
        }
        // An id in a list is what was typed, or the remains of a name that has moved on.
        match (&self.powers, &self.image_names) {
            (None, _) => Some(Question::Inspection),
            (Some(_), None) => Some(Question::ImageNames),
            (Some(_), Some(_)) => None,
        }
    }

    /// Whether it was created from a full id, as the classic builder's steps are.
    pub(super) fn image_is_full_id(&self) -> bool {
        self.image.is_some() && self.image == self.image_id
    }
}

/// Whether an image is the one that a pin means: by its id, or by the hash of a repo digest, whose
/// name anyone can choose.
fn content_is(pin: &str, image_id: Option<&str>, names: Option<&[String]>) -> Match {
    let is_digest = |name: &String| image::hash_of_repo_digest(name) == Some(pin);
    match (image_id, names) {
        (Some(id), _) if id == pin => Match::Yes,
        (_, Some(names)) => names.iter().any(is_digest).into(),
        (Some(_), None) => Match::Open(Question::ImageNames),
        (None, None) => Match::No,
    }
}

pub(super) fn references<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Reference> {
    names.filter_map(Reference::parse).collect()
}
