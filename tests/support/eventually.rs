//! Waiting without sleeping blindly: poll until it is so, panic when it never was.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(10);

/// What a condition may return: a `bool`, or an `Option` whose value is wanted.
pub trait Settled {
    type Value;
    fn settled(self) -> Option<Self::Value>;
}

impl Settled for bool {
    type Value = ();
    fn settled(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Settled for Option<T> {
    type Value = T;
    fn settled(self) -> Option<T> {
        self
    }
}

/// Asks every 10 ms; panics with `what` when the time is up.
#[track_caller]
pub fn eventually<S: Settled>(
    what: &str,
    timeout: Duration,
    condition: impl FnMut() -> S,
) -> S::Value {
    poll(timeout, condition)
        .unwrap_or_else(|| panic!("waited {timeout:?}, and it never came true: {what}"))
}

/// The same for callers that have more to say than one line.
pub(super) fn poll<S: Settled>(
    timeout: Duration,
    mut condition: impl FnMut() -> S,
) -> Option<S::Value> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = condition().settled() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(POLL);
    }
}
