//! `GET /metrics`: what is counted as things happen, and what is counted when it is asked for.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::problem::Problem;
use super::turns::Turns;
use super::{Shared, Sources};
use crate::allowlist::Action;
use crate::container::State as ContainerState;
use crate::metrics::Metrics;

/// Metrics as Prometheus reads them
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
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
