//! Medians and the like.

use std::time::Duration;

/// The value that so many hundredths of all do not exceed.
pub(crate) fn percentile(values: &[Duration], hundredths: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort();
    let place = (sorted.len() as f64 * hundredths / 100.0).ceil();
    let place = (place as usize).clamp(1, sorted.len().max(1));
    sorted.get(place - 1).copied().unwrap_or_default()
}

/// In milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
