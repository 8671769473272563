//! A container's mailbox: what was heard of it, and why it is to be looked at. Filled by the
//! controller's loop, emptied by the container's task.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::shot::Shot;
use crate::container::{Container, ContainerId};
use crate::engine::{Change, ChangeKind};
use crate::record::Trigger;

/// How many execs of a container may wait to be looked at: more than the engine keeps for a subscriber that
/// was stopped.
const EXECS_MAX: usize = 2_048;

/// A container's mailbox: what was heard of it since its task last looked.
pub(super) struct Subject {
    pub(super) id: ContainerId,
    heard: Mutex<Heard>,
    pub(super) wake: Notify,
    /// The last look at it hung: see [`super::slots`].
    pub(super) hung: AtomicBool,
    /// The last call to end it did. Looks by the list alone never hang, and say nothing of that.
    pub(super) end_hung: AtomicBool,
}

/// What was heard of a container since it is known.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) mark: Option<Mark>,
    /// Times by the engine's clock, which may be set back: what came after what is told by their order.
    pub(super) started_at: Option<Timestamp>,
    pub(super) died_at: Option<Timestamp>,
    pub(super) starts: u64,
    /// It died since its last start.
    pub(super) is_down: bool,
    /// What it exited with then, by an event that a label can forge.
    pub(super) exit_code: Option<i64>,
    pub(super) deaths: u64,
    /// The starts up to the last one whose outcome is on record.
    pub(super) settled: u64,
    /// Events of a life that is settled already, which have yet to come.
    owed: Owed,
    /// A signal or a stop was sent since its last start.
    pub(super) was_signalled: bool,
    /// Since when it is told to be removed.
    pub(super) destroyed_since: Option<Instant>,
    /// What the gate did to it, where that is not on record yet.
    pub(super) shots: VecDeque<Shot>,
    /// It runs, and a rule says that it is to be started again when it stops by itself.
    pub(super) is_kept_running: bool,
    /// Programs that were executed in it.
    execs: Vec<ToldExec>,
}

/// Events that trail what the engine answered. A stalled stream may tell of a life long after it was
/// found over and put on record: that is no other life. Over another connection they are owed no more.
#[derive(Default)]
struct Owed {
    connection: u64,
    /// That of a start at this time or later.
    start: Option<Timestamp>,
    death: bool,
}

/// Word of a program that was executed in a container.
#[derive(Clone)]
pub(super) struct ToldExec {
    /// The exec's id, where that was told and is not one of too many.
    pub(super) id: Option<Arc<str>>,
    /// Over which of the engine's connections.
    pub(super) connection: u64,
    /// When it was started, by the engine's clock.
    pub(super) time: Timestamp,
}

/// A reason to look.
pub(super) struct Mark {
    pub(super) trigger: Trigger,
    pub(super) arrived: Instant,
    /// The container as a full list showed it.
    pub(super) listed: Option<Box<Container>>,
}

