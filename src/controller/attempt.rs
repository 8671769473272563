//! One call to end a container: whether it is still wanted, what overtakes it, what shows after it.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use super::aim::signal;
use super::attend::judge;
use super::context::Context;
use super::outcome::End;
use super::subject::{Heard, Subject};
use crate::allowlist::{Action, Reason, Verdict};
use crate::backoff::Backoff;
use crate::container::{Container, State};
use crate::engine::{Act, Acted, EngineError};
use crate::record::{Outcome, Path};
use crate::status::Enforcement;

/// How long an end may take to show after the engine reported it.
const CONFIRM: Duration = Duration::from_secs(10);
/// How long a record waits for the event of the death that it is about, and for the call's answer behind it.
pub(super) const LATE_DEATH: Duration = Duration::from_secs(1);
/// When one whose end takes long is looked at: whether it was paused before a signal reached it.
const FROZEN: Duration = Duration::from_millis(250);

/// What shows of a container after something was done to it.
pub(super) enum Shown {
    End(End),
    /// What is not there can't be frozen, and comes back.
    Restarting,
    /// It started while its removal hung.
    Started,
}

/// Why a container was not ended.
pub(super) struct Failure {
    pub(super) error: String,
    /// The engine was out of reach: that says nothing of the container.
    pub(super) is_away: bool,
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self {
            error: error.chain(),
            is_away: matches!(error, EngineError::Unreachable(_)),
        }
    }
}

/// What is to be done to a container, and on which grounds.
pub(super) struct Attempt<'a> {
    pub(super) context: &'a Context,
    pub(super) subject: &'a Subject,
    pub(super) container: &'a Container,
    pub(super) verdict: &'a Verdict,
    pub(super) judged_by: Enforcement,
    pub(super) action: Action,
    pub(super) act: Act,
    /// The starts and the deaths that were heard of when it was judged.
    pub(super) starts: u64,
    pub(super) deaths: u64,
    /// Its first process, where that was looked up already.
    pub(super) pid: Option<u32>,
    /// A signal was sent to that already, on this path.
    pub(super) shot: Option<Path>,
    /// One is to be sent.
    pub(super) is_to_signal: bool,
}

