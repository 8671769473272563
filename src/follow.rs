//! An engine as one stream of changes and full lists, reconnects inside.
//!
//! On every connection: subscribe with a `since` that overlaps what was read before, then list
//! everything. The list repeats on a timer and on request. The task that reads does nothing else:
//! a subscriber that stalls slows the whole engine, and loses events without being told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
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
use crate::container::{ContainerId, State};
use crate::engine::{Change, ChangeKind, Engine, EngineError, EngineInfo, Listing, Message};

/// How far `since` reaches back before the last event. The engine's history is not in the order
/// of its time stamps, and its scan stops at the first event that is older than `since`.
const OVERLAP: SignedDuration = SignedDuration::from_secs(10);

/// How long an event may be on its way behind a list: those with labels of megabytes take theirs.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// How late a heartbeat of a second comes that tells of a stall: a process that was stopped, a
/// machine that was frozen. The engine drops what a subscriber does not read in time.
const STALL: Duration = Duration::from_secs(2);

/// How many events are known again: far more than the engine tells a second time.
const KNOWN: usize = 2_048;

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
    /// All containers, and how long listing them took.
    Listed(Listing, Duration),
    /// The engine is out of reach, with the reason. A new connection is being tried.
    Disconnected(String),
}

/// A full list and how long it took.
type Listed = Result<(Listing, Duration), EngineError>;

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
        self.tell(Update::Listed(listing, begun.elapsed()));
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
        let mut listing: Option<AbortOnDropHandle<Listed>> = None;
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
                    let (containers, took) = match result {
                        Ok(listed) => listed?,
                        Err(abnormal) => return Err(EngineError::Unreachable(abnormal.into())),
                    };
                    if told.by_list(&containers, tokio::time::Instant::now()) {
                        return Err(EngineError::Unreachable(
                            "the event stream did not tell of a container that is listed".into(),
                        ));
                    }
                    self.backoff.reset();
                    self.last_list = Some(tokio::time::Instant::now());
                    self.tell(Update::Listed(containers, took));
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

    /// Lists in a task of its own: reading a list of megabytes must not hold up reading events.
    fn list(&mut self) -> AbortOnDropHandle<Listed> {
        self.incomplete = false;
        let engine = self.engine.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let begun = tokio::time::Instant::now();
            let listing = engine.list().await;
            listing.map(|listing| (listing, begun.elapsed()))
        }))
    }

    /// Hands an update on without ever waiting for its reader.
    fn tell(&mut self, update: Update) {
        if self.updates.try_send(update).is_err() {
            self.incomplete = true;
        }
    }
}

/// Finds out what is told again: a new connection begins with what was told over the last one. Times alone do
/// not tell, as the engine's clock may be set back. Kept are hashes that nobody else can work out: of thousands of
/// events with their ids there would be a megabyte.
#[derive(Default)]
struct Repeats {
    hasher: RandomState,
    told: VecDeque<u64>,
    /// What is told again over this connection, each once.
    expected: HashSet<u64>,
}

impl Repeats {
    /// A new connection begins.
    fn expect_repeats(&mut self) {
        self.expected = self.told.iter().copied().collect();
    }

    fn is_repeated(&mut self, change: &Change) -> bool {
        let hash = self.hasher.hash_one(change);
        let is_repeated = self.expected.remove(&hash);
        if !is_repeated {
            self.told.truncate(KNOWN - 1);
            self.told.push_front(hash);
        }
        is_repeated
    }
}

/// Finds out that a stream is silently dead: lists show a container, or show it running, for
/// longer than an event may be on its way, and the stream never spoke of that.
#[derive(Default)]
struct Told {
    /// Every container that was heard of, and whether it runs.
    known: Option<HashMap<ContainerId, bool>>,
    /// Those that the stream spoke of since the last list, which may be older than that.
    recent: HashSet<ContainerId>,
    /// Those that a list showed and the stream has not spoken of, and since when.
    untold: HashMap<ContainerId, tokio::time::Instant>,
}

impl Told {
    fn by_stream(&mut self, change: &Change) {
        self.untold.remove(&change.id);
        self.recent.insert(change.id.clone());
        if let Some(known) = &mut self.known {
            let runs = known.entry(change.id.clone()).or_default();
            match change.kind {
                ChangeKind::Start | ChangeKind::Restart | ChangeKind::Unpause => *runs = true,
                ChangeKind::Die => *runs = false,
                _ => {}
            }
        }
    }

