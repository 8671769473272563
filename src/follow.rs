//! An engine as one stream of changes and full lists, reconnects inside.
//!
//! On every connection: subscribe with a `since` that overlaps what was read before, then list
//! everything. The list repeats on a timer and on request. The task that reads does nothing else:
//! a subscriber that stalls slows the whole engine, and loses events without being told.

mod told;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::backoff::Backoff;
use crate::engine::{Change, Engine, EngineError, EngineInfo, Listing, Message};
use told::{Repeats, Told};

/// How far `since` reaches back before the last event. The engine's history is not in the order
/// of its time stamps, and its scan stops at the first event that is older than `since`.
const OVERLAP: SignedDuration = SignedDuration::from_secs(10);

/// How late a heartbeat of a second comes that tells of a stall: a process that was stopped, a
/// machine that was frozen. The engine drops what a subscriber does not read in time.
const STALL: Duration = Duration::from_secs(2);

/// Updates that wait for their reader before the rest is dropped and listed anew.
const QUEUE: usize = 16_384;

/// What there is to know of an engine, in order.
#[derive(Debug)]
pub enum Update {
    /// The engine answers; a list follows.
    Connected(EngineInfo),
    /// Something happened to a container.
    Changed(Change),
    /// An image was given a name, lost one, came or went.
    Images,
    /// Something happened that can't be read.
    Unreadable,
    /// All containers.
    Listed {
        /// As the engine told them.
        listing: Listing,
        /// How long that took.
        took: Duration,
        /// Whether something may have happened before it that no update told of.
        after_gap: bool,
    },
    /// The engine is out of reach, with the reason. A new connection is being tried.
    Disconnected(String),
}

/// Asks a follower for another full list.
#[derive(Debug, Clone, Default)]
pub struct Relist(Arc<Notify>);

impl Relist {
    /// Asks; several requests before the next list are one.
    pub fn request(&self) {
        self.0.notify_one();
    }
}

/// Follows one engine.
pub struct Follower {
    engine: Arc<dyn Engine>,
    resync: Duration,
    relist: Relist,
    updates: mpsc::Sender<Update>,
    /// An update found no room, an event could not be read or may have been dropped: what is known
    /// downstream is incomplete until the next list that begins after that.
    incomplete: bool,
    last_event: Option<Timestamp>,
    repeats: Repeats,
    /// When everything was last listed.
    last_list: Option<tokio::time::Instant>,
    /// The engine answered when it was last asked who it is.
    was_reached: bool,
    backoff: Backoff,
}

