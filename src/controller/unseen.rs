//! Denied containers that are found dead after the process before was killed: it may have ended them and
//! not lived to put that on record.

use jiff::Timestamp;

use super::attend::Attendance;
use super::recording::Extra;
use super::subject::span;
use crate::allowlist::{Mode, Verdict};
use crate::container::{Container, State};
use crate::engine::EngineError;
use crate::record::Outcome;

impl Attendance<'_> {
    /// Puts the end of a life on record that began under the process before and is on no record of its.
    /// Who ended it is not known any more: killed is `gone`. False: something happened to it meanwhile, and that
    /// comes first.
    ///
    /// # Errors
    /// When it can't be told yet.
    pub(super) async fn put_unseen_end_on_record(
        &mut self,
        container: &Container,
        verdict: &Verdict,
    ) -> Result<bool, EngineError> {
        let is_dead = matches!(container.state, State::Exited | State::Dead);
        let is_enforced = self.enforcement.mode == Mode::Enforce;
        let before = self.context.journal.before();
        if !(before.is_cut_short() && is_dead && is_enforced && verdict.is_denied()) {
            return Ok(true);
        }
        let id = &self.subject.id;
        let inspect = || self.context.engine.inspect(id);
        let call = self.context.lanes.leisure.call(&self.subject.hung, inspect);
        let Some(answer) = self.subject.unless_marked(call).await else {
            return Ok(false);
        };
        let inspection = match answer {
            Ok(inspection) => inspection,
            Err(EngineError::NotFound) => return Ok(true),
            Err(error) => return Err(error),
        };
        // What began since is told by its own events.
        let began = self.context.began.get().copied();
        let is_missing =
            |at: Timestamp| before.misses(id, at) && began.is_none_or(|began| at < began);
        if !inspection.started_at.is_some_and(is_missing) {
            return Ok(true);
        }
        let outcome = match inspection.is_killed() {
            true => Outcome::Gone,
            false => Outcome::EndedItself,
        };
        let extra = Extra {
            restart_policy: inspection.restart_policy.map(|policy| policy.to_string()),
            started_at: inspection.started_at,
            lived: span(inspection.started_at, inspection.finished_at),
            ..Extra::default()
        };
        self.record(container, verdict, Some(outcome), extra).await;
        Ok(true)
    }
}
