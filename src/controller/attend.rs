//! One container under enforcement: look, judge, decide; end it (`end.rs`) and put it on record; again
//! until it is settled. At most one task attends to a container at a time.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Context;
use super::history::History;

use super::slots::Slot;
use super::subject::Subject;
use crate::allowlist::{Mode, Verdict};
use crate::backoff::Backoff;
use crate::container::Container;
use crate::decide::{Policy, Step, decide};
use crate::engine::EngineError;
use crate::record::{Outcome, Path, Trigger};
use crate::state::Remembered;
use crate::status::Enforcement;

/// How long after word of a start or a resumption a list may not show it yet.
const RESUMED: Duration = Duration::from_secs(1);
/// How soon such a list is read again.
const LAG: Duration = Duration::from_millis(20);

/// When to look next.
pub(super) enum Next {
    /// Not before something happens.
    Settled,
    /// After this long, or when something happens.
    After(Duration),
}

/// Attends to a container until it is settled.
pub(super) async fn attend(
    context: Arc<Context>,
    subject: Arc<Subject>,
    mut history: Box<History>,
) -> Box<History> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let (mut trigger, mut arrived) = (Trigger::Sweep, Instant::now());
    let mut is_settled = true;
    let is_slow = AtomicBool::default();
    loop {
        let turn = turn(&context, &subject, &is_slow).await;
        let (mark, starts) = {
            let mut heard = subject.heard();
            let is_dropped = turn.is_none() && heard.has_time() && context.shutdown.is_cancelled();
            let mark = heard.mark.take();
            if is_dropped {
                return history;
            }
            (mark, heard.starts)
        };
        let mut listed = None;
        if let Some(mark) = mark {
            // A sweep that crosses what is not settled tells nothing of why that is looked at.
            if is_settled || mark.trigger != Trigger::Sweep {
                (trigger, arrived) = (mark.trigger, mark.arrived);
            }
            // A list that was begun before its start may show it dead, and one before its end alive.
            let is_over = history.is_newer_than(mark.arrived);
            listed = mark.listed.filter(|_| !is_over).map(|listed| *listed);
            backoff.reset();
        }
        let mut attendance = Attendance {
            context: &context,
            subject: &subject,
            history: &mut history,
            enforcement: context.enforcement.borrow().clone(),
            trigger,
            arrived,
            starts,
            pid: None,
            shot: None,
        };
        let look = Box::pin(attendance.once(listed, &mut backoff));
        let next = match turn {
            Some(turn) => turn.call(look).await,
            None => look.await,
        };
        is_settled = matches!(next, Next::Settled);
        match next {
            _ if subject.is_marked() => {}
            Next::Settled => return history,
            Next::After(delay) => {
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = subject.wake.notified() => {}
                    () = context.shutdown.cancelled() => return history,
                }
            }
        }
    }
}

/// Where it has time, its turn. Thousands may be listed at once: none has room for its look before.
async fn turn<'a>(
    context: &'a Context,
    subject: &Subject,
    is_slow: &'a AtomicBool,
) -> Option<Slot<'a>> {
    if !subject.heard().has_time() {
        return None;
    }
    tokio::select! {
        turn = context.lanes.turns.slot(is_slow) => Some(turn),
        () = subject.wait_until(|heard| !heard.has_time()) => None,
        () = context.shutdown.cancelled() => None,
    }
}

/// One look and what follows from it.
pub(super) struct Attendance<'a> {
    pub(super) context: &'a Context,
    pub(super) subject: &'a Subject,
    pub(super) history: &'a mut History,
    pub(super) enforcement: Enforcement,
    pub(super) trigger: Trigger,
    pub(super) arrived: Instant,
    /// The starts that were heard of before this look; a later one gets a look of its own.
    pub(super) starts: u64,
    /// Its first process, where that was looked up already.
    pub(super) pid: Option<u32>,
    /// A signal was sent to that already, on this path.
    pub(super) shot: Option<Path>,
}

