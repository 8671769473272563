//! The gate: what is sure to be denied is ended when its first process was made and its program has not
//! begun. The rest passes, and is ended once it runs.
//!
//! While a container starts its inspection hangs, and its image may have lost its name. So the gate goes
//! by facts that were looked up before (`attend.rs` has them prepared), and only by such that no start can
//! change; the list in force at that moment judges them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::attend::{Attendance, Next};
use super::outcome::Extra;
use super::subject::span;
use crate::allowlist::{Action, Mode, Verdict};
use crate::backoff::Backoff;
use crate::container::{Container, ContainerId, State};
use crate::engine::{Act, EngineError, Inspection};
use crate::look::{self, Memory};
use crate::processes::{self, NotKilled, TaskCreated};
use crate::record::{Outcome, Path, Trigger};
use crate::status::Enforcement;

/// How many containers may be looked at once, where that is needed at all.
const LOOKS: usize = 64;
/// How long the engine may take to tell of an image while a container starts.
const LOOK: Duration = Duration::from_millis(100);
/// How long before a process is made its start may be stamped.
const STAMPED_BEFORE: SignedDuration = SignedDuration::from_secs(2);
/// How long the engine may take to tell what became of a start.
const START: Duration = Duration::from_secs(5);

/// What is known of containers that don't run and would be denied if they did.
#[derive(Default)]
pub(super) struct Prepared(Mutex<HashMap<ContainerId, Arc<Facts>>>);

/// Such a container, as far as no start changes it.
#[derive(Debug)]
struct Facts {
    container: Container,
    memory: Memory,
}

/// A container's first process was ended before its program began, or as it did.
#[derive(Debug, Clone)]
pub(super) struct Shot {
    container: Container,
    verdict: Verdict,
    /// What was in force.
    enforcement: Enforcement,
    /// When its process was made, by the engine's clock.
    at: Timestamp,
    /// When word of it came.
    pub(super) arrived: Instant,
}

