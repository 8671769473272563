//! What befalls containers that are made anew and anew, as an orchestrator does it: the log tells the first
//! ones of a minute and then ever fewer, with how many it left out. The audit log has them all.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Decision;
use crate::allowlist::{Reason, Verdict};
use crate::record::Outcome;

/// How many are told one by one.
const ONE_BY_ONE: u64 = 20;
/// After so long, that begins anew.
const MINUTE: Duration = Duration::from_secs(60);
/// How many kinds are told apart. Those beyond count as one.
const KINDS: usize = 1_000;

/// The decisions of the last minute, by what is the same when a container is made anew.
#[derive(Default)]
pub(super) struct Repeats(HashMap<Kind, Count>);

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Kind {
    image: Option<String>,
    reason: Option<Reason>,
    outcome: Option<Outcome>,
}

struct Count {
    since: Instant,
    decisions: u64,
    left_out: u64,
}

impl Repeats {
    /// Whether the log tells of this decision: then how many like it were left out before.
    pub(super) fn admit(&mut self, decision: &Decision, now: Instant) -> Option<u64> {
        let is_ended = !matches!(
            decision.outcome,
            None | Some(Outcome::Failed | Outcome::Escaped)
        );
        if !is_ended || decision.verdict == Verdict::Unknown {
            return Some(0);
        }
        let mut kind = Kind {
            image: decision.container.image.clone(),
            reason: decision.verdict.reason(),
            outcome: decision.outcome,
        };
        if self.0.len() >= KINDS && !self.0.contains_key(&kind) {
            self.0
                .retain(|_, count| now.duration_since(count.since) < MINUTE);
            if self.0.len() >= KINDS {
                kind = Kind::default();
            }
        }
        let count = self.0.entry(kind).or_insert(Count {
            since: now,
            decisions: 0,
            left_out: 0,
        });
        if now.duration_since(count.since) >= MINUTE {
            (count.since, count.decisions) = (now, 0);
        }
        count.decisions += 1;
        if count.decisions > ONE_BY_ONE && !count.decisions.is_power_of_two() {
            count.left_out += 1;
            return None;
        }
        Some(std::mem::take(&mut count.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::decision;

    #[test]
    fn what_is_made_anew_is_told_ever_less_and_nothing_is_lost() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        let crash = decision("evil:1", Outcome::Done);
        let told: Vec<_> = (0..1_000)
            .filter_map(|_| repeats.admit(&crash, now))
            .collect();
        // 20, and then the 32nd, 64th, … 512th.
        assert_eq!(told.len(), 25);
        assert!(told[..20].iter().all(|left_out| *left_out == 0));
        assert_eq!(told[20..], [11, 31, 63, 127, 255]);
        // Others are others.
        assert_eq!(
            repeats.admit(&decision("evil:2", Outcome::Done), now),
            Some(0)
        );
        assert_eq!(
            repeats.admit(&decision("evil:1", Outcome::Gone), now),
            Some(0)
        );
        // The next one after a minute tells what was left out.
        assert_eq!(repeats.admit(&crash, now + MINUTE), Some(488));
        assert_eq!(repeats.admit(&crash, now + MINUTE), Some(0));
    }

    #[test]
    fn what_went_wrong_is_always_told() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        let failed = decision("evil:1", Outcome::Failed);
        assert!((0..1_000).all(|_| repeats.admit(&failed, now) == Some(0)));
    }

    #[test]
    fn so_many_kinds_are_one() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        let mut told = 0;
        for number in 0..10 * KINDS {
            let other = decision(&format!("evil:{number}"), Outcome::Done);
            told += usize::from(repeats.admit(&other, now).is_some());
        }
        assert!(told < KINDS + 40, "{told}");
        assert!(repeats.0.len() <= KINDS + 1);
    }
}
