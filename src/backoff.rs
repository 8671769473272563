//! Delays between attempts: doubling from a first one up to a longest one.

use std::time::Duration;

/// A series of delays.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// A series that begins with `first` and never exceeds `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first.min(longest),
        }
    }

    /// The next delay; the one after it is twice as long.
    pub fn delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = delay.saturating_mul(2).min(self.longest);
        delay
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.next = self.first.min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let mut delays = || backoff.delay().as_millis();
        assert_eq!(
            [delays(), delays(), delays(), delays()],
            [100, 200, 350, 350]
        );
        backoff.reset();
        assert_eq!(backoff.delay().as_millis(), 100);
    }
}