impl Attempt<'_> {
    /// Makes the call when its turn comes. `None` where it is not wanted any more.
    pub(super) async fn make_in_turn(&self) -> Result<Option<(Shown, Path)>, Failure> {
        let is_signalled = self.shot == Some(Path::Pid);
        let is_revived = self.subject.wait_until(|heard| self.is_another_life(heard));
        let slot = tokio::select! {
            slot = self.context.lanes.ends.slot(&self.subject.end_hung) => slot,
            // What was signalled is over, and the life that follows is looked at by itself.
            () = is_revived, if is_signalled => {
                let end = End { outcome: Outcome::Done, is_frozen: false };
                return Ok(Some((Shown::End(end), Path::Pid)));
            }
        };
        slot.call(Box::pin(self.make())).await
    }

    async fn make(&self) -> Result<Option<(Shown, Path)>, Failure> {
        let is_outdated = self.is_outdated().await;
        if is_outdated && self.shot.is_none() {
            return Ok(None);
        }
        let (context, subject) = (self.context, self.subject);
        let path = match self.shot {
            Some(path) => path,
            None if self.is_to_signal && signal(context, subject, self.pid).await => Path::Pid,
            None => Path::Api,
        };
        let acted = tokio::select! {
            biased;
            // What was signalled is put on record, and nothing more is done to it.
            () = std::future::ready(()), if is_outdated => Acted::Done,
            acted = context.engine.act(&subject.id, self.act) => acted?,
            never = self.thaw() => match never {},
            // A call may hang on what is over.
            () = self.overtaken() => {
                let heard = subject.heard();
                match heard.was_signalled {
                    _ if heard.deaths <= self.deaths => return Ok(Some((Shown::Started, path))),
                    true => Acted::Done,
                    false => Acted::Gone,
                }
            }
        };
        // What a signal of ours has ended may be over before the engine is asked to.
        let acted = match path {
            Path::Api => acted,
            Path::Pid | Path::Gate => Acted::Done,
        };
        Ok(Some((self.confirm(acted).await?, path)))
    }

    /// Whether the wait for a turn has outlived the verdict.
    async fn is_outdated(&self) -> bool {
        let judged_by = &self.judged_by;
        if !self.context.enforcement.borrow().judges_as(judged_by) {
            return true;
        }
        let is_over = {
            let heard = self.subject.heard();
            (heard.starts, heard.deaths) != (self.starts, self.deaths)
        };
        match self.verdict.reason() {
            // Another life of it has done nothing yet.
            Some(Reason::ForeignExec) => is_over,
            // One before it may be gone.
            Some(Reason::OverMax) => {
                is_over
                    || !judge(self.context, judged_by, self.container)
                        .await
                        .is_denied()
            }
            // Between two lives it may have been given another name.
            _ => self.is_another_life(&self.subject.heard()),
        }
    }

    fn is_another_life(&self, heard: &Heard) -> bool {
        heard.deaths > self.deaths && heard.starts > self.starts
    }

    /// Waits until it has died, or has started where it was to be removed before that.
    async fn overtaken(&self) {
        if self.action == Action::Pause {
            std::future::pending::<()>().await;
        }
        let is_created = self.container.state == State::Created;
        let is_overtaken = |heard: &Heard| {
            heard.deaths > self.deaths || (is_created && heard.starts > self.starts)
        };
        self.subject.wait_until(is_overtaken).await;
        // Word of that mostly comes before the answer to the call that caused it or waited for it.
        tokio::time::sleep(LATE_DEATH).await;
    }

    /// What is paused before a signal has reached it dies when it goes on, and a kill that was sent before that waits
    /// for it in vain: Docker 20.10 for 12 seconds. Another kill has it go on.
    async fn thaw(&self) -> Infallible {
        if !self.action.is_by_signal() {
            return std::future::pending().await;
        }
        let (engine, id) = (&self.context.engine, &self.subject.id);
        let mut backoff = Backoff::new(FROZEN, FROZEN * 4);
        loop {
            tokio::time::sleep(backoff.delay()).await;
            let looked = engine.look(id).await;
            if matches!(looked, Ok(Some(container)) if container.state == State::Paused) {
                // The call that waits tells what came of it.
                let _ = engine.act(id, Act::Kill).await;
            }
        }
    }

    /// Waits until what the engine reported shows. Its word alone is not enough: a kill of a
    /// restarting container answers "done" and sends no signal.
    async fn confirm(&self, acted: Acted) -> Result<Shown, Failure> {
        let subject = self.subject;
        let outcome = match acted {
            Acted::Done => Outcome::Done,
            Acted::NotNeeded | Acted::Gone => Outcome::Gone,
        };
        let is_pause = self.action == Action::Pause;
        let over = |outcome| {
            Ok(Shown::End(End {
                outcome,
                is_frozen: false,
            }))
        };
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));
        let patience = match acted {
            Acted::Done => CONFIRM,
            // A list may lag behind the death that left nothing to freeze.
            _ if is_pause => LATE_DEATH,
            _ => Duration::ZERO,
        };
        let deadline = Instant::now() + patience;
        loop {
            if !is_pause && subject.heard().deaths > self.deaths {
                return over(outcome);
            }
            let state = match self.context.engine.look(&subject.id).await {
                Ok(None) => None,
                Ok(Some(container)) => container.state.is_live().then_some(container.state),
                Err(error) if error.is_connection() => return Err(error.into()),
                // Not readable: it may be alive.
                Err(_) => Some(State::Unknown),
            };
            let state = match state {
                // Freezing ends nothing.
                None if is_pause => return over(Outcome::Gone),
                None => return over(outcome),
                Some(State::Paused) if is_pause => {
                    return Ok(Shown::End(End {
                        outcome,
                        is_frozen: true,
                    }));
                }
                Some(State::Restarting) if is_pause => return Ok(Shown::Restarting),
                Some(state) => state.as_str(),
            };
            if Instant::now() >= deadline {
                return Err(Failure {
                    error: format!(
                        "the engine answered to `{}`, and it is still {state}",
                        self.action.as_str()
                    ),
                    is_away: false,
                });
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.delay()) => {}
                () = subject.wake.notified() => {}
            }
        }
    }
}
