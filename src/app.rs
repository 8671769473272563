//! The daemons: build the rooms, bind, supervise, shut down.
//!
//! Every task has its owner here. The first one that ends before it should ends the process, with
//! its reason.

mod aside;
mod begin;
mod daemon;
mod descriptors;
mod read_along;
mod service_manager;
mod socket;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::containerd;
use crate::credentials::{self, Credentials};
use crate::docker::{Docker, Endpoint};
use crate::journal::Destination;
use crate::metrics::Metrics;
use crate::notification;
use crate::record::{Life, What};
use crate::reload::Reload;
use crate::serve;
use crate::state::Ledger;
use crate::status::Role;
use begin::Beginning;
use daemon::Daemon;

/// How a daemon is to run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which daemon.
    pub role: Role,
    /// The list.
    pub allowlist: PathBuf,
    /// The engine.
    pub engine: Endpoint,
    /// Where to listen, `host:port`.
    pub listen: String,
    /// Audit mode, whatever the list says.
    pub audit_only: bool,
    /// How often everything is listed.
    pub resync: Duration,
    /// Where decisions are recorded.
    pub audit_log: Destination,
    /// Where the state is kept that outlives the process, and that the API reads.
    pub state_dir: Option<PathBuf>,
    /// Where the engine's containerd is.
    pub containerd: containerd::Socket,
    /// Its own container, where the operator names it.
    pub self_id: Option<String>,
    /// The host's name in records; none: the engine's own.
    pub host_name: Option<String>,
    /// Whether the values of all labels are shown.
    pub show_all_labels: bool,
    /// By what clients are let in, and what the service proves itself by.
    pub credentials: credentials::Files,
    /// The names by which it is called, beside those of the loopback and addresses.
    pub allowed_hosts: Vec<String>,
    /// Who is told what is put on record, where somebody is.
    pub notification: Option<notification::Settings>,
}

/// Why a daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The settings or the list can't be used.
    #[error("{0}")]
    Settings(String),
    /// Something that should not end did.
    #[error("{0:#}")]
    Internal(anyhow::Error),
}

/// Runs a daemon until SIGTERM or SIGINT.
///
/// # Errors
/// When it can't start, or a part of it ends by itself.
pub async fn run(settings: Settings) -> Result<(), Failure> {
    let internal = |error: std::io::Error| Failure::Internal(error.into());
    let mut stop = Stop::listen().map_err(internal)?;
    let hangup = signal(SignalKind::hangup()).map_err(internal)?;
    let descriptors = descriptors::raise_limit();
    let docker = Docker::new(&settings.engine).map_err(|error| unusable(&error))?;
    let metrics = Metrics::new().map_err(|error| Failure::Internal(error.into()))?;
    let credentials = Credentials::read(settings.credentials.clone());
    let credentials = credentials.map_err(|error| unusable(&error))?;
    let (candidates, receiver) = mpsc::channel(4);
    let (reload, first) = Reload::open(settings.allowlist.clone(), candidates).await;
    // Nothing is done to any container before it is certain that this process can serve.
    let listener = serve::listen(&settings.listen)
        .await
        .map_err(|error| unusable(&format!("listen on {}: {error}", settings.listen)))?;
    let address = listener.local_addr().map_err(internal)?;
    let mut daemon = Daemon::new(settings, Arc::new(docker), metrics, descriptors);
    if daemon.settings.role.enforces() {
        daemon.open_journal()?;
        daemon.notify()?;
    }
    let state = begin::open_state(&daemon.settings)?;
    let accepted = begin::last_accepted(&daemon.settings, &first);
    let (audit_only, now) = (daemon.settings.audit_only, jiff::Timestamp::now());
    let beginning = Beginning::of(first, accepted, audit_only, now)?;
    daemon.happened(daemon.life(Life::Started, None, None));
    daemon.happened(What::Allowlist(beginning.list_change()));
    let wanted = beginning.wanted.clone();
    let (enforcement, enforcement_receiver) = watch::channel(beginning.enforcement());
    let ledger = Ledger::default();
    let decisions = match daemon.journal.clone() {
        Some(journal) => daemon.enforce(
            journal,
            enforcement,
            receiver,
            wanted,
            state,
            ledger.clone(),
        ),
        None => daemon.read_along(enforcement, receiver, ledger.clone()),
    };
    let snapshot = daemon.take_stock(enforcement_receiver.clone());
    daemon.spawn("reload", reload.run(hangup, daemon.shutdown.clone()));
    let told = enforcement_receiver.clone();
    let sources = daemon.sources(enforcement_receiver, snapshot, decisions, ledger);
    daemon
        .serve(listener, address, sources, credentials)
        .map_err(internal)?;
    daemon.keep_service_manager_told(told);

    let ended = tokio::select! {
        signal = stop.next() => {
            tracing::info!(signal, "stopping");
            Ok(signal)
        }
        why = daemon.unexpected_end() => Err(why),
    };
    daemon.finish(&ended).await;
    ended.map(|_| ()).map_err(Failure::Internal)
}

/// The signals that end a daemon.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn unusable(error: &dyn std::fmt::Display) -> Failure {
    Failure::Settings(error.to_string())
}
