//! The list in force, rule by rule.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use maud::{Markup, html};

use crate::allowlist::Rule;
use crate::api::listing::Listing;
use crate::status::Enforcement;

pub(super) fn section(
    listing: &Listing,
    (enforcement, file): (&Enforcement, &Path),
    now: Timestamp,
) -> Markup {
    let in_force = &enforcement.in_force;
    let expiring: BTreeSet<&str> = in_force
        .expiring(now)
        .map(|(rule, _)| &*rule.name)
        .collect();
    let mut running: BTreeMap<&str, usize> = BTreeMap::new();
    for view in &listing.data {
        if view.verdict == "allowed"
            && view.is_live
            && let Some(rule) = &view.rule
        {
            *running.entry(rule).or_default() += 1;
        }
    }
    html! {
        section #list data-live aria-labelledby="list-title" {
            h2 #list-title { "The list in force" }
            p.quiet {
                code { (in_force.hash) } " since " (in_force.loaded_at.strftime("%F %T")) " UTC"
            }
            p.quiet {
                "Read from " code { (file.display()) } " on dockwarden's host. A saved edit is in force within a second."
            }
            div.wide {
                table {
                    thead { tr {
                        th scope="col" { "Rule" } th scope="col" { "Allows" } th scope="col" { "Running" }
                        th scope="col" { "Expires (UTC)" } th scope="col" { "Reason" }
                    } }
                    tbody {
                        @for rule in in_force.list.rules.iter() {
                            tr {
                                th scope="row" { (rule.name) }
                                td data-label="Allows" { (keys(rule)) }
                                td data-label="Running" { (running.get(&*rule.name).copied().unwrap_or_default()) }
                                td.soon[expiring.contains(&*rule.name)] data-label="Expires" { @if let Some(expires) = rule.expires { (expires.strftime("%F %T")) } }
                                td data-label="Reason" { @if let Some(reason) = &rule.reason { (reason) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What the rule looks at, as it is written in a list.
fn keys(rule: &Rule) -> Markup {
    let all = serde_json::to_value(rule).unwrap_or_default();
    let told = ["rule", "reason", "expires"];
    let keys = all.as_object().into_iter().flatten();
    html! {
        @for (at, (key, value)) in keys.filter(|(key, _)| !told.contains(&key.as_str())).enumerate() {
            @if at > 0 { br; }
            code { (key) " = " (value.to_string()) }
        }
    }
}
