//! One look at a container: by a list, or by what was foreseen at its creation, each in its lane.

use jiff::Timestamp;

use super::aim::first_process;
use super::attend::Attendance;
use super::slots::Slots;
use crate::allowlist::{Mode, Question};
use crate::container::{Container, State};
use crate::decide::Policy;
use crate::engine::EngineError;
use crate::look;
use crate::record::Trigger;
use crate::status::Enforcement;

impl<'a> Attendance<'a> {
    /// The container as it is now; and the number of its process, where one starts that was denied when it was
    /// last looked at.
    pub(super) async fn look_and_take_aim(
        &mut self,
        listed: Option<Container>,
    ) -> Result<Option<Container>, EngineError> {
        let (context, subject) = (self.context, self.subject);
        let last = self.history.last.as_ref();
        let is_aimed_at = self.trigger == Trigger::Start
            && context.is_sharing_pids()
            && last.is_some_and(|(_, verdict)| verdict.is_denied());
        let first_process = async {
            match is_aimed_at {
                true => first_process(context, &subject.id).await.ok().flatten(),
                false => None,
            }
        };
        let foreseen = self.foreseen();
        let look = async {
            match foreseen {
                Some(container) => Ok(Some(container)),
                None => self.look(listed).await,
            }
        };
        let (container, pid) = tokio::join!(look, first_process);
        self.pid = pid;
        container
    }

    /// The container at its first start, where what was found before is enough to end it.
    fn foreseen(&self) -> Option<Container> {
        let list = &self.enforcement.in_force.list;
        let is_first = (self.trigger, self.starts) == (Trigger::Start, 1);
        let is_alive = {
            let heard = self.subject.heard();
            heard.starts > heard.settled && !heard.is_down
        };
        let is_killed = self.enforcement.mode == Mode::Enforce && list.action.is_by_signal();
        // What was pushed or pulled since may prove its content.
        if !is_first || !is_alive || !is_killed || list.has_pins() || self.history.failures > 0 {
            return None;
        }
        let mut container = self.context.prepared.container(&self.subject.id)?;
        container.state = State::Running;
        let verdict = list.judge_at_create(&container, Timestamp::now());
        verdict.is_denied().then_some(container)
    }

    /// The container as it is now. What a full list showed is good enough for leaving it alone.
    pub(super) async fn look(
        &mut self,
        listed: Option<Container>,
    ) -> Result<Option<Container>, EngineError> {
        let engine = self.context.engine.as_ref();
        let slots = self.lane(listed.as_ref());
        let enforcement = &self.enforcement;
        let surroundings = &enforcement.surroundings;
        let memory = &mut self.history.memory;
        let asker = |container: &Container| ask(enforcement, container);
        if let Some(listed) = listed {
            let call = || look::complete(engine, listed, memory, surroundings, &asker);
            let container = slots.call(&self.subject.hung, call).await?;
            if let Some(mut container) = container {
                let memory = &mut self.history.memory;
                let refreshed = slots.call(&self.subject.hung, || {
                    look::refresh(engine, &mut container, memory, surroundings, &asker)
                });
                let refreshed = refreshed.await;
                if !enforcement.judge(&container, Timestamp::now()).is_denied() {
                    refreshed?;
                    return Ok(Some(container));
                }
            }
        }
        let memory = &mut self.history.memory;
        let knew_image = memory.knows_image();
        let looked = slots.call(&self.subject.hung, || {
            look::look(engine, &self.subject.id, memory, surroundings, &asker)
        });
        let Some(mut container) = looked.await? else {
            return Ok(None);
        };
        let is_denied = |container: &_| enforcement.judge(container, Timestamp::now()).is_denied();
        let may_be_proven =
            enforcement.in_force.list.has_pins() || !self.history.memory.found_image();
        if knew_image && may_be_proven && is_denied(&container) {
            // What was pushed or pulled since may prove its content.
            let memory = &mut self.history.memory;
            let call = async || {
                memory.learn_digests(engine, &container).await?;
                look::complete(engine, container, memory, surroundings, &asker).await
            };
            let Some(completed) = slots.call(&self.subject.hung, call).await? else {
                return Ok(None);
            };
            container = completed;
        }
        // What is denied by what is known is not kept waiting.
        if container.state.is_live() && !is_denied(&container) {
            let memory = &mut self.history.memory;
            let refreshed = slots.call(&self.subject.hung, || {
                look::refresh(engine, &mut container, memory, surroundings, &asker)
            });
            let refreshed = refreshed.await;
            if !is_denied(&container) {
                refreshed?;
            }
        }
        Ok(Some(container))
    }

    /// Where looks wait for their turn: none at what runs waits for one at what does not.
    pub(super) fn lane(&self, listed: Option<&Container>) -> &'a Slots {
        match listed {
            _ if self.is_at_rest() => &self.context.lanes.creations,
            Some(listed) if !listed.state.is_live() => &self.context.lanes.leisure,
            _ => &self.context.lanes.looks,
        }
    }

    /// Whether it is looked at for what happened to it while it does not run.
    pub(super) fn is_at_rest(&self) -> bool {
        let last = self.history.last.as_ref();
        match self.trigger {
            Trigger::Create => true,
            Trigger::Rename | Trigger::Update => {
                let heard = self.subject.heard();
                let has_begun = heard.starts > heard.settled && !heard.is_down;
                !has_begun && last.is_some_and(|(last, _)| !last.state.is_live())
            }
            _ => false,
        }
    }
}

/// What must be asked before a container can be judged: now, and when it starts.
pub(super) fn ask(enforcement: &Enforcement, container: &Container) -> Option<Question> {
    let (list, now) = (&enforcement.in_force.list, Timestamp::now());
    let is_removed = Policy::of(enforcement).removes(container.state);
    let at_create = is_removed.then(|| list.question_at_create(container, now));
    at_create
        .flatten()
        .or_else(|| list.question(container, now))
}
