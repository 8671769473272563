//! The daemons: build the rooms, bind, supervise, shut down.
//!
//! Every task has its owner here. The first one that ends before it should ends the process, with
//! its reason.

mod aside;
mod begin;
mod descriptors;
mod read_along;
mod service_manager;
mod socket;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Access, Sources};
use crate::containerd;
use crate::controller::{self, Controller};
use crate::credentials::{self, Credentials};
use crate::docker::{Docker, Endpoint};
use crate::engine::Engine;
use crate::follow::Follower;
use crate::inventory::Inventory;
use crate::journal::{self, Decisions, Destination, Journal};
use crate::metrics::Metrics;
use crate::notification::{self, Notifier};
use crate::record::{Life, What};
use crate::reload::Reload;
use crate::serve::{self, Server};
use crate::state::{self, Ledger, StateDirectory};
use crate::status::{Candidate, Enforcement, LoadedList, Role, Snapshot};
use aside::Aside;
use begin::Beginning;
use read_along::ReadAlong;
use service_manager::Pulse;

/// How long a shutdown may take, the controller's own part included.
const SHUTDOWN: Duration = Duration::from_millis(4_400);
/// How long the last records may take to reach the disk.
const FLUSH: Duration = Duration::from_millis(400);
/// How many tasks of containerd's may wait at the gate.
const TASKS: usize = 1_024;
/// How many clients are served at once, where there are descriptors enough: a quarter of them at most.
/// Each engine call needs one too, and must not have to wait for an idle client's.
const CLIENTS: usize = 256;

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

type Tasks = JoinSet<(&'static str, anyhow::Result<()>)>;

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
    let mut daemon = Daemon {
        engine: Arc::new(docker),
        metrics,
        shutdown: CancellationToken::new(),
        tasks: Tasks::new(),
        journal: None,
        writer: None,
        pulse: None,
        clients: CLIENTS.min(descriptors / 4),
        settings,
    };
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
        ended = daemon.tasks.join_next() => Err(why(ended)),
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

fn unusable(error: &dyn std::fmt::Display) -> Failure {
    Failure::Settings(error.to_string())
}

/// What runs, and its owner.
struct Daemon {
    settings: Settings,
    engine: Arc<dyn Engine>,
    metrics: Metrics,
    shutdown: CancellationToken,
    tasks: Tasks,
    /// Where what happens is put on record; none where another process does so.
    journal: Option<Journal>,
    writer: Option<journal::Writer>,
    /// Asks the controller for a sign of life.
    pulse: Option<Pulse>,
    /// How many are served at once.
    clients: usize,
}

impl Daemon {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            task.await;
            (name, Ok(()))
        });
    }

    /// Puts on record what happened, or tells it where there is no record.
    fn happened(&self, what: What) {
        match &self.journal {
            Some(journal) => journal.happened(what),
            None => journal::tell_happening(&what),
        }
    }

    fn life(&self, change: Life, signal: Option<&str>, error: Option<String>) -> What {
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

    fn open_journal(&mut self) -> Result<(), Failure> {
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
    fn notify(&mut self) -> Result<(), Failure> {
        if let (Some(settings), Some(journal)) = (&self.settings.notification, &self.journal) {
            let notifier = Notifier::new(settings, self.metrics.clone());
            let notifier = notifier.map_err(|error| unusable(&error))?;
            let (entries, shutdown) = (journal.listen(), self.shutdown.clone());
            self.spawn("notification", notifier.run(entries, shutdown));
        }
        Ok(())
    }

    /// Enforces, with an engine connection of its own.
    fn enforce(
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
    fn read_along(
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
    fn take_stock(
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

    fn sources(
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

    fn serve(
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

    fn keep_service_manager_told(&mut self, enforcement: watch::Receiver<Enforcement>) {
        let (pulse, shutdown) = (self.pulse.take(), self.shutdown.clone());
        let telling = service_manager::keep_told(enforcement, pulse, shutdown);
        self.spawn("service manager", telling);
    }

    /// Lets every task end, and every record reach the disk.
    async fn finish(mut self, ended: &anyhow::Result<&'static str>) {
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
