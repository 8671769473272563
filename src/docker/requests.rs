//! A request, and an answer that is bounded in time and in size.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::body::Body;
use super::elements::Elements;
use super::{Docker, answers};
use crate::engine::{EngineError, Listing};

/// For answers that need no container's lock, to their first byte.
pub(super) const QUICK: Duration = Duration::from_secs(10);
/// The most elements of a list: no host has so many containers, and a list that has no end must
/// not fill the memory.
const ELEMENTS_MAX: usize = 1_000_000;
/// The longest body of an engine's error that is read.
const ERROR_MAX: usize = 64 * 1024;

impl Docker {
    /// Sends a GET and returns the body of a success, which has to begin in time.
    pub(super) async fn open(&self, path: &str, deadline: Duration) -> Result<Body, EngineError> {
        self.request(Method::GET, path, Bytes::new(), deadline)
            .await
    }

    /// Sends a request and returns the body of a success, which has to begin in time.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Body, EngineError> {
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "docker")
            .body(bollard::body_full(body))
            .map_err(|error| EngineError::Misconfigured(error.to_string()))?;
        let sent = async {
            let response = self.transport.clone().send(request).await;
            let response = response.map_err(unreachable)?;
            match response.status() {
                StatusCode::OK => Ok(Body::new(response.into_body())),
                StatusCode::NOT_FOUND => Err(EngineError::NotFound),
                status => Err(EngineError::Refused {
                    status: status.as_u16(),
                    message: error_message(response.into_body()).await,
                }),
            }
        };
        within(deadline, sent).await
    }

    /// Reads every element of an array, which has to begin in time.
    pub(super) async fn array(
        &self,
        path: &str,
        deadline: Duration,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), EngineError> {
        let mut body = self.open(path, deadline).await?;
        let mut elements = Elements::of_array();
        let mut count = 0_usize;
        while let Some(bytes) = body.piece().await? {
            let is_list = elements.feed(&bytes, &mut |element| {
                count += 1;
                each(element);
            });
            if !is_list {
                return Err(unreadable("expected a list"));
            }
            if count > ELEMENTS_MAX {
                return Err(unreadable("the list has no end"));
            }
        }
        if elements.is_complete() {
            Ok(())
        } else {
            Err(unreadable("the list is cut off"))
        }
    }

    /// A list by what it is asked for. A 404 to it says nothing of a container: it comes from what stands between.
    pub(super) async fn containers(
        &self,
        path: &str,
        deadline: Duration,
    ) -> Result<Listing, EngineError> {
        let mut listing = Listing::default();
        let read = self.array(path, deadline, |element| {
            let value = serde_json::from_slice::<Value>(element).ok();
            match value.as_ref().and_then(answers::listed) {
                Some(container) => listing.containers.push(container),
                None => listing.unreadable += 1,
            }
        });
        match read.await {
            Ok(()) => Ok(listing),
            Err(EngineError::NotFound) => Err(EngineError::Refused {
                status: StatusCode::NOT_FOUND.as_u16(),
                message: "there is no list of containers here".to_owned(),
            }),
            Err(error) => Err(error),
        }
    }

    /// Reads one object.
    pub(super) async fn object(&self, path: &str) -> Result<Value, EngineError> {
        let mut body = self.open(path, QUICK).await?;
        let mut elements = Elements::of_lines();
        let mut object = None;
        let mut each = |element: &[u8]| {
            object.get_or_insert_with(|| serde_json::from_slice::<Value>(element));
        };
        while let Some(bytes) = body.piece().await? {
            if !elements.feed(&bytes, &mut each) {
                return Err(unreadable("expected an object"));
            }
        }
        match object {
            Some(Ok(value @ Value::Object(_))) => Ok(value),
            Some(Ok(_)) => Err(unreadable("expected an object")),
            Some(Err(error)) => Err(EngineError::Unreadable(error)),
            None => Err(unreadable("the answer is empty")),
        }
    }
}

/// A call that has to be over in time.
pub(super) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    tokio::time::timeout(deadline, call)
        .await
        .unwrap_or(Err(EngineError::Timeout(deadline)))
}

/// The same for a call of bollard's, its errors in our words.
pub(super) async fn within_bollard<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, EngineError> {
    use bollard::errors::Error;
    let call = async {
        call.await.map_err(|error| match error {
            Error::DockerResponseServerError {
                status_code: 404, ..
            } => EngineError::NotFound,
            Error::DockerResponseServerError {
                status_code,
                message,
            } => EngineError::Refused {
                status: status_code,
                message,
            },
            Error::RequestTimeoutError => EngineError::Timeout(deadline),
            error => unreachable(error),
        })
    };
    within(deadline, call).await
}

/// The `message` of an error's body, or its text.
async fn error_message(body: Incoming) -> String {
    let limited = http_body_util::Limited::new(body, ERROR_MAX);
    let bytes = limited
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    serde_json::from_slice::<Value>(&bytes)
        .ok()
        .and_then(|answer| Some(answer.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(&bytes).trim().to_owned())
}

pub(super) fn unreachable(
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> EngineError {
    let error = error.into();
    let causes = std::iter::successors(Some(&*error as &dyn std::error::Error), |one| one.source());
    let is_missing = causes
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::NotFound);
    EngineError::Unreachable(match is_missing {
        true => "no Docker engine here, its socket does not exist".into(),
        false => error,
    })
}

pub(super) fn unreadable(what: &str) -> EngineError {
    EngineError::Unreadable(serde::de::Error::custom(what))
}