impl<'a> Attendance<'a> {
    /// What only some looks come to is boxed: thousands of tasks may be at their first, and need no room for it.
    async fn once(&mut self, listed: Option<Container>, backoff: &mut Backoff) -> Next {
        let id = &self.subject.id;
        if self.enforcement.surroundings.own.contains(id) {
            return Next::Settled;
        }
        let deaths = self.subject.heard().deaths;
        if deaths != self.history.deaths {
            self.put_late_end_on_record().await;
            self.history.deaths = deaths;
            self.history.life_is_over();
        }
        // A start may have gone unheard.
        let life = (self.starts, self.context.gaps());
        if self.history.looked_at_life != life {
            self.history.looked_at_life = life;
            self.history.memory.begin_life();
        }
        let shot = self.subject.heard().shots.pop_front();
        if let Some(shot) = shot {
            return Box::pin(self.follow_up(shot, deaths, backoff)).await;
        }
        let is_leisurely = listed
            .as_ref()
            .is_some_and(|listed| match listed.state.is_live() {
                true => self.trigger == Trigger::Sweep,
                false => !self.trigger.is_event(),
            });
        let subject = self.subject;
        let looked = match is_leisurely || self.is_at_rest() {
            // Whatever happens to it is not kept waiting by a look that found no reason of its own, nor by one at
            // what has not begun.
            true => match subject.unless_marked(Box::pin(self.look(listed))).await {
                Some(looked) => looked,
                None => return Next::After(Duration::ZERO),
            },
            false => self.look_and_take_aim(listed).await,
        };
        let mut container = match looked {
            Ok(Some(container)) => container,
            // It may also go in the middle of it.
            Ok(None) | Err(EngineError::NotFound) => {
                self.context.seats.vacate(id);
                self.context.prepared.forget(id);
                Box::pin(self.put_early_end_on_record(None)).await;
                return Next::Settled;
            }
            Err(error) => return self.unknown(&error, backoff).await,
        };
        let started_at = self.history.memory.started_at();
        if started_at.is_some() && started_at != self.history.started_at.or(started_at) {
            // Its last life ended unheard.
            self.put_late_end_on_record().await;
            self.history.life_is_over();
        }
        self.history.started_at = started_at.or(self.history.started_at);
        if let Err(error) = self.check_execs(&mut container).await {
            return self.unknown(&error, backoff).await;
        }
        self.history.unknown_since = None;
        let looked_at = self.history.looked_at.replace(Instant::now());
        let verdict = judge(self.context, &self.enforcement, &container).await;
        if verdict == Verdict::Unknown {
            return Next::After(backoff.delay());
        }
        let policy = Policy::of(&self.enforcement);
        let failures = self.history.failures;
        let step = if policy.removes(container.state) {
            let list = &self.enforcement.in_force.list;
            let at_create = list.judge_at_create(&container, Timestamp::now());
            decide(&at_create, container.state, policy, failures)
        } else {
            decide(&verdict, container.state, policy, failures)
        };
        let is_live = container.state.is_live();
        let is_kept = self.is_to_keep_running(&verdict);
        // One that does not run counts where this look is for its start: it died before it could be looked at.
        let is_start = matches!(self.trigger, Trigger::Start | Trigger::Restart);
        let has_run = is_live || (is_start && self.starts > self.subject.heard().settled);
        if has_run || !is_kept {
            self.history.is_to_revive |= self.subject.keep_running(is_kept);
        }
        self.history.last = Some((container.clone(), verdict.clone()));
        if is_live && !matches!(step, Step::End(_)) {
            self.history.failures = 0;
            self.history.unended = None;
            self.history.ended_by = None;
        }
        self.remember();
        match step {
            Step::Leave if is_live => {
                self.history.denied_since = None;
                if let Verdict::Allowed { would_deny, .. } = verdict {
                    let outcome = would_deny.then_some(Outcome::WouldDeny);
                    let listed = container.clone();
                    Box::pin(self.put_at_leisure_on_record(listed, &verdict, outcome)).await;
                } else if self.list_may_lag() {
                    return Next::After(LAG);
                }
                self.keep_dead(&container, &verdict).await;
                Next::Settled
            }
            Step::Leave if verdict.is_denied() && self.list_may_lag() => Next::After(LAG),
            Step::Leave => {
                Box::pin(self.prepare(&container, &verdict)).await;
                if looked_at.is_none() {
                    match self.put_unseen_end_on_record(&container, &verdict).await {
                        Ok(true) => {}
                        Ok(false) => {
                            self.history.looked_at = None;
                            return Next::After(Duration::ZERO);
                        }
                        Err(error) => {
                            self.history.looked_at = None;
                            let id = self.subject.id.short();
                            let error = error.chain();
                            tracing::warn!(id, error, "how it ended can't be told yet");
                            return Next::After(backoff.delay());
                        }
                    }
                }
                Box::pin(self.put_early_end_on_record(Some(&container))).await;
                self.keep_dead(&container, &verdict).await;
                Next::Settled
            }
            Step::Report => {
                let outcome = Some(Outcome::AuditOnly);
                Box::pin(self.put_at_leisure_on_record(container, &verdict, outcome)).await;
                Next::Settled
            }
            Step::End(action) => {
                Box::pin(self.end(&container, &verdict, action, deaths, backoff)).await
            }
        }
    }

