//! Errors as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::printable;
use crate::status::Snapshot;
use crate::uptime::age;

/// When to ask again who is busy, in seconds.
const RETRY_AFTER: u32 = 2;

/// An error's answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Always `about:blank`: the status says it all.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong.
    detail: String,
    /// The last good reading of the engine, where that is what is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<Timestamp>,
    /// Its age.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<f64>,
    /// When to ask again, in seconds.
    #[serde(skip)]
    retry_after: Option<u32>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: printable::line(&detail.into()),
            as_of: None,
            age_seconds: None,
            retry_after: None,
        }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this API only reads")
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "a token is needed, as bearer or as the password of HTTP Basic";
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    pub(super) fn misdirected() -> Self {
        let detail = "this service does not answer to that host name; --allowed-host adds it";
        Self::new(StatusCode::MISDIRECTED_REQUEST, detail)
    }

    /// Another time it may be answered.
    pub(super) fn busy(detail: &str) -> Self {
        Self {
            retry_after: Some(RETRY_AFTER),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }

    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    pub(super) fn unreadable_log(error: &std::io::Error) -> Self {
        let detail = format!("the audit log can't be read: {error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// The engine is out of reach.
    pub(super) fn engine_away(snapshot: &Snapshot) -> Self {
        let age = snapshot.read.map(|read| age(read).as_secs_f64());
        let detail = match age {
            Some(age) => {
                format!("the engine is out of reach; the last good reading is {age:.0} s old")
            }
            None => "the engine is out of reach and was never read".to_owned(),
        };
        Self {
            as_of: snapshot.as_of,
            age_seconds: age,
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after;
        let media_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, media_type, Json(self)).into_response();
        if let Some(seconds) = retry_after {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