impl Subject {
    pub(super) fn new(id: ContainerId) -> Self {
        Self {
            id,
            heard: Mutex::default(),
            wake: Notify::new(),
            hung: AtomicBool::default(),
            end_hung: AtomicBool::default(),
        }
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down when it started and died, by the engine's clock. Some engines tell an event twice when they
    /// are just being subscribed to.
    pub(super) fn note(&self, change: &Change, connection: u64) {
        let mut heard = self.heard();
        if heard.owed.connection != connection {
            heard.owed = Owed::default();
        }
        match change.kind {
            ChangeKind::Start if heard.started_at != Some(change.time) => {
                heard.started_at = Some(change.time);
                heard.starts += 1;
                heard.is_down = false;
                if heard
                    .owed
                    .start
                    .take_if(|begun| *begun <= change.time)
                    .is_some()
                {
                    heard.settled = heard.starts;
                }
                heard.was_signalled = false;
                // What was executed before was executed in a life that is over.
                heard.execs.clear();
            }
            ChangeKind::Die if heard.died_at != Some(change.time) => {
                heard.died_at = Some(change.time);
                heard.exit_code = change.exit_code;
                heard.is_down = true;
                if !std::mem::take(&mut heard.owed.death) {
                    heard.deaths += 1;
                }
                // Whoever waits for this death looks again at once.
                self.wake.notify_one();
            }
            // One that is not looked at in time counts as foreign.
            ChangeKind::ExecStart if heard.execs.len() >= EXECS_MAX => {
                (heard.execs[0].id, heard.execs[0].time) = (None, change.time);
            }
            ChangeKind::ExecStart => heard.execs.push(ToldExec {
                id: change.exec.clone(),
                connection,
                time: change.time,
            }),
            ChangeKind::Destroy => {
                heard.destroyed_since.get_or_insert_with(Instant::now);
                self.wake.notify_one();
            }
            ChangeKind::Kill | ChangeKind::Stop => {
                heard.was_signalled = true;
                // The word of a signal may come after that of the death it caused.
                self.wake.notify_one();
            }
            _ => {}
        }
    }

    /// Asks for a look. Of several reasons the first stays: it says since when we know. But what happened to
    /// the container counts more than what did not.
    pub(super) fn mark(&self, trigger: Trigger, arrived: Instant, listed: Option<Container>) {
        let listed = listed.map(Box::new);
        let mut heard = self.heard();
        match &mut heard.mark {
            // An event makes an earlier list's entry stale, a later list replaces it.
            Some(mark) => {
                mark.listed = mark.listed.take().and(listed);
                let runs_anew =
                    |one| matches!(one, Trigger::Start | Trigger::Restart | Trigger::Unpause);
                let counts_more = match mark.trigger {
                    Trigger::Create => true,
                    Trigger::Sweep => trigger.is_event(),
                    kept => trigger == Trigger::Start || (runs_anew(trigger) && !runs_anew(kept)),
                };
                if counts_more {
                    mark.trigger = trigger;
                    mark.arrived = arrived;
                }
            }
            None => {
                heard.mark = Some(Mark {
                    trigger,
                    arrived,
                    listed,
                });
            }
        }
        drop(heard);
        self.wake.notify_one();
    }

    /// Says whether it is to be started again when it stops by itself. Returns whether it has done so before anybody
    /// said that.
    pub(super) fn keep_running(&self, is_kept: bool) -> bool {
        let mut heard = self.heard();
        let was_kept = std::mem::replace(&mut heard.is_kept_running, is_kept);
        is_kept && !was_kept && heard.is_down
    }

    /// Waits until that is so.
    pub(super) async fn wait_until(&self, is_so: impl Fn(&Heard) -> bool) {
        while !is_so(&self.heard()) {
            self.wake.notified().await;
        }
    }

    /// The execs that were told of since they were last taken; none where another start was since this one.
    pub(super) fn take_execs(&self, starts: u64) -> Vec<ToldExec> {
        let mut heard = self.heard();
        if heard.starts == starts {
            std::mem::take(&mut heard.execs)
        } else {
            Vec::new()
        }
    }

    pub(super) fn is_marked(&self) -> bool {
        self.heard().mark.is_some()
    }

    /// Does what has time, and drops it when something happened to the container. The work itself must not
    /// wait for what is heard: one of both would not be woken.
    pub(super) async fn unless_marked<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.unless(Heard::is_urgent, work).await
    }

    /// The same for what the engine tells of as an update of the container: its own word must not drop it before
    /// it is through, or nobody puts it on record.
    pub(super) async fn unless_marked_by_more_than_an_update<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let is_more = |heard: &Heard| {
            let mark = heard.mark.as_ref();
            heard.is_urgent() && mark.is_some_and(|mark| mark.trigger != Trigger::Update)
        };
        self.unless(is_more, work).await
    }

    async fn unless<T>(
        &self,
        is_so: impl Fn(&Heard) -> bool,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.wait_until(is_so) => None,
        }
    }
}

impl Heard {
    /// Whether something happened to the container. Another sweep is no reason to hurry, nor another list where it
    /// does not run: it would begin the same again.
    pub(super) fn is_urgent(&self) -> bool {
        let mark = self.mark.as_ref();
        mark.is_some_and(|mark| mark.trigger != Trigger::Sweep) && !self.has_time()
    }

    /// Whether it is only looked at because it was listed, and does not run.
    pub(super) fn has_time(&self) -> bool {
        let listed = |mark: &Mark| Some((mark.trigger, mark.listed.as_ref()?.state));
        let listed = self.mark.as_ref().and_then(listed);
        listed.is_some_and(|(trigger, state)| !trigger.is_event() && !state.is_live())
    }

    /// Of the life that was ended, what was not told yet will be, and is of no other: its death, and its
    /// start where none was heard since the last life that was settled. `begun` is when that was by the
    /// engine, where it will be told.
    pub(super) fn owe_late_events(
        &mut self,
        begun: Option<Timestamp>,
        death_is_owed: bool,
        connection: u64,
    ) {
        let is_start_told = self.starts > self.settled;
        // Before this life's death is told, no start but its own can be.
        if is_start_told && (death_is_owed || self.is_down) {
            self.settled = self.starts;
        }
        self.owed = Owed {
            connection,
            start: begun.filter(|_| !is_start_told),
            death: death_is_owed,
        };
    }

    /// How long its last life was, where both ends of it were heard of.
    pub(super) fn lived(&self) -> Option<Duration> {
        span(self.started_at, self.died_at.filter(|_| self.is_down))
    }
}