impl Prepared {
    fn known(&self) -> MutexGuard<'_, HashMap<ContainerId, Arc<Facts>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &ContainerId) -> Option<Arc<Facts>> {
        self.known().get(id).cloned()
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
pub(super) struct Gate {
    pub(super) context: Arc<Context>,
    pub(super) shots: mpsc::Sender<Shot>,
}

impl Gate {
    /// Ends what may not begin, until `shutdown`.
    pub(super) async fn run(
        self,
        mut tasks: mpsc::Receiver<TaskCreated>,
        shutdown: CancellationToken,
    ) {
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
            let is_ended_by_a_signal = matches!(list.action, Action::Kill | Action::Remove);
            let is_own = enforcement.surroundings.own.contains(&task.id);
            let is_enforced = enforcement.enforcing && enforcement.mode == Mode::Enforce;
            if !is_enforced || !is_ended_by_a_signal || is_own {
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

impl Shot {
    /// Which container.
    pub(super) fn id(&self) -> &ContainerId {
        &self.container.id
    }
}

impl Attendance<'_> {
    /// Has the gate know a container that does not run, where it is sure to be denied.
    pub(super) async fn prepare(&mut self, container: &Container, verdict: &Verdict) {
        let context = self.context;
        let hash = &self.enforcement.in_force.hash;
        if !context.is_sharing_pids() || self.history.prepared_by.as_ref() == Some(hash) {
            return;
        }
        context.prepared.forget(&container.id);
        if !verdict.is_denied() {
            return;
        }
        let engine = context.engine.as_ref();
        let surroundings = &self.enforcement.surroundings;
        let slots = match self.trigger {
            Trigger::Create => &context.slots,
            _ => &context.leisure,
        };
        let memory = &mut self.history.memory;
        let listed = container.clone();
        let look = look::complete(engine, listed, memory, surroundings, &look::everything);
        let call = slots.call(&self.subject.hung, look);
        let Some(Ok(Some(mut container))) = self.subject.unless_marked(call).await else {
            return;
        };
        let memory = self.history.memory.clone();
        memory.recall_without_links(&mut container);
        let list = &self.enforcement.in_force.list;
        // An image that is missing may come back, with names.
        let is_sure = memory.found_image() && {
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

    /// Finds out whether a shot came before the program began, and puts on record what it did. `None`: another
    /// list is in force by now, and may allow it.
    pub(super) async fn follow_up(
        &mut self,
        shot: Shot,
        deaths: u64,
        backoff: &mut Backoff,
    ) -> Option<Next> {
        let inspect = self.context.engine.inspect(&self.subject.id);
        let call = self.context.slots.call(&self.subject.hung, inspect);
        // As long as the start is under way, it waits.
        let inspection = match tokio::time::timeout(START, call).await {
            Ok(Ok(inspection)) => Some(inspection),
            Ok(Err(EngineError::NotFound)) => None,
            Ok(Err(_)) | Err(_) => {
                self.subject.heard().shot = Some(shot);
                return Some(Next::After(backoff.delay()));
            }
        };
        let has_run = match &inspection {
            Some(inspection) => {
                let started_at = inspection.started_at;
                has_run(started_at, self.history.started_at, shot.at)
            }
            None => self.hear_whether_it_ran().await,
        };
        let Shot {
            mut container,
            verdict,
            enforcement,
            arrived,
            ..
        } = shot;
        let is_in_force = |one: &Enforcement| {
            (&one.in_force.hash, one.mode) == (&enforcement.in_force.hash, enforcement.mode)
        };
        let is_outdated = !is_in_force(&self.enforcement);
        self.arrived = arrived;
        if has_run && !is_outdated {
            self.shot = Some(Path::Gate);
            container.state = State::Running;
            let action = self.enforcement.in_force.list.action;
            let ended = self.end(&container, &verdict, action, deaths, backoff);
            return Some(ended.await);
        }
        let outcome = match has_run {
            true => Outcome::Done,
            false => Outcome::NeverRan,
        };
        let now = std::mem::replace(&mut self.enforcement, enforcement);
        self.put_shot_on_record(&container, &verdict, inspection, outcome, is_outdated)
            .await;
        self.enforcement = now;
        // The list that is in force now may allow it, or not.
        (!is_outdated).then_some(Next::Settled)
    }

    async fn put_shot_on_record(
        &mut self,
        container: &Container,
        verdict: &Verdict,
        inspection: Option<Inspection>,
        outcome: Outcome,
        is_outdated: bool,
    ) {
        let action = self.enforcement.in_force.list.action;
        let inspection = inspection.unwrap_or_default();
        let policy = inspection.restart_policy;
        let has_run = outcome != Outcome::NeverRan;
        let mut extra = Extra {
            action: Some(action),
            path: Some(Path::Gate),
            restart_policy: policy.map(|policy| policy.to_string()),
            started_at: inspection.started_at.filter(|_| has_run),
            lived: match has_run {
                true => span(inspection.started_at, inspection.finished_at),
                false => Some(Duration::ZERO),
            },
            reaction: Some(self.arrived.elapsed()),
            ..Extra::default()
        };
        if action == Action::Remove && !is_outdated {
            let remove = self.context.engine.act(&self.subject.id, Act::Remove);
            let removed = self.context.slots.call(&self.subject.hung, remove).await;
            extra.error = removed.err().map(|error| error.chain());
        }
        self.record(container, verdict, Some(outcome), extra).await;
        if !is_outdated {
            self.keep_dead_by(container, policy).await;
        }
        self.settle_life();
    }
}

/// Whether a container has run since its first process was made. Engines stamp a start after that process began
/// or, newer ones, shortly before they have it made; a start that fails leaves the stamp of the one before, which
/// is `known` where that was looked at.
fn has_run(started_at: Option<Timestamp>, known: Option<Timestamp>, made_at: Timestamp) -> bool {
    let earliest = made_at.checked_sub(STAMPED_BEFORE).unwrap_or(made_at);
    started_at > Some(made_at) || (started_at != known && started_at > Some(earliest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_told_by_a_stamp_that_is_new() {
        let made_at: Timestamp = "2026-01-01T00:00:10Z".parse().expect("a time");
        let at = |milliseconds| Some(made_at + SignedDuration::from_millis(milliseconds));
        // (stamped, known before, has run)
        for (started_at, known, expected) in [
            (None, None, false),
            (at(3), None, true),
            (at(3), at(-500), true),
            (at(-50), None, true),
            (at(-50), at(-50_000), true),
            (at(-50), at(-50), false),
            (at(-50_000), at(-50_000), false),
            (at(-50_000), None, false),
        ] {
            let has_run = has_run(started_at, known, made_at);
            assert_eq!(has_run, expected, "{started_at:?} {known:?}");
        }
    }
}
