//! The engine comes and goes, and which container of it is dockwarden's own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{Controller, RESOLVE};
use crate::container::ContainerId;
use crate::engine::{EngineInfo, Listing};
use crate::own::{self, Own};
use crate::processes;
use crate::record::{Connection, What};

impl Controller {
    pub(super) fn connected(&mut self, info: &EngineInfo) {
        if self.was_connected {
            self.context.metrics.engine_reconnects.inc();
        } else {
            self.connected_at = Instant::now();
        }
        self.context.reconnected();
        let shares_pids = info.has_same_pids && processes::may_kill();
        self.context
            .shares_pids
            .store(shares_pids, Ordering::Relaxed);
        self.connected = true;
        self.was_connected = true;
        self.resolve_at = Instant::now() + RESOLVE;
        self.told_away = false;
        self.await_opening();
        if let Some(time) = info.time {
            // What was first is kept.
            let _ = self.context.began.set(time);
        }
        if self.learn_host {
            self.context.journal.set_host(&info.host);
        }
        self.context.journal.happened(What::Engine {
            change: Connection::Connected,
            version: Some(info.version.clone()),
            error: None,
        });
        self.publish();
    }

    pub(super) fn disconnected(&mut self, reason: &str) {
        if !self.told_away {
            self.context.journal.happened(What::Engine {
                change: Connection::Disconnected,
                version: None,
                error: Some(reason.to_owned()),
            });
        }
        if self.connected {
            self.context.reconnected();
        }
        self.connected = false;
        self.told_away = true;
        self.publish();
    }

    pub(super) async fn resolve_own(&mut self, listing: &Listing) {
        let engine = self.context.engine.as_ref();
        self.own = own::resolve(engine, listing, self.self_id.as_deref()).await;
        let surroundings = match own::surroundings(engine, &self.own).await {
            Ok(surroundings) => Arc::new(surroundings),
            Err(error) => {
                // What it mounts is guarded; without knowing that nothing can be judged.
                tracing::warn!(error = error.chain(), "own container can't be inspected");
                self.own = Own::Unresolved;
                return;
            }
        };
        match &self.own {
            Own::Unresolved => {}
            Own::None => tracing::info!("this process runs in no container of this engine"),
            Own::Proven(ids) => {
                let ids: Vec<_> = ids.iter().map(ContainerId::short).collect();
                tracing::info!(?ids, "own container proven; it is never touched");
            }
            Own::Unproven(why) => tracing::error!(why, "own container not proven; not enforcing"),
        }
        self.context
            .enforcement
            .send_modify(|enforcement| enforcement.surroundings = surroundings);
        self.publish();
        self.attend_all();
    }
}
