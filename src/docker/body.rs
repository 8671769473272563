//! The body of an answer, read with a deadline for each piece and one for all of it.
//!
//! A label of hundreds of megabytes takes its time, and must not be cut off for that; a body that
//! trickles, stalls or never ends is.

use std::time::Duration;

use axum::body::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{unreachable, within};
use crate::engine::EngineError;

/// For the next piece of a body that has begun.
const PIECE: Duration = Duration::from_secs(10);
/// For a whole body.
const WHOLE: Duration = Duration::from_secs(60);

/// A body that is being read.
pub(super) struct Body {
    incoming: Incoming,
    /// Until when what is being read has to end.
    deadline: Instant,
}

impl Body {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self {
            incoming,
            deadline: Instant::now() + WHOLE,
        }
    }

    /// The next piece; none at the end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, EngineError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(EngineError::Timeout(WHOLE));
        }
        within(PIECE.min(left), self.unhurried_piece()).await
    }

    /// The next piece, however long it takes to come: for streams between two of their lines. The
    /// line that it begins has all the time of a body.
    pub(super) async fn piece_of_next_line(&mut self) -> Result<Option<Bytes>, EngineError> {
        let piece = self.unhurried_piece().await;
        self.deadline = Instant::now() + WHOLE;
        piece
    }

    async fn unhurried_piece(&mut self) -> Result<Option<Bytes>, EngineError> {
        match self.incoming.frame().await {
            None => Ok(None),
            Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
            Some(Err(error)) => Err(unreachable(error)),
        }
    }
}
