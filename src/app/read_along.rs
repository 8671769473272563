//! The api's way to the truth: what the controller beside it wrote of itself, and its own file where
//! no controller ever did.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

use crate::metrics::Metrics;
use crate::state::{Ledger, Reader, Truth};
use crate::status::{Candidate, Enforcement, LoadedList, RejectedList};

/// How often the state is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How much later than two resyncs a controller may write.
const GRACE: Duration = Duration::from_secs(5);

/// Publishes what is in force until shutdown.
pub(super) struct ReadAlong {
    pub(super) directory: Option<PathBuf>,
    pub(super) ledger: Ledger,
    pub(super) enforcement: watch::Sender<Enforcement>,
    pub(super) metrics: Metrics,
    pub(super) audit_only: bool,
}

/// What the own file holds.
struct OwnFile {
    list: LoadedList,
    rejected: Option<RejectedList>,
}

impl ReadAlong {
    pub(super) async fn run(self, mut candidates: mpsc::Receiver<Candidate>) {
        let mut own = {
            let enforcement = self.enforcement.borrow();
            OwnFile {
                list: enforcement.in_force.clone(),
                rejected: enforcement.rejected.clone(),
            }
        };
        let directory = self.directory.clone();
        let mut reader = directory.map(|directory| Reader::new(directory, self.ledger.clone()));
        let mut was_unreadable = false;
        let mut clock = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                candidate = candidates.recv() => match candidate {
                    Some(candidate) => own.take(candidate),
                    None => return,
                },
                _ = clock.tick() => {}
            }
            let truth = match reader.take() {
                None => Ok(None),
                Some(mut one) => {
                    // It comes back; a thread that panics ends with what it had.
                    let read = spawn_blocking(move || (one.read(), one)).await;
                    match read {
                        Ok((truth, one)) => {
                            reader = Some(one);
                            truth
                        }
                        Err(error) => Err(std::io::Error::other(error)),
                    }
                }
            };
            let is_unreadable = truth.is_err();
            let enforcement = match truth {
                Ok(Some(truth)) => self.told(truth),
                Ok(None) => self.by_own_file(&own, "nothing is known of a controller here"),
                Err(error) => {
                    if !was_unreadable {
                        tracing::error!(%error, "the controller's state can't be read");
                    }
                    self.by_own_file(&own, "the controller's state can't be read")
                }
            };
            was_unreadable = is_unreadable;
            self.enforcement.send_if_modified(|before| {
                let is_other = *before != enforcement;
                *before = enforcement;
                is_other
            });
        }
    }

    /// What a controller wrote, as far as it is believed: one that is silent enforces nothing.
    fn told(&self, truth: Truth) -> Enforcement {
        let Truth {
            mut enforcement,
            age,
            resync,
        } = truth;
        self.metrics.controller_state_age.set(age.as_secs_f64());
        if age > resync * 2 + GRACE {
            enforcement.enforcing = false;
            enforcement.hindrance = Some("the controller is silent".to_owned());
        }
        enforcement
    }

    fn by_own_file(&self, own: &OwnFile, hindrance: &str) -> Enforcement {
        // What was never written, or can't be read, is older than anything.
        self.metrics.controller_state_age.set(f64::INFINITY);
        Enforcement {
            in_force: own.list.clone(),
            rejected: own.rejected.clone(),
            held: None,
            audit_only: self.audit_only,
            mode: own.list.mode(self.audit_only, Timestamp::now()),
            enforcing: false,
            hindrance: Some(hindrance.to_owned()),
            paths: Vec::new(),
            surroundings: self.enforcement.borrow().surroundings.clone(),
            last_sweep: None,
            swept: None,
        }
    }
}

impl OwnFile {
    fn take(&mut self, candidate: Candidate) {
        match candidate {
            Ok(list) => {
                tracing::info!(hash = %list.hash, "allowlist was read");
                self.list = list;
                self.rejected = None;
            }
            Err(error) => {
                tracing::error!(%error, "allowlist was not taken");
                self.rejected = Some(RejectedList {
                    message: error.to_string(),
                    at: Timestamp::now(),
                });
            }
        }
    }
}
