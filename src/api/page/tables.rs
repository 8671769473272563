//! What runs here and why it may; what was ended and why.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use maud::{Markup, html};

use super::{charts, file_name};
use crate::allowlist::Allowlist;
use crate::api::listing::{LastDecision, View};
use crate::container::Container;
use crate::record::Record;

/// How many of those that were ended are shown.
const ENDED: usize = 50;

pub(super) fn containers(views: &[&View], file: &Path) -> Markup {
    html! {
        section aria-labelledby="containers-title" {
            h2 #containers-title { "Containers" }
            p.tools hidden {
                label for="filter" { "Filter" }
                input #filter type="search" autocomplete="off" spellcheck="false";
                span.quiet.keys { kbd { "/" } " to type here, " kbd { "Esc" } " for all " }
                span #shown role="status" {}
            }
            div.wide #containers data-live {
                table data-sortable="containers" {
                    thead { tr {
                        th scope="col" { "Container" } th scope="col" { "Image" } th scope="col" { "Status" }
                        th scope="col" { "Verdict" } th scope="col" { "Why" }
                    } }
                    tbody { @for view in views { (row(view, file)) } }
                }
                @if views.is_empty() { p.quiet { "None." } }
            }
        }
    }
}

fn row(view: &View, file: &Path) -> Markup {
    html! {
        tr {
            th scope="row" data-sort=(view.container_name.as_deref().unwrap_or(view.container_id.short())) {
                @if let Some(name) = &view.container_name { (name) br; }
                code.quiet { (view.container_id.short()) }
            }
            td data-label="Image" {
                (view.image.as_deref().unwrap_or("none"))
                @for power in view.powers.iter().flatten() { br; span.quiet { (power) } }
            }
            td data-label="Status" {
                (view.status)
                @if let Some(text) = &view.status_text { br; span.quiet { (sentence(text, view.started_at)) } }
                @if matches!(view.status, "created" | "exited" | "dead")
                    && let Some(ended) = view.last_decision.as_ref().and_then(LastDecision::end) {
                    br; span.quiet { "ended by dockwarden " span.when { (ended) } }
                }
            }
            td.word.(view.verdict) data-label="Verdict" { (view.verdict) }
            td data-label="Why" {
                @if view.verdict == "allowed" {
                    @if let Some(rule) = &view.rule { "rule " code { (rule) } }
                } @else {
                    @if let Some(reason) = view.reason { (reason.as_str()) }
                    @if let Some(detail) = &view.detail { br; span.quiet { (detail) } }
                    @if let Some(edit) = &view.edit { (edit_of(edit, view.rule.as_deref(), file)) }
                }
            }
        }
    }
}

/// The engine's sentence. How long it runs is as old in that as the last reading: with scripts it is counted on.
fn sentence(text: &str, started_at: Option<Timestamp>) -> Markup {
    match (text.strip_prefix("Up "), started_at) {
        (Some(rest), Some(started_at)) => {
            let (age, state) = rest.split_at(rest.find(" (").unwrap_or(rest.len()));
            html! { "Up " span data-since=(started_at) { (age) } (state) }
        }
        _ => html! { (text) },
    }
}

pub(super) fn ended(
    denials: &[Record],
    (list, file): (&Allowlist, &Path),
    now: Timestamp,
) -> Markup {
    // The same image ends again and again: what would allow it is said once.
    let mut said = BTreeSet::new();
    let rows = denials.iter().take(ENDED).map(|record| {
        let edit = edit(record, list, now).filter(|edit| said.insert(edit.clone()));
        (record, edit)
    });
    html! {
        section #ended data-live aria-labelledby="ended-title" {
            h2 #ended-title { "Denied lately" }
            @if denials.is_empty() {
                p.quiet { "Nothing." }
            } @else {
                div.charts { (charts::lived(denials)) (charts::per_hour(denials, now)) }
                div.wide {
                    table data-sortable="ended" {
                        thead { tr {
                            th scope="col" { "Container" } th scope="col" { "When (UTC)" } th scope="col" { "Image" }
                            th scope="col" { "Why" } th scope="col" { "Outcome" } th scope="col" { "Lived" }
                        } }
                        tbody { @for (record, edit) in rows { (record_row(record, edit.as_deref(), file)) } }
                    }
                }
            }
        }
    }
}

