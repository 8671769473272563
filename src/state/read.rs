//! The reading end: what the controller beside us is doing, by what it wrote.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::time::Instant;

use super::directory::{accepted_list, read_json};
use super::{CONTAINERS, ControllerState, Ledger, STATE};
use crate::status::{Enforcement, LoadedList};

/// Reads a state directory again and again. Blocks on its files.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    ledger: Ledger,
    /// When `containers.json` was last changed.
    containers_changed: Option<SystemTime>,
    list: Option<LoadedList>,
    /// When the state that was last read was written, how old it was then, and when that was.
    last: Option<(Timestamp, Duration, Instant)>,
}

/// What a controller says of itself.
#[derive(Debug, Clone)]
pub struct Truth {
    /// What it is doing, as it was when it wrote.
    pub enforcement: Enforcement,
    /// How long ago that was.
    pub age: Duration,
    /// How often it writes at least.
    pub resync: Duration,
}

impl Reader {
    /// Reads this directory, and what is known of containers into the ledger.
    pub fn new(directory: PathBuf, ledger: Ledger) -> Self {
        Self {
            directory,
            ledger,
            containers_changed: None,
            list: None,
            last: None,
        }
    }

    /// What the controller last wrote; `None` where none ever did.
    ///
    /// # Errors
    /// When what is there can't be read.
    pub fn read(&mut self) -> io::Result<Option<Truth>> {
        let Some(state) = read_json::<ControllerState>(&self.directory.join(STATE))? else {
            return Ok(None);
        };
        let list = match self.list.take() {
            // The same rules may have been saved again with another guard.
            Some(list)
                if list.hash == state.allowlist_hash
                    && list.loaded_at == state.allowlist_loaded_at =>
            {
                list
            }
            _ => accepted_list(
                &self.directory,
                &state.allowlist_hash,
                state.allowlist_loaded_at,
            )?,
        };
        self.list = Some(list.clone());
        self.read_containers()?;
        Ok(Some(Truth {
            age: self.age(state.written_at),
            resync: Duration::from_millis(state.resync_ms),
            enforcement: Enforcement {
                in_force: list,
                rejected: state.rejected,
                held: state.held,
                audit_only: state.audit_only,
                mode: state.mode,
                enforcing: state.enforcing,
                hindrance: state.hindrance,
                paths: state.paths,
                surroundings: state.surroundings,
                last_sweep: state.last_sweep,
                swept: None,
            },
        }))
    }

    fn read_containers(&mut self) -> io::Result<()> {
        let path = self.directory.join(CONTAINERS);
        let Ok(changed) = fs::metadata(&path).and_then(|metadata| metadata.modified()) else {
            return Ok(());
        };
        if self.containers_changed != Some(changed) {
            self.ledger.set_all(read_json(&path)?.unwrap_or_default());
            self.containers_changed = Some(changed);
        }
        Ok(())
    }

    /// How long ago a state was written. The wall clock counts once for each: it may be set meanwhile.
    fn age(&mut self, written_at: Timestamp) -> Duration {
        let (_, age, since) = match self.last {
            Some(last) if last.0 == written_at => last,
            _ => {
                let age = Timestamp::now().duration_since(written_at);
                (
                    written_at,
                    age.try_into().unwrap_or_default(),
                    Instant::now(),
                )
            }
        };
        self.last = Some((written_at, age, since));
        age + since.elapsed()
    }
}
