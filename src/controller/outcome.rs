//! What became of a container, put on record.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::attempt::LATE_DEATH;
use super::attend::Attendance;
use super::recording::{Extra, INSPECT};
use super::subject::{Heard, span};
use crate::allowlist::{Action, Reason, Verdict};
use crate::container::{Container, State};
use crate::engine::{Change, EngineError, Inspection, KILLED, RestartPolicy};
use crate::record::{Outcome, Path, Trigger};
use crate::status::Enforcement;

/// How long an event may come after the answer that it belongs to.
pub(super) const LATE_EVENT: Duration = Duration::from_millis(100);
/// One that was to be ended and was not: its end is put on record whenever it comes.
pub(super) struct Unended {
    container: Container,
    verdict: Verdict,
    trigger: Trigger,
    enforcement: Enforcement,
    starts: u64,
    started_at: Option<Timestamp>,
}

/// How one ended.
pub(super) struct End {
    pub(super) outcome: Outcome,
    /// It lives on, and does nothing.
    pub(super) is_frozen: bool,
}

impl Attendance<'_> {
    /// Its end is put on record whenever it comes.
    pub(super) fn remember_unended(&mut self, container: &Container, verdict: &Verdict) {
        self.history.unended = Some(Box::new(Unended {
            container: container.clone(),
            verdict: verdict.clone(),
            trigger: self.trigger,
            enforcement: self.enforcement.clone(),
            starts: self.starts,
            started_at: self.history.memory.started_at(),
        }));
    }

    pub(super) async fn put_end_on_record(
        &mut self,
        container: &Container,
        verdict: &Verdict,
        (action, mut path): (Action, Path),
        end: End,
        reaction: Duration,
    ) {
        let End {
            mut outcome,
            mut is_frozen,
        } = end;
        if outcome == Outcome::Done {
            self.history.failures = 0;
        }
        if container.state == State::Created && !self.hear_whether_it_ran().await {
            if outcome == Outcome::Done {
                outcome = Outcome::NeverRan;
            }
            let extra = Extra {
                action: Some(action),
                lived: Some(Duration::ZERO),
                path: Some(path),
                reaction: Some(reaction),
                ..Extra::default()
            };
            self.record(container, verdict, Some(outcome), extra).await;
            return self.settle_life();
        }
        let is_death_heard = match is_frozen {
            // What has just ended can be frozen, too, and that is told right after it. Whoever resumes it is
            // not kept waiting.
            true => self.hear_death(LATE_EVENT, false).await,
            false => self.hear_death(LATE_DEATH, true).await,
        };
        if is_frozen && is_death_heard {
            (outcome, is_frozen) = (Outcome::Gone, false);
        }
        if is_death_heard && outcome == Outcome::Gone {
            outcome = self.who_ended_it().await;
        }
        // The engine's own times and the restart policy; a container that is gone has neither.
        let engine = &self.context.engine;
        let inspect = || engine.inspect(&self.subject.id);
        let call = self
            .context
            .lanes
            .ends
            .call(&self.subject.end_hung, inspect);
        let (inspection, begun) = match tokio::time::timeout(INSPECT, call).await {
            Ok(Ok(mut inspection)) => {
                let begun = inspection.started_at;
                // The start of one that ran before we listened is never told.
                let is_told = begun > self.context.began.get().copied();
                if is_death_heard && !self.subject.heard().is_down {
                    // It has started again since: these are that life's.
                    inspection.started_at = None;
                    inspection.finished_at = None;
                    inspection.exit_code = None;
                }
                (inspection, begun.filter(|_| is_told))
            }
            // It starts no more: whatever start is told yet was this one's.
            Ok(Err(EngineError::NotFound)) => (Inspection::default(), Some(Timestamp::MIN)),
            _ => (Inspection::default(), None),
        };
        let policy = inspection.restart_policy;
        // (One that was shot as its program began may have exited with whatever its start made of that.)
        if outcome == Outcome::Done
            && !is_frozen
            && path != Path::Gate
            && self
                .had_ended(container, action, is_death_heard, &inspection)
                .await
        {
            outcome = Outcome::EndedItself;
        }
        // What is removed with its end has no inspection any more.
        let died_at = self.subject.heard().died_at.filter(|_| is_death_heard);
        if !is_frozen && self.take_shot_before(inspection.finished_at.or(died_at)) {
            (outcome, path) = (Outcome::Done, Path::Gate);
        }
        let heard = self.subject.heard().lived();
        let lived = match is_frozen {
            true => None,
            false => span(inspection.started_at, inspection.finished_at).or(heard),
        };
        let is_known = inspection.created_at.is_some();
        let container = &self.with_powers(container, &inspection).await;
        let extra = Extra {
            action: Some(action),
            restart_policy: policy.map(|policy| policy.to_string()),
            started_at: inspection.started_at,
            lived,
            path: Some(path),
            reaction: Some(reaction),
            ..Extra::default()
        };
        self.record(container, verdict, Some(outcome), extra).await;
        if matches!(
            verdict.reason(),
            Some(Reason::OverMax | Reason::ForeignExec)
        ) {
            self.history.ended_by = Some(self.enforcement.in_force.hash.clone());
        }
        if is_known && !self.is_outdated() {
            self.keep_dead_by(container, policy).await;
        }
        let connection = self.context.connection();
        let is_death_owed = !is_frozen && !is_death_heard;
        self.subject
            .heard()
            .owe_late_events(begun, is_death_owed, connection);
        if is_frozen {
            self.settle_start();
            self.history.is_dealt_with();
        } else {
            self.settle_life();
            // What was executed in it is over for a process after this one, too.
            self.remember();
            if is_known {
                let mut ended = container.clone();
                ended.state = State::Exited;
                Box::pin(self.prepare(&ended, verdict)).await;
            }
        }
    }

    /// Whether the gate has shot it meanwhile, in the life that ended then. Its word comes by another way than the
    /// engine's of the start, which may have been looked at first.
    fn take_shot_before(&self, finished_at: Option<Timestamp>) -> bool {
        let shots = &mut self.subject.heard().shots;
        let is_of_it = shots
            .front()
            .is_some_and(|shot| Some(shot.at) <= finished_at);
        is_of_it && shots.pop_front().is_some()
    }

    /// Whether it had ended by itself when the engine did as told: that takes a signal for what has just
    /// ended, too, and removes it all the same.
    async fn had_ended(
        &self,
        container: &Container,
        action: Action,
        is_death_heard: bool,
        inspection: &Inspection,
    ) -> bool {
        let known = self.history.memory.inspection();
        let policy = inspection.restart_policy;
        let policy = policy.or(known.and_then(|known| known.restart_policy));
        if container.state == State::Restarting || !matches!(policy, None | Some(RestartPolicy::No))
        {
            // The signal keeps the engine from starting it again.
            return false;
        }
        if action == Action::Stop {
            // What it exits with is its own choice.
            return is_death_heard && self.who_ended_it().await == Outcome::EndedItself;
        }
        let labels = container.labels.as_ref();
        let is_forged = labels.is_none_or(|labels| labels.contains_key(Change::EXIT_CODE));
        let told = self.subject.heard().exit_code;
        let told = told.filter(|_| is_death_heard && !is_forged);
        let exit_code = inspection.exit_code.or(told);
        exit_code.is_some_and(|code| code != KILLED)
    }

    /// Whether one that was created when it was to be removed has started after all: word of its
    /// end comes after that.
    pub(super) async fn hear_whether_it_ran(&self) -> bool {
        let is_destroyed = |heard: &Heard| heard.destroyed_since.is_some();
        let destroyed = self.subject.wait_until(is_destroyed);
        // Without word of either the engine's answer stands: it is gone, and was never seen to run.
        let _ = tokio::time::timeout(LATE_DEATH, destroyed).await;
        let heard = self.subject.heard();
        heard.starts > heard.settled
    }

    /// Waits for word of a death that shows already: events may trail what the engine answers,
    /// and only they tell this life from the next one. Who is not patient stops waiting when something else
    /// happens to the container.
    async fn hear_death(&self, patience: Duration, is_patient: bool) -> bool {
        let before = self.history.deaths;
        let is_start_heard = self.starts > self.subject.heard().settled;
        let is_heard = |heard: &Heard| heard.deaths > before || (is_start_heard && heard.is_down);
        let is_enough = |heard: &Heard| is_heard(heard) || (!is_patient && heard.is_urgent());
        let _ = tokio::time::timeout(patience, self.subject.wait_until(is_enough)).await;
        is_heard(&self.subject.heard())
    }

    /// What became of one that is dead without our doing. The engine tells of a signal when it was
    /// sent, which may be shortly after it tells of the death.
    async fn who_ended_it(&self) -> Outcome {
        let told = |heard: &Heard| heard.was_signalled || heard.is_urgent();
        let told = self.subject.wait_until(told);
        let _ = tokio::time::timeout(LATE_EVENT, told).await;
        match self.subject.heard().was_signalled {
            true => Outcome::Gone,
            false => Outcome::EndedItself,
        }
    }

    /// The end of one that could not be ended when that was tried.
    pub(super) async fn put_late_end_on_record(&mut self) {
        let Some(unended) = self.history.unended.take() else {
            return;
        };
        let outcome = self.who_ended_it().await;
        let inspection = self.history.memory.inspection();
        let policy = inspection.and_then(|inspection| inspection.restart_policy);
        let extra = Extra {
            restart_policy: policy.map(|policy| policy.to_string()),
            started_at: unended.started_at,
            lived: self.subject.heard().lived(),
            ..Extra::default()
        };
        let Unended {
            container,
            verdict,
            trigger,
            enforcement,
            starts,
            ..
        } = *unended;
        let now = (
            std::mem::replace(&mut self.trigger, trigger),
            std::mem::replace(&mut self.enforcement, enforcement),
        );
        self.record(&container, &verdict, Some(outcome), extra)
            .await;
        (self.trigger, self.enforcement) = now;
        let mut heard = self.subject.heard();
        heard.settled = heard.settled.max(starts);
    }

    /// A denied container that ended before anything could be done is on record all the same, by
    /// what was known of it before where it is gone by now. One that was never seen is on record as that:
    /// what an event says of a container can be forged, and its id can't.
    pub(super) async fn put_early_end_on_record(&mut self, container: Option<&Container>) {
        self.put_late_end_on_record().await;
        let is_new_start = self.starts > self.subject.heard().settled;
        let last = self.history.last.clone();
        let known = match (container, last) {
            (Some(container), Some((_, verdict))) => Some((container.clone(), verdict)),
            (None, None) => Some((Container::new(self.subject.id.clone()), Verdict::Unknown)),
            (_, last) => last,
        };
        if let (Trigger::Start | Trigger::Restart, true, Some((container, verdict))) =
            (self.trigger, is_new_start, known)
            && (verdict.is_denied() || verdict == Verdict::Unknown)
        {
            let extra = Extra {
                lived: self.subject.heard().lived(),
                ..Extra::default()
            };
            let outcome = Some(self.who_ended_it().await);
            if !self.subject.heard().shots.is_empty() {
                // It was the gate, and that is put on record with its shot.
                return;
            }
            self.record(&container, &verdict, outcome, extra).await;
        }
        self.settle_life();
    }

    pub(super) async fn put_escape_on_record(
        &mut self,
        container: &Container,
        verdict: &Verdict,
        action: Action,
    ) {
        let looked = self.context.engine.look(&self.subject.id).await;
        if let Ok(Some(now)) = looked
            && now.state.is_live()
        {
            let extra = Extra {
                action: Some(action),
                ..Extra::default()
            };
            self.record(container, verdict, Some(Outcome::Escaped), extra)
                .await;
        }
    }

    pub(super) fn settle_life(&mut self) {
        self.settle_start();
        self.history.deaths = self.subject.heard().deaths;
        self.history.settled_at = Some(Instant::now());
        self.history.life_is_over();
    }

    fn settle_start(&self) {
        let mut heard = self.subject.heard();
        heard.settled = heard.settled.max(self.starts);
    }
}
