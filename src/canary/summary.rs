//! All canaries of a run together.

use serde::Serialize;

use super::{Flight, Outcome};

/// What became of them, and how long those lived that were ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary<'a> {
    /// How many there were.
    pub count: usize,
    /// How many were ended.
    pub ended: usize,
    /// How many were frozen.
    pub paused: usize,
    /// How many were removed before they could start.
    pub never_ran: usize,
    /// How many ended by themselves.
    pub ended_itself: usize,
    /// How many escaped.
    pub escaped: usize,
    /// How long those lived that were ended or frozen.
    pub lived_ms: Lived,
    /// Each of them.
    pub runs: &'a [Flight],
}

/// Times in milliseconds; none where nothing was ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Lived {
    /// Half of them lived no longer.
    pub p50: Option<f64>,
    /// 99 of 100 lived no longer.
    pub p99: Option<f64>,
    /// None lived longer.
    pub max: Option<f64>,
}

impl<'a> Summary<'a> {
    /// Counts them.
    pub fn of(runs: &'a [Flight]) -> Self {
        let count = |outcome| runs.iter().filter(|run| run.outcome == outcome).count();
        let is_timed = |run: &&Flight| matches!(run.outcome, Outcome::Ended | Outcome::Paused);
        let lived = runs.iter().filter(is_timed).filter_map(|run| run.lived_ms);
        Self {
            count: runs.len(),
            ended: count(Outcome::Ended),
            paused: count(Outcome::Paused),
            never_ran: count(Outcome::NeverRan),
            ended_itself: count(Outcome::EndedItself),
            escaped: count(Outcome::Escaped),
            lived_ms: Lived::of(lived.collect()),
            runs,
        }
    }

    /// Whether every one of them shows that what is forbidden does not live.
    pub fn is_good(&self) -> bool {
        self.runs.iter().all(|run| run.outcome.is_good())
    }
}

impl Lived {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        // The nearest rank: a time that was measured, never one between two.
        let percentile = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100);
            times.get(rank.checked_sub(1)?).copied()
        };
        Self {
            p50: percentile(50),
            p99: percentile(99),
            max: percentile(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::ContainerId;

    fn flight(outcome: Outcome, lived_ms: Option<f64>) -> Flight {
        Flight {
            container_id: ContainerId::parse(&"a".repeat(64)).unwrap(),
            container_name: "a".to_owned(),
            outcome,
            lived_ms,
        }
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let of = |number: u32| Lived::of((1..=number).rev().map(f64::from).collect());
        let table = [
            (1, [1, 1, 1]),
            (2, [1, 2, 2]),
            (10, [5, 10, 10]),
            (200, [100, 198, 200]),
        ];
        for (number, expected) in table {
            let lived = of(number);
            let found = [lived.p50, lived.p99, lived.max];
            assert_eq!(
                found,
                expected.map(|time| Some(f64::from(time))),
                "{number}"
            );
        }
        assert_eq!(of(0), Lived::default());
    }

    #[test]
    fn only_what_was_ended_is_timed_and_one_bad_one_spoils_all() {
        let good = [
            flight(Outcome::Ended, Some(7.0)),
            flight(Outcome::Paused, Some(9.0)),
            flight(Outcome::NeverRan, Some(0.0)),
        ];
        let summary = Summary::of(&good);
        assert!(summary.is_good());
        assert_eq!(
            (summary.ended, summary.paused, summary.never_ran),
            (1, 1, 1)
        );
        assert_eq!(
            (summary.lived_ms.p50, summary.lived_ms.max),
            (Some(7.0), Some(9.0))
        );
        for bad in [
            flight(Outcome::Escaped, None),
            flight(Outcome::EndedItself, Some(1.0)),
        ] {
            let all = [&good[..], &[bad]].concat();
            let summary = Summary::of(&all);
            assert!(!summary.is_good());
            assert_eq!(summary.escaped + summary.ended_itself, 1);
            assert_eq!(summary.lived_ms.p50, Some(7.0));
        }
    }
}