    /// Whether something is still listed that the stream has not told of for too long.
    fn by_list(&mut self, listing: &Listing, now: tokio::time::Instant) -> bool {
        let listed: HashMap<_, _> = listing
            .containers
            .iter()
            .map(|container| (container.id.clone(), container.state == State::Running))
            .collect();
        let Some(known) = &mut self.known else {
            self.known = Some(listed);
            return false;
        };
        let untold: HashMap<_, _> = listed
            .iter()
            .filter(|(id, runs)| match known.get(*id) {
                None => true,
                Some(knew_running) => **runs && !knew_running,
            })
            .map(|(id, _)| (id.clone(), *self.untold.get(id).unwrap_or(&now)))
            .collect();
        let recent = std::mem::take(&mut self.recent);
        known.retain(|id, _| listed.contains_key(id) || recent.contains(id));
        self.untold = untold;
        self.untold
            .values()
            .any(|since| now.duration_since(*since) >= ON_ITS_WAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Container;

    fn id(digit: char) -> ContainerId {
        ContainerId::parse(&digit.to_string().repeat(64)).expect("full id")
    }

    fn change(digit: char, kind: ChangeKind) -> Change {
        Change {
            id: id(digit),
            kind,
            time: Timestamp::UNIX_EPOCH,
            exec: None,
            exit_code: None,
        }
    }

    fn running(digits: &str) -> Listing {
        let mut listing = listing(digits);
        for container in &mut listing.containers {
            container.state = State::Running;
        }
        listing
    }

    fn listing(digits: &str) -> Listing {
        Listing {
            containers: digits
                .chars()
                .map(|digit| Container::new(id(digit)))
                .collect(),
            unreadable: 0,
        }
    }

    #[test]
    fn a_container_listed_twice_and_never_told_of_means_a_dead_stream() {
        let (mut told, now) = (Told::default(), tokio::time::Instant::now());
        assert!(!told.by_list(&listing("ab"), now));
        told.by_stream(&change('c', ChangeKind::Create));
        assert!(
            !told.by_list(&listing("abcd"), now),
            "d's event may still be on its way"
        );
        told.by_stream(&change('d', ChangeKind::Create));
        assert!(!told.by_list(&listing("abcde"), now));
        assert!(
            told.by_list(&listing("abcde"), now + ON_ITS_WAY),
            "e was never told of"
        );
    }

    #[test]
    fn what_a_new_connection_tells_again_is_known() {
        let at = |kind, second| Change {
            time: Timestamp::from_second(second).expect("a time"),
            ..change('a', kind)
        };
        let life = [at(ChangeKind::Start, 1), at(ChangeKind::Die, 2)];
        let mut repeats = Repeats::default();
        repeats.expect_repeats();
        let is_new = |repeats: &mut Repeats, one| !repeats.is_repeated(one);
        assert!(life.iter().all(|one| is_new(&mut repeats, one)));
        for _ in 0..2 {
            repeats.expect_repeats();
            assert!(!life.iter().any(|one| is_new(&mut repeats, one)));
            // Over one connection nothing is told twice: its times are coarse.
            assert!(is_new(&mut repeats, &life[1]));
        }
        assert!(is_new(&mut repeats, &at(ChangeKind::Start, 0)));
        for second in 0..10_000 {
            repeats.is_repeated(&at(ChangeKind::Other, second));
        }
        assert!(repeats.told.len() <= KNOWN);
    }

    #[test]
    fn a_start_that_was_never_told_of_means_a_dead_stream() {
        let (mut told, now) = (Told::default(), tokio::time::Instant::now());
        assert!(!told.by_list(&listing("a"), now));
        assert!(
            !told.by_list(&running("a"), now),
            "its event may still be on its way"
        );
        told.by_stream(&change('a', ChangeKind::Start));
        assert!(!told.by_list(&running("a"), now));
        told.by_stream(&change('a', ChangeKind::Die));
        assert!(
            !told.by_list(&running("a"), now),
            "the list may lag behind a death"
        );
        assert!(
            told.by_list(&running("a"), now + ON_ITS_WAY),
            "it was started again, unheard"
        );
    }
}
