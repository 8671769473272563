//! The task that writes the state down, soon after it changed and often enough to show that it lives.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{CONTAINERS, ControllerState, Ledger, STATE, StateDirectory};
use crate::status::Enforcement;

/// The least time between two writes of what enforcement is doing.
const STATE_PAUSE: Duration = Duration::from_millis(100);
/// The same of what is known of containers, which may be megabytes.
const LEDGER_PAUSE: Duration = Duration::from_secs(1);

/// Writes until nobody enforces any more, and once more then.
pub async fn keep(
    directory: Arc<StateDirectory>,
    ledger: Ledger,
    enforcement: watch::Receiver<Enforcement>,
    resync: Duration,
) {
    ledger.keep();
    let ended = CancellationToken::new();
    tokio::join!(
        async {
            keep_state(&directory, enforcement, resync).await;
            ended.cancel();
        },
        keep_ledger(&directory, &ledger, &ended),
    );
}

async fn keep_state(
    directory: &Arc<StateDirectory>,
    mut enforcement: watch::Receiver<Enforcement>,
    resync: Duration,
) {
    let mut writes = Writes::default();
    let mut is_last = false;
    loop {
        let state = ControllerState::of(&enforcement.borrow_and_update(), resync);
        writes.write(directory, STATE, state).await;
        if is_last {
            return;
        }
        sleep(STATE_PAUSE).await;
        tokio::select! {
            changed = enforcement.changed() => is_last = changed.is_err(),
            () = sleep(resync / 2) => {}
        }
    }
}

async fn keep_ledger(directory: &Arc<StateDirectory>, ledger: &Ledger, ended: &CancellationToken) {
    let mut writes = Writes::default();
    loop {
        let is_last = tokio::select! {
            biased;
            () = ended.cancelled() => true,
            () = ledger.urgent() => false,
            () = ledger.changed() => false,
        };
        // Those first: what is known later is written as well.
        let waiting = ledger.take_waiting();
        if !writes.write(directory, CONTAINERS, ledger.clone()).await {
            ledger.keep_unwritten();
        }
        for written in waiting {
            // Whoever waited may have gone on.
            let _ = written.send(());
        }
        if is_last {
            return;
        }
        tokio::select! {
            () = sleep(LEDGER_PAUSE) => {}
            () = ledger.urgent() => ledger.again(),
            () = ended.cancelled() => {}
        }
    }
}

/// The writes of one file. A disk that is full or hangs is told once, and keeps nothing else.
#[derive(Default)]
struct Writes {
    is_failing: bool,
}

impl Writes {
    /// Whether it is written.
    async fn write(
        &mut self,
        directory: &Arc<StateDirectory>,
        name: &'static str,
        content: impl Serialize + Send + 'static,
    ) -> bool {
        let directory = directory.clone();
        let written = tokio::task::spawn_blocking(move || directory.write(name, &content)).await;
        let error = written
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .err();
        match &error {
            Some(error) if !self.is_failing => {
                tracing::error!(%error, name, "the state can't be written; trying again");
            }
            None if self.is_failing => tracing::info!(name, "the state is written again"),
            _ => {}
        }
        self.is_failing = error.is_some();
        !self.is_failing
    }
}
