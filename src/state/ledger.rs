//! What is known of containers beyond what an engine tells of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

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
}

/// What is known of all of them; cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    containers: Arc<Mutex<BTreeMap<ContainerId, Remembered>>>,
    changed: Arc<Notify>,
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
        *self.lock() = containers;
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
            self.changed.notify_one();
        }
    }

    /// Forgets those that are not `kept`.
    pub fn retain(&self, kept: impl Fn(&ContainerId) -> bool) {
        let mut containers = self.lock();
        let before = containers.len();
        containers.retain(|id, _| kept(id));
        if containers.len() != before {
            self.changed.notify_one();
        }
    }

    /// Puts in the place of verdicts those of the one that enforces, by the same list.
    pub fn correct<'a>(
        &self,
        verdicts: impl Iterator<Item = (&'a ContainerId, &'a mut Verdict)>,
        hash: &str,
    ) {
        let containers = self.lock();
        for (id, verdict) in verdicts {
            if let Some((known, by)) = containers.get(id).and_then(|one| one.judged.as_ref())
                && **by == *hash
            {
                verdict.clone_from(known);
            }
        }
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}
