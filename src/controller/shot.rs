//! What became of a container whose first process the gate has ended: whether its program had begun, and what
//! is put on record of it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::attend::{Attendance, Next};
use super::recording::Extra;
use super::subject::span;
use crate::allowlist::{Action, Verdict};
use crate::backoff::Backoff;
use crate::container::{Container, ContainerId, State};
use crate::engine::{Act, EngineError, Inspection};
use crate::record::{Outcome, Path};
use crate::status::Enforcement;

/// How long before a process is made its start may be stamped.
const STAMPED_BEFORE: SignedDuration = SignedDuration::from_secs(2);
/// How long the engine may take to tell what became of a start.
const START: Duration = Duration::from_secs(5);

/// A container's first process was ended before its program began, or as it did.
#[derive(Debug, Clone)]
pub(super) struct Shot {
    pub(super) container: Container,
    pub(super) verdict: Verdict,
    /// What was in force.
    pub(super) enforcement: Enforcement,
    /// When its process was made, by the engine's clock.
    pub(super) at: Timestamp,
    /// When word of it came.
    pub(super) arrived: Instant,
}

impl Shot {
    /// Which container.
    pub(super) fn id(&self) -> &ContainerId {
        &self.container.id
    }
}

impl Attendance<'_> {
    /// Finds out whether a shot came before the program began, and puts on record what it did. Where another list
    /// is in force by then it is looked at anew: that one may allow it.
    pub(super) async fn follow_up(
        &mut self,
        shot: Shot,
        deaths: u64,
        backoff: &mut Backoff,
    ) -> Next {
        let inspect = || self.context.engine.inspect(&self.subject.id);
        let call = self
            .context
            .lanes
            .ends
            .call(&self.subject.end_hung, inspect);
        // As long as the start is under way, it waits.
        let inspection = match tokio::time::timeout(START, call).await {
            Ok(Ok(inspection)) => Some(inspection),
            Ok(Err(EngineError::NotFound)) => None,
            Ok(Err(_)) | Err(_) => {
                self.subject.heard().shots.push_front(shot);
                return Next::After(backoff.delay());
            }
        };
        let has_run = match &inspection {
            Some(inspection) => {
                let Inspection {
                    started_at,
                    finished_at,
                    ..
                } = *inspection;
                let is_known = started_at == self.history.started_at;
                has_run(started_at, finished_at, is_known, shot.at)
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
        self.enforcement = enforcement;
        self.arrived = arrived;
        if has_run && !self.is_outdated() {
            self.shot = Some(Path::Gate);
            container.state = State::Running;
            let action = self.enforcement.in_force.list.action;
            let ended = self.end(&container, &verdict, action, deaths, backoff);
            return ended.await;
        }
        let outcome = match has_run {
            true => Outcome::Done,
            false => Outcome::NeverRan,
        };
        self.put_shot_on_record(&container, &verdict, inspection, outcome)
            .await;
        match self.is_outdated() || !self.subject.heard().shots.is_empty() {
            true => Next::After(Duration::ZERO),
            false => Next::Settled,
        }
    }

    async fn put_shot_on_record(
        &mut self,
        container: &Container,
        verdict: &Verdict,
        inspection: Option<Inspection>,
        outcome: Outcome,
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
        if action == Action::Remove {
            let remove = async || match self.is_outdated() {
                true => Ok(()),
                false => {
                    let removed = self.context.engine.act(&self.subject.id, Act::Remove);
                    removed.await.map(|_| ())
                }
            };
            let removed = self
                .context
                .lanes
                .ends
                .call(&self.subject.end_hung, remove)
                .await;
            extra.error = removed.err().map(|error| error.chain());
        }
        let container = &self.with_powers(container, &inspection).await;
        self.record(container, verdict, Some(outcome), extra).await;
        if !self.is_outdated() {
            self.keep_dead_by(container, policy).await;
        }
        self.settle_life();
    }
}

/// Whether a container has run since its first process was made. Engines stamp a start after that process began
/// or, newer ones, shortly before they have it made; a start that fails leaves the stamps of the life before, which
/// was over by then. That start may be known, too.
fn has_run(
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    is_known: bool,
    made_at: Timestamp,
) -> bool {
    let earliest = made_at.checked_sub(STAMPED_BEFORE).unwrap_or(made_at);
    let was_over = finished_at >= started_at && finished_at <= Some(made_at);
    started_at > Some(made_at) || (started_at > Some(earliest) && !was_over && !is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_told_by_a_stamp_that_is_new() {
        let made_at: Timestamp = "2026-01-01T00:00:10Z".parse().expect("a time");
        let at = |milliseconds| Some(made_at + SignedDuration::from_millis(milliseconds));
        // (started, finished, is known, has run)
        for (started_at, finished_at, is_known, expected) in [
            (None, None, false, false),
            (at(3), None, false, true),
            (at(3), at(20), false, true),
            (at(3), at(-200), true, true),
            (at(-50), None, false, true),
            (at(-50), at(-300), false, true),
            (at(-50), at(20), false, true),
            (at(-50), at(-10), false, false),
            (at(-50), None, true, false),
            (at(-50_000), at(-40_000), true, false),
            (at(-50_000), None, false, false),
        ] {
            let has_run = has_run(started_at, finished_at, is_known, made_at);
            assert_eq!(
                has_run, expected,
                "{started_at:?} {finished_at:?} {is_known}"
            );
        }
    }
}
