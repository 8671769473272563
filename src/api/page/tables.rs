//! What runs here and why it may; what was ended and why.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use maud::{Markup, html};

use super::{Denials, charts, file_name};
use crate::allowlist::{Allowlist, Reason};
use crate::api::listing::View;
use crate::container::Container;
use crate::record::{Outcome, Record};

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
                @if let Some((done, when)) = view.last_decision.as_ref().and_then(|last| last.done(view.status)) {
                    br; span.quiet { (done) span.when { (when) } }
                }
            }
            td.word.(view.verdict) data-label="Verdict" { (view.verdict) }
            td data-label="Why" {
                @match (view.verdict, &view.rule) {
                    ("allowed", Some(rule)) => { "rule " code { (rule) } }
                    ("unknown", _) => "can't be judged yet",
                    ("self", _) => "dockwarden's own container",
                    _ => (why(
                        (view.reason, view.detail.as_deref()),
                        view.edit.as_deref(),
                        view.rule.as_deref(),
                        file,
                    )),
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
    denials: &Denials,
    shown: &[&View],
    (list, file): (&Allowlist, &Path),
    now: Timestamp,
) -> Markup {
    let Denials {
        records,
        nothing,
        last_of,
    } = denials;
    // The same image ends again and again: what would allow it is said once, above or here.
    let above = shown.iter().filter_map(|view| {
        let edit = view.edit.as_deref()?;
        Some(essence(edit, view.rule.as_deref()))
    });
    let mut said: BTreeSet<_> = above.collect();
    let rows = records.iter().take(ENDED).map(|record| {
        let edit = edit(record, list, now);
        let edit = edit.filter(|edit| said.insert(essence(edit, record.rule.as_deref())));
        (record, edit)
    });
    let all = match last_of {
        Some(last_of) => (*last_of).to_owned(),
        None => records.len().to_string(),
    };
    html! {
        section #ended data-live aria-labelledby="ended-title" {
            h2 #ended-title { "Denied in the last 24 hours" }
            @if records.is_empty() {
                p.quiet { (nothing) }
            } @else {
                div.charts { (charts::lived(records)) (charts::per_hour(records, *last_of, now)) }
                @if records.len() > ENDED { p.quiet { "The newest " (ENDED) " of " (all) "." } }
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

/// What an edit does, whatever a rule of its own is called.
fn essence(edit: &str, rule: Option<&str>) -> (Option<String>, String) {
    let is_name = |line: &&str| line.starts_with("rule = ");
    let lines = edit.lines().filter(|line| !is_name(line));
    (rule.map(str::to_owned), lines.collect())
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

/// Why it is denied; what to write so that it is not, and where: a rule of its own, or keys of the nearest one. A
/// rule of its own says the same as its sentence.
fn why(
    (reason, detail): (Option<Reason>, Option<&str>),
    edit: Option<&str>,
    rule: Option<&str>,
    file: &Path,
) -> Markup {
    let detail = detail.filter(|_| edit.is_none() || rule.is_some());
    html! {
        @if let Some(reason) = reason { (reason.as_str()) }
        @if let Some(detail) = detail { br; span.quiet { (detail) } }
        @if let Some(edit) = edit {
            p.quiet {
                "To allow it, "
                @match rule {
                    Some(rule) => { "change rule " code { (rule) } " in " }
                    None => "add this to ",
                }
                a href="#list" title=(file.display()) { (file_name(file)) } ":"
            }
            pre.edit { (edit) }
        }
    }
}

fn record_row(record: &Record, edit: Option<&str>, file: &Path) -> Markup {
    let outcome = record.outcome.map_or("", Outcome::as_str);
    let lived = record.lived_ms.map(|lived| format!("{lived:.0}"));
    html! {
        tr {
            th scope="row" { (record.container_name.as_deref().unwrap_or(record.container_id.short())) }
            td data-label="When" data-sort=(record.time) { (record.time.strftime("%F %T")) }
            td data-label="Image" { (record.image.as_deref().unwrap_or("none")) }
            td data-label="Why" {
                (why((record.reason, record.detail.as_deref()), edit, record.rule.as_deref(), file))
            }
            td.word.(outcome) data-label="Outcome" { (record.became().unwrap_or_default()) }
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
    fn one_image_under_many_names_is_allowed_by_one_rule() {
        let list = Allowlist::parse(b"version = 1\nallow-nothing = true\n").expect("a list");
        let now = Timestamp::UNIX_EPOCH;
        let denials = |records: Vec<Record>| Denials {
            records,
            nothing: "",
            last_of: None,
        };
        let named = |name: &str, image: &str| Record {
            container_name: Some(name.to_owned()),
            image: Some(image.to_owned()),
            ..record("no-rule", None)
        };
        let all = vec![
            named("sly_fox", "evil/miner"),
            named("old_fox", "evil/miner"),
            named("web", "shop/web:1"),
        ];
        let shown = ended(&denials(all), &[], (&list, Path::new("list")), now).into_string();
        assert_eq!(shown.matches("<pre class=\"edit\">").count(), 2, "{shown}");
        // What is said in full needs no sentence beside it.
        assert_eq!(shown.matches("To allow it, add this to").count(), 2);
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
