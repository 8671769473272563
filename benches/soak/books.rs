//! What the soak itself did and saw. Nothing in here comes from dockwarden.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What runs for longer has escaped.
pub(crate) const ESCAPED: Duration = Duration::from_secs(10);
/// What the programs that end themselves exit with.
pub(crate) const OWN_EXIT: i64 = 7;
/// How near an engine's restart what happens may be due to it.
const NEAR: Duration = Duration::from_secs(5);

pub(crate) struct Books {
    begun: Instant,
    length: Duration,
    serial: AtomicU64,
    is_closed: AtomicBool,
    is_over: AtomicBool,
    has_failed: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Default)]
pub(crate) struct Kept {
    /// By id.
    pub(crate) containers: HashMap<String, Container>,
    /// Starts and deaths that the engine told of, by id: nanoseconds, and the exit code of a death.
    /// A set, as an engine is asked for what it may have told already.
    pub(crate) events: HashMap<String, BTreeSet<(i64, Option<i64>)>>,
    /// Signals that someone had the engine send, by id: nanoseconds, and which.
    pub(crate) signals: HashMap<String, BTreeSet<(i64, String)>>,
    pub(crate) outages: Vec<Outage>,
    /// Allowed `--rm` containers that an engine took along when it came back.
    pub(crate) taken_along: usize,
    /// Deaths of allowed containers that nothing explains.
    pub(crate) misfires: Vec<String>,
    /// Calls that failed while the engine was there.
    pub(crate) refused: BTreeMap<String, u32>,
}

#[derive(Clone)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) is_allowed: bool,
    pub(crate) called_at: Instant,
    /// Whether the engine answered that it started.
    pub(crate) is_sure: bool,
    /// Its policy starts it again when it ends itself: some of its lives are too short to be told apart.
    pub(crate) is_looping: bool,
    /// The engine removes it when it ends.
    pub(crate) is_brief: bool,
    /// The soak has begun to remove it; it may take more than one attempt.
    pub(crate) is_being_removed: bool,
    /// When it was first seen to live on after that.
    pub(crate) lives_since: Option<Instant>,
    pub(crate) has_escaped: bool,
    pub(crate) dead_since: Option<Instant>,
    pub(crate) cleared_at: Option<Instant>,
    /// From start to end as the engine notes them in the container.
    pub(crate) lived_ms: Option<f64>,
}

pub(crate) struct Outage {
    pub(crate) from: Instant,
    /// None: it is not back.
    pub(crate) to: Option<Instant>,
    pub(crate) keeps_containers: bool,
}

impl Books {
    pub(crate) fn begin(length: Duration) -> Self {
        Self {
            begun: Instant::now(),
            length,
            serial: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            kept: Mutex::default(),
        }
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// Another number for a name.
    pub(crate) fn number(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Nothing more is started.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Nothing more is watched.
    pub(crate) fn end(&self) {
        self.close();
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// A thread of the soak that panics takes the others with it.
    pub(crate) fn ends_with_me(&self) -> impl Drop + '_ {
        struct End<'a>(&'a Books);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.has_failed.store(true, Ordering::Relaxed);
                    self.0.end();
                }
            }
        }
        End(self)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Whether everything that was started is dead and cleared away, and word of its end is in.
    pub(crate) fn is_all_over(&self) -> bool {
        let kept = self.kept();
        let mut containers = kept.containers.values();
        containers.all(|container| container.cleared_at.is_some())
    }

    pub(crate) fn refused(&self, what: &str) {
        *self.kept().refused.entry(what.to_owned()).or_default() += 1;
    }
}

impl Kept {
    /// Whether an engine's restart had to do with the time between these. Docker 20.10.24 ends and removes every
    /// `--rm` container when it comes back, also under live-restore, stopped or killed: 24 of 24 each, and none of
    /// 48 others, with nothing but the engine on the machine.
    pub(crate) fn is_near_outage(&self, from: Instant, to: Instant) -> bool {
        self.outages.iter().any(|outage| outage.is_near(from, to))
    }

    /// Whether the engine took its containers with it in that time.
    pub(crate) fn lost_containers(&self, from: Instant, to: Instant) -> bool {
        let mut outages = self.outages.iter();
        outages.any(|outage| !outage.keeps_containers && outage.is_near(from, to))
    }
}

impl Outage {
    fn is_near(&self, from: Instant, to: Instant) -> bool {
        let back = self.to.map_or(Instant::now(), |back| back) + NEAR;
        from <= back && self.from <= to + NEAR
    }
}

impl Container {
    /// The time in which something may have been done to it.
    pub(crate) fn span(&self) -> (Instant, Instant) {
        (self.called_at, self.cleared_at.unwrap_or_else(Instant::now))
    }
}
