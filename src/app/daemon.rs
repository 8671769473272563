//! What runs, and its owner.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::aside::Aside;
use super::read_along::ReadAlong;
use super::service_manager::{self, Pulse};
use super::{Failure, Settings, begin, socket, unusable};
use crate::api::{self, Access, Sources};
use crate::containerd;
use crate::controller::{self, Controller};
use crate::credentials::Credentials;
use crate::engine::Engine;
use crate::follow::Follower;
use crate::inventory::Inventory;
use crate::journal::{self, Decisions, Journal};
use crate::metrics::Metrics;
use crate::notification::Notifier;
use crate::record::{Life, What};
use crate::serve::Server;
use crate::state::{self, Ledger, StateDirectory};
use crate::status::{Candidate, Enforcement, LoadedList, Snapshot};

/// How long a shutdown may take, the controller's own part included.
const SHUTDOWN: Duration = Duration::from_millis(4_400);
/// How long the last records may take to reach the disk.
const FLUSH: Duration = Duration::from_millis(400);
/// How many tasks of containerd's may wait at the gate.
const TASKS: usize = 1_024;
/// How many clients are served at once, where there are descriptors enough: a quarter of them at most.
/// Each engine call needs one too, and must not have to wait for an idle client's.
const CLIENTS: usize = 256;

