//! Programs that are executed in a container whose rule says `exec = false`.
//!
//! An event tells which exec was started, and a label can forge that: so the exec has to be this
//! container's, and its image's own health check, or it is foreign.

use jiff::{SignedDuration, Timestamp};

use super::attend::Attendance;
use super::looking::ask;
use super::subject::ToldExec;
use crate::allowlist::{Question, Verdict};
use crate::container::Container;
use crate::engine::{EngineError, Exec, Inspection};
use crate::look;
use crate::record::Trigger;

/// How long the engine surely remembers an exec.
const REMEMBERED: SignedDuration = SignedDuration::from_secs(4 * 60);

impl Attendance<'_> {
    /// Finds out whether someone executed a program in it, where its rule cares: by what was told,
    /// and on a sweep by the execs that it has.
    pub(super) async fn check_execs(
        &mut self,
        container: &mut Container,
    ) -> Result<(), EngineError> {
        // Those of a life that has begun meanwhile are looked at in a look of its own.
        let told = self.subject.take_execs(self.starts);
        self.history.execs.extend(told);
        let cares = self.forbids_exec(container);
        if !cares {
            self.history.execs.clear();
            return Ok(());
        }
        let memory = &mut self.history.memory;
        let engine = self.context.engine.as_ref();
        let surroundings = &self.enforcement.surroundings;
        let asked = memory.ask(engine, container, Question::Command, surroundings);
        let asked = asked.await;
        if !container.state.is_live() {
            // Only what its image says: that may be gone by the time it starts.
            return Ok(());
        }
        asked?;
        let inspection = match self.trigger {
            Trigger::Exec => memory.inspection().cloned().unwrap_or_default(),
            _ => engine.inspect(&container.id).await?,
        };
        if memory.inspection().map(|one| one.started_at) != Some(inspection.started_at) {
            // Another life has begun, and word of that is on its way, or was lost.
            self.history.memory.begin_life();
            return Ok(());
        }
        let mut foreign = None;
        for told in &self.history.execs {
            foreign = self.foreign(container, told, &inspection).await?;
            if foreign.is_some() {
                break;
            }
        }
        if self.trigger != Trigger::Exec && foreign.is_none() {
            for id in &inspection.execs {
                match self.context.engine.exec(id).await {
                    Ok(exec) if exec.has_started => {
                        foreign =
                            foreign.or(self.program_if_foreign(container, &exec, &inspection));
                    }
                    // Word of its start comes with an event of its own.
                    Ok(_) | Err(EngineError::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.history.execs.clear();
        if let Some(program) = foreign {
            self.history.memory.foreign_exec(program);
        }
        // That may also be known from before this process. Where it rules out the rule, others are asked.
        let (enforcement, memory) = (&self.enforcement, &mut self.history.memory);
        let asker = |container: &Container| ask(enforcement, container);
        let listed = container.clone();
        let completed = look::complete(engine, listed, memory, surroundings, &asker);
        if let Some(completed) = completed.await? {
            *container = completed;
        }
        Ok(())
    }

    fn forbids_exec(&self, container: &Container) -> bool {
        let verdict = self.enforcement.judge(container, Timestamp::now());
        match verdict {
            Verdict::Allowed { rule, .. } => {
                let rule = self.enforcement.in_force.list.rule(&rule);
                rule.is_some_and(|rule| !rule.exec)
            }
            _ => false,
        }
    }

    /// The program of an exec that was told of, where that is foreign.
    async fn foreign(
        &self,
        container: &Container,
        told: &ToldExec,
        inspection: &Inspection,
    ) -> Result<Option<String>, EngineError> {
        let unknown = || Some("a program".to_owned());
        let Some(id) = &told.id else {
            let is_forgotten = self.is_forgotten(told).await?;
            return Ok(unknown().filter(|_| !is_forgotten));
        };
        match self.context.engine.exec(id).await {
            Ok(exec) => Ok(self.program_if_foreign(container, &exec, inspection)),
            // An engine that was started again has forgotten them all, health checks included.
            Err(EngineError::NotFound) if self.context.connection() != told.connection => Ok(None),
            Err(EngineError::NotFound) if self.is_forgotten(told).await? => Ok(None),
            Err(EngineError::NotFound) => Ok(unknown()),
            Err(error) => Err(error),
        }
    }

    /// Whether it began so long ago that the engine may have forgotten it: that keeps an exec for five minutes
    /// after its end. Word of it comes so late where this process was stopped, and mostly tells of health
    /// checks. What goes unpunished is an exec that both began and ended while nobody could have looked;
    /// one that runs still is known to the engine, whatever id a label makes the event tell.
    async fn is_forgotten(&self, told: &ToldExec) -> Result<bool, EngineError> {
        let now = self.context.engine.info().await?.time;
        let age = now.unwrap_or_else(Timestamp::now).duration_since(told.time);
        Ok(age > REMEMBERED)
    }

    fn program_if_foreign(
        &self,
        container: &Container,
        exec: &Exec,
        inspection: &Inspection,
    ) -> Option<String> {
        let is_own = exec.container_id == container.id.as_str()
            && self.history.memory.is_health_check(&exec.command)
            && exec.user == inspection.user
            && !exec.privileged;
        (!is_own).then(|| program(exec))
    }
}

/// Only the program: its arguments may be secrets.
fn program(exec: &Exec) -> String {
    let path = exec.command.first().map_or("a program", String::as_str);
    path.rsplit('/').next().unwrap_or(path).to_owned()
}
