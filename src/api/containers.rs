//! `GET /containers` and `GET /containers/{id or name}`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use jiff::{SignedDuration, Timestamp};

use super::filter::{Filter, Parameters};
use super::listing::{Answer, Gone, Listing, View, last_decisions, listing, view};
use super::page::Denials;
use super::problem::Problem;
use super::query::Pairs;
use super::ready::Ready;
use super::turns::Turns;
use super::{Shared, Sources, page};
use crate::allowlist::Verdict;
use crate::container::{Container, Who};
use crate::journal::{Decisions, Filter as RecordFilter};
use crate::status::Snapshot;

/// How many denials the page knows of.
const DENIALS: usize = 1_000;

/// The page for people
#[utoipa::path(
    get,
    path = "/",
    params(Parameters),
    responses(
        (status = 200, description = "HTML", body = String, content_type = "text/html"),
        (status = 400, description = "A parameter is unknown or has a bad value", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The same while the engine is out of reach", body = String, content_type = "text/html")
    )
)]
pub(super) async fn index(
    State(sources): Shared,
    Extension(turns): Extension<Turns>,
    Pairs(pairs): Pairs,
) -> Result<Response, Problem> {
    let filter = Filter::parse(&pairs)?;
    turns
        .answer(sources, move |sources| page(sources, &filter))
        .await
}

/// All containers, running or not
///
/// A browser (`Accept: text/html`) gets the page.
#[utoipa::path(
    get,
    path = "/containers",
    params(Parameters),
    responses(
        (status = 200, description = "Containers, or the page", content((Listing = "application/json"), (String = "text/html"))),
        (status = 304, description = "Unchanged: it still has an `ETag` of `If-None-Match`"),
        (status = 400, description = "A parameter is unknown or has a bad value", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The engine is out of reach, or too many ask at once", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(sources): Shared,
    Extension(turns): Extension<Turns>,
    Extension(ready): Extension<Ready>,
    Pairs(pairs): Pairs,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wants_page = wants_page(&headers);
    if pairs.is_empty() && !wants_page {
        return ready.answer(sources, &headers).await;
    }
    let filter = Filter::parse(&pairs)?;
    let answer = move |sources: &Sources| match wants_page {
        true => page(sources, &filter),
        false => json(sources, &filter),
    };
    turns.answer(sources, answer).await
}

fn json(sources: &Sources, filter: &Filter) -> Result<Response, Problem> {
    let snapshot = sources.snapshot.borrow().clone();
    if !snapshot.connected {
        return Err(Problem::engine_away(&snapshot));
    }
    let enforcement = sources.enforcement.borrow().clone();
    let mut listing = listing(sources, &snapshot, &enforcement, Timestamp::now());
    listing.data.retain(|view| filter.passes(view));
    Ok(([(header::VARY, "accept")], Json(listing)).into_response())
}

/// While the engine is away the page shows what was read last, and says so.
fn page(sources: &Sources, filter: &Filter) -> Result<Response, Problem> {
    let now = Timestamp::now();
    let snapshot = sources.snapshot.borrow().clone();
    let enforcement = sources.enforcement.borrow().clone();
    let listing = listing(sources, &snapshot, &enforcement, now);
    let shown = listing.data.iter().filter(|view| filter.passes(view));
    let shown: Vec<_> = shown.collect();
    let status = match listing.engine.connected {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let denials = recent_denials(sources, now);
    let page = page::render(
        &listing,
        &shown,
        &denials,
        (&enforcement, &sources.allowlist),
        now,
    );
    Ok((status, page).into_response())
}

/// One container, with its verdict rule by rule; one that is gone, from the audit log
#[utoipa::path(
    get,
    path = "/containers/{name}",
    params(("name" = String, Path, min_length = 1, example = "web-1", description = "A full id, else a name, else the beginning of an id; who is here goes before who is gone")),
    responses(
        (status = 200, description = "It, or what is on record of it", body = Answer),
        (status = 400, description = "A name that is no text", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Several ids begin so", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No container is or was called so", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The audit log can't be read", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The engine is out of reach, or too many ask at once", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn one(
    State(sources): Shared,
    Extension(turns): Extension<Turns>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(name) = name.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let answer = move |sources: &Sources| Ok(Json(here_or_gone(sources, &name)?).into_response());
    turns.answer(sources, answer).await
}

fn here_or_gone(sources: &Sources, word: &str) -> Result<Answer, Problem> {
    let snapshot = sources.snapshot.borrow().clone();
    if !snapshot.connected {
        return Err(Problem::engine_away(&snapshot));
    }
    let nobody = || Problem::not_found(format!("no container here is or was called `{word}`"));
    let who = sources.look_up(word)?.ok_or_else(nobody)?;
    let here = |container| Answer::Here(Box::new(explained(sources, &snapshot, container)));
    let mut containers = snapshot.containers.values();
    if let Some(container) = containers.find(|one| who.is(one.calls())) {
        return Ok(here(container));
    }
    let of = |who| RecordFilter {
        container: Some(who),
        ..RecordFilter::default()
    };
    let newest = sources.search(&of(who), 1)?.pop().ok_or_else(nobody)?;
    // It may have another name now.
    if let Some(container) = snapshot.containers.get(&newest.container_id) {
        return Ok(here(container));
    }
    // Others were called so before it.
    let decisions = sources.search(&of(Who::Id(newest.container_id.clone())), 100)?;
    Ok(Answer::Gone(Gone {
        container_id: newest.container_id,
        container_name: newest.container_name,
        gone: true,
        decisions,
    }))
}

/// One that is here, rule by rule.
fn explained(sources: &Sources, snapshot: &Snapshot, container: &Container) -> View {
    let now = Timestamp::now();
    let last = last_decisions(sources).unwrap_or_default();
    let enforcement = sources.enforcement.borrow().clone();
    let mut verdicts = sources.verdicts(snapshot, &enforcement, now);
    let verdict = verdicts.remove(&container.id).unwrap_or(Verdict::Unknown);
    let show_all_labels = sources.show_all_labels;
    View {
        explanation: Some(enforcement.in_force.list.explain(container, now)),
        ..view(
            container,
            &verdict,
            &enforcement,
            show_all_labels,
            &last,
            now,
        )
    }
}

/// Browsers ask for HTML by name; everything else gets JSON.
fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/html"))
}

/// Those of the last day. (Of a log that can't be read the listing warned.)
fn recent_denials(sources: &Sources, now: Timestamp) -> Denials {
    let filter = RecordFilter {
        verdict: Some("denied".to_owned()),
        since: Some(now - SignedDuration::from_hours(24)),
        ..RecordFilter::default()
    };
    let found = sources.decisions.search(&filter, DENIALS);
    let (nothing, last_of) = match (&found, &sources.decisions) {
        (Err(_), _) => (
            "The audit log can't be read: what was denied is not known.",
            None,
        ),
        (Ok(_), Decisions::None) => (
            "No audit log is read here: what was denied is not known.",
            None,
        ),
        (Ok(_), Decisions::Foreign(path)) if !path.exists() => (
            "There is no audit log yet: what was denied is not known.",
            None,
        ),
        (Ok(found), _) if found.len() == DENIALS => ("", Some("the last 1,000 denials")),
        (Ok(_), decisions) if decisions.forgets() => (
            "Nothing among the last 1,000 records: no more are kept without an audit log.",
            Some("the last 1,000 records"),
        ),
        (Ok(_), Decisions::Own(_, None)) => ("Nothing since dockwarden started.", None),
        (Ok(_), _) => ("Nothing.", None),
    };
    Denials {
        records: found.unwrap_or_default(),
        nothing,
        last_of,
    }
}
