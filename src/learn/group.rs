//! Containers that one rule allows: those of one image and one service.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{PinBy, grants};
use crate::allowlist::quoted;
use crate::container::Container;
use crate::grant::Power;
use crate::image::{ImagePattern, Reference, hash_of_repo_digest};

/// The labels that say to what a container belongs, by who sets them.
const SERVICES: &[&[&str]] = &[
    &[
        "io.kubernetes.pod.namespace",
        "io.kubernetes.container.name",
    ],
    &["com.docker.swarm.service.name"],
    &["com.docker.compose.project", "com.docker.compose.service"],
];
/// How much of a label's value is written down; records tell no more of it either.
const LABEL_MAX: usize = 1_024;
/// How many places are named.
const SOURCES_MAX: usize = 3;

/// What makes one rule of several containers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The labels of its service, none for a container by itself.
    pub(super) service: Vec<(&'static str, String)>,
    pub(super) image: Image,
}

/// An image, whatever content its name has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Image {
    /// A name, with its tag where it has one.
    Named(String),
    /// A content without a name, by its image's id.
    Nameless(String),
}

impl Key {
    /// Where a container belongs, or why no rule can allow it.
    pub(super) fn of(container: &Container) -> Result<Self, &'static str> {
        let id = container.image_id.as_deref();
        if id == Some("") {
            return Err("has no image, and such a container is never allowed");
        }
        let name = name_of_image(container).map(|name| without_digest(&name));
        let image = match (name, id) {
            (Some(name), _) => Image::Named(name),
            (None, Some(id)) if is_pin(id) => Image::Nameless(id.to_owned()),
            (None, _) => return Err("has an image of which nothing is known"),
        };
        let service = SERVICES.iter().find_map(|keys| {
            let of_key = |key: &&'static str| {
                let labels = container.labels.as_ref()?;
                Some((*key, pattern(labels.get(*key)?)))
            };
            keys.iter().map(of_key).collect::<Option<Vec<_>>>()
        });
        Ok(Self {
            service: service.unwrap_or_default(),
            image,
        })
    }
}

/// A pattern that fits a label's value.
fn pattern(value: &str) -> String {
    match value.char_indices().nth(LABEL_MAX) {
        None => value.to_owned(),
        Some((end, _)) => format!("{}*", &value[..end]),
    }
}

fn name_of_image(container: &Container) -> Option<Reference> {
    container.names_of_image().find_map(Reference::parse)
}

fn without_digest(name: &Reference) -> String {
    let text = name.familiar();
    match text.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => text,
    }
}

fn is_pin(text: &str) -> bool {
    ImagePattern::parse(text).is_ok_and(|pattern| pattern.pin() == Some(text))
}

/// What was seen of them.
#[derive(Debug, Default)]
pub(super) struct Group {
    sources: BTreeSet<Arc<str>>,
    images: BTreeSet<String>,
    powers: BTreeSet<Power>,
    /// Of one of them at least it is not known what it can do.
    is_open: bool,
    /// Of one of them at least the content is not known.
    is_unpinned: bool,
}

impl Group {
    pub(super) fn add(&mut self, source: &Arc<str>, container: &Container, by: PinBy) {
        self.sources.insert(source.clone());
        self.is_open |= container.powers_are_open();
        self.powers
            .extend(container.powers.iter().flatten().cloned());
        let name = name_of_image(container);
        let has_tag = name.as_ref().is_some_and(|name| name.tag().is_some());
        let pin = match by {
            PinBy::Nothing if has_tag => None,
            PinBy::Nothing | PinBy::Digest => digest(container, name.as_ref()),
            PinBy::Id => id(container),
        };
        self.is_unpinned |= pin.is_none() && by != PinBy::Nothing;
        let image = match (name.map(|name| without_digest(&name)), pin) {
            (Some(name), Some(pin)) => format!("{name}@{pin}"),
            (Some(name), None) => name,
            (None, Some(pin)) => pin,
            (None, None) => return,
        };
        self.images.insert(image);
    }

    /// The rule, and what is to be said about it.
    pub(super) fn rule(&self, name: &str, key: &Key) -> (String, Vec<String>) {
        let (grants, notes) = grants::of(&self.powers);
        let mut notes: Vec<String> = notes;
        if self.is_open {
            notes.push("what it can do was not looked at: `grants` may lack something".to_owned());
        }
        if self.is_unpinned {
            notes.push("not pinned, for its content is not known".to_owned());
        }
        let mut text = format!("\n[[allow]]\nrule = {}\n", quoted(name));
        for note in &notes {
            text.push_str(&format!("# {note}\n"));
        }
        let images: Vec<_> = self.images.iter().map(|image| quoted(image)).collect();
        match images.as_slice() {
            [only] => text.push_str(&format!("image = {only}\n")),
            images => text.push_str(&format!("image = {}\n", list(images))),
        }
        if !key.service.is_empty() {
            let labels = key.service.iter();
            let labels: Vec<_> = labels
                .map(|(key, value)| format!("{} = {}", quoted(key), quoted(value)))
                .collect();
            text.push_str(&format!("labels = {{ {} }}\n", labels.join(", ")));
        }
        if !grants.is_empty() {
            let grants: Vec<_> = grants.iter().map(|grant| quoted(grant)).collect();
            text.push_str(&format!("grants = {}\n", list(&grants)));
        }
        text.push_str(&format!("reason = {}\n", quoted(&self.reason())));
        let notes = notes.into_iter().map(|note| format!("rule {name}: {note}"));
        (text, notes.collect())
    }

    fn reason(&self) -> String {
        let named: Vec<_> = self
            .sources
            .iter()
            .take(SOURCES_MAX)
            .map(|one| &**one)
            .collect();
        let rest = self.sources.len() - named.len();
        let more = match rest {
            0 => String::new(),
            rest => format!(" and {rest} more"),
        };
        format!("learned from {}{more}", named.join(", "))
    }
}

/// A repo digest of the name's own repository before one of another, and that before the image's id.
fn digest(container: &Container, name: Option<&Reference>) -> Option<String> {
    let names = || container.image_names.iter().flatten();
    let is_own = |digest: &&String| {
        let other = Reference::parse(digest);
        let repository = other.as_ref().map(Reference::repository);
        repository.is_some() && repository == name.map(Reference::repository)
    };
    let hash = |digest: &String| hash_of_repo_digest(digest).map(str::to_owned);
    let own = names().filter(is_own).find_map(hash);
    own.or_else(|| names().find_map(hash))
        .or_else(|| id(container))
}

fn id(container: &Container) -> Option<String> {
    container.image_id.clone().filter(|id| is_pin(id))
}

/// A list, an element a line where it is long.
fn list(elements: &[String]) -> String {
    const WIDE: usize = 100;
    let line = format!("[{}]", elements.join(", "));
    if line.chars().count() <= WIDE {
        return line;
    }
    let lines: String = elements.iter().map(|one| format!("    {one},\n")).collect();
    format!("[\n{lines}]")
}
