//! Ending a denied container. `outcome.rs` puts on record what became of it.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::error::Elapsed;

use super::Context;
use super::attend::{Attendance, Next, judge};
use super::outcome::{End, Extra};
use super::subject::{Heard, Subject};
use crate::allowlist::{Action, Reason, Verdict};
use crate::backoff::Backoff;
use crate::container::{Container, ContainerId, State};
use crate::engine::{Act, Acted, EngineError};
use crate::processes::{self, NotKilled};
use crate::record::{Outcome, Path};

/// What still runs this long after its verdict has escaped.
pub(super) const ESCAPED: Duration = Duration::from_secs(10);
/// How long an end may take to show after the engine reported it.
const CONFIRM: Duration = Duration::from_secs(10);
/// How long a record waits for the event of the death that it is about, and for the call's answer behind it.
pub(super) const LATE_DEATH: Duration = Duration::from_secs(1);
/// When one whose end takes long is looked at: whether it was paused before a signal reached it.
const FROZEN: Duration = Duration::from_millis(250);
/// How long the engine's own kill waits for the number of a process.
const FIRST_PROCESS: Duration = Duration::from_millis(50);

/// What shows of a container after something was done to it.
enum Shown {
    End(End),
    /// What is not there can't be frozen, and comes back.
    Restarting,
    /// It started while its removal hung.
    Started,
}

/// Why a container was not ended.
struct Failure {
    error: String,
    /// The engine was out of reach: that says nothing of the container.
    is_away: bool,
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self {
            error: error.chain(),
            is_away: matches!(error, EngineError::Unreachable(_)),
        }
    }
}

