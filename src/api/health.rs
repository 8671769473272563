//! `/livez`, `/readyz` and `/allowlist`: how the service itself is doing.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::access::Pass;
use super::problem::Problem;
use super::turns::Turns;
use super::{Shared, Sources};
use crate::allowlist::{Allowlist, Mode};
use crate::record::Path;
use crate::status::{HeldList, RejectedList};
use crate::uptime::age;

/// How much later than two resyncs a sweep may be.
const GRACE: Duration = Duration::from_secs(5);

/// The answer to `GET /readyz`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum ReadyAnswer {
    /// To whoever is let in.
    Whole(Readiness),
    /// To those who have no token where one is asked for.
    Bare(BareReadiness),
}

/// Whether the service does its work, for probes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BareReadiness {
    ready: bool,
}

/// Whether the service does its work, and what it is doing.
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
/// Audit mode, a hold, an invalid file or a full disk are told, and are no 503. Where a token is asked for,
/// those without one are told only whether.
#[utoipa::path(
    get,
    path = "/readyz",
    responses(
        (status = 200, description = "It does", body = ReadyAnswer),
        (status = 503, description = "Something is missing", body = ReadyAnswer)
    )
)]
pub(super) async fn readyz(State(sources): Shared, pass: Option<Extension<Pass>>) -> Response {
    let missing = missing(&sources);
    let ready = missing.is_empty();
    let status = match ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = match pass {
        Some(_) => ReadyAnswer::Whole(readiness(&sources, missing)),
        None => ReadyAnswer::Bare(BareReadiness { ready }),
    };
    (status, Json(body)).into_response()
}

fn readiness(sources: &Sources, missing: Vec<String>) -> Readiness {
    let enforcement = sources.enforcement.borrow().clone();
    let rejected = enforcement.rejected.as_ref();
    Readiness {
        ready: missing.is_empty(),
        missing,
        enforcing: enforcement.enforcing,
        mode: enforcement.mode,
        hindrance: enforcement.hindrance.clone(),
        paths: enforcement.paths.clone(),
        allowlist_error: rejected.map(|rejected| rejected.message.clone()),
        allowlist_held: enforcement.held.as_ref().map(|held| held.hash.clone()),
        audit_log_error: sources.decisions.trouble(),
    }
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