impl Follower {
    /// A follower that lists everything each `resync`, and where its updates come out.
    pub fn new(
        engine: Arc<dyn Engine>,
        resync: Duration,
    ) -> (Self, Relist, mpsc::Receiver<Update>) {
        let (updates, receiver) = mpsc::channel(QUEUE);
        let relist = Relist::default();
        let follower = Self {
            engine,
            resync,
            relist: relist.clone(),
            updates,
            incomplete: false,
            last_event: None,
            repeats: Repeats::default(),
            last_list: None,
            was_reached: false,
            backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(1)),
        };
        (follower, relist, receiver)
    }

    /// Follows until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let error = tokio::select! {
                () = shutdown.cancelled() => return,
                Err(error) = self.follow_connection() => error,
            };
            self.tell(Update::Disconnected(error.chain()));
            // A stream that fails again and again blinds no sweep.
            let is_listed = tokio::select! {
                () = shutdown.cancelled() => return,
                is_listed = self.list_if_due() => is_listed,
            };
            if is_listed {
                self.tell(Update::Disconnected(error.chain()));
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.backoff.delay()) => {}
            }
        }
    }

    /// Lists without a stream, where no stream has lived long enough for it.
    async fn list_if_due(&mut self) -> bool {
        let begun = tokio::time::Instant::now();
        let is_due = self
            .last_list
            .is_none_or(|last| begun.duration_since(last) >= self.resync);
        if !is_due || !self.was_reached {
            return false;
        }
        let Ok(listing) = self.engine.list().await else {
            return false;
        };
        self.last_list = Some(begun);
        self.tell(Update::Listed {
            listing,
            took: begun.elapsed(),
            // The connection that follows tells of that.
            after_gap: false,
        });
        true
    }

    /// Follows one connection to its end, which is always an error.
    async fn follow_connection(&mut self) -> Result<std::convert::Infallible, EngineError> {
        let engine = self.engine.clone();
        let relist = self.relist.0.clone();
        self.was_reached = false;
        let info = engine.info().await?;
        self.was_reached = true;
        let since = match (self.last_event, info.time) {
            (Some(last), Some(now)) => Some(last.min(now)),
            (last, now) => last.or(now),
        };
        let since = since.and_then(|time| time.checked_sub(OVERLAP).ok());
        let mut messages = engine.changes(since).await?;
        self.tell(Update::Connected(info));
        self.repeats.expect_repeats();

        let mut told = Told::default();
        let mut resync = tokio::time::interval(self.resync);
        let mut retry = tokio::time::interval(Duration::from_millis(100));
        let mut heartbeat = tokio::time::interval(Duration::from_secs(1));
        for interval in [&mut resync, &mut retry, &mut heartbeat] {
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        // The first tick of `resync` comes at once and makes the first list.
        let mut listing: Option<AbortOnDropHandle<_>> = None;
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(Ok(Message::Change(change))) => {
                        told.by_stream(&change);
                        self.last_event = self.last_event.max(Some(change.time));
                        if !self.repeats.is_repeated(&change) {
                            self.tell(Update::Changed(change));
                        }
                    }
                    Some(Ok(Message::Images)) => self.tell(Update::Images),
                    Some(Ok(Message::Unreadable)) => {
                        self.incomplete = true;
                        self.tell(Update::Unreadable);
                    }
                    Some(Err(error)) => return Err(error),
                    None => return Err(EngineError::Unreachable("the event stream ended".into())),
                },
                Some(result) = OptionFuture::from(listing.as_mut()) => {
                    listing = None;
                    let listed = result.unwrap_or_else(|abnormal| {
                        Err(EngineError::Unreachable(abnormal.into()))
                    });
                    let (listing, took, after_gap) = listed?;
                    if told.by_list(&listing, tokio::time::Instant::now()) {
                        return Err(EngineError::Unreachable(
                            "the event stream did not tell of a container that is listed".into(),
                        ));
                    }
                    self.backoff.reset();
                    self.last_list = Some(tokio::time::Instant::now());
                    self.tell(Update::Listed { listing, took, after_gap });
                }
                _ = resync.tick(), if listing.is_none() => listing = Some(self.list()),
                () = relist.notified(), if listing.is_none() => listing = Some(self.list()),
                _ = retry.tick(), if self.incomplete && listing.is_none() => {
                    if self.updates.capacity() > QUEUE / 2 {
                        listing = Some(self.list());
                    }
                }
                beat = heartbeat.tick() => self.incomplete |= beat.elapsed() > STALL,
            }
        }
    }

    /// Lists in a task of its own: reading a list of megabytes must not hold up reading events. Returns the list, how
    /// long it took, and whether it comes after a gap.
    fn list(&mut self) -> AbortOnDropHandle<Result<(Listing, Duration, bool), EngineError>> {
        let after_gap = std::mem::take(&mut self.incomplete);
        let engine = self.engine.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let begun = tokio::time::Instant::now();
            let listing = engine.list().await;
            listing.map(|listing| (listing, begun.elapsed(), after_gap))
        }))
    }

    /// Hands an update on without ever waiting for its reader.
    fn tell(&mut self, update: Update) {
        if self.updates.try_send(update).is_err() {
            self.incomplete = true;
        }
    }
}
