//! What every container's task needs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::gate::Prepared;
use super::seats::Seats;
use super::slots::Lanes;
use crate::container::ContainerId;
use crate::engine::Engine;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::processes::NotKilled;
use crate::record::Path;
use crate::state::{Ledger, StateDirectory};
use crate::status::Enforcement;

/// Shared by all of them.
pub(super) struct Context {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) journal: Journal,
    pub(super) metrics: Metrics,
    pub(super) enforcement: watch::Sender<Enforcement>,
    /// What is known of containers, for the next process and for the API.
    pub(super) ledger: Ledger,
    /// Where the list in force is written down.
    pub(super) state: Option<Arc<StateDirectory>>,
    pub(super) lanes: Lanes,
    /// Who may go through the host's processes.
    pub(super) scans: Arc<Semaphore>,
    pub(super) seats: Seats,
    /// What the gate goes by.
    pub(super) prepared: Prepared,
    /// Whether the engine's processes are seen here, and can be signalled.
    pub(super) shares_pids: AtomicBool,
    /// The engine's time when it was first connected. What its history tells of the time before
    /// only says where to look.
    pub(super) began: OnceLock<Timestamp>,
    /// How often the engine was connected or lost.
    pub(super) connections: AtomicU64,
    /// How often something may have happened that was not told.
    pub(super) gaps: AtomicU64,
    pub(super) shutdown: CancellationToken,
}

impl Context {
    /// A number for the present connection to the engine, or for there being none.
    pub(super) fn connection(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The engine was connected or lost.
    pub(super) fn reconnected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.missed_something();
    }

    /// How often something may have happened that was not told: over another connection, or over this one.
    pub(super) fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Something may have happened that was not told.
    pub(super) fn missed_something(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a container's process can be ended by a signal.
    pub(super) fn is_sharing_pids(&self) -> bool {
        self.shares_pids.load(Ordering::Relaxed)
    }

    /// Counts and tells that a path could not end what it should have.
    pub(super) fn fell_back(&self, path: Path, id: &ContainerId, error: &NotKilled) {
        let path = path.as_str();
        self.metrics.path_fallbacks.with_label_values(&[path]).inc();
        let id = id.short();
        tracing::warn!(id, path, %error, "a container's process was not ended; the engine is asked to");
    }
}
