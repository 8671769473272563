//! Two small charts of what was ended in the last day, drawn here.

use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

use crate::record::{Outcome, Record};

const HOURS: usize = 24;
const WIDTH: usize = 360;
const HEIGHT: usize = 90;
const FLOOR: usize = HEIGHT + 14;
/// Upper bounds in milliseconds, and what is written below.
const LIVED: [(f64, &str); 7] = [
    (10.0, "<10 ms"),
    (30.0, "<30"),
    (100.0, "<100"),
    (300.0, "<300"),
    (1_000.0, "<1 s"),
    (10_000.0, "<10 s"),
    (f64::INFINITY, "more"),
];

/// How long what was ended had lived.
pub(super) fn lived(records: &[Record]) -> Markup {
    let mut counts = [0; LIVED.len()];
    for lived in records.iter().filter_map(|record| record.lived_ms) {
        let bucket = LIVED.iter().position(|(bound, _)| lived < *bound);
        if let Some(count) = bucket.and_then(|bucket| counts.get_mut(bucket)) {
            *count += 1;
        }
    }
    let labels = LIVED.map(|(_, label)| label.to_owned());
    chart("How long they lived", &counts, &labels)
}

/// How many were ended in each of the last hours.
pub(super) fn per_hour(records: &[Record], now: Timestamp) -> Markup {
    let mut counts = [0; HOURS];
    let is_ended = |record: &&Record| record.outcome.is_some_and(Outcome::is_end);
    for record in records.iter().filter(is_ended) {
        let hours = now.duration_since(record.time).as_hours().max(0);
        let ago = usize::try_from(hours).unwrap_or(HOURS);
        if let Some(count) = HOURS.checked_sub(ago + 1).and_then(|at| counts.get_mut(at)) {
            *count += 1;
        }
    }
    let label = |at: usize| {
        let ago = i64::try_from(HOURS - 1 - at).unwrap_or_default();
        let hour = now - SignedDuration::from_hours(ago);
        match at % 6 {
            4 => hour.strftime("%H:00").to_string(),
            _ => String::new(),
        }
    };
    let labels: Vec<_> = (0..HOURS).map(label).collect();
    chart("Ended per hour, the last day (UTC)", &counts, &labels)
}

fn chart(title: &str, counts: &[usize], labels: &[String]) -> Markup {
    let most = counts.iter().copied().max().unwrap_or_default().max(1);
    let step = WIDTH / counts.len().max(1);
    let total: usize = counts.iter().sum();
    let what = format!("{title}: {total} in all, at most {most} in a column");
    html! {
        figure {
            figcaption { (title) }
            svg viewBox=(format!("0 0 {WIDTH} {}", FLOOR + 16)) role="img" aria-label=(what) {
                line x1="0" x2=(WIDTH) y1=(FLOOR) y2=(FLOOR) {}
                @for (at, (count, label)) in counts.iter().zip(labels).enumerate() {
                    @let height = (count * HEIGHT).div_ceil(most);
                    @let middle = at * step + step / 2;
                    rect x=(at * step + 2) y=(FLOOR - height) width=(step - 4) height=(height) rx="2" {
                        title { (count) " " (label) }
                    }
                    @if *count > 0 && counts.len() < HOURS {
                        text x=(middle) y=(FLOOR - height - 3) text-anchor="middle" { (count) }
                    }
                    text x=(middle) y=(FLOOR + 13) text-anchor="middle" { (label) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_ended_is_not_counted_as_such() {
        let record = |outcome: &str| -> Record {
            let record = json!({
                "v": 1, "seq": 1, "event": "decision", "time": "1970-01-01T00:00:00Z", "host": "h",
                "container_id": "ab".repeat(32), "labels": {}, "verdict": "denied", "trigger": "start",
                "mode": "enforce", "outcome": outcome, "allowlist_hash": "00",
            });
            serde_json::from_value(record).expect("a record")
        };
        let words = ["done", "audit-only", "failed", "escaped", "ended-itself"];
        let chart = per_hour(&words.map(record), Timestamp::UNIX_EPOCH);
        let chart = chart.into_string();
        assert!(chart.contains("(UTC): 2 in all"), "{chart}");
    }
}
