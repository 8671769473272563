//! Answers that are about everything: they take long to make, and are large. A few are made and sent at
//! once, and the next wait for a turn, so that neither time nor memory grows with the number of those who ask.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Sources;
use super::problem::Problem;

/// How long a turn is waited for.
const WAIT: Duration = Duration::from_secs(5);
/// How much is handed to a connection at once, in bytes.
const PIECE: usize = 64 * 1024;

/// Turns at such answers.
#[derive(Clone)]
pub(super) struct Turns(Arc<Semaphore>);

impl Turns {
    /// So many at once.
    pub(super) fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once)))
    }

    /// Makes an answer, which may block on a file, when it has its turn. That is over when all of it is sent.
    pub(super) async fn answer<F>(
        &self,
        sources: Arc<Sources>,
        make: F,
    ) -> Result<Response, Problem>
    where
        F: FnOnce(&Sources) -> Result<Response, Problem> + Send + 'static,
    {
        let turn = timeout(WAIT, self.0.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Problem::busy("too many ask for as much at once"));
        };
        // The turn goes along: whoever no longer waits for the answer does not end the work on it.
        let made = tokio::task::spawn_blocking(move || (make(&sources), turn));
        let (answer, turn) = match made.await {
            Ok(made) => made,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return Err(Problem::busy("the service ends")),
            },
        };
        Ok(held(answer?, turn).await)
    }
}

/// The answer with a body that holds a turn.
async fn held(answer: Response, turn: OwnedSemaphorePermit) -> Response {
    let (mut head, body) = answer.into_parts();
    // What was made here is whole already, and can't fail.
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    head.headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Response::from_parts(head, Body::from_stream(pieces(bytes, turn)))
}

fn pieces(
    bytes: Bytes,
    turn: OwnedSemaphorePermit,
) -> impl stream::Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold((bytes, turn), async |(mut rest, turn)| {
        let next = rest.split_to(PIECE.min(rest.len()));
        // A copy: a piece of the whole would keep all of it when the turn is over.
        let next = Bytes::copy_from_slice(&next);
        (!next.is_empty()).then_some((Ok(next), (rest, turn)))
    })
}
