//! Enforcement. Events and full lists only mark containers; a task per container looks at it,
//! judges, acts and puts it on record (`controller/attend.rs`).
//!
//! The loop here never waits for the engine, but for finding its own container before it begins:
//! one container's trouble can't delay another's end.

mod aim;
mod attempt;
mod attend;
mod connection;
mod context;
mod end;
mod execs;
mod gate;
mod guard;
mod history;
mod keep_dead;
mod keep_running;
mod lists;
mod looking;
mod outcome;
mod recording;
mod seats;
mod shot;
mod show;
mod slots;
mod subject;
mod sweep;
mod unseen;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::allowlist::Mode;
use crate::container::ContainerId;
use crate::engine::{Change, ChangeKind, Engine};
use crate::follow::{Relist, Update};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::own::Own;
use crate::record::Trigger;
use crate::state::{Ledger, StateDirectory};
use crate::status::{Candidate, Enforcement, LoadedList};
use context::Context;
pub use gate::Gate;
use gate::Prepared;
use guard::Proposal;
use history::History;
use lists::Opening;
use seats::Seats;
use shot::Shot;
use slots::Lanes;
use subject::Subject;

/// How many shots of the gate may wait for the loop.
const SHOTS: usize = 1_024;
/// How long a shutdown waits for what is being ended.
const SHUTDOWN: Duration = Duration::from_secs(4);
/// How soon the own container is looked for again.
const RESOLVE: Duration = Duration::from_secs(1);
/// How far the engine's history is believed to be of the time before this process.
const HISTORY: SignedDuration = SignedDuration::from_secs(60);
/// How long it takes to be told. Later it is the engine's clock that was set back.
const HISTORY_TOLD: Duration = Duration::from_secs(10);

/// What a controller is built from.
pub struct Settings {
    /// The engine it enforces on.
    pub engine: Arc<dyn Engine>,
    /// Where its decisions go.
    pub journal: Journal,
    /// Where they are counted.
    pub metrics: Metrics,
    /// Where it publishes what it does; begins with the first list in force.
    pub enforcement: watch::Sender<Enforcement>,
    /// Asks for a full list.
    pub relist: Relist,
    /// Audit mode is asked for, whatever a list says.
    pub audit_only: bool,
    /// The list that is asked for, where it is not in force yet.
    pub wanted: Option<LoadedList>,
    /// What is known of containers from before.
    pub ledger: Ledger,
    /// Where lists that come into force are written down.
    pub state: Option<Arc<StateDirectory>>,
    /// dockwarden's own container, where its operator names it.
    pub self_id: Option<String>,
    /// Whether records bear the name of the engine's host, and not one that was given.
    pub learn_host: bool,
    /// By how many of the engine's runtimes tasks are told of.
    pub watching: watch::Receiver<usize>,
}

/// The loop.
pub struct Controller {
    context: Arc<Context>,
    relist: Relist,
    audit_only: bool,
    self_id: Option<String>,
    learn_host: bool,
    own: Own,
    connected: bool,
    was_connected: bool,
    /// When it was first connected.
    connected_at: Instant,
    told_away: bool,
    /// The mode that was last put on record.
    told_mode: Option<Mode>,
    /// Why the next full list is judged.
    sweep_trigger: Trigger,
    /// Changes of the list, or of the mode, that are being weighed.
    changes: JoinSet<guard::Outcome>,
    /// When it is told that this one is still being weighed.
    weighing: Option<(Arc<str>, Instant)>,
    /// One that can't be weighed without the engine.
    waiting: Option<Proposal>,
    /// Whether the list in force waits for it.
    opening: Opening,
    /// When another list is asked for, where the own container is not known yet.
    resolve_at: Instant,
    /// The last expiry for which a sweep was asked.
    expiry_asked: Option<Timestamp>,
    /// How many sweeps there were.
    sweeps: u64,
    tracked: HashMap<ContainerId, Tracked>,
    tasks: JoinSet<Box<History>>,
    task_ids: HashMap<Id, ContainerId>,
    /// Containers that are to be started again.
    revivals: JoinSet<()>,
    watching: watch::Receiver<usize>,
    /// What the gate has ended, and the way there.
    shots: mpsc::Receiver<Shot>,
}