impl Attendance<'_> {
    /// Ends a denied container, and stays with it until it is.
    pub(super) async fn end(
        &mut self,
        container: &Container,
        verdict: &Verdict,
        action: Action,
        deaths: u64,
        backoff: &mut Backoff,
    ) -> Next {
        let since = match container.state {
            // It has not lived yet.
            State::Created => Instant::now(),
            _ => *self.history.denied_since.get_or_insert_with(Instant::now),
        };
        let (context, subject) = (self.context, self.subject);
        let stop_timeout = self.enforcement.in_force.list.stop_timeout;
        let (act, escaped_at) = match action {
            Action::Kill => (Act::Kill, since + ESCAPED),
            // A stop may take that long by design.
            Action::Stop => (Act::Stop(stop_timeout), since + stop_timeout + ESCAPED),
            Action::Pause => (Act::Pause, since + ESCAPED),
            Action::Remove => (Act::Remove, since + ESCAPED),
        };
        let judged_by = self.enforcement.clone();
        let mut is_to_signal = context.is_sharing_pids()
            && action.is_by_signal()
            && matches!(container.state, State::Running | State::Unknown);
        let must_ask = matches!(
            verdict.reason(),
            Some(Reason::ForeignExec | Reason::OverMax)
        );
        let is_aimed_at = self.shot.is_none() && self.pid.is_some();
        if is_to_signal && is_aimed_at && !must_ask && !self.is_outdated() {
            // The ends of others are not waited for.
            let is_sent = signal(context, subject, self.pid).await;
            self.shot = is_sent.then_some(Path::Pid);
            is_to_signal = false;
        }
        let is_signalled = self.shot == Some(Path::Pid);
        let (pid, shot, starts) = (self.pid, self.shot, self.starts);
        let ending = async || {
            // The wait for a slot may have outlived the verdict.
            let is_outdated = !context.enforcement.borrow().judges_as(&judged_by);
            let is_over = || {
                let heard = subject.heard();
                (heard.starts, heard.deaths) != (starts, deaths)
            };
            let is_outdated = is_outdated
                || match verdict.reason() {
                    // Another life of it has done nothing yet.
                    Some(Reason::ForeignExec) => is_over(),
                    // One before it may be gone.
                    Some(Reason::OverMax) => {
                        is_over() || !judge(context, &judged_by, container).await.is_denied()
                    }
                    _ => false,
                };
            if is_outdated && shot.is_none() {
                return Ok(None);
            }
            let path = match shot {
                Some(path) => path,
                None if is_to_signal && signal(context, subject, pid).await => Path::Pid,
                None => Path::Api,
            };
            let overtaken = async {
                if action == Action::Pause {
                    std::future::pending::<()>().await;
                }
                let is_created = container.state == State::Created;
                subject
                    .wait_until(|heard| {
                        heard.deaths > deaths || (is_created && heard.starts > starts)
                    })
                    .await;
                // Word of that mostly comes before the answer to the call that caused it or waited for it.
                tokio::time::sleep(LATE_DEATH).await;
            };
            let acted = tokio::select! {
                biased;
                // What was signalled is put on record, and nothing more is done to it.
                () = std::future::ready(()), if is_outdated => Acted::Done,
                acted = context.engine.act(&subject.id, act) => acted?,
                never = thaw(context, subject, action) => match never {},
                // A call may hang on what is over.
                () = overtaken => {
                    let heard = subject.heard();
                    match heard.was_signalled {
                        _ if heard.deaths <= deaths => return Ok(Some((Shown::Started, path))),
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
            let shown = confirm(context, subject, action, acted, deaths).await?;
            Ok::<_, Failure>(Some((shown, path)))
        };
        let call = async {
            let is_revived =
                |heard: &Heard| is_signalled && heard.deaths > deaths && heard.starts > starts;
            let slot = tokio::select! {
                slot = context.slots.slot(&subject.end_hung) => slot,
                // What was signalled is over, and the life that follows is looked at by itself.
                () = subject.wait_until(is_revived) => {
                    let end = End { outcome: Outcome::Done, is_frozen: false };
                    return Ok(Some((Shown::End(end), Path::Pid)));
                }
            };
            slot.call(Box::pin(ending())).await
        };
        let mut call = std::pin::pin!(call);
        let in_time = tokio::select! {
            biased;
            result = &mut call => Some(result),
            () = tokio::time::sleep_until(escaped_at) => None,
        };
        let result = match in_time {
            Some(result) => result,
            None => {
                let record = self.put_escape_on_record(container, verdict, action);
                tokio::join!(record, call).1
            }
        };
        match result {
            Ok(None) => Next::After(Duration::ZERO),
            Ok(Some((Shown::Restarting | Shown::Started, _))) => {
                self.history.failures += 1;
                Next::After(Duration::ZERO)
            }
            Ok(Some((Shown::End(end), path))) => {
                let reaction = self.arrived.elapsed();
                self.put_end_on_record(container, verdict, (action, path), end, reaction)
                    .await;
                Next::Settled
            }
            Err(failure) => {
                let extra = Extra {
                    error: Some(failure.error),
                    action: Some(action),
                    ..Extra::default()
                };
                self.record(container, verdict, Some(Outcome::Failed), extra)
                    .await;
                self.history.failures += u32::from(!failure.is_away);
                self.remember_unended(container, verdict);
                Next::After(backoff.delay())
            }
        }
    }
}

/// What is paused before a signal has reached it dies when it goes on, and a kill that was sent before that waits
/// for it in vain: Docker 20.10 for 12 seconds. Another kill has it go on.
async fn thaw(context: &Context, subject: &Subject, action: Action) -> Infallible {
    if !action.is_by_signal() {
        return std::future::pending().await;
    }
    let mut backoff = Backoff::new(FROZEN, FROZEN * 4);
    loop {
        tokio::time::sleep(backoff.delay()).await;
        let looked = context.engine.look(&subject.id).await;
        if matches!(looked, Ok(Some(container)) if container.state == State::Paused) {
            // The call that waits tells what came of it.
            let _ = context.engine.act(&subject.id, Act::Kill).await;
        }
    }
}

/// Sends SIGKILL to a container's first process, ahead of the engine's own kill. A failure is counted, and
/// left to that one. `pid` is the process, where it was looked up already.
async fn signal(context: &Context, subject: &Subject, pid: Option<u32>) -> bool {
    let pid = match pid {
        Some(pid) => Some(pid),
        None => match first_process(context, &subject.id).await {
            Ok(told) => told,
            Err(_) => oldest_process(context, &subject.id).await,
        },
    };
    let Some(pid) = pid else {
        return false;
    };
    match processes::kill(pid, &subject.id) {
        Ok(()) => true,
        // It has ended itself; the engine tells.
        Err(NotKilled::Gone(_)) => false,
        Err(error) => {
            context.fell_back(Path::Pid, &subject.id, &error);
            false
        }
    }
}

/// The number of a container's first process, by the engine.
///
/// # Errors
/// When it does not tell at once.
pub(super) async fn first_process(
    context: &Context,
    id: &ContainerId,
) -> Result<Option<u32>, Elapsed> {
    let inspected = tokio::time::timeout(FIRST_PROCESS, context.engine.inspect(id)).await?;
    Ok(inspected.ok().and_then(|inspection| inspection.pid))
}

/// The same by the kernel: what holds a container's lock keeps the engine from telling, and from killing. One goes
/// through all processes at a time, and the engine's kill does not wait for that.
async fn oldest_process(context: &Context, id: &ContainerId) -> Option<u32> {
    let turn = context.scans.clone().acquire_owned();
    let turn = tokio::time::timeout(FIRST_PROCESS, turn).await.ok()?.ok()?;
    let id = id.clone();
    let found = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        processes::oldest_of(&id)
    });
    found.await.ok()?
}

/// Waits until what the engine reported shows. Its word alone is not enough: a kill of a
/// restarting container answers "done" and sends no signal.
async fn confirm(
    context: &Context,
    subject: &Subject,
    action: Action,
    acted: Acted,
    deaths_before: u64,
) -> Result<Shown, Failure> {
    let outcome = match acted {
        Acted::Done => Outcome::Done,
        Acted::NotNeeded | Acted::Gone => Outcome::Gone,
    };
    let is_pause = action == Action::Pause;
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
        if !is_pause && subject.heard().deaths > deaths_before {
            return over(outcome);
        }
        let state = match context.engine.look(&subject.id).await {
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
                    action.as_str()
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
