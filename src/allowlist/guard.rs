//! How much a change of the list may end before it is held back.

use std::sync::Arc;

use serde::Serialize;

/// When another list is held back, and which one is not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guard {
    /// The share of what runs, from 0 to 1, above which a change is too much.
    pub share: f64,
    /// So many containers have to be ended by a change for it to be too much.
    pub min: u32,
    /// The hash of the list that comes into force whatever it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept: Option<Arc<str>>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            share: 0.5,
            min: 5,
            accept: None,
        }
    }
}

impl Guard {
    /// Whether a change that would end so many of those that run is too much.
    pub fn holds(&self, would_end: usize, running: usize) -> bool {
        // Far below 2^52 containers nothing is lost.
        #[allow(clippy::cast_precision_loss)]
        let is_large = would_end as f64 > self.share * running as f64;
        is_large && would_end >= self.min as usize
    }

    /// Whether this guard lets the list with this hash pass.
    pub fn accepts(&self, hash: &str) -> bool {
        self.accept.as_deref() == Some(hash)
    }

    /// Whether nothing of it was written.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_both_a_share_and_a_number() {
        let guard = Guard::default();
        let table = [
            (6, 8, true),
            (5, 8, true),
            (4, 8, false),
            (5, 10, false),
            (6, 10, true),
            (4, 4, false),
            (5, 5, true),
            (0, 0, false),
        ];
        for (would_end, running, holds) in table {
            assert_eq!(
                guard.holds(would_end, running),
                holds,
                "{would_end} of {running}"
            );
        }
        let never = Guard {
            share: 1.0,
            ..Guard::default()
        };
        assert!(!never.holds(8, 8));
        let any = Guard {
            share: 0.0,
            min: 1,
            ..Guard::default()
        };
        assert!(any.holds(1, 1_000));
        assert!(!any.holds(0, 1_000));
    }
}