    /// Whether another list, or mode, is in force by now.
    pub(super) fn is_outdated(&self) -> bool {
        !self
            .context
            .enforcement
            .borrow()
            .judges_as(&self.enforcement)
    }

    /// Has what was found out outlive this process, and known to the API.
    pub(super) fn remember(&self) {
        let hash = &self.enforcement.in_force.hash;
        let verdict = self.history.last.as_ref().map(|(_, verdict)| verdict);
        let policy = self.history.restart_policy;
        let remembered = Remembered {
            judged: verdict.map(|verdict| (verdict.clone(), hash.clone())),
            lasting: self.history.memory.lasting(),
            restart_policy: policy.map(|policy| policy.to_string()),
            ended_by: self.history.ended_by.clone(),
        };
        self.context.ledger.put(&self.subject.id, remembered);
    }

    /// Nothing is done on what can't be known; it is asked again.
    async fn unknown(&mut self, error: &EngineError, backoff: &mut Backoff) -> Next {
        if matches!(error, EngineError::Unreadable(_)) {
            let unreadable = &self.context.metrics.unreadable;
            unreadable.with_label_values(&["container"]).inc();
        }
        let id = self.subject.id.short();
        tracing::warn!(id, error = error.chain(), "container can't be looked at");
        self.put_unknown_on_record(error.chain()).await;
        Next::After(backoff.delay())
    }

    fn is_to_keep_running(&self, verdict: &Verdict) -> bool {
        let rule = match verdict {
            Verdict::Allowed { rule, .. } => self.enforcement.in_force.list.rule(rule),
            _ => None,
        };
        self.enforcement.mode == Mode::Enforce && rule.is_some_and(|rule| rule.keep_running)
    }

    /// Whether the engine has just told that it runs, and not that it died since: the list may not
    /// show it yet.
    fn list_may_lag(&self) -> bool {
        let is_told = match self.trigger {
            Trigger::Unpause => true,
            Trigger::Start | Trigger::Restart => !self.subject.heard().is_down,
            _ => false,
        };
        is_told && self.arrived.elapsed() < RESUMED
    }
}

/// The verdict, `max` included.
pub(super) async fn judge(
    context: &Context,
    enforcement: &Enforcement,
    container: &Container,
) -> Verdict {
    let now = Timestamp::now();
    let verdict = enforcement.judge(container, now);
    let list = &enforcement.in_force.list;
    if !list.has_max() {
        return verdict;
    }
    let engine = &context.engine;
    let judged = context.seats.judge(engine, list, container, verdict, now);
    judged.await
}
