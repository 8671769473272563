//! `/livez`, `/readyz`, `/metrics` and `/allowlist`: how the service itself is doing.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::problem::Problem;
use super::{Shared, Sources};
use crate::allowlist::Action;
use crate::container::State as ContainerState;
use crate::metrics::Metrics;

/// How much later than two resyncs a sweep may be.
const GRACE: SignedDuration = SignedDuration::from_secs(5);

pub(super) async fn livez() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(sources): Shared) -> Response {
    let missing = missing(&sources, Timestamp::now());
    let status = if missing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let audit_log_error = sources.decisions.trouble();
    let enforcement = sources.enforcement.borrow();
    let body = json!({
        "ready": missing.is_empty(),
        "missing": missing,
        "enforcing": enforcement.enforcing,
        "mode": enforcement.mode,
        "hindrance": enforcement.hindrance,
        "allowlist_error": enforcement.rejected.as_ref().map(|rejected| &rejected.message),
        "audit_log_error": audit_log_error,
        "allowlist_held": enforcement.held.as_ref().map(|held| &held.hash),
    });
    drop(enforcement);
    (status, Json(body)).into_response()
}

/// What keeps the service from being ready, in words.
fn missing(sources: &Sources, now: Timestamp) -> Vec<String> {
    let (swept, mut missing) = if sources.role.enforces() {
        let enforcement = sources.enforcement.borrow();
        (
            enforcement.last_sweep,
            Vec::from_iter(enforcement.hindrance.clone()),
        )
    } else {
        let snapshot = sources.snapshot.borrow();
        let away = (!snapshot.connected).then(|| "the engine is out of reach".to_owned());
        (snapshot.listed_at, Vec::from_iter(away))
    };
    // Who enforces and shows reads the engine twice; ready means both.
    if sources.role.shows() && missing.is_empty() && !sources.snapshot.borrow().connected {
        missing.push("containers are not shown yet, or no longer".to_owned());
    }
    let resync = SignedDuration::try_from(sources.resync).unwrap_or(SignedDuration::MAX);
    let allowed = resync.saturating_add(resync).saturating_add(GRACE);
    match swept {
        None => missing.push("containers have not been listed yet".to_owned()),
        Some(swept) if now.duration_since(swept) > allowed => {
            missing.push(format!("containers were last listed at {swept}"));
        }
        Some(_) => {}
    }
    missing.dedup();
    missing
}

pub(super) async fn allowlist(State(sources): Shared) -> Response {
    let enforcement = sources.enforcement.borrow();
    let in_force = &enforcement.in_force;
    let rejected = enforcement
        .rejected
        .as_ref()
        .map(|rejected| json!({ "message": rejected.message, "at": rejected.at }));
    let body = json!({
        "hash": in_force.hash,
        "loaded_at": in_force.loaded_at,
        "mode": enforcement.mode,
        "list": in_force.list,
        "error": rejected,
        "held": enforcement.held,
    });
    drop(enforcement);
    Json(body).into_response()
}

pub(super) async fn metrics(State(sources): Shared) -> Result<Response, Response> {
    // One at a time: gauges are reset while they are counted anew.
    let counting = sources.counting.lock();
    count_containers(&sources);
    let text = sources
        .metrics
        .encode(sources.role.enforces())
        .map_err(|error| Problem::internal(&error.to_string()))?;
    drop(counting);
    Ok(([(header::CONTENT_TYPE, Metrics::content_type())], text).into_response())
}

/// Sizes are counted when they are asked for. Only the process that enforces tells them, so that
/// no sum counts a container twice.
fn count_containers(sources: &Sources) {
    if !sources.role.enforces() {
        return;
    }
    let now = Timestamp::now();
    let enforcement = sources.enforcement.borrow().clone();
    let snapshot = sources.snapshot.borrow();
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
