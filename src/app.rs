//! The daemons: build the rooms, bind, supervise, shut down.
//!
//! Every task has its owner here. The first one that ends before it should ends the process, with
//! its reason.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::allowlist::Mode;
use crate::api::{self, Role, Sources};
use crate::controller::{self, Controller};
use crate::docker::{Docker, Endpoint};
use crate::engine::Engine;
use crate::follow::Follower;
use crate::inventory::Inventory;
use crate::journal::{Decisions, Destination, Journal};
use crate::metrics::Metrics;
use crate::reload::Reload;
use crate::status::{Candidate, Enforcement, LoadedList, RejectedList, Snapshot};

/// How long a shutdown may take, the controller's own part included.
const SHUTDOWN: Duration = Duration::from_millis(4_500);

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
    /// Its own container, where the operator names it.
    pub self_id: Option<String>,
    /// The host's name in records; none: the engine's own.
    pub host_name: Option<String>,
    /// Whether the values of all labels are shown.
    pub show_all_labels: bool,
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
    let unusable = |error: &dyn std::fmt::Display| Failure::Settings(error.to_string());
    let metrics = Metrics::new().map_err(|error| Failure::Internal(error.into()))?;
    let docker = Docker::new(&settings.engine).map_err(|error| unusable(&error))?;
    let engine: Arc<dyn Engine> = Arc::new(docker);

    let (candidates, candidate_receiver) = mpsc::channel(4);
    let (reload, first) = Reload::open(settings.allowlist.clone(), candidates).await;
    let in_force = first.map_err(|error| Failure::Settings(error.report()))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        engine = settings.engine.url,
        allowlist = %settings.allowlist.display(),
        hash = %in_force.hash,
        rules = in_force.list.rules.len(),
        "dockwarden started"
    );

    // Nothing is done to any container before it is certain that this process can serve.
    let listener = TcpListener::bind(&settings.listen)
        .await
        .map_err(|error| unusable(&format!("listen on {}: {error}", settings.listen)))?;
    let shutdown = CancellationToken::new();
    let mut tasks = Tasks::new();
    let (enforcement, enforcement_receiver) =
        watch::channel(initial(in_force, settings.audit_only));
    let (snapshot, snapshot_receiver) = watch::channel(Snapshot {
        host: settings.host_name.clone(),
        ..Snapshot::default()
    });

    let mut writer = None;
    let decisions = if settings.role.enforces() {
        let host = settings.host_name.clone().unwrap_or_default();
        let (journal, journal_writer) = Journal::open(&settings.audit_log, host, metrics.clone())
            .map_err(|error| {
            unusable(&format!("audit log {:?}: {error}", settings.audit_log))
        })?;
        writer = Some(journal_writer);
        let (follower, relist, updates) = Follower::new(engine.clone(), settings.resync);
        let settings_of_controller = controller::Settings {
            engine: engine.clone(),
            journal: journal.clone(),
            metrics: metrics.clone(),
            enforcement,
            relist,
            audit_only: settings.audit_only,
            self_id: settings.self_id.clone(),
            learn_host: settings.host_name.is_none(),
        };
        let controller = Controller::new(settings_of_controller, shutdown.clone());
        spawn(
            &mut tasks,
            "controller",
            controller.run(updates, candidate_receiver),
        );
        spawn(
            &mut tasks,
            "controller's follower",
            follower.run(shutdown.clone()),
        );
        let file = match &settings.audit_log {
            Destination::File(path) => Some(path.clone()),
            _ => None,
        };
        Decisions::Own(Box::new(journal), file)
    } else {
        spawn(
            &mut tasks,
            "allowlist",
            adopt(candidate_receiver, enforcement),
        );
        match &settings.audit_log {
            Destination::File(path) => Decisions::Foreign(path.clone()),
            _ => Decisions::None,
        }
    };

    let (follower, _, updates) = Follower::new(engine.clone(), settings.resync);
    let inventory = Inventory::new(engine, snapshot, settings.host_name.clone());
    spawn(&mut tasks, "inventory", inventory.run(updates));
    spawn(
        &mut tasks,
        "inventory's follower",
        follower.run(shutdown.clone()),
    );

    let hangup = signal(SignalKind::hangup()).map_err(|error| Failure::Internal(error.into()))?;
    spawn(&mut tasks, "reload", reload.run(hangup, shutdown.clone()));

    let router = api::router(Sources {
        role: settings.role,
        snapshot: snapshot_receiver,
        enforcement: enforcement_receiver,
        decisions,
        metrics,
        resync: settings.resync,
        show_all_labels: settings.show_all_labels,
    });
    let address = listener
        .local_addr()
        .map_err(|error| Failure::Internal(error.into()))?;
    tracing::info!(%address, "listening");
    let stop = shutdown.clone().cancelled_owned();
    tasks.spawn(async move {
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let served = axum::serve(listener, service)
            .with_graceful_shutdown(stop)
            .await;
        ("API", served.context("the API failed"))
    });

    let ended = supervise(&mut tasks).await;
    shutdown.cancel();
    finish(tasks, writer).await;
    ended.map_err(Failure::Internal)
}

