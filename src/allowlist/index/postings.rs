//! Rules by the condition that each of them needs.
//!
//! Conditions are numbers here, and so are rules: their places in the order in which they are asked.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter;

/// What stands under each condition, in order.
#[derive(Debug, Clone)]
pub(super) struct Postings<T> {
    /// Where the entries of each condition begin, and behind the last one the end of all.
    starts: Box<[usize]>,
    entries: Box<[T]>,
}

impl<T: Copy + Ord> Postings<T> {
    pub(super) fn new(mut entries: Vec<(usize, T)>) -> Self {
        entries.sort_unstable();
        entries.dedup();
        let mut starts = Vec::new();
        for (place, (condition, _)) in entries.iter().enumerate() {
            if starts.len() <= *condition {
                starts.resize(condition + 1, place);
            }
        }
        starts.push(entries.len());
        Self {
            starts: starts.into(),
            entries: entries.into_iter().map(|(_, entry)| entry).collect(),
        }
    }

    pub(super) fn of(&self, condition: usize) -> &[T] {
        match self.starts.get(condition..=condition + 1) {
            Some([start, end]) => &self.entries[*start..*end],
            _ => &[],
        }
    }

    /// How many bytes it takes.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.entries)
    }
}

/// A rule that may be near. Under each condition those of a sort stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Near {
    /// The first rule of its sort under that condition.
    pub(super) lead: usize,
    pub(super) rule: usize,
}

impl Postings<Near> {
    /// The first rule that is near, of those under one of these conditions and one that was found
    /// before. Whether a sort is open to the container is asked of its first rule.
    pub(super) fn first(
        &self,
        conditions: &[usize],
        mut found: Option<usize>,
        is_open: impl Fn(usize) -> bool,
        is_near: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        for condition in conditions {
            let mut rest = self.of(*condition);
            // No sort has a rule before its lead, and the leads are in order.
            while let Some(first) = rest.first().filter(|first| is_before(first.lead, found)) {
                let length = rest.partition_point(|one| one.lead == first.lead);
                let (sort, others) = rest.split_at(length);
                rest = others;
                if is_open(first.lead) {
                    let rules = sort.iter().map(|one| one.rule);
                    let mut earlier = rules.take_while(|rule| is_before(*rule, found));
                    found = earlier.find(|rule| is_near(*rule)).or(found);
                }
            }
        }
        found
    }
}

fn is_before(rule: usize, found: Option<usize>) -> bool {
    found.is_none_or(|found| rule < found)
}

/// The numbers in sorted lists, in order and each once. Nothing is read ahead, as the first mostly
/// suffice.
pub(super) fn merged<'a>(lists: impl Iterator<Item = &'a [usize]>) -> impl Iterator<Item = usize> {
    let lists = lists.filter(|list| !list.is_empty());
    let mut lists: BinaryHeap<_> = lists.map(Reverse).collect();
    let mut last = None;
    iter::from_fn(move || {
        loop {
            let Reverse(list) = lists.pop()?;
            let (first, rest) = list.split_first()?;
            if !rest.is_empty() {
                lists.push(Reverse(rest));
            }
            if last.replace(*first) != Some(*first) {
                return Some(*first);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_merged_in_order_and_without_doubles() {
        let lists: [&[usize]; 5] = [&[1, 4, 9], &[], &[4, 5], &[0, 9], &[4]];
        let merged: Vec<_> = merged(lists.into_iter()).collect();
        assert_eq!(merged, [0, 1, 4, 5, 9]);
    }

    #[test]
    fn rules_stand_under_their_conditions() {
        let postings = Postings::new(vec![(2, 7), (0, 3), (2, 1), (2, 7)]);
        let table: [(usize, &[usize]); 5] = [(0, &[3]), (1, &[]), (2, &[1, 7]), (3, &[]), (9, &[])];
        for (condition, rules) in table {
            assert_eq!(postings.of(condition), rules, "{condition}");
            assert!(Postings::<usize>::new(Vec::new()).of(condition).is_empty());
        }
    }

    #[test]
    fn the_first_near_rule_is_found() {
        let near = |condition, lead, rule| (condition, Near { lead, rule });
        let postings = Postings::new(vec![
            near(0, 1, 1),
            near(0, 1, 5),
            near(0, 3, 3),
            near(0, 3, 4),
            near(1, 2, 2),
            near(2, 6, 6),
        ]);
        // The conditions that are met, the sorts that are open, the rules that are near, the first of these.
        type Case<'a> = (&'a [usize], &'a [usize], &'a [usize], Option<usize>);
        let table: [Case<'_>; 8] = [
            (&[], &[1, 2, 3], &[1, 2, 3], None),
            (&[0], &[1, 2, 3], &[1, 3], Some(1)),
            (&[0], &[1, 3], &[3, 5], Some(3)),
            (&[0], &[1, 3], &[4, 5], Some(4)),
            (&[0], &[1], &[4, 5], Some(5)),
            (&[0, 1, 2], &[1, 2, 3, 6], &[2, 4, 5, 6], Some(2)),
            (&[2, 1], &[2, 6], &[6], Some(6)),
            (&[0], &[], &[1, 3, 4, 5], None),
        ];
        for (conditions, open, nears, expected) in table {
            let found = postings.first(
                conditions,
                None,
                |lead| open.contains(&lead),
                |rule| nears.contains(&rule),
            );
            assert_eq!(found, expected, "{conditions:?} {open:?} {nears:?}");
        }
    }
}
