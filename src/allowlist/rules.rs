//! The rules of a list, and what is worked out from all of them once, when the list is read.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;

use serde::{Serialize, Serializer};

use super::Rule;
use super::index::{Candidates, Index};
use super::matching::Facts;

/// Rules in file order. They never change, so that what was worked out from them stays true.
#[derive(Clone)]
pub struct Rules {
    rules: Vec<Rule>,
    index: Index,
    /// The numbers of the rules, in the order of their names.
    by_name: Box<[usize]>,
    labels: HashSet<String>,
    has_max: bool,
    has_pins: bool,
    forbids_exec: bool,
}

impl Rules {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        let mut by_name: Vec<_> = (0..rules.len()).collect();
        by_name.sort_by_key(|number| &rules[*number].name);
        let labels = rules.iter().flat_map(|rule| rule.labels.keys());
        let mut images = rules.iter().flat_map(|rule| &rule.image);
        Self {
            index: Index::new(&rules),
            by_name: by_name.into(),
            labels: labels.cloned().collect(),
            has_max: rules.iter().any(|rule| rule.max.is_some()),
            has_pins: images.any(|pattern| pattern.pin().is_some()),
            forbids_exec: rules.iter().any(|rule| !rule.exec),
            rules,
        }
    }

    /// The rule of this name.
    pub(super) fn named(&self, name: &str) -> Option<&Rule> {
        let place = self
            .by_name
            .binary_search_by(|number| (*self.rules[*number].name).cmp(name));
        place.ok().map(|place| &self.rules[self.by_name[place]])
    }

    /// Whether one looks at the label `key`.
    pub(super) fn look_at_label(&self, key: &str) -> bool {
        self.labels.contains(key)
    }

    /// Whether one limits how many containers it allows at once.
    pub(super) fn have_max(&self) -> bool {
        self.has_max
    }

    /// Whether one pins content.
    pub(super) fn have_pins(&self) -> bool {
        self.has_pins
    }

    /// Whether one lets nobody execute anything in its containers.
    pub(super) fn forbid_exec(&self) -> bool {
        self.forbids_exec
    }

    /// Those that may say something about a container.
    pub(super) fn candidates(&self, facts: &Facts<'_>) -> Candidates<'_> {
        self.index.candidates(&self.rules, &self.labels, facts)
    }

    /// The same rules, as where no automaton could be built.
    #[cfg(test)]
    pub(super) fn without_automaton(mut self) -> Self {
        self.index = self.index.without_automaton();
        self
    }

    /// All of them in the order in which they are asked: those that only audit come last.
    #[cfg(test)]
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Rule> {
        let plain = self.rules.iter().filter(|rule| !rule.audit);
        plain.chain(self.rules.iter().filter(|rule| rule.audit))
    }
}

impl Deref for Rules {
    type Target = [Rule];

    fn deref(&self) -> &[Rule] {
        &self.rules
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(formatter)
    }
}

impl Serialize for Rules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.rules.serialize(serializer)
    }
}
