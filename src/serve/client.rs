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
/// How long a client may take nothing of what is said to it: others wait for their turn.
const STALLED: Duration = Duration::from_secs(10);

pub(super) struct Client<S> {
    stream: S,
    idle: Pin<Box<Sleep>>,
    heard: Instant,
    guest: Arc<Guest>,
}

impl<S> Client<S> {
    pub(super) fn new(stream: S, guest: Arc<Guest>) -> Self {
        Self {
            stream,
            idle: Box::pin(tokio::time::sleep(IDLE)),
            heard: Instant::now(),
            guest,
        }
    }

    /// `Ready` with an error when it is over.
    fn poll_idle<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.idle.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn is_heard(&mut self) {
        let now = Instant::now();
        self.heard = now;
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
            // Who takes nothing of it makes room as well.
            Poll::Pending => {
                let until = self.heard + STALLED;
                self.idle.as_mut().reset(until);
                self.poll_idle(context)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