type Tasks = JoinSet<(&'static str, anyhow::Result<()>)>;

/// The tasks of a process, and what they share.
pub(super) struct Daemon {
    pub(super) settings: Settings,
    engine: Arc<dyn Engine>,
    metrics: Metrics,
    pub(super) shutdown: CancellationToken,
    tasks: Tasks,
    /// Where what happens is put on record; none where another process does so.
    pub(super) journal: Option<Journal>,
    writer: Option<journal::Writer>,
    /// Asks the controller for a sign of life.
    pulse: Option<Pulse>,
    /// How many are served at once.
    clients: usize,
}

impl Daemon {
    /// Nothing runs yet. So many files may be open at once.
    pub(super) fn new(
        settings: Settings,
        engine: Arc<dyn Engine>,
        metrics: Metrics,
        descriptors: usize,
    ) -> Self {
        Self {
            settings,
            engine,
            metrics,
            shutdown: CancellationToken::new(),
            tasks: Tasks::new(),
            journal: None,
            writer: None,
            pulse: None,
            clients: CLIENTS.min(descriptors / 4),
        }
    }

    /// Waits until a task ends, and says why although none should.
    pub(super) async fn unexpected_end(&mut self) -> anyhow::Error {
        why(self.tasks.join_next().await)
    }

    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tasks.spawn(async move {
            task.await;
            (name, Ok(()))
        });
    }

    /// Puts on record what happened, or tells it where there is no record.
    pub(super) fn happened(&self, what: What) {
        match &self.journal {
            Some(journal) => journal.happened(what),
            None => journal::tell_happening(&what),
        }
    }

    pub(super) fn life(&self, change: Life, signal: Option<&str>, error: Option<String>) -> What {
        What::Lifecycle {
            change,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: self.settings.role.as_str().to_owned(),
            pid: std::process::id(),
            engine: self.settings.engine.url.clone(),
            allowlist: self.settings.allowlist.display().to_string(),
            signal: signal.map(str::to_owned),
            error,
        }
    }

    pub(super) fn open_journal(&mut self) -> Result<(), Failure> {
        let settings = &self.settings;
        let (log, host) = (&settings.audit_log, settings.host_name.clone());
        let (journal, mut writer) = Journal::open(log, host, self.metrics.clone())
            .map_err(|error| unusable(&format!("audit log {log}: {error}")))?;
        let (ended, stop) = (writer.ended(), self.shutdown.clone());
        self.tasks.spawn(async move {
            let ended = tokio::select! {
                () = stop.cancelled() => Ok(()),
                why = ended => Err(anyhow!(why)),
            };
            ("journal", ended)
        });
        self.journal = Some(journal);
        self.writer = Some(writer);
        Ok(())
    }

    /// Tells what is put on record, where somebody is to be told.
    pub(super) fn notify(&mut self) -> Result<(), Failure> {
        if let (Some(settings), Some(journal)) = (&self.settings.notification, &self.journal) {
            let notifier = Notifier::new(settings, self.metrics.clone());
            let notifier = notifier.map_err(|error| unusable(&error))?;
            let (entries, shutdown) = (journal.listen(), self.shutdown.clone());
            self.spawn("notification", notifier.run(entries, shutdown));
        }
        Ok(())
    }

    /// Enforces, with an engine connection of its own.
    pub(super) fn enforce(
        &mut self,
        journal: Journal,
        enforcement: watch::Sender<Enforcement>,
        candidates: mpsc::Receiver<Candidate>,
        wanted: Option<LoadedList>,
        state: Option<Arc<StateDirectory>>,
        ledger: Ledger,
    ) -> Decisions {
        let settings = &self.settings;
        let keeper = state.clone().map(|state| {
            begin::remember(&state, &enforcement.borrow(), &ledger);
            state::keep(
                state,
                ledger.clone(),
                enforcement.subscribe(),
                settings.resync,
            )
        });
        let (follower, relist, updates) = Follower::new(self.engine.clone(), settings.resync);
        let (told, watching) = watch::channel(0);
        let (tasks, created) = mpsc::channel(TASKS);
        let containerd = containerd::follow(
            settings.containerd.clone(),
            settings
                .engine
                .url
                .strip_prefix("unix://")
                .map(PathBuf::from),
            tasks,
            told,
            self.metrics.clone(),
            self.shutdown.clone(),
        );
        let (controller, gate) = Controller::new(
            controller::Settings {
                engine: self.engine.clone(),
                journal: journal.clone(),
                metrics: self.metrics.clone(),
                enforcement,
                relist,
                audit_only: settings.audit_only,
                wanted,
                ledger,
                state,
                self_id: settings.self_id.clone(),
                learn_host: settings.host_name.is_none(),
                watching,
            },
            self.shutdown.clone(),
        );
        let file = settings.audit_log.path().map(Path::to_owned);
        let (pulse, asked) = mpsc::channel(1);
        self.pulse = Some(pulse);
        self.spawn("gate", gate.run(created, self.shutdown.clone()));
        self.spawn("containerd", containerd);
        self.spawn("controller", controller.run(updates, candidates, asked));
        if let Some(keeper) = keeper {
            self.spawn("state", keeper);
        }
        self.spawn("controller's follower", follower.run(self.shutdown.clone()));
        Decisions::Own(Box::new(journal), file)
    }

    /// Shows what another process enforces.
    pub(super) fn read_along(
        &mut self,
        enforcement: watch::Sender<Enforcement>,
        candidates: mpsc::Receiver<Candidate>,
        ledger: Ledger,
    ) -> Decisions {
        let read_along = ReadAlong {
            directory: self.settings.state_dir.clone(),
            ledger,
            enforcement,
            metrics: self.metrics.clone(),
            audit_only: self.settings.audit_only,
        };
        self.spawn("allowlist", read_along.run(candidates));
        match self.settings.audit_log.path() {
            Some(path) => Decisions::Foreign(path.to_owned()),
            None => Decisions::None,
        }
    }

    /// Keeps the state list, with an engine connection of its own: what is asked of it can't
    /// delay an end.
    pub(super) fn take_stock(
        &mut self,
        enforcement: watch::Receiver<Enforcement>,
    ) -> watch::Receiver<Snapshot> {
        let host = self.settings.host_name.clone();
        let (sender, snapshot) = watch::channel(Snapshot {
            host: host.clone(),
            ..Snapshot::default()
        });
        let (follower, _, updates) = Follower::new(self.engine.clone(), self.settings.resync);
        let inventory = Inventory::new(
            self.engine.clone(),
            sender,
            enforcement,
            host,
            !self.settings.role.enforces(),
        );
        self.spawn("inventory", inventory.run(updates));
        if let Some(socket) = socket::mounted(&self.settings.engine.url) {
            let lost = socket::until_lost(snapshot.clone(), socket);
            self.tasks.spawn(async { ("engine's socket", lost.await) });
        }
        self.spawn("inventory's follower", follower.run(self.shutdown.clone()));
        snapshot
    }

    pub(super) fn sources(
        &self,
        enforcement: watch::Receiver<Enforcement>,
        snapshot: watch::Receiver<Snapshot>,
        decisions: Decisions,
        ledger: Ledger,
    ) -> Sources {
        Sources {
            role: self.settings.role,
            snapshot,
            enforcement,
            decisions,
            ledger,
            metrics: self.metrics.clone(),
            allowlist: self.settings.allowlist.clone(),
            resync: self.settings.resync,
            show_all_labels: self.settings.show_all_labels,
            shutdown: self.shutdown.clone(),
        }
    }

    pub(super) fn serve(
        &mut self,
        listener: TcpListener,
        address: SocketAddr,
        sources: Sources,
        credentials: Credentials,
    ) -> std::io::Result<()> {
        let hosts = &self.settings.allowed_hosts;
        // Who listens for others than this host is called by names that nobody told us.
        let is_checked = address.ip().is_loopback() || !hosts.is_empty();
        let access = Access {
            tokens: credentials.tokens(),
            hosts: is_checked.then(|| hosts.clone().into()),
        };
        let has_tokens = access.tokens.borrow().is_some();
        let server = Server {
            listener,
            router: api::router(sources, access),
            at_once: self.clients,
            tls: credentials.tls(),
        };
        let has_tls = server.tls.borrow().is_some();
        tracing::info!(%address, tls = has_tls, token = has_tokens, "listening");
        if !address.ip().is_loopback() && !has_tokens {
            tracing::warn!(%address, "whoever reaches this address may read all: --token-file asks for a token");
        }
        self.spawn("credentials", credentials.follow(self.shutdown.clone()));
        let serving = server.run(self.shutdown.clone());
        let aside = Aside::begin("api", async { Ok(serving.await?) })?;
        self.tasks.spawn(async { ("API", aside.ended().await) });
        Ok(())
    }

    pub(super) fn keep_service_manager_told(&mut self, enforcement: watch::Receiver<Enforcement>) {
        let (pulse, shutdown) = (self.pulse.take(), self.shutdown.clone());
        let telling = service_manager::keep_told(enforcement, pulse, shutdown);
        self.spawn("service manager", telling);
    }

    /// Lets every task end, and every record reach the disk.
    pub(super) async fn finish(mut self, ended: &anyhow::Result<&'static str>) {
        self.shutdown.cancel();
        let drain = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN, drain).await.is_err() {
            tracing::warn!("not every task ended in time");
            self.tasks.shutdown().await;
        }
        let signal = ended.as_ref().ok().copied();
        let error = ended.as_ref().err().map(|error| format!("{error:#}"));
        self.happened(self.life(Life::Stopped, signal, error));
        if let Some(writer) = self.writer {
            let joined = tokio::task::spawn_blocking(move || writer.close());
            if tokio::time::timeout(FLUSH, joined).await.is_err() {
                tracing::warn!("the audit log was still being written");
            }
        }
    }
}

/// Why a task ended although none should.
fn why(
    ended: Option<Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>>,
) -> anyhow::Error {
    match ended {
        Some(Ok((name, Ok(())))) => anyhow!("the {name} task ended by itself"),
        Some(Ok((name, Err(error)))) => error.context(format!("the {name} task failed")),
        Some(Err(error)) => anyhow!(error).context("a task ended abnormally"),
        None => anyhow!("there was nothing to do"),
    }
}