struct Tracked {
    subject: Arc<Subject>,
    /// None while a task has it.
    history: Option<Box<History>>,
    /// The number of the sweep before which it was last listed or spoken of.
    seen: u64,
    /// How long it was waited for before it was last started again.
    revived_after: Option<Duration>,
}

impl Controller {
    /// Builds the loop, and the gate beside it, which a loop that is busy with a list of thousands keeps waiting
    /// for nothing. Nothing happens before [`Controller::run`] and [`Gate::run`].
    pub fn new(settings: Settings, shutdown: CancellationToken) -> (Self, Gate) {
        let audit_only = settings.audit_only;
        let (shot, shots) = mpsc::channel(SHOTS);
        let mut controller = Self {
            context: Arc::new(Context {
                engine: settings.engine,
                journal: settings.journal,
                metrics: settings.metrics,
                enforcement: settings.enforcement,
                ledger: settings.ledger,
                state: settings.state,
                lanes: Lanes::default(),
                scans: Arc::new(Semaphore::new(1)),
                seats: Seats::default(),
                prepared: Prepared::default(),
                shares_pids: AtomicBool::new(false),
                began: OnceLock::new(),
                connections: AtomicU64::new(0),
                gaps: AtomicU64::new(0),
                shutdown,
            }),
            relist: settings.relist,
            audit_only,
            changes: JoinSet::new(),
            weighing: None,
            waiting: settings.wanted.map(|list| Proposal { list, audit_only }),
            self_id: settings.self_id,
            learn_host: settings.learn_host,
            own: Own::Unresolved,
            opening: Opening::Due,
            resolve_at: Instant::now(),
            connected: false,
            was_connected: false,
            connected_at: Instant::now(),
            told_away: false,
            told_mode: None,
            sweep_trigger: Trigger::Sweep,
            expiry_asked: None,
            sweeps: 0,
            tracked: HashMap::new(),
            tasks: JoinSet::new(),
            task_ids: HashMap::new(),
            revivals: JoinSet::new(),
            watching: settings.watching,
            shots,
        };
        // What is known of a container is kept until it is no longer listed.
        for id in controller.context.ledger.all().keys() {
            controller.tracked(id);
        }
        let context = controller.context.clone();
        (
            controller,
            Gate {
                context,
                shots: shot,
            },
        )
    }

    /// Enforces until shutdown, then lets running ends finish. Meanwhile it answers who asks for a sign
    /// of life.
    pub async fn run(
        mut self,
        mut updates: mpsc::Receiver<Update>,
        mut candidates: mpsc::Receiver<Candidate>,
        mut pulse: mpsc::Receiver<oneshot::Sender<()>>,
    ) {
        self.show_list();
        self.publish();
        let context = self.context.clone();
        loop {
            let expiry = self.next_expiry();
            let told_at = self.weighing.as_ref().map(|(_, told_at)| *told_at);
            let opens_at = self.opening.until();
            // Nothing is enforced before the own container is known: it may not be listed yet.
            let must_resolve = self.connected && !self.own.is_resolved();
            tokio::select! {
                () = context.shutdown.cancelled() => break,
                Some(asked) = pulse.recv() => {
                    // Who asked may have waited long enough.
                    let _ = asked.send(());
                }
                Some(update) = updates.recv() => self.update(update).await,
                Some(candidate) = candidates.recv() => self.candidate(candidate),
                Some(shot) = self.shots.recv() => self.shot(shot),
                Ok(()) = self.watching.changed() => self.publish(),
                () = context.seats.displaced() => self.relist.request(),
                Some(joined) = self.tasks.join_next_with_id() => self.joined(joined),
                Some(weighed) = self.changes.join_next() => match weighed {
                    Ok(outcome) => self.weighed(outcome),
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => tracing::error!(%error, "weighing an allowlist ended abnormally"),
                },
                Some(revived) = self.revivals.join_next() => if let Err(error) = revived {
                    tracing::error!(%error, "starting a container again ended abnormally");
                },
                () = tokio::time::sleep_until(told_at.unwrap_or_else(Instant::now)), if told_at.is_some() => self.weighing_takes_long(),
                () = tokio::time::sleep_until(opens_at.unwrap_or_else(Instant::now)), if opens_at.is_some() => self.open(),
                () = expiry => self.expired(),
                () = tokio::time::sleep_until(self.resolve_at), if must_resolve => {
                    self.resolve_at = Instant::now() + RESOLVE;
                    self.relist.request();
                }
            }
        }
        self.finish().await;
    }

