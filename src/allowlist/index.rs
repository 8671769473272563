//! Which rules may say something about a container, found without asking each.
//!
//! Every rule stands under a condition that a container must meet for it: of the key that tells best, the
//! one that fewest rules share. What is written without a wildcard is found by its hash; one automaton
//! finds the pieces of all patterns in a text. [`Rule::compare`] then decides, as if all had been asked.
//!
//! So a decision takes as long for ten rules as for ten thousand. It still grows with
//! - the rules that share the condition they stand under, such as many for one image that differ in their
//!   grants alone, or patterns without a literal;
//! - the patterns of one rule, where it is asked;
//! - the rules that say nothing but what can't be told yet, as long as none of them is open: those with an
//!   image alone before its names are known, those with a name alone at creation;
//! - for denials: the rules that share one key and miss two others, those of one sort that expired, and the
//!   sorts under one key where the container has powers that they don't grant.

mod build;
mod condition;
mod postings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use aho_corasick::AhoCorasick;

use super::Rule;
use super::matching::{Facts, Unsettled};
use condition::{Condition, texts};
use postings::{Near, Postings, merged};

/// The number of the condition that every container meets.
const NONE: usize = 0;

/// Where the rules of a list are found.
#[derive(Clone)]
pub(super) struct Index {
    /// The rules, as numbers, in the order in which they are asked.
    order: Box<[usize]>,
    /// Numbers of conditions by their hashes. Where two conditions share one, both count as met.
    conditions: HashMap<u64, usize>,
    /// The kinds of all conditions.
    kinds: u16,
    hasher: RandomState,
    /// Finds the pieces that conditions ask for.
    automaton: Option<AhoCorasick>,
    /// Conditions that nobody looks for and that so count as met.
    unsearched: Box<[usize]>,
    named: View,
    /// For containers whose name is open, where a rule looks at names.
    unnamed: Option<View>,
}

/// The rules under conditions of those keys that a container can miss.
#[derive(Clone)]
struct View {
    /// Each under its best key.
    rules: Postings<usize>,
    /// Each that an unsettled image leaves open, under the best of its other keys.
    unsettled: [Postings<usize>; Unsettled::ALL.len()],
    /// Each under its two best keys: where one alone is missed, the other is met. What has but one never
    /// misses more.
    near: Postings<Near>,
}

/// The rules that may say something about one container.
pub(super) struct Candidates<'a> {
    rules: &'a [Rule],
    order: &'a [usize],
    view: &'a View,
    /// The conditions that the container meets, [`NONE`] before all others.
    met: Vec<usize>,
    is_name_open: bool,
    unsettled: [bool; Unsettled::ALL.len()],
}

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        build::index(rules)
    }

    /// Those of the rules that it was made of that may say something about a container. These are the labels
    /// that they look at.
    pub(super) fn candidates<'a>(
        &'a self,
        rules: &'a [Rule],
        labels: &HashSet<String>,
        facts: &Facts<'_>,
    ) -> Candidates<'a> {
        let unnamed = self.unnamed.as_ref().filter(|_| facts.is_name_open);
        Candidates {
            rules,
            order: &self.order,
            view: unnamed.unwrap_or(&self.named),
            met: self.met(labels, facts),
            is_name_open: unnamed.is_some(),
            unsettled: Unsettled::ALL.map(|unsettled| unsettled.is_of(facts.container)),
        }
    }

    #[cfg(test)]
    pub(super) fn without_automaton(mut self) -> Self {
        self.automaton = None;
        self.unsearched = self.conditions.values().copied().collect();
        self
    }

    fn met(&self, labels: &HashSet<String>, facts: &Facts<'_>) -> Vec<usize> {
        let mut met = vec![NONE];
        met.extend(&self.unsearched);
        let is_asked = |condition: &Condition<'_>| self.kinds & condition.kind() != 0;
        let mut note = |condition: Condition<'_>| {
            if is_asked(&condition) {
                let hash = self.hasher.hash_one(condition);
                met.extend(self.conditions.get(&hash));
            }
        };
        texts(facts, labels, &mut |subject, text| {
            note(Condition::Is(subject, text.into()));
            note(Condition::Any(subject));
            let searches = is_asked(&Condition::Contains(subject, [].as_slice().into()));
            let automaton = self.automaton.iter().filter(|_| searches);
            let found = automaton.flat_map(|automaton| automaton.find_overlapping_iter(text));
            // A hostile text has one piece a million times.
            let pieces: BTreeMap<_, _> = found.map(|one| (one.pattern(), one.range())).collect();
            for place in pieces.into_values() {
                let piece = &text.as_bytes()[place];
                note(Condition::Contains(subject, piece.into()));
            }
        });
        met.sort_unstable();
        met.dedup();
        met
    }
}

impl<'a> Candidates<'a> {
    /// All that may match, that may be open, or that miss no key which says who the container is, in the
    /// order in which they are asked.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'a Rule> {
        let unsettled = self.view.unsettled.iter().zip(self.unsettled);
        let unsettled = unsettled.filter_map(|(postings, is_so)| is_so.then_some(postings));
        let postings = [&self.view.rules].into_iter().chain(unsettled);
        let lists = postings.flat_map(|postings| self.met.iter().map(|one| postings.of(*one)));
        merged(lists).map(|place| self.at(place))
    }

    /// The first of those that are near by missing one such key; none where none of them has a second one.
    /// Rules that ask for the same powers, command and execs are of one sort: unless that is open to the
    /// container, none of them is near.
    pub(super) fn first_near(
        &self,
        is_open: impl Fn(&Rule) -> bool,
        is_near: impl Fn(&Rule) -> bool,
    ) -> Option<&'a Rule> {
        let first = |conditions, found| {
            let is_open = |place| is_open(self.at(place));
            let is_near = |place| is_near(self.at(place));
            self.view.near.first(conditions, found, is_open, is_near)
        };
        let (none, met) = self.met.split_at(1);
        let found = first(met, None);
        // What misses the one key that it has is never named. It only stands before others.
        if found.is_none() && !self.is_name_open {
            return None;
        }
        first(none, found).map(|place| self.at(place))
    }

    fn at(&self, place: usize) -> &'a Rule {
        &self.rules[self.order[place]]
    }
}
