//! What is known of containers beyond what an engine tells of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::{Notify, oneshot};

use crate::allowlist::Verdict;
use crate::container::ContainerId;
use crate::look::Lasting;

/// What is known of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remembered {
    /// The verdict on it when it was last looked at, and the hash of the list that decided.
    pub judged: Option<(Verdict, Arc<str>)>,
    /// What an engine may have forgotten of it.
    pub lasting: Lasting,
    /// The restart policy that it had before it was kept from starting again, as `docker run
    /// --restart` takes it.
    pub restart_policy: Option<String>,
    /// The hash of the list by which it was ended for something that was over with its life.
    pub ended_by: Option<Arc<str>>,
}

/// How long it is waited for what is known to be written down. A disk that hangs must not keep a
/// container from being looked after.
const WRITE: Duration = Duration::from_secs(2);

/// What is known of all of them; cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    containers: Arc<Mutex<BTreeMap<ContainerId, Remembered>>>,
    changed: Arc<Notify>,
    changes: Arc<AtomicU64>,
    /// Someone waits for it to be written down.
    urgent: Arc<Notify>,
    /// Who waits, one sender each.
    waiting: Arc<Mutex<Vec<oneshot::Sender<()>>>>,
    is_kept: Arc<AtomicBool>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Remembered>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is known.
    pub fn all(&self) -> BTreeMap<ContainerId, Remembered> {
        self.lock().clone()
    }

    /// Takes over what was written down.
    pub fn set_all(&self, containers: BTreeMap<ContainerId, Remembered>) {
        let mut known = self.lock();
        *known = containers;
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has changed.
    pub fn changes(&self) -> u64 {
        // With the lock it comes in order with them.
        let _containers = self.lock();
        self.changes.load(Ordering::Relaxed)
    }

    fn has_changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// What is known of one.
    pub fn get(&self, id: &ContainerId) -> Option<Remembered> {
        self.lock().get(id).cloned()
    }

    /// Takes down what is known of one now.
    pub fn put(&self, id: &ContainerId, remembered: Remembered) {
        let mut containers = self.lock();
        if containers.get(id) != Some(&remembered) {
            containers.insert(id.clone(), remembered);
            self.has_changed();
        }
    }

    /// Forgets those that are not `kept`.
    pub fn retain(&self, kept: impl Fn(&ContainerId) -> bool) {
        let mut containers = self.lock();
        let before = containers.len();
        containers.retain(|id, _| kept(id));
        if containers.len() != before {
            self.has_changed();
        }
    }

    /// Puts in the place of verdicts those of the one that enforces, by the same list.
    pub fn correct<'a>(
        &self,
        verdicts: impl Iterator<Item = (&'a ContainerId, &'a mut Verdict)>,
        hash: &str,
    ) {
        for (id, verdict) in verdicts {
            // Held for one at a time: whoever enforces must not have to wait for them all.
            if let Some((known, by)) = self.lock().get(id).and_then(|one| one.judged.as_ref())
                && **by == *hash
            {
                verdict.clone_from(known);
            }
        }
    }

    /// Returns when all that is known now is written down, or can't be. At once where nobody does that.
    pub async fn flush(&self) {
        if !self.is_kept.load(Ordering::Relaxed) {
            return;
        }
        let (written, done) = oneshot::channel();
        self.waiting().push(written);
        self.urgent.notify_one();
        // Late or not at all: whoever waits goes on.
        let _ = tokio::time::timeout(WRITE, done).await;
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that someone writes it down.
    pub(super) fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) async fn urgent(&self) {
        self.urgent.notified().await;
    }

    /// What is known could not be written down: that is tried again.
    pub(super) fn keep_unwritten(&self) {
        self.changed.notify_one();
    }

    /// Whoever waits still does.
    pub(super) fn again(&self) {
        self.urgent.notify_one();
    }

    /// Who waits for what is known now to be written down.
    pub(super) fn take_waiting(&self) -> Vec<oneshot::Sender<()>> {
        std::mem::take(&mut *self.waiting())
    }
}

/// One container after the other, each as it is when its turn comes: neither has anybody to wait for all of them,
/// nor is there room for them twice.
impl Serialize for Ledger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ids: Vec<_> = self.lock().keys().cloned().collect();
        serializer.collect_map(ids.iter().filter_map(|id| Some((id, self.get(id)?))))
    }
}