    async fn update(&mut self, update: Update) {
        match update {
            Update::Connected(info) => self.connected(&info),
            Update::Changed(change) => self.changed(&change),
            Update::Images => {
                if self.sweep_trigger == Trigger::Sweep {
                    self.sweep_trigger = Trigger::Image;
                }
                self.relist.request();
            }
            Update::Unreadable => self.unreadable("event", 1),
            Update::Listed {
                listing,
                took,
                after_gap,
            } => {
                if after_gap {
                    self.context.missed_something();
                }
                if !self.own.is_resolved() {
                    // A list that was written meanwhile is not known to be harmless either.
                    self.await_opening();
                    self.resolve_own(&listing).await;
                }
                self.sweep(listing, took);
                self.weigh_what_waits();
            }
            Update::Disconnected(reason) => self.disconnected(&reason),
        }
    }

    /// Has it found out what a shot of the gate did.
    fn shot(&mut self, shot: Shot) {
        let id = shot.id().clone();
        let subject = self.tracked(&id).subject.clone();
        let arrived = shot.arrived;
        subject.heard().shots.push_back(shot);
        subject.mark(Trigger::Start, arrived, None);
        self.attend(&id);
    }

    fn unreadable(&self, what: &'static str, count: usize) {
        if count > 0 {
            let counter = self.context.metrics.unreadable.with_label_values(&[what]);
            counter.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
            tracing::warn!(what, count, "the engine said something that can't be read");
        }
    }

    fn changed(&mut self, change: &Change) {
        let events = &self.context.metrics.events;
        events.with_label_values(&[change.kind.as_str()]).inc();
        if change.kind == ChangeKind::ExecStart && !self.forbids_exec() {
            // Health checks come by the dozen each second.
            return;
        }
        let trigger = match change.kind {
            ChangeKind::Create => Some(Trigger::Create),
            ChangeKind::Start => Some(Trigger::Start),
            ChangeKind::Restart => Some(Trigger::Restart),
            ChangeKind::Unpause => Some(Trigger::Unpause),
            ChangeKind::Rename => Some(Trigger::Rename),
            ChangeKind::Update => Some(Trigger::Update),
            ChangeKind::ExecStart => Some(Trigger::Exec),
            _ => None,
        };
        if trigger.is_none() && !self.tracked.contains_key(&change.id) {
            return;
        }
        let began = self.context.began.get();
        let is_history = began
            .filter(|_| self.connected_at.elapsed() < HISTORY_TOLD)
            .map(|began| began.duration_since(change.time))
            .is_some_and(|before| before.is_positive() && before < HISTORY);
        let connection = self.context.connection();
        let tracked = self.tracked(&change.id);
        if !is_history {
            tracked.subject.note(change, connection);
            if matches!(change.kind, ChangeKind::Die | ChangeKind::Destroy) {
                self.context.seats.vacate(&change.id);
            }
            if change.kind == ChangeKind::Destroy {
                self.context.prepared.forget(&change.id);
            }
            if change.kind == ChangeKind::Die {
                self.died(&change.id);
            }
        }
        let tracked = self.tracked(&change.id);
        if let Some(trigger) = trigger {
            let trigger = if is_history { Trigger::Sweep } else { trigger };
            tracked.subject.mark(trigger, Instant::now(), None);
            self.attend(&change.id);
        }
    }

