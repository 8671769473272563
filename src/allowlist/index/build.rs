//! Building the index: for each rule the conditions that tell best which containers it speaks of.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::condition::{Condition, of_rule};
use super::postings::{Near, Postings};
use super::{Index, NONE, View};
use crate::allowlist::matching::Unsettled;
use crate::allowlist::{Command, Key, Rule};
use crate::grant::Grant;

pub(super) fn index(rules: &[Rule]) -> Index {
    let mut order: Vec<_> = (0..rules.len()).collect();
    order.sort_by_key(|number| rules[*number].audit);
    let looks_at_names = rules.iter().any(|rule| !rule.container.is_empty());
    let mut conditions = Conditions::of(rules);
    let mut sorts = HashMap::new();
    let mut named = Draft::default();
    let mut unnamed = looks_at_names.then(Draft::default);
    for (place, number) in order.iter().enumerate() {
        let rule = &rules[*number];
        let next = sorts.len();
        let sort = *sorts.entry(sort(rule)).or_insert(next);
        let mut keys = conditions.of_keys(rule);
        named.add(place, rule, sort, &keys);
        if let Some(unnamed) = &mut unnamed {
            keys.retain(|one| one.key != Key::Container);
            unnamed.add(place, rule, sort, &keys);
        }
    }
    let (automaton, unsearched) = automaton(conditions.pieces, conditions.searched);
    Index {
        order: order.into(),
        conditions: conditions.numbers,
        kinds: conditions.kinds,
        hasher: conditions.hasher,
        automaton,
        unsearched: unsearched.into(),
        named: named.finish(),
        unnamed: unnamed.map(Draft::finish),
    }
}

/// What a rule asks for beside who the container is. But for those that expired, rules of one sort are all
/// open to a container, or none is.
fn sort(rule: &Rule) -> (Option<Vec<&str>>, Command, bool) {
    let grants = rule.granted();
    let grants = grants.map(|grants| grants.map(Grant::as_str).collect());
    (grants, rule.command, rule.exec)
}

/// What finds all pieces, or the conditions that nobody will look for.
fn automaton(pieces: Vec<Box<[u8]>>, searched: Vec<usize>) -> (Option<AhoCorasick>, Vec<usize>) {
    if pieces.is_empty() {
        return (None, Vec::new());
    }
    let mut builder = AhoCorasick::builder();
    // The fastest kind takes a table for each byte of each piece.
    builder.kind(Some(AhoCorasickKind::ContiguousNFA));
    match builder.build(pieces) {
        Ok(automaton) => (Some(automaton), Vec::new()),
        Err(_) => (None, searched),
    }
}

/// How many patterns share a condition, and how broad it is: the least is the best.
type Rank = (usize, Reverse<usize>);

/// A key of a rule with the best condition for each of its patterns.
struct Chosen {
    key: Key,
    /// Of the worst of them.
    rank: Option<Rank>,
    conditions: Vec<usize>,
}

struct Conditions {
    hasher: RandomState,
    /// How many patterns have a condition, by its hash.
    frequency: HashMap<u64, usize>,
    /// The numbers of those that were chosen, by their hashes.
    numbers: HashMap<u64, usize>,
    kinds: u16,
    /// What is to be searched for, and by which conditions.
    pieces: Vec<Box<[u8]>>,
    searched: Vec<usize>,
}

impl Conditions {
    fn of(rules: &[Rule]) -> Self {
        let hasher = RandomState::new();
        let mut frequency: HashMap<_, usize> = HashMap::new();
        for key in rules.iter().flat_map(of_rule) {
            for condition in key.patterns.iter().flatten() {
                *frequency.entry(hasher.hash_one(condition)).or_default() += 1;
            }
        }
        Self {
            numbers: HashMap::from([(hasher.hash_one(Condition::None), NONE)]),
            hasher,
            frequency,
            kinds: 0,
            pieces: Vec::new(),
            searched: Vec::new(),
        }
    }

    /// The keys that say who a container is, the best first.
    fn of_keys(&mut self, rule: &Rule) -> Vec<Chosen> {
        let mut keys = Vec::new();
        for key in of_rule(rule) {
            let mut chosen = Chosen {
                key: key.key,
                rank: None,
                conditions: Vec::new(),
            };
            for pattern in &key.patterns {
                let ranked = pattern.iter().map(|condition| {
                    let hash = self.hasher.hash_one(condition);
                    let frequency = self.frequency.get(&hash).copied().unwrap_or_default();
                    ((frequency, condition.breadth()), hash, condition)
                });
                if let Some((rank, hash, condition)) = ranked.min_by_key(|(rank, ..)| *rank) {
                    chosen.rank = chosen.rank.max(Some(rank));
                    chosen.conditions.push(self.number(hash, condition));
                }
            }
            keys.push(chosen);
        }
        keys.sort_by_key(|one| one.rank);
        keys
    }

    fn number(&mut self, hash: u64, condition: &Condition<'_>) -> usize {
        self.kinds |= condition.kind();
        let next = self.numbers.len();
        let number = *self.numbers.entry(hash).or_insert(next);
        if let Condition::Contains(_, piece) = condition
            && number == next
        {
            self.pieces.push(piece.as_ref().into());
            self.searched.push(number);
        }
        number
    }
}

/// A [`View`] that is being filled.
#[derive(Default)]
struct Draft {
    rules: Vec<(usize, usize)>,
    unsettled: [Vec<(usize, usize)>; Unsettled::ALL.len()],
    near: Vec<(usize, Near)>,
    /// The first rule of each sort under each condition.
    leads: HashMap<(usize, usize), usize>,
}

impl Draft {
    /// Adds the next rule, with those keys of it that a container can miss.
    fn add(&mut self, place: usize, rule: &Rule, sort: usize, keys: &[Chosen]) {
        let entries = |key: Option<&Chosen>| {
            let conditions = key.map_or_else(|| vec![NONE], |key| key.conditions.clone());
            conditions.into_iter().map(move |one| (one, place))
        };
        self.rules.extend(entries(keys.first()));
        let other = keys.iter().find(|one| one.key != Key::Image);
        for (postings, unsettled) in self.unsettled.iter_mut().zip(Unsettled::ALL) {
            if unsettled.concerns(rule) {
                postings.extend(entries(other));
            }
        }
        let near = match keys {
            [] => Vec::new(),
            [_] => vec![NONE],
            [best, second, ..] => [&*best.conditions, &*second.conditions].concat(),
        };
        for condition in near {
            let lead = *self.leads.entry((condition, sort)).or_insert(place);
            self.near.push((condition, Near { lead, rule: place }));
        }
    }

    fn finish(self) -> View {
        View {
            rules: Postings::new(self.rules),
            unsettled: self.unsettled.map(Postings::new),
            near: Postings::new(self.near),
        }
    }
}