/// From one instant to another; none where they are unknown or the wrong way round.
pub(super) fn span(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<Duration> {
    to?.duration_since(from?).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::State;

    fn subject(changes: &[(ChangeKind, i64)]) -> Subject {
        let id = ContainerId::parse(&"ab".repeat(32)).expect("full id");
        let subject = Subject::new(id.clone());
        for (kind, second) in changes {
            subject.note(
                &Change {
                    id: id.clone(),
                    kind: *kind,
                    time: Timestamp::from_second(*second).expect("a time"),
                    exec: None,
                    exit_code: None,
                },
                1,
            );
        }
        subject
    }

    #[test]
    fn a_clock_that_is_set_back_hides_nothing() {
        use ChangeKind::{Die, ExecStart, Kill, Start};
        let first = [(Start, 101), (ExecStart, 102), (Kill, 103), (Die, 104)];
        let second = [(Start, 1), (ExecStart, 2)];
        let subject = subject(&[&first[..], &second].concat());
        {
            let heard = subject.heard();
            assert_eq!((heard.starts, heard.deaths), (2, 1));
            assert!(!heard.was_signalled && heard.lived().is_none());
            assert_eq!(heard.execs.len(), 1);
        }
        let ended = self::subject(&[&first[..], &[(Start, 1), (Kill, 2), (Die, 3)]].concat());
        let heard = ended.heard();
        assert_eq!((heard.starts, heard.deaths), (2, 2));
        assert_eq!(heard.lived(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn who_waits_for_its_turn_is_known_by_the_last_list_until_something_happens() {
        let subject = subject(&[]);
        let listed = |state| {
            let mut container = Container::new(subject.id.clone());
            container.state = state;
            Some(container)
        };
        let state = || {
            let heard = subject.heard();
            let listed = heard.mark.as_ref()?.listed.as_ref();
            listed.map(|listed| (listed.state, heard.has_time()))
        };
        for trigger in [
            Trigger::Sweep,
            Trigger::Reload,
            Trigger::Expiry,
            Trigger::Image,
        ] {
            subject.heard().mark = None;
            for (state_listed, has_time) in [(State::Exited, true), (State::Running, false)] {
                subject.mark(trigger, Instant::now(), listed(state_listed));
                assert_eq!(state(), Some((state_listed, has_time)), "{trigger:?}");
            }
        }
        subject.mark(Trigger::Rename, Instant::now(), None);
        assert_eq!(state(), None);
        subject.mark(Trigger::Sweep, Instant::now(), listed(State::Exited));
        assert_eq!(state(), None, "it is older than what happened");
        assert!(!subject.heard().has_time());
    }

    #[test]
    fn what_happened_counts_more_than_a_list() {
        for (first, second, stays) in [
            (Trigger::Sweep, Trigger::Unpause, Trigger::Unpause),
            (Trigger::Sweep, Trigger::Rename, Trigger::Rename),
            (Trigger::Reload, Trigger::Rename, Trigger::Reload),
            (Trigger::Reload, Trigger::Unpause, Trigger::Unpause),
            (Trigger::Unpause, Trigger::Sweep, Trigger::Unpause),
            (Trigger::Unpause, Trigger::Rename, Trigger::Unpause),
            (Trigger::Create, Trigger::Start, Trigger::Start),
            (Trigger::Rename, Trigger::Start, Trigger::Start),
            (Trigger::Rename, Trigger::Unpause, Trigger::Unpause),
            (Trigger::Update, Trigger::Unpause, Trigger::Unpause),
            (Trigger::Start, Trigger::Unpause, Trigger::Start),
        ] {
            let subject = subject(&[]);
            for trigger in [first, second] {
                subject.mark(trigger, Instant::now(), None);
            }
            let mark = subject.heard().mark.take();
            assert_eq!(mark.map(|mark| mark.trigger), Some(stays), "{first:?}");
        }
    }

    #[test]
    fn what_is_told_twice_happened_once() {
        use ChangeKind::{Die, Start};
        let subject = subject(&[(Start, 1), (Start, 1), (Die, 2), (Die, 2)]);
        let heard = subject.heard();
        assert_eq!((heard.starts, heard.deaths), (1, 1));
    }

    #[test]
    fn what_was_executed_before_a_start_is_over() {
        use ChangeKind::{Die, ExecStart, Start};
        let subject = subject(&[(Start, 1), (ExecStart, 2), (Die, 3), (Start, 4)]);
        assert!(subject.heard().execs.is_empty());
        subject.note(
            &Change {
                id: subject.id.clone(),
                kind: ExecStart,
                time: Timestamp::from_second(5).expect("a time"),
                exec: None,
                exit_code: None,
            },
            1,
        );
        assert_eq!(subject.heard().execs.len(), 1);
    }
}