    fn forbids_exec(&self) -> bool {
        let enforcement = self.context.enforcement.borrow();
        enforcement.in_force.list.forbids_exec()
    }

    /// Has a container started again that has died, where a rule keeps it running.
    fn died(&mut self, id: &ContainerId) {
        let tracked = self.tracked(id);
        let (is_kept, lived) = {
            let heard = tracked.subject.heard();
            (heard.is_kept_running, heard.lived())
        };
        if !is_kept {
            return;
        }
        let delay = keep_running::delay(tracked.revived_after, lived);
        tracked.revived_after = Some(delay);
        let memory = tracked
            .history
            .as_ref()
            .map(|history| history.memory.clone());
        let (subject, memory) = (tracked.subject.clone(), memory.unwrap_or_default());
        let context = self.context.clone();
        self.revivals
            .spawn(keep_running::start_again(context, subject, memory, delay));
    }

    fn attend_all(&mut self) {
        let ids: Vec<_> = self.tracked.keys().cloned().collect();
        for id in ids {
            self.attend(&id);
        }
    }

    fn tracked(&mut self, id: &ContainerId) -> &mut Tracked {
        let ledger = &self.context.ledger;
        let tracked = self.tracked.entry(id.clone()).or_insert_with(|| Tracked {
            subject: Arc::new(Subject::new(id.clone())),
            history: Some(Box::new(
                ledger.get(id).map(History::from).unwrap_or_default(),
            )),
            seen: 0,
            revived_after: None,
        });
        tracked.seen = self.sweeps;
        tracked
    }

    /// Starts a container's task where it is marked and has none.
    fn attend(&mut self, id: &ContainerId) {
        if !self.own.is_resolved() || self.opening.until().is_some() {
            return;
        }
        let Some(tracked) = self.tracked.get_mut(id) else {
            return;
        };
        if !tracked.subject.is_marked() {
            return;
        }
        if let Some(history) = tracked.history.take() {
            let subject = tracked.subject.clone();
            let task = self
                .tasks
                .spawn(attend::attend(self.context.clone(), subject, history));
            self.task_ids.insert(task.id(), id.clone());
        }
    }

    fn joined(&mut self, joined: Result<(Id, Box<History>), tokio::task::JoinError>) {
        let (task, history) = match joined {
            Ok((task, history)) => (task, Some(history)),
            Err(error) => {
                // A defect met one container: the next sweep looks at it again.
                tracing::error!(%error, "a container's task ended abnormally");
                (error.id(), None)
            }
        };
        let Some(id) = self.task_ids.remove(&task) else {
            return;
        };
        let known = || {
            self.context
                .ledger
                .get(&id)
                .map(|known| Box::new(known.into()))
        };
        let mut history = history.or_else(known).unwrap_or_default();
        let is_to_revive = std::mem::take(&mut history.is_to_revive);
        if let Some(tracked) = self.tracked.get_mut(&id) {
            tracked.history = Some(history);
        }
        if is_to_revive {
            self.died(&id);
        }
        self.attend(&id);
    }

    /// Waits for what is being ended.
    async fn finish(mut self) {
        self.revivals.shutdown().await;
        self.changes.shutdown().await;
        let drain = async {
            while let Some(shot) = self.shots.recv().await {
                self.shot(shot);
            }
            while let Some(joined) = self.tasks.join_next_with_id().await {
                self.joined(joined);
            }
        };
        if tokio::time::timeout(SHUTDOWN, drain).await.is_err() {
            tracing::error!(
                tasks = self.tasks.len(),
                "shut down before everything denied was ended"
            );
            self.tasks.shutdown().await;
        }
        self.context.metrics.enforcing.set(0);
        self.context.metrics.hindered.set(1);
        self.context.enforcement.send_modify(|enforcement| {
            enforcement.enforcing = false;
            enforcement.hindrance = Some("the controller was stopped".to_owned());
        });
    }
}
