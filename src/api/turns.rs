//! Answers that are about everything: they take long to make, and are large. A few are made and sent at
//! once, and the next wait for a turn, so that neither time nor memory grows with the number of those who ask.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream::{self, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::Sources;
use super::problem::Problem;

/// How long a turn is waited for.
pub(super) const WAIT: Duration = Duration::from_secs(5);
/// How long a client may take to take all of an answer: it holds up others.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
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

    /// Waits for a turn.
    ///
    /// # Errors
    /// When that takes too long.
    pub(super) async fn next(&self) -> Result<Turn, Problem> {
        match timeout(WAIT, self.0.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(Turn { _permit: turn }),
            _ => Err(Problem::busy("too many such requests at once; ask again")),
        }
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
        let turn = self.next().await?;
        // The turn goes along: whoever no longer waits for the answer does not end the work on it.
        let (answer, turn) = aside(move || (make(&sources), turn)).await?;
        let (mut head, body) = answer?.into_parts();
        // What was made here is whole already, and can't fail.
        let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
        head.headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        Ok(Response::from_parts(head, body_of(bytes, turn)))
    }
}

/// One turn, until it is dropped.
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

/// Does what may block, elsewhere.
///
/// # Errors
/// When the service ends.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Problem::busy("the service ends")),
        },
    }
}

/// A body of these bytes that holds what they depend on until it is sent, or is not taken in time.
pub(super) fn body_of(bytes: Bytes, held: impl Send + 'static) -> Body {
    // Whoever compresses it asks once more behind its end.
    Body::from_stream(pieces(bytes, held).fuse())
}

fn pieces(bytes: Bytes, held: impl Send) -> impl stream::Stream<Item = io::Result<Bytes>> {
    let begun = Instant::now();
    stream::unfold((bytes, held), move |(mut rest, held)| async move {
        if rest.is_empty() {
            return None;
        }
        if begun.elapsed() > TAKEN_WITHIN {
            return Some((Err(io::ErrorKind::TimedOut.into()), (Bytes::new(), held)));
        }
        // It is copied by the connection before this is asked again: none keeps the bytes longer than they are held.
        let piece = rest.split_to(PIECE.min(rest.len()));
        Some((Ok(piece), (rest, held)))
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    const WHOLE: usize = 3 * PIECE + 1;

    #[tokio::test(start_paused = true)]
    async fn a_body_is_sent_whole() {
        let sent: Vec<_> = pieces(Bytes::from(vec![7; WHOLE]), ()).collect().await;
        let sent = sent.into_iter().map(Result::unwrap_or_default);
        assert_eq!(sent.collect::<Vec<_>>().concat(), vec![7; WHOLE]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_it_too_slowly_gets_no_more() {
        let turns = Turns::new(1);
        let Ok(turn) = turns.next().await else {
            panic!("there is a turn");
        };
        let mut pieces = pin!(pieces(Bytes::from(vec![7; WHOLE]), turn));
        assert!(pieces.next().await.is_some_and(|piece| piece.is_ok()));
        assert!(turns.next().await.is_err());
        tokio::time::advance(TAKEN_WITHIN + std::time::Duration::from_millis(1)).await;
        assert!(pieces.next().await.is_some_and(|piece| piece.is_err()));
        assert!(pieces.next().await.is_none());
        assert!(turns.next().await.is_ok());
    }
}
