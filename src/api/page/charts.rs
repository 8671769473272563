//! Two small charts of what was ended in the last day, drawn here.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::record::{Outcome, Record};

const HOURS: i64 = 24;
const SECONDS: i64 = 3_600;
/// Of so many hours each has its name below it.
const FEW: i64 = 8;
const WIDTH: usize = 360;
const HEIGHT: usize = 90;
const FLOOR: usize = HEIGHT + 14;
/// A column may be so wide, and needs more than that for its count above it.
const WIDEST: usize = 47;
const ROOM: usize = 24;
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

/// One of a chart.
struct Column {
    count: usize,
    name: String,
    /// Whether the name is written below.
    is_named: bool,
}

/// How long what was ended had lived.
pub(super) fn lived(records: &[Record]) -> Markup {
    let mut columns = LIVED.map(|(_, name)| Column {
        count: 0,
        name: name.to_owned(),
        is_named: true,
    });
    for lived in records.iter().filter_map(|record| record.lived_ms) {
        let bucket = LIVED.iter().position(|(bound, _)| lived < *bound);
        if let Some(column) = bucket.and_then(|bucket| columns.get_mut(bucket)) {
            column.count += 1;
        }
    }
    chart("How long they lived", &columns)
}

/// How many were ended in each hour of the last day, or of what is known of it: then the records are the last ones
/// of these.
pub(super) fn per_hour(records: &[Record], last_of: Option<&str>, now: Timestamp) -> Markup {
    let hour_of = |time: Timestamp| time.as_second().div_euclid(SECONDS);
    let newest = hour_of(now);
    let day = newest - HOURS;
    let oldest = match last_of {
        Some(_) => records.iter().map(|record| hour_of(record.time)).min(),
        None => None,
    };
    let oldest = oldest.unwrap_or(day).clamp(day, newest);
    let all_are_named = newest - oldest < FEW;
    let column = |hour: i64| Column {
        count: 0,
        name: format!("{:02}:00", hour.rem_euclid(24)),
        // Those at the edges would have no room.
        is_named: all_are_named || (hour % 6 == 0 && hour != oldest && hour != newest),
    };
    let mut columns: Vec<_> = (oldest..=newest).map(column).collect();
    let is_ended = |record: &&Record| record.outcome.is_some_and(Outcome::is_end);
    for record in records.iter().filter(is_ended) {
        let at = usize::try_from(hour_of(record.time) - oldest);
        if let Some(column) = at.ok().and_then(|at| columns.get_mut(at)) {
            column.count += 1;
        }
    }
    match last_of {
        Some(last_of) => chart(&format!("Ended per hour (UTC), of {last_of}"), &columns),
        None => chart("Ended per hour, the last day (UTC)", &columns),
    }
}

fn chart(title: &str, columns: &[Column]) -> Markup {
    let counts = || columns.iter().map(|column| column.count);
    let most = counts().max().unwrap_or_default().max(1);
    let step = WIDTH / columns.len().max(1);
    let width = (step - 4).min(WIDEST);
    let total: usize = counts().sum();
    let what = format!("{title}: {total} in all, at most {most} in a column");
    html! {
        figure {
            figcaption { (title) }
            svg viewBox=(format!("0 0 {WIDTH} {}", FLOOR + 16)) role="img" aria-label=(what) {
                line x1="0" x2=(WIDTH) y1=(FLOOR) y2=(FLOOR) {}
                @for (at, Column { count, name, is_named }) in columns.iter().enumerate() {
                    @let height = (count * HEIGHT).div_ceil(most);
                    @let middle = at * step + step / 2;
                    rect x=(middle - width / 2) y=(FLOOR - height) width=(width) height=(height) rx="2" {
                        title { (name) ": " (count) }
                    }
                    @if *count > 0 && step > ROOM {
                        text x=(middle) y=(FLOOR - height - 3) text-anchor="middle" { (count) }
                    }
                    @if *is_named {
                        text x=(middle) y=(FLOOR + 13) text-anchor="middle" { (name) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(outcome: &str) -> Record {
        let record = json!({
            "v": 1, "seq": 1, "event": "decision", "time": "1970-01-01T00:00:00Z", "host": "h",
            "container_id": "ab".repeat(32), "labels": {}, "verdict": "denied", "trigger": "start",
            "mode": "enforce", "outcome": outcome, "allowlist_hash": "00",
        });
        serde_json::from_value(record).expect("a record")
    }

    #[test]
    fn what_was_not_ended_is_not_counted_as_such() {
        let words = ["done", "audit-only", "failed", "escaped", "ended-itself"];
        let chart = per_hour(&words.map(record), None, Timestamp::UNIX_EPOCH);
        let chart = chart.into_string();
        assert!(chart.contains("(UTC): 2 in all"), "{chart}");
    }

    #[test]
    fn hours_of_which_nothing_is_known_are_not_shown_as_empty() {
        let at = |time: &str| time.parse().expect("a time");
        let all = [
            "2026-01-02T14:05:00Z",
            "2026-01-02T13:59:59Z",
            "2026-01-02T12:01:00Z",
        ];
        let all = all.map(|time| Record {
            time: at(time),
            ..record("done")
        });
        let columns = |last_of| {
            let chart = per_hour(&all, last_of, at("2026-01-02T14:30:00Z")).into_string();
            let titles = chart.split("<title>").skip(1);
            let titles = titles.filter_map(|rest| Some(rest.split_once("</title>")?.0.to_owned()));
            (titles.collect::<Vec<_>>(), chart)
        };
        let (told, chart) = columns(Some("the last 1,000 denials"));
        assert_eq!(told, ["12:00: 1", "13:00: 1", "14:00: 1"]);
        let caption = "Ended per hour (UTC), of the last 1,000 denials";
        assert!(chart.contains(caption), "{chart}");
        let (told, _) = columns(None);
        assert_eq!((told.len(), &*told[0]), (25, "14:00: 0"));
        assert_eq!(told[22..], ["12:00: 1", "13:00: 1", "14:00: 1"]);
    }
}