/// What would allow it by the list of now, where that denies what the record tells of it for the same reason: a
/// record does not tell all that a list may look at.
fn edit(record: &Record, list: &Allowlist, now: Timestamp) -> Option<String> {
    let container = Container {
        name: record.container_name.clone(),
        image: record.image.clone(),
        image_id: record.image_id.clone(),
        labels: Some(record.labels.clone().into()),
        powers: record.powers.clone(),
        may_do_more: record.may_do_more,
        image_names: Some(record.image_digests.clone()).filter(|digests| !digests.is_empty()),
        ..Container::new(record.container_id.clone())
    };
    let verdict = list.judge(&container, now);
    let is_same = verdict.reason() == record.reason && verdict.rule() == record.rule.as_deref();
    is_same.then(|| list.edit(&container, &verdict, now))?
}

/// What to write, and where: a rule of its own, or keys of the nearest one.
fn edit_of(edit: &str, rule: Option<&str>, file: &Path) -> Markup {
    html! {
        p.quiet {
            "If you trust it, "
            @match rule {
                Some(rule) => { "set in rule " code { (rule) } " of " }
                None => "add to ",
            }
            a href="#list" title=(file.display()) { (file_name(file)) } ":"
        }
        pre.edit { (edit) }
    }
}

fn record_row(record: &Record, edit: Option<&str>, file: &Path) -> Markup {
    let outcome = record.outcome.map_or("", |outcome| outcome.as_str());
    let lived = record.lived_ms.map(|lived| format!("{lived:.0}"));
    html! {
        tr {
            th scope="row" { (record.container_name.as_deref().unwrap_or(record.container_id.short())) }
            td data-label="When" data-sort=(record.time) { (record.time.strftime("%F %T")) }
            td data-label="Image" { (record.image.as_deref().unwrap_or("none")) }
            td data-label="Why" {
                @if let Some(reason) = record.reason { (reason.as_str()) }
                @if let Some(detail) = &record.detail { br; span.quiet { (detail) } }
                @if let Some(edit) = edit { (edit_of(edit, record.rule.as_deref(), file)) }
            }
            td.word.(outcome) data-label="Outcome" { (outcome) }
            td data-label="Lived" data-sort=[&lived] { @if let Some(lived) = &lived { (lived) " ms" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// That of a denied container of a Compose project.
    fn record(reason: &str, rule: Option<&str>) -> Record {
        let record = json!({
            "v": 1, "seq": 1, "event": "decision", "time": "2026-01-01T00:00:00Z", "host": "h",
            "container_id": "ab".repeat(32), "container_name": "web-1", "image": "shop/web:1",
            "image_id": format!("sha256:{}", "1a".repeat(32)), "powers": ["host-network"],
            "labels": {"com.docker.compose.project": "shop"}, "verdict": "denied", "rule": rule,
            "reason": reason, "trigger": "start", "mode": "enforce", "allowlist_hash": "00",
        });
        serde_json::from_value(record).expect("a record")
    }

    #[test]
    fn what_would_allow_it_is_said_where_a_record_tells_enough() {
        let list = |label: &str| {
            let text = format!(
                "version = 1\n[[allow]]\nrule = \"web\"\nimage = \"shop/web\"\nlabels = {{ {label} }}\ngrants = []\n"
            );
            Allowlist::parse(text.as_bytes()).expect("a list")
        };
        let now = Timestamp::UNIX_EPOCH;
        let of_project = list("\"com.docker.compose.project\" = \"shop\"");
        let record_of_web = record("not-granted", Some("web"));
        let text = edit(&record_of_web, &of_project, now).expect("an edit");
        assert_eq!(text, "grants = [\"host-network\"]\n");
        // It had a label that is not on record.
        let of_tier = list("tier = \"front\"");
        assert_eq!(edit(&record_of_web, &of_tier, now), None);
        // Another list denied it.
        let record_of_none = record("no-rule", None);
        assert_eq!(edit(&record_of_none, &of_project, now), None);
    }
}
