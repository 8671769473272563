//! What was ended stays dead: a restart policy that would have the engine start it again becomes `no`,
//! and is put back when a list allows the container again.

use jiff::Timestamp;

use super::attend::Attendance;
use super::history::History;
use crate::allowlist::{Mode, Verdict};
use crate::container::{Container, State};
use crate::engine::{Act, EngineError, RestartPolicy};
use crate::record::{Trigger, What};
use crate::status::LoadedList;

/// What is to be done about a restart policy.
pub(super) enum Due {
    Take,
    GiveBack,
}

/// The same by what is known of a container in that state, with its verdict there.
pub(super) fn due(
    history: &History,
    in_force: &LoadedList,
    state: State,
    verdict: &Verdict,
) -> Option<Due> {
    let stays_dead = !state.is_live() && history.stays_dead_by(&in_force.hash);
    let is_to_take = match verdict {
        Verdict::Denied { .. } => true,
        Verdict::Allowed { .. } => stays_dead,
        Verdict::Unknown | Verdict::Own => return None,
    };
    match is_to_take {
        true => (in_force.list.keep_dead && !history.is_kept_dead).then_some(Due::Take),
        false => {
            (history.is_kept_dead || history.restart_policy.is_some()).then_some(Due::GiveBack)
        }
    }
}

impl Attendance<'_> {
    /// Takes a denied container's restart policy, or gives an allowed one its own back. Failing costs
    /// nothing but a next try: each sweep asks again.
    pub(super) async fn keep_dead(&mut self, container: &Container, verdict: &Verdict) {
        if self.enforcement.mode != Mode::Enforce {
            return;
        }
        if matches!(
            self.trigger,
            Trigger::Update | Trigger::Start | Trigger::Restart
        ) {
            // It may have been given another one.
            self.history.is_kept_dead = false;
        }
        let in_force = &self.enforcement.in_force;
        let verdict = match container.state {
            // A start that is on its way is not kept waiting: if it comes, so does the end.
            State::Created if self.trigger == Trigger::Create => return,
            State::Created => in_force.list.judge_at_create(container, Timestamp::now()),
            _ => verdict.clone(),
        };
        let subject = self.subject;
        let done = match due(self.history, in_force, container.state, &verdict) {
            None => return,
            Some(Due::Take) => {
                let taken = self.take_policy(container);
                subject.unless_marked_by_more_than_an_update(taken).await
            }
            Some(Due::GiveBack) => {
                let given_back = self.give_policy_back(container);
                subject
                    .unless_marked_by_more_than_an_update(given_back)
                    .await
            }
        };
        self.tell(done);
    }

    /// The same for one that was just ended and has this policy.
    pub(super) async fn keep_dead_by(
        &mut self,
        container: &Container,
        policy: Option<RestartPolicy>,
    ) {
        if self.enforcement.mode == Mode::Enforce && self.enforcement.in_force.list.keep_dead {
            let subject = self.subject;
            let done = subject
                .unless_marked_by_more_than_an_update(self.take_known_policy(container, policy));
            let done = done.await;
            self.tell(done);
        }
    }

    fn tell(&self, done: Option<Result<(), EngineError>>) {
        self.remember();
        match done {
            None | Some(Ok(()) | Err(EngineError::NotFound)) => {}
            Some(Err(error)) => tracing::warn!(
                id = self.subject.id.short(),
                error = error.chain(),
                "container's restart policy can't be set; trying again with the next sweep"
            ),
        }
    }

    async fn take_policy(&mut self, container: &Container) -> Result<(), EngineError> {
        let engine = &self.context.engine;
        let inspect = || engine.inspect(&container.id);
        let call = self.context.lanes.leisure.call(&self.subject.hung, inspect);
        let policy = call.await?.restart_policy;
        self.take_known_policy(container, policy).await
    }

    async fn take_known_policy(
        &mut self,
        container: &Container,
        policy: Option<RestartPolicy>,
    ) -> Result<(), EngineError> {
        match policy {
            None | Some(RestartPolicy::No) => {}
            Some(policy) => {
                // On the disk before it is gone.
                self.history.restart_policy = Some(policy);
                self.remember();
                self.context.ledger.flush().await;
                self.set_policy(container, RestartPolicy::No, policy)
                    .await?;
            }
        }
        self.history.is_kept_dead = true;
        Ok(())
    }

    async fn give_policy_back(&mut self, container: &Container) -> Result<(), EngineError> {
        self.history.is_kept_dead = false;
        if let Some(policy) = self.history.restart_policy {
            self.set_policy(container, policy, RestartPolicy::No)
                .await?;
            self.history.restart_policy = None;
        }
        Ok(())
    }

    async fn set_policy(
        &self,
        container: &Container,
        policy: RestartPolicy,
        previous: RestartPolicy,
    ) -> Result<(), EngineError> {
        let act = Act::SetRestartPolicy(policy);
        let call = || self.context.engine.act(&container.id, act);
        self.context
            .lanes
            .leisure
            .call(&self.subject.hung, call)
            .await?;
        self.context.journal.happened(What::RestartPolicy {
            container_id: container.id.clone(),
            container_name: container.name.clone(),
            restart_policy: policy.to_string(),
            previous: previous.to_string(),
        });
        Ok(())
    }
}
