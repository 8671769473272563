//! The state directory: what a controller must know after its own restart, and what it tells the API.
//!
//! `accepted.json` names the list that was last in force, whose text is in `accepted/`. `state.json`
//! is what enforcement is doing, `containers.json` what is known of containers beyond what an engine
//! tells. One controller writes, and holds the lock; every file is replaced in one step, so that a
//! reader never sees half of one.

mod directory;
mod keep;
mod ledger;
mod read;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::allowlist::Mode;
use crate::record::Path;
use crate::status::{Enforcement, HeldList, RejectedList, Surroundings};

pub use directory::{Accepted, StateDirectory, accepted, remembered};
pub use keep::keep;
pub use ledger::{Ledger, Remembered};
pub use read::{Reader, Truth};

const STATE: &str = "state.json";
const CONTAINERS: &str = "containers.json";

/// `state.json`: what enforcement is doing.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ControllerState {
    /// The version of this format, 1.
    v: u8,
    written_at: Timestamp,
    /// Written again at least this often.
    resync_ms: u64,
    allowlist_hash: Arc<str>,
    allowlist_loaded_at: Timestamp,
    audit_only: bool,
    mode: Mode,
    enforcing: bool,
    hindrance: Option<String>,
    rejected: Option<RejectedList>,
    held: Option<Arc<HeldList>>,
    #[serde(default)]
    paths: Vec<Path>,
    surroundings: Arc<Surroundings>,
    last_sweep: Option<Timestamp>,
}

impl ControllerState {
    fn of(enforcement: &Enforcement, resync: Duration) -> Self {
        Self {
            v: 1,
            written_at: Timestamp::now(),
            resync_ms: resync.as_millis().try_into().unwrap_or(u64::MAX),
            allowlist_hash: enforcement.in_force.hash.clone(),
            allowlist_loaded_at: enforcement.in_force.loaded_at,
            audit_only: enforcement.audit_only,
            mode: enforcement.mode,
            enforcing: enforcement.enforcing,
            hindrance: enforcement.hindrance.clone(),
            rejected: enforcement.rejected.clone(),
            held: enforcement.held.clone(),
            paths: enforcement.paths.clone(),
            surroundings: enforcement.surroundings.clone(),
            last_sweep: enforcement.last_sweep,
        }
    }
}
