//! A client's connection, which is given up when nothing is said on it for a while.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::room::Guest;

/// How long nothing may be said, either way.
const IDLE: Duration = Duration::from_secs(30);
/// How long a client may take for what is handed to it at once: others wait for their turn.
const STALLED: Duration = Duration::from_secs(10);

pub(super) struct Client<S> {
    stream: S,
    idle: Pin<Box<Sleep>>,
    /// Since when it is waited for what was handed to it to be taken.
    waited_since: Option<Instant>,
    guest: Arc<Guest>,
}

impl<S> Client<S> {
    pub(super) fn new(stream: S, guest: Arc<Guest>) -> Self {
        Self {
            stream,
            idle: Box::pin(tokio::time::sleep(IDLE)),
            waited_since: None,
            guest,
        }
    }

    /// `Ready` with an error when it is over.
    fn poll_idle<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.idle.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// The same, while what was handed over is waited for to be taken.
    fn poll_stalled<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let since = *self.waited_since.get_or_insert_with(Instant::now);
        self.idle.as_mut().reset(since + STALLED);
        self.poll_idle(context)
    }

    fn is_heard(&mut self) {
        let now = Instant::now();
        self.idle.as_mut().reset(now + IDLE);
        self.guest.is_heard(now);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Client<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(result) => {
                self.is_heard();
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_idle(context),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Client<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            // Who listens to a stream says nothing, and takes what is said.
            Poll::Ready(result) => {
                self.is_heard();
                Poll::Ready(result)
            }
            // Who takes it drop by drop makes room as well.
            Poll::Pending => self.poll_stalled(context),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(result) => {
                self.waited_since = None;
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_stalled(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
