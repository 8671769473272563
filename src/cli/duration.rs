//! Durations as options take them: `30s`, `5m`, `1h30m`.

use std::ops::{Bound, RangeBounds};
use std::time::Duration;

use jiff::SignedDuration;

/// Parses one that lies in a range.
pub(super) fn within(
    range: impl RangeBounds<Duration> + Clone,
) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let parsed: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
        let duration = Duration::try_from(parsed).ok();
        let fits = duration.filter(|duration| range.contains(duration));
        fits.ok_or_else(|| expected(&range))
    }
}

fn expected(range: &impl RangeBounds<Duration>) -> String {
    let bound = |bound: Bound<&Duration>| match bound {
        Bound::Included(duration) | Bound::Excluded(duration) => {
            SignedDuration::try_from(*duration).ok()
        }
        Bound::Unbounded => None,
    };
    let least = bound(range.start_bound()).unwrap_or(SignedDuration::ZERO);
    match bound(range.end_bound()) {
        Some(most) => format!("from {least:#} to {most:#}"),
        None => format!("at least {least:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_is_refused_with_what_would_not() {
        const SECOND: Duration = Duration::from_secs(1);
        let hour = SECOND * 3_600;
        let any = within(Duration::ZERO..);
        let some = within(SECOND..=hour);
        for (text, duration) in [("0s", 0), ("500ms", 500), ("1h30m", 5_400_000)] {
            assert_eq!(any(text), Ok(Duration::from_millis(duration)), "{text}");
        }
        assert_eq!(some("1s"), Ok(SECOND));
        assert_eq!(some("1h"), Ok(hour));
        for text in ["999ms", "1h1s", "-5s", "-1h"] {
            assert_eq!(some(text), Err("from 1s to 1h".to_owned()), "{text}");
        }
        assert_eq!(any("-1h"), Err("at least 0s".to_owned()));
        assert!(any("soon").is_err_and(|error| !error.is_empty()));
    }
}
