//! The gate: what is sure to be denied is ended when its first process was made and its program has not
//! begun. The rest passes, and is ended once it runs.
//!
//! While a container starts its inspection hangs, and its image may have lost its name. So the gate goes
//! by facts that were looked up before (`attend.rs` has them prepared), and only by such that no start can
//! change; the list in force at that moment judges them. What the list of all containers tells is mostly enough:
//! an inspection would often come too late, as a start mostly follows a create at once. Where there is no gate, the
//! first start of what was prepared is ended without another look.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::attend::Attendance;
use super::shot::Shot;
use crate::allowlist::{Mode, Verdict};
use crate::container::{Container, ContainerId};
use crate::look::{self, Memory};
use crate::processes::{self, NotKilled, TaskCreated};
use crate::record::{Path, Trigger};

/// How many containers may be looked at once, where that is needed at all.
const LOOKS: usize = 64;
/// How long the engine may take to tell of an image while a container starts.
const LOOK: Duration = Duration::from_millis(100);

/// What is known of containers that don't run and would be denied if they did.
#[derive(Default)]
pub(super) struct Prepared(Mutex<HashMap<ContainerId, Arc<Facts>>>);

/// Such a container, as far as no start changes it.
#[derive(Debug)]
struct Facts {
    container: Container,
    memory: Memory,
}

impl Prepared {
    fn known(&self) -> MutexGuard<'_, HashMap<ContainerId, Arc<Facts>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &ContainerId) -> Option<Arc<Facts>> {
        self.known().get(id).cloned()
    }

    /// A container as it was prepared.
    pub(super) fn container(&self, id: &ContainerId) -> Option<Container> {
        self.get(id).map(|facts| facts.container.clone())
    }

    pub(super) fn forget(&self, id: &ContainerId) {
        self.known().remove(id);
    }

    /// Forgets those that are not `kept`.
    pub(super) fn retain(&self, kept: impl Fn(&ContainerId) -> bool) {
        self.known().retain(|id, _| kept(id));
    }
}

/// Waits at the gate.
pub struct Gate {
    pub(super) context: Arc<Context>,
    pub(super) shots: mpsc::Sender<Shot>,
}

impl Gate {
    /// Ends what may not begin, until `shutdown`.
    pub async fn run(self, mut tasks: mpsc::Receiver<TaskCreated>, shutdown: CancellationToken) {
        let gate = Arc::new(self);
        let mut looks = JoinSet::new();
        loop {
            let task = tokio::select! {
                () = shutdown.cancelled() => return,
                Some(looked) = looks.join_next() => {
                    if let Err(error) = looked {
                        tracing::error!(%error, "a look at the gate ended abnormally");
                    }
                    continue;
                }
                task = tasks.recv() => task,
            };
            let Some(task) = task else {
                // Nothing follows containerd.
                return shutdown.cancelled().await;
            };
            let Some(facts) = gate.context.prepared.get(&task.id) else {
                continue;
            };
            if !gate.context.enforcement.borrow().in_force.list.has_pins() {
                gate.judge(&facts.container, &task).await;
            } else if looks.len() < LOOKS {
                // What was pulled since may prove its content.
                let gate = gate.clone();
                looks.spawn(async move {
                    let Facts { container, memory } = &*facts;
                    let (mut container, mut memory) = (container.clone(), memory.clone());
                    let engine = gate.context.engine.as_ref();
                    let learnt = memory.learn_digests(engine, &container);
                    if let Ok(Ok(())) = tokio::time::timeout(LOOK, learnt).await {
                        memory.recall_without_links(&mut container);
                        gate.judge(&container, &task).await;
                    }
                });
            }
        }
    }

    async fn judge(&self, container: &Container, task: &TaskCreated) {
        let (verdict, enforcement) = {
            let enforcement = self.context.enforcement.borrow();
            let list = &enforcement.in_force.list;
            let is_own = enforcement.surroundings.own.contains(&task.id);
            let is_enforced = enforcement.enforcing && enforcement.mode == Mode::Enforce;
            if !is_enforced
                || !list.action.is_by_signal()
                || is_own
                || !self.context.is_sharing_pids()
            {
                return;
            }
            let verdict = list.judge_at_create(container, Timestamp::now());
            (verdict, enforcement.clone())
        };
        if !verdict.is_denied() {
            return;
        }
        match processes::kill(task.pid, &task.id) {
            Ok(()) => {
                let shot = Shot {
                    container: container.clone(),
                    verdict,
                    enforcement,
                    at: task.at,
                    arrived: task.arrived,
                };
                // The loop ends later than whoever tells it something.
                let _ = self.shots.send(shot).await;
            }
            // The start has failed by itself.
            Err(NotKilled::Gone(_)) => {}
            Err(error) => self.context.fell_back(Path::Gate, &task.id, &error),
        }
    }
}

impl Attendance<'_> {
    /// Has the gate know a container that does not run, where it is sure to be denied.
    pub(super) async fn prepare(&mut self, container: &Container, verdict: &Verdict) {
        let context = self.context;
        let (list, hash) = {
            let in_force = &self.enforcement.in_force;
            (&in_force.list, &in_force.hash)
        };
        let is_known = self.history.prepared_by.as_ref() == Some(hash);
        let is_prepared = is_known && self.trigger != Trigger::Rename;
        if !verdict.is_denied() || !is_prepared {
            context.prepared.forget(&container.id);
            self.history.prepared_by = None;
        }
        let may_be_met = context.is_sharing_pids() || self.trigger == Trigger::Create;
        if !may_be_met || !verdict.is_denied() || is_prepared {
            return;
        }
        let engine = context.engine.as_ref();
        let surroundings = &self.enforcement.surroundings;
        let slots = self.lane(Some(container));
        let memory = &mut self.history.memory;
        let listed = container.clone();
        let asker = |container: &Container| list.question_at_create(container, Timestamp::now());
        let look = || look::complete(engine, listed, memory, surroundings, &asker);
        let call = slots.call(&self.subject.hung, look);
        let Some(Ok(Some(mut container))) = self.subject.unless_marked(call).await else {
            return;
        };
        let mut memory = self.history.memory.clone();
        memory.end_life();
        memory.recall_without_links(&mut container);
        // An image that is missing may come back, with names.
        let is_image_sure = memory.found_image() || !memory.knows_image();
        let is_sure = is_image_sure && {
            let verdict = list.judge_at_create(&container, Timestamp::now());
            verdict.is_denied()
        };
        if is_sure {
            let facts = Arc::new(Facts { container, memory });
            let id = self.subject.id.clone();
            context.prepared.known().insert(id, facts);
        }
        self.history.prepared_by = Some(hash.clone());
    }
}
