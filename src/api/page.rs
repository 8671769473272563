//! The page for browsers, whole without a script: what runs here, what was ended, and by which list. Its
//! script only fetches it again when something happened, sorts and filters.

mod banners;
mod charts;
mod list;
mod policy;
mod tables;

use std::path::{Display, Path};

use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::listing::{Listing, View};
use crate::printable::{self, counted};
use crate::record::{self, Record};
use crate::status::Enforcement;
use policy::{POLICY, SCRIPT, STYLE};

/// What was denied in the last day, as far as it is known.
pub(super) struct Denials {
    /// The newest first.
    pub(super) records: Vec<Record>,
    /// What is said where there are none.
    pub(super) nothing: &'static str,
    /// Of what they are, where older ones are not known.
    pub(super) last_of: Option<&'static str>,
}

pub(super) fn render(
    listing: &Listing,
    shown: &[&View],
    denials: &Denials,
    (enforcement, allowlist): (&Enforcement, &Path),
    now: Timestamp,
) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "dockwarden" @if let Some(host) = &listing.host { " on " (host) } }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "dockwarden" }
                    @if let Some(host) = &listing.host { span.quiet { "on " (host) } }
                    span #live role="status" {}
                }
                div #banners data-live {
                    @for message in banners::banners(listing, enforcement, allowlist) {
                        p.banner role="alert" { (message) }
                    }
                    @if !enforcement.in_force.list.looks_at_powers() {
                        p.note {
                            "Powers are not looked at where a rule gives no " code { "grants" }
                            ": privileged containers and binds of the host's files pass there."
                        }
                    }
                    @for (rule, expires) in enforcement.in_force.expiring(now) {
                        p.note { "Rule " b { (rule.name) } " expires at " (expires.strftime("%F %T")) " UTC." }
                    }
                }
                main {
                    (glance(listing, (enforcement, allowlist), now))
                    (tables::containers(shown, allowlist))
                    (tables::ended(denials, shown, (&enforcement.in_force.list, allowlist), now))
                    (list::section(listing, (enforcement, allowlist), now))
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::VARY, "accept"),
    ];
    // Nothing hides in our own words.
    (headers, printable::lines(&markup.into_string())).into_response()
}

fn glance(
    listing: &Listing,
    (enforcement, allowlist): (&Enforcement, &Path),
    now: Timestamp,
) -> Markup {
    let running = |verdict: &str| {
        let live = listing.data.iter().filter(|view| view.is_live);
        live.filter(|view| view.verdict == verdict).count()
    };
    let unknown = running("unknown");
    let (verdict, word) = match enforcement.enforcing && listing.engine.connected {
        true => ("allowed", "yes"),
        false => ("denied", "no"),
    };
    let in_force = &enforcement.in_force;
    html! {
        dl #glance .glance data-live {
            div { dt { "Enforcing" } dd.(verdict) { (word) } }
            div { dt { "Mode" } dd { (enforcement.mode.as_str()) } }
            @if let Some(path) = enforcement.paths.last() {
                div { dt { "How" } dd title=(path.purpose()) { (means(*path)) } }
            }
            div {
                dt { "Engine" }
                dd {
                    @if listing.engine.connected { (listing.engine.version.as_deref().unwrap_or("answers")) }
                    @else { span.denied { "out of reach" } }
                }
            }
            div {
                dt { "Running" }
                dd {
                    (running("allowed") + running("self")) " allowed, " (running("denied")) " denied"
                    @if unknown > 0 { ", " (unknown) " unknown" }
                }
            }
            div {
                dt { "Allowlist, " (counted(in_force.list.rules.len(), "rule")) }
                dd {
                    a href="#list" title=(allowlist.display()) { (file_name(allowlist)) } " "
                    span.quiet { "read " (ago(now.duration_since(in_force.loaded_at).as_secs())) }
                }
            }
        }
    }
}

/// What ends what is denied, in the words of a newcomer.
fn means(path: record::Path) -> &'static str {
    match path {
        record::Path::Api => "engine's kill",
        record::Path::Pid => "signal",
        record::Path::Gate => "signal before start",
    }
}

fn file_name(path: &Path) -> Display<'_> {
    path.file_name().map_or(path, Path::new).display()
}

/// An age in one unit.
fn ago(seconds: i64) -> String {
    match seconds {
        ..60 => "just now".to_owned(),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
