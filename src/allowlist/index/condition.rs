//! What a rule needs of a container, as texts that can be looked up: a whole one, or a piece of one.
//!
//! All that counts is that a key which fits has one of its conditions met. One that is met though
//! the key does not fit costs a comparison and changes nothing.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashSet;

use crate::allowlist::matching::{Facts, references};
use crate::allowlist::{Key, Rule};
use crate::image::{self, ImagePattern, Reference};
use crate::pattern::Pattern;

/// How much of a literal is searched for at most. Of a longer one pieces are, so that what searches
/// for those of a whole list stays small.
const PIECE_MAX: usize = 32;

/// What a text tells of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Subject<'a> {
    /// A name of its image in normal form, with the tag.
    Image,
    /// The same without the tag.
    Repository,
    /// The hash of its image, or of a repo digest of that.
    Content,
    /// Its name.
    Name,
    /// The value of this label.
    Label(&'a str),
}

/// What a container must have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Condition<'a> {
    /// Nothing: every container meets it.
    None,
    /// Any such text.
    Any(Subject<'a>),
    /// One with this piece in it.
    Contains(Subject<'a>, Cow<'a, [u8]>),
    /// This very text.
    Is(Subject<'a>, Cow<'a, str>),
}

impl Condition<'_> {
    /// A bit for what is asked of which text: what no rule asks for need not be looked up.
    pub(super) fn kind(&self) -> u16 {
        let (question, subject) = match self {
            Self::None => return 0,
            Self::Any(subject) => (0, subject),
            Self::Contains(subject, _) => (1, subject),
            Self::Is(subject, _) => (2, subject),
        };
        let subject = match subject {
            Subject::Image => 0,
            Subject::Repository => 1,
            Subject::Content => 2,
            Subject::Name => 3,
            Subject::Label(_) => 4,
        };
        1 << (3 * subject + question)
    }

    /// Orders conditions that equally many rules have: the first tell containers apart best.
    pub(super) fn breadth(&self) -> Reverse<usize> {
        Reverse(match self {
            Self::None | Self::Any(_) => 0,
            Self::Contains(_, piece) => piece.len(),
            Self::Is(..) => usize::MAX,
        })
    }
}

/// A key of a rule that says who a container is.
pub(super) struct Identity<'a> {
    pub(super) key: Key,
    /// For each of its patterns the conditions that are all met where the pattern matches.
    pub(super) patterns: Vec<Vec<Condition<'a>>>,
}

/// The keys of a rule that say who a container is.
pub(super) fn of_rule(rule: &Rule) -> impl Iterator<Item = Identity<'_>> {
    let image = rule.image.iter().flat_map(of_image).collect();
    let names = rule.container.iter();
    let names = names.map(|pattern| of_pattern(Subject::Name, pattern));
    let labels = rule.labels.iter().map(|(key, pattern)| Identity {
        key: Key::Labels,
        patterns: vec![of_pattern(Subject::Label(key), pattern)],
    });
    [(Key::Image, image), (Key::Container, names.collect())]
        .into_iter()
        .filter(|(_, patterns): &(_, Vec<_>)| !patterns.is_empty())
        .map(|(key, patterns)| Identity { key, patterns })
        .chain(labels)
}

/// A pin and the name beside it count as two patterns: where the name alone fits, that is worth a word.
fn of_image(pattern: &ImagePattern) -> impl Iterator<Item = Vec<Condition<'_>>> {
    let pin = pattern.pin();
    let pin = pin.map(|pin| vec![Condition::Is(Subject::Content, pin.into())]);
    let name = pattern.name().map(|(repository, tag)| match tag {
        None if repository.is_literal() => of_pattern(Subject::Repository, repository),
        None => of_pattern(Subject::Image, repository),
        Some(tag) => {
            let whole = format!("{repository}:{tag}");
            if repository.is_literal() && tag.is_literal() {
                return vec![Condition::Is(Subject::Image, whole.into())];
            }
            let mut conditions = pieces(Subject::Image, &whole);
            if repository.is_literal() {
                conditions.extend(of_pattern(Subject::Repository, repository));
            }
            conditions
        }
    });
    pin.into_iter().chain(name)
}

fn of_pattern<'a>(subject: Subject<'a>, pattern: &'a Pattern) -> Vec<Condition<'a>> {
    if pattern.is_literal() {
        return vec![Condition::Is(subject, pattern.as_str().into())];
    }
    let mut conditions = pieces(subject, pattern.as_str());
    if conditions.is_empty() {
        conditions.push(Condition::Any(subject));
    }
    conditions
}

/// What lies between the wildcards, cut where it is long.
fn pieces<'a>(subject: Subject<'a>, pattern: &str) -> Vec<Condition<'a>> {
    let literals = pattern.split('*').map(str::as_bytes);
    let cut = literals.flat_map(|literal| {
        let last = literal.len().saturating_sub(PIECE_MAX);
        let starts = (0..last).step_by(PIECE_MAX / 2).chain([last]);
        starts.map(move |start| &literal[start..literal.len().min(start + PIECE_MAX)])
    });
    cut.filter(|piece| !piece.is_empty())
        .map(|piece| Condition::Contains(subject, piece.to_vec().into()))
        .collect()
}

/// Hands over the texts of a container that rules may be about; of its labels those of these keys.
pub(super) fn texts(
    facts: &Facts<'_>,
    labels: &HashSet<String>,
    tell: &mut impl FnMut(Subject<'_>, &str),
) {
    let container = facts.container;
    for name in &facts.names {
        tell_name(name, tell);
    }
    let names = container.image_names.as_deref().unwrap_or_default();
    tell_content(container.image_id.as_deref(), names, tell);
    // A build step is also known by the images that it was built on.
    let ancestors = container.ancestors.iter().flatten();
    for ancestor in ancestors.filter(|_| container.image_is_full_id()) {
        for name in references(ancestor.names.iter().map(String::as_str)) {
            tell_name(&name, tell);
        }
        tell_content(Some(&ancestor.id), &ancestor.names, tell);
    }
    if let Some(name) = &container.name {
        tell(Subject::Name, name);
    }
    let Some(given) = &container.labels else {
        return;
    };
    if labels.len() < given.len() {
        let given = labels.iter().filter_map(|key| given.get_key_value(key));
        given.for_each(|(key, value)| tell(Subject::Label(key), value));
    } else {
        let given = given.iter().filter(|(key, _)| labels.contains(*key));
        given.for_each(|(key, value)| tell(Subject::Label(key), value));
    }
}

fn tell_name(name: &Reference, tell: &mut impl FnMut(Subject<'_>, &str)) {
    let repository = name.repository();
    tell(Subject::Repository, repository);
    match name.tag() {
        None => tell(Subject::Image, repository),
        Some(tag) => tell(Subject::Image, &format!("{repository}:{tag}")),
    }
}

fn tell_content(id: Option<&str>, names: &[String], tell: &mut impl FnMut(Subject<'_>, &str)) {
    let digests = names
        .iter()
        .filter_map(|name| image::hash_of_repo_digest(name));
    for hash in id.into_iter().chain(digests) {
        tell(Subject::Content, hash);
    }
}
