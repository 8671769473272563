//! The books beside dockwarden's records, in one table, and whether all is as it must be.

use crate::books::{Books, Container, Kept, OWN_EXIT};
use crate::support::Warden;
use crate::watch::Sample;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::time::Duration;

/// What memory may have grown by since the first minute, in percent.
const GROWTH: u64 = 110;
/// How many more files may be open at the end: connections come and go.
const FILES: usize = 8;

/// Outcomes that say that a life is over.
const OVER: &[&str] = &["done", "ended-itself", "gone", "never-ran"];

#[derive(Default)]
struct Sums {
    forbidden: usize,
    allowed: usize,
    outcomes: BTreeMap<String, usize>,
    /// Starts near an engine's restart that are on record more or less often than they were heard of.
    unheard: usize,
    /// Starts by a restart policy that were over before anybody could look, and are on record with the next.
    looped: usize,
    escaped: usize,
    lived: Vec<f64>,
    lived_by_events: Vec<f64>,
    longest_over_restart: f64,
    wrong: Vec<String>,
}

/// Prints the table; what the soak's exit code is.
pub(crate) fn print(books: &Books, warden: &Warden, log: &str, process: &[Sample]) -> ExitCode {
    let kept = books.kept();
    let sums = add_up(&kept, &records(log));
    let first = level(process, Duration::from_secs(60).min(books.length() / 3));
    let last = level(process, Duration::MAX);
    let said_escaped = warden.metric("dockwarden_escaped_total");
    let outcome = |name: &str| sums.outcomes.get(name).copied().unwrap_or(0);

    let row = |what: &str, value: String| println!("{what:<52} {value:>14}");
    println!();
    row(
        "minutes",
        format!("{:.1}", books.elapsed().as_secs_f64() / 60.0),
    );
    row("started, forbidden", sums.forbidden.to_string());
    row("started, allowed", sums.allowed.to_string());
    row("ended by dockwarden", outcome("done").to_string());
    row(
        "ended itself before that",
        outcome("ended-itself").to_string(),
    );
    row(
        "gone otherwise",
        (outcome("gone") + outcome("never-ran")).to_string(),
    );
    row(
        "died with the engine, or revived by it",
        sums.unheard.to_string(),
    );
    row(
        "escaped (lived for more than 10 s)",
        sums.escaped.to_string(),
    );
    row("escaped, by dockwarden's word", said_escaped.to_string());
    row(
        "allowed, and gone with the engine",
        kept.taken_along.to_string(),
    );
    row(
        "misfires (allowed, and ended)",
        kept.misfires.len().to_string(),
    );
    let lived = |of: &[f64]| {
        let part = |part| format!("{:.0}", percentile(of, part));
        format!("{} / {} / {}", part(0.5), part(0.99), part(1.0))
    };
    row("lived, ms: p50 / p99 / max", lived(&sums.lived));
    row(
        "the same by the engine's events",
        lived(&sums.lived_by_events),
    );
    row(
        "longest life over an engine's restart, ms",
        format!("{:.0}", sums.longest_over_restart),
    );
    row("engine restarts", kept.outages.len().to_string());
    row(
        "reconnects",
        warden
            .metric("dockwarden_engine_reconnects_total")
            .to_string(),
    );
    row(
        "memory after the first minute / at the end, MiB",
        format!("{:.1} / {:.1}", mib(first.memory_kib), mib(last.memory_kib)),
    );
    row(
        "memory at the end, of the first minute's",
        format!("{} %", last.memory_kib * 100 / first.memory_kib),
    );
    row(
        "open files after the first minute / at the end",
        format!("{} / {}", first.files, last.files),
    );

    let minutes = process.chunks(60).filter_map(<[Sample]>::last);
    let minutes: Vec<_> = minutes
        .map(|sample| format!("{:.1}", mib(sample.memory_kib)))
        .collect();
    println!("memory by the minute, MiB: {}", minutes.join(" "));

    let mut wrong = sums.wrong;
    wrong.extend(
        kept.misfires
            .iter()
            .map(|misfire| format!("misfire: {misfire}")),
    );
    for (is_wrong, what) in [
        (sums.escaped > 0 || said_escaped > 0.0, "something escaped"),
        (!warden.lives(), "dockwarden has ended"),
        (books.has_failed(), "the soak itself failed"),
        (
            last.memory_kib * 100 > first.memory_kib * GROWTH,
            "memory grew",
        ),
        (last.files > first.files + FILES, "files stay open"),
    ] {
        if is_wrong {
            wrong.push(what.to_owned());
        }
    }
    for (call, count) in &kept.refused {
        println!("{count} calls of the soak: {call}");
    }
    for what in &wrong {
        println!("WRONG: {what}");
    }
    if wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The outcomes on record of each container.
fn records(log: &str) -> HashMap<String, Vec<Value>> {
    let mut records = HashMap::<String, Vec<Value>>::new();
    for line in std::fs::read_to_string(log).expect("the audit log").lines() {
        let record: Value = serde_json::from_str(line).expect("a record");
        let is_decision = record["event"] == "decision";
        if let Some(id) = record["container_id"].as_str().filter(|_| is_decision) {
            records.entry(id.to_owned()).or_default().push(record);
        }
    }
    records
}

fn add_up(kept: &Kept, records: &HashMap<String, Vec<Value>>) -> Sums {
    let mut sums = Sums::default();
    for (id, container) in &kept.containers {
        let none = Vec::new();
        let records = records.get(id).unwrap_or(&none);
        if container.is_allowed {
            sums.allowed += usize::from(container.is_sure);
            let acted = records.iter().find(|record| !record["outcome"].is_null());
            if let Some(record) = acted {
                let what = format!("{} is allowed, on record: {record}", container.name);
                sums.wrong.push(what);
            }
        } else {
            compare(&mut sums, kept, id, container, records);
        }
        if container.cleared_at.is_none() {
            let what = format!("{} was never over ({id})", container.name);
            sums.wrong.push(what);
        }
    }
    sums
}

/// One forbidden container: its starts and what became of them, as seen and as recorded.
fn compare(sums: &mut Sums, kept: &Kept, id: &str, container: &Container, records: &[Value]) {
    let (from, to) = container.span();
    let is_near_outage = kept.is_near_outage(from, to);
    let none = Default::default();
    let events = kept.events.get(id).unwrap_or(&none);
    let heard = events.iter().filter(|(_, exit)| exit.is_none()).count();
    let starts = heard.max(usize::from(container.is_sure));
    sums.forbidden += starts;
    if container.has_escaped {
        sums.escaped += 1;
        let (name, signals) = (&container.name, kept.signals.get(id));
        let what = format!(
            "{name} ({id}) escaped: events {events:?}, signals {signals:?}, on record {records:#?}"
        );
        sums.wrong.push(what);
    }

    let over: Vec<&Value> = records
        .iter()
        .filter(|record| OVER.iter().any(|outcome| record["outcome"] == *outcome))
        .collect();
    for record in &over {
        let outcome = record["outcome"].as_str().unwrap_or_default().to_owned();
        *sums.outcomes.entry(outcome).or_default() += 1;
    }
    if is_near_outage {
        sums.unheard += starts.abs_diff(over.len());
    } else if container.is_looping && (1..=starts).contains(&over.len()) {
        sums.looped += starts - over.len();
    } else if starts != over.len() {
        let outcomes: Vec<_> = records.iter().map(|record| &record["outcome"]).collect();
        let what = format!(
            "{} ({id}): {starts} starts, on record {outcomes:?}, events {events:?}",
            container.name
        );
        sums.wrong.push(what);
    }

    if let Some(lived) = container.lived_ms.filter(|_| !is_near_outage) {
        sums.lived.push(lived);
    }
    let mut exits = Vec::new();
    let mut began = None;
    for (time, exit) in events {
        match (exit, began) {
            (None, _) => began = Some(*time),
            (Some(exit), Some(start)) => {
                exits.push(*exit);
                let lived = (time - start) as f64 / 1e6;
                if is_near_outage {
                    sums.longest_over_restart = sums.longest_over_restart.max(lived);
                } else {
                    sums.lived_by_events.push(lived);
                }
                began = None;
            }
            (Some(_), None) => {}
        }
    }
    // Who says that it ended it must have; and who says that it ended by itself.
    let is_clear = !is_near_outage && !container.is_looping;
    if is_clear && starts == over.len() && exits.len() == starts {
        for (exit, record) in exits.iter().zip(&over) {
            let ended_itself = *exit == OWN_EXIT;
            let said = &record["outcome"];
            if (said == "done" && ended_itself) || (said == "ended-itself" && !ended_itself) {
                let what = format!(
                    "{} ({id}): exit code {exit}, on record {said}",
                    container.name
                );
                sums.wrong.push(what);
            }
        }
    }
}

/// What is usual about then: the middle of some seconds.
fn level(process: &[Sample], at: Duration) -> Sample {
    let end = process.iter().take_while(|sample| sample.at <= at).count();
    let some = &process[end.saturating_sub(9)..end.max(1)];
    let middle = |mut of: Vec<u64>| {
        of.sort_unstable();
        of[of.len() / 2]
    };
    Sample {
        at,
        memory_kib: middle(some.iter().map(|sample| sample.memory_kib).collect()),
        files: middle(some.iter().map(|sample| sample.files as u64).collect()) as usize,
    }
}

fn percentile(of: &[f64], part: f64) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = (part * last as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
