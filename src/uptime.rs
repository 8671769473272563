//! How long this process runs, by a clock that nobody sets: what ages are measured by.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time since this was first asked for. It never goes back, and never jumps.
pub fn uptime() -> Duration {
    BEGAN.elapsed()
}

/// How long ago an `uptime` was.
pub fn age(then: Duration) -> Duration {
    uptime().saturating_sub(then)
}