fn spawn(tasks: &mut Tasks, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        task.await;
        (name, Ok(()))
    });
}

/// Waits for a signal to stop, or for a task that ends although it should not.
async fn supervise(tasks: &mut Tasks) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "stopping"),
        _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "stopping"),
        ended = tasks.join_next() => return Err(match ended {
            Some(Ok((name, Ok(())))) => anyhow!("the {name} task ended by itself"),
            Some(Ok((name, Err(error)))) => error.context(format!("the {name} task failed")),
            Some(Err(error)) => anyhow!(error).context("a task ended abnormally"),
            None => anyhow!("there was nothing to do"),
        }),
    }
    Ok(())
}

/// Lets every task end, and every record reach the disk.
async fn finish(mut tasks: Tasks, writer: Option<crate::journal::Writer>) {
    let drain = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN, drain).await.is_err() {
        tracing::warn!("not every task ended in time");
        tasks.shutdown().await;
    }
    drop(tasks);
    if let Some(writer) = writer {
        let joined = tokio::task::spawn_blocking(move || writer.join());
        if tokio::time::timeout(Duration::from_millis(400), joined)
            .await
            .is_err()
        {
            tracing::warn!("the audit log was still being written");
        }
    }
    tracing::info!("stopped");
}

fn mode(list: &LoadedList, audit_only: bool) -> Mode {
    if audit_only {
        Mode::Audit
    } else {
        list.list.mode
    }
}

/// Before anything is known of the engine.
fn initial(in_force: LoadedList, audit_only: bool) -> Enforcement {
    Enforcement {
        mode: if audit_only {
            Mode::Audit
        } else {
            in_force.list.mode
        },
        in_force,
        rejected: None,
        enforcing: false,
        hindrance: None,
        own: std::collections::BTreeSet::new(),
        last_sweep: None,
    }
}

/// Puts candidates in force where nothing is enforced: for the api alone.
async fn adopt(
    mut candidates: mpsc::Receiver<Candidate>,
    enforcement: watch::Sender<Enforcement>,
    audit_only: bool,
) {
    while let Some(candidate) = candidates.recv().await {
        enforcement.send_modify(|enforcement| match candidate {
            Ok(list) => {
                tracing::info!(hash = %list.hash, "allowlist was read");
                enforcement.mode = mode(&list, audit_only);
                enforcement.in_force = list;
                enforcement.rejected = None;
            }
            Err(error) => {
                tracing::error!(%error, "allowlist was not taken");
                enforcement.rejected = Some(RejectedList {
                    message: error.to_string(),
                    at: jiff::Timestamp::now(),
                });
            }
        });
    }
}
