//! `/livez`, `/readyz`, `/metrics` and `/allowlist`: how the service itself is doing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use super::turns::Turns;
use super::{Shared, Sources};
use crate::allowlist::{Action, Allowlist, Mode};
use crate::container::State as ContainerState;
use crate::metrics::Metrics;
use crate::record::Path;
use crate::status::{HeldList, RejectedList};
use crate::uptime::age;

/// How much later than two resyncs a sweep may be.
const GRACE: Duration = Duration::from_secs(5);

/// The answer to `GET /readyz`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    /// What keeps it from being ready.
    missing: Vec<String>,
    /// Whether denied containers are ended, now.
    enforcing: bool,
    /// The mode in force.
    mode: Mode,
    /// What keeps it from enforcing, where something does.
    hindrance: Option<String>,
    /// By which paths what is denied is ended, the slowest first.
    paths: Vec<Path>,
    /// What is wrong with a newer list that is kept out.
    allowlist_error: Option<String>,
    /// The hash of a newer list that is held back.
    allowlist_held: Option<Arc<str>>,
    /// Why the audit log can't be written.
    audit_log_error: Option<String>,
}

/// The answer to `GET /allowlist`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InForce {
    /// The list's hash.
    hash: Arc<str>,
    /// When it was read.
    loaded_at: Timestamp,
    /// The mode in force.
    mode: Mode,
    /// The list, with the keys of its file.
    #[schema(value_type = Object)]
    list: Arc<Allowlist>,
    /// Why the file's newer text is not in force: it is no valid list.
    error: Option<RejectedList>,
    /// A newer list that is held back.
    held: Option<Arc<HeldList>>,
}

/// Whether the process answers
#[utoipa::path(
    get,
    path = "/livez",
    responses((status = 200, description = "It does", body = String)),
    security(())
)]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether the service does its work
///
/// Audit mode, a hold, an invalid file or a full disk are told, and are no 503.
#[utoipa::path(
    get,
    path = "/readyz",
    responses(
        (status = 200, description = "It does", body = Readiness),
        (status = 503, description = "Something is missing", body = Readiness)
    ),
    security(())
)]
pub(super) async fn readyz(State(sources): Shared) -> Response {
    let missing = missing(&sources);
    let status = if missing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let audit_log_error = sources.decisions.trouble();
    let enforcement = sources.enforcement.borrow().clone();
    let rejected = enforcement.rejected.as_ref();
    let body = Readiness {
        ready: missing.is_empty(),
        missing,
        enforcing: enforcement.enforcing,
        mode: enforcement.mode,
        hindrance: enforcement.hindrance.clone(),
        paths: enforcement.paths.clone(),
        allowlist_error: rejected.map(|rejected| rejected.message.clone()),
        allowlist_held: enforcement.held.as_ref().map(|held| held.hash.clone()),
        audit_log_error,
    };
    (status, Json(body)).into_response()
}

/// What keeps the service from being ready, in words.
fn missing(sources: &Sources) -> Vec<String> {
    let (swept, mut missing) = if sources.role.enforces() {
        let enforcement = sources.enforcement.borrow();
        (
            enforcement.swept,
            Vec::from_iter(enforcement.hindrance.clone()),
        )
    } else {
        let snapshot = sources.snapshot.borrow();
        let away = (!snapshot.connected).then(|| "the engine is out of reach".to_owned());
        (snapshot.listed, Vec::from_iter(away))
    };
    // Who enforces and shows reads the engine twice; ready means both.
    if sources.role.shows() && missing.is_empty() && !sources.snapshot.borrow().connected {
        missing.push("containers are not shown yet, or no longer".to_owned());
    }
    let allowed = sources.resync.saturating_mul(2).saturating_add(GRACE);
    match swept.map(age) {
        None => missing.push("containers have not been listed yet".to_owned()),
        Some(age) if age > allowed => {
            missing.push(format!(
                "containers were last listed {} s ago",
                age.as_secs()
            ));
        }
        Some(_) => {}
    }
    missing.dedup();
    missing
}

/// The list in force, and what keeps a newer one out
#[utoipa::path(
    get,
    path = "/allowlist",
    responses((status = 200, description = "The list", body = InForce))
)]
pub(super) async fn allowlist(
    State(sources): Shared,
    Extension(turns): Extension<Turns>,
) -> Result<Response, Problem> {
    let answer = |sources: &Sources| {
        let enforcement = sources.enforcement.borrow().clone();
        let in_force = enforcement.in_force;
        let answer = InForce {
            hash: in_force.hash,
            loaded_at: in_force.loaded_at,
            mode: enforcement.mode,
            list: in_force.list,
            error: enforcement.rejected,
            held: enforcement.held,
        };
        Ok(Json(answer).into_response())
    };
    turns.answer(sources, answer).await
}

/// Metrics as Prometheus reads them
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (status = 200, description = "The text format", body = String),
        (status = 500, description = "They can't be told", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn metrics(
    State(sources): Shared,
    Extension(turns): Extension<Turns>,
) -> Result<Response, Problem> {
    let answer = |sources: &Sources| {
        count_containers(sources);
        let text = sources.metrics.encode(sources.role.enforces());
        let text = text.map_err(|error| Problem::internal(error.to_string()))?;
        Ok(([(header::CONTENT_TYPE, Metrics::content_type())], text).into_response())
    };
    turns.answer(sources, answer).await
}

/// Sizes are counted when they are asked for. Only the process that enforces tells them, so that
/// no sum counts a container twice.
fn count_containers(sources: &Sources) {
    if !sources.role.enforces() {
        return;
    }
    let now = Timestamp::now();
    let enforcement = sources.enforcement.borrow().clone();
    let snapshot = sources.snapshot.borrow().clone();
    // What is frozen has been ended where that is the action.
    let is_ended = |state| {
        enforcement.in_force.list.action == Action::Pause && state == ContainerState::Paused
    };
    let mut containers: BTreeMap<(ContainerState, &str), i64> = BTreeMap::new();
    let mut rules: BTreeMap<&str, i64> = enforcement
        .in_force
        .list
        .rules
        .iter()
        .map(|rule| (&*rule.name, 0))
        .collect();
    let mut denied_running = 0;
    let verdicts = sources.verdicts(&snapshot, &enforcement, now);
    for container in snapshot.containers.values() {
        let Some(verdict) = verdicts.get(&container.id) else {
            continue;
        };
        *containers
            .entry((container.state, verdict.as_str()))
            .or_default() += 1;
        if container.state.is_live() {
            denied_running += i64::from(verdict.is_denied() && !is_ended(container.state));
            if verdict.is_allowed()
                && let Some(count) = verdict.rule().and_then(|rule| rules.get_mut(rule))
            {
                *count += 1;
            }
        }
    }
    let metrics = &sources.metrics;
    metrics.denied_running.set(denied_running);
    metrics.containers.reset();
    for ((state, verdict), count) in containers {
        metrics
            .containers
            .with_label_values(&[state.as_str(), verdict])
            .set(count);
    }
    metrics.rule_containers.reset();
    for (rule, count) in rules {
        metrics
            .rule_containers
            .with_label_values(&[rule])
            .set(count);
    }
}
