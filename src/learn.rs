//! From containers that were seen to an allowlist that allows them. Pure.
//!
//! One rule per image and Compose service, Swarm service or Kubernetes container, whatever names the
//! containers were given: those are generated, and the next ones will be called otherwise.

mod grants;
mod group;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::allowlist::quoted;
use crate::container::{Container, ContainerId};
use crate::record::Record;
use group::{Group, Key};

/// What pins the content of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinBy {
    /// A repo digest, which holds on every host; the image's id where there is none.
    Digest,
    /// The image's id, which holds on engines with the same kind of store.
    Id,
    /// Nothing: names alone decide.
    Nothing,
}

/// A container that was seen.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// Where, such as `what runs on web-1`.
    pub source: Arc<str>,
    /// What is known of it.
    pub container: Container,
}

impl Sighting {
    /// What a record tells of a container.
    pub fn of_record(record: Record) -> Self {
        Self {
            source: format!("the audit log of {}", record.host).into(),
            container: Container {
                name: record.container_name,
                image: record.image,
                image_id: record.image_id,
                image_names: Some(record.image_digests),
                powers: record.powers,
                may_do_more: record.may_do_more,
                labels: Some(record.labels.into()),
                ..Container::new(record.container_id)
            },
        }
    }
}

/// A list that was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// Its text.
    pub text: String,
    /// What it does not allow of what was seen, and what it says less strictly than it should.
    pub notes: Vec<String>,
}

/// A list that allows all that was seen.
pub fn learn(sightings: impl IntoIterator<Item = Sighting>, pin: PinBy) -> Learned {
    let mut notes = BTreeSet::new();
    let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
    for ((source, _), container) in merged(sightings) {
        let whose = format!("{} of {source}", quoted(container.display_name()));
        match Key::of(&container) {
            Ok(key) => groups.entry(key).or_default().add(&source, &container, pin),
            Err(why) => {
                notes.insert(format!("left out: {whose} {why}"));
            }
        }
    }
    let mut text = String::from(
        "# Learned from what was seen. Read it before it comes into force: it allows that, and\n\
         # nobody has said yet that it should.\nversion = 1\n",
    );
    for note in &notes {
        text.push_str(&format!("# {note}\n"));
    }
    if groups.is_empty() {
        text.push_str("allow-nothing = true\n");
    }
    text.push_str("\n[defaults]\ngrants = []\n");
    let mut names = names::Names::default();
    for (key, group) in &groups {
        let name = names.unique(key);
        let (rule, more) = group.rule(&name, key);
        text.push_str(&rule);
        notes.extend(more);
    }
    Learned {
        text,
        notes: notes.into_iter().collect(),
    }
}

/// A container may have been seen more than once, and more of it each time.
fn merged(
    sightings: impl IntoIterator<Item = Sighting>,
) -> BTreeMap<(Arc<str>, ContainerId), Container> {
    let mut merged: BTreeMap<_, Container> = BTreeMap::new();
    for Sighting { source, container } in sightings {
        let Some(known) = merged.get_mut(&(source.clone(), container.id.clone())) else {
            merged.insert((source, container.id.clone()), container);
            continue;
        };
        known.may_do_more = known.powers_are_open() && container.powers_are_open();
        if known.image.is_none() || known.image_is_id() {
            known.image = container.image.or(known.image.take());
        }
        known.image_id = known.image_id.take().or(container.image_id);
        known.name = known.name.take().or(container.name);
        let names = known.image_names.get_or_insert_default();
        for name in container.image_names.into_iter().flatten() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if let Some(powers) = container.powers {
            known.powers.get_or_insert_default().extend(powers);
        }
        if let Some(labels) = container.labels {
            let known = Arc::make_mut(known.labels.get_or_insert_default());
            known.extend(Arc::unwrap_or_clone(labels));
        }
    }
    merged
}

#[cfg(test)]
mod tests;
