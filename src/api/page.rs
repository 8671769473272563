//! The page for browsers: one table of what runs here, one of what was denied, no script.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::containers::Listing;
use crate::record::Record;
use crate::status::{Enforcement, HeldList};

/// Nothing is loaded from anywhere, and nothing may frame the page.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

const STYLE: &str = "
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; align-items: baseline; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
.banner { background: #b42318; color: #fff; padding: .6rem .9rem; border-radius: .4rem; margin: 1rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid #8884; vertical-align: top; }
td { overflow-wrap: anywhere; } code { font-size: .9em; }
.denied { color: #d92d20; font-weight: 600; } .allowed, .self { color: #079455; font-weight: 600; }
.quiet { opacity: .7; }
";

/// How many containers a banner names.
const NAMES: usize = 10;

pub(super) fn render(
    listing: &Listing,
    denials: &[Record],
    enforcement: &Enforcement,
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
                    @if let Some(host) = &listing.host { span { "host " b { (host) } } }
                    span { "mode " b { (enforcement.mode.as_str()) } }
                    span.quiet {
                        "list " code { (enforcement.in_force.hash.get(..12).unwrap_or_default()) }
                        " of " (enforcement.in_force.loaded_at)
                    }
                }
                @for message in banners(listing, enforcement, now) {
                    p.banner role="alert" { (message) }
                }
                @if listing.as_of.is_some() { (containers(listing)) }
                (decisions(denials))
            }
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::VARY, "accept"),
    ];
    (headers, markup.into_string()).into_response()
}

fn banners(listing: &Listing, enforcement: &Enforcement, now: Timestamp) -> Vec<String> {
    let mut banners = Vec::new();
    banners.extend(enforcement.held.as_deref().map(held));
    if !listing.engine.connected {
        banners.push(match listing.as_of {
            None => "The engine is out of reach and was never read.".to_owned(),
            Some(as_of) => format!(
                "The engine is out of reach: what follows is the last good reading, {:.0} s old.",
                now.duration_since(as_of).as_secs_f64()
            ),
        });
    }
    if !enforcement.enforcing {
        let why = enforcement.hindrance.clone();
        let why = why.unwrap_or_else(|| format!("{} mode", enforcement.mode.as_str()));
        banners.push(format!("Denied containers are not being ended: {why}."));
    }
    if !enforcement.in_force.list.looks_at_powers() {
        banners.push(
            "Powers are not looked at where a rule gives no `grants`: privileged containers and binds of the host's files pass there.".to_owned(),
        );
    }
    if let Some(rejected) = &enforcement.rejected {
        banners.push(format!(
            "A newer list is not in force: {} (read at {})",
            rejected.message, rejected.at
        ));
    }
    banners
}

fn held(held: &HeldList) -> String {
    let HeldList { hash, running, .. } = held;
    let accept = format!("`guard = {{ accept = \"{hash}\" }}` in it lets it come into force.");
    match &held.error {
        Some(error) => format!(
            "A newer list is held back, as nobody can tell what it would end: {error}. {accept}"
        ),
        None => {
            let names = held.would_end.iter().map(|one| {
                one.container_name
                    .as_deref()
                    .unwrap_or(one.container_id.short())
            });
            let names: Vec<_> = names.take(NAMES).collect();
            let more = held.would_end.len() - names.len();
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!(
                "A newer list is held back: it would end {} of the {running} containers that run: {}{more}. {accept}",
                held.would_end.len(),
                names.join(", "),
            )
        }
    }
}

fn containers(listing: &Listing) -> Markup {
    html! {
        h2 { (listing.data.len()) " containers" }
        div.wide {
            table {
                thead { tr {
                    th { "Container" } th { "Image" } th { "Status" } th { "Verdict" } th { "Why" }
                } }
                tbody {
                    @for view in &listing.data {
                        tr {
                            td {
                                @if let Some(name) = &view.container_name { (name) br; }
                                code.quiet { (view.container_id.short()) }
                            }
                            td {
                                (view.image.as_deref().unwrap_or("none"))
                                @for power in view.powers.iter().flatten() {
                                    br; span.quiet { (power) }
                                }
                            }
                            td {
                                (view.status)
                                @if let Some(text) = &view.status_text { br; span.quiet { (text) } }
                            }
                            td class=(view.verdict) { (view.verdict) }
                            td {
                                @if view.verdict == "allowed" {
                                    @if let Some(rule) = &view.rule { "rule " code { (rule) } }
                                } @else {
                                    @if let Some(reason) = view.reason { (reason.as_str()) }
                                    @if let Some(detail) = &view.detail { br; span.quiet { (detail) } }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if let Some(as_of) = listing.as_of { p.quiet { "As of " (as_of) "." } }
    }
}

fn decisions(denials: &[Record]) -> Markup {
    html! {
        h2 { "Denied lately" }
        @if denials.is_empty() {
            p.quiet { "Nothing." }
        } @else {
            div.wide {
                table {
                    thead { tr {
                        th { "When" } th { "Container" } th { "Image" } th { "Reason" } th { "Outcome" } th { "Lived" }
                    } }
                    tbody {
                        @for record in denials {
                            tr {
                                td { (record.time.strftime("%F %T")) }
                                td { (record.container_name.as_deref().unwrap_or(record.container_id.short())) }
                                td { (record.image.as_deref().unwrap_or("none")) }
                                td { @if let Some(reason) = record.reason { (reason.as_str()) } }
                                td { @if let Some(outcome) = record.outcome { (outcome.as_str()) } }
                                td { @if let Some(lived) = record.lived_ms { (format!("{lived:.0} ms")) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
