//! Which allowlist is in force, and until when its verdicts hold.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Controller;
use super::guard::{self, Proposal};
use crate::record::{ListChange, ListOutcome, Trigger, What};
use crate::status::{Candidate, Enforcement, HeldList, RejectedList};

/// How long the list in force waits for one that is to be weighed at the start of a connection.
const OPENING: Duration = Duration::from_secs(5);
/// From when on it is told that a list is being weighed.
const WEIGHING: Duration = Duration::from_secs(2);
/// The longest sleep until an expiry: the wall clock may be set meanwhile.
const EXPIRY_CHECK: SignedDuration = SignedDuration::from_secs(5);

/// Whether the list in force is enforced, or waits for a newer one that could not be weighed while the
/// engine was away: what that one allows must not be ended first, and nothing may wait for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// It will wait, once, when the engine answers.
    Due,
    /// It waits, no longer than this.
    Until(Instant),
    /// It is enforced.
    Over,
}

impl Opening {
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Self::Until(instant) => Some(instant),
            Self::Due | Self::Over => None,
        }
    }
}

impl Controller {
    pub(super) fn candidate(&mut self, candidate: Candidate) {
        match candidate {
            Ok(list) => {
                self.context.metrics.allowlist_last_reload_successful.set(1);
                let audit_only = self.audit_only;
                self.consider(Proposal { list, audit_only });
            }
            Err(error) => {
                // What was held or waits is no longer what is written.
                self.drop_proposals();
                self.open();
                self.count_reload("invalid");
                self.tell(ListChange {
                    error: Some(error.to_string()),
                    ..ListChange::new(ListOutcome::Invalid)
                });
                self.context.metrics.allowlist_last_reload_successful.set(0);
                self.context.enforcement.send_modify(|enforcement| {
                    enforcement.rejected = Some(RejectedList {
                        message: error.to_string(),
                        at: Timestamp::now(),
                    });
                });
                self.publish();
            }
        }
    }

    /// Lets a change come into force, unless it would end too much.
    pub(super) fn consider(&mut self, proposal: Proposal) {
        self.drop_proposals();
        // What waits already waits no longer for a newer one.
        if self.opening == Opening::Over {
            self.opening = Opening::Due;
        }
        let is_new = {
            let enforcement = self.context.enforcement.borrow();
            let before = (&enforcement.in_force.hash, enforcement.audit_only);
            (&proposal.list.hash, proposal.audit_only) != before
        };
        self.context
            .enforcement
            .send_modify(|enforcement| enforcement.rejected = None);
        if is_new {
            self.weigh(proposal);
        } else {
            self.count_reload("unchanged");
            // It may guard itself otherwise.
            self.context.enforcement.send_modify(|enforcement| {
                enforcement.in_force.list = proposal.list.list;
                enforcement.in_force.text = proposal.list.text;
            });
            self.changes.spawn(guard::keep(&self.context));
            self.publish();
            self.open();
        }
    }

    /// Those that have been weighed already are dropped as well: a newer text has come.
    fn drop_proposals(&mut self) {
        let may_be_written = !self.changes.is_empty();
        self.changes = JoinSet::new();
        if may_be_written {
            self.changes.spawn(guard::keep(&self.context));
        }
        self.weighing = None;
        self.waiting = None;
        self.show_held(None);
    }

    /// Lets a list that waited for the engine be weighed before the older one ends what it may allow.
    pub(super) fn await_opening(&mut self) {
        if self.waiting.is_some() && self.opening == Opening::Due {
            self.opening = Opening::Until(Instant::now() + OPENING);
            self.publish();
        }
    }

    /// From now on the list in force is enforced.
    pub(super) fn open(&mut self) {
        let was_closed = matches!(self.opening, Opening::Until(_));
        self.opening = Opening::Over;
        if was_closed {
            self.publish();
            self.attend_all();
        }
    }

    fn weigh(&mut self, proposal: Proposal) {
        self.weighing = Some((proposal.list.hash.clone(), Instant::now() + WEIGHING));
        let can_be_weighed = self.connected && self.own.is_resolved();
        let histories = self.tracked.iter();
        let memories = histories.filter_map(|(id, tracked)| {
            let history = tracked.history.as_ref()?;
            Some((id.clone(), history.memory.clone()))
        });
        let memories = memories.collect();
        let context = self.context.clone();
        self.changes
            .spawn(guard::weigh(context, proposal, memories, can_be_weighed));
    }

    /// What became of a proposal.
    pub(super) fn weighed(&mut self, outcome: guard::Outcome) {
        match outcome {
            guard::Outcome::InForce(proposal) => {
                self.weighing = None;
                self.put_in_force(proposal);
                self.open();
            }
            guard::Outcome::Held(proposal, held) => {
                self.weighing = None;
                let is_weighed = held.error.is_none();
                let is_told = {
                    let enforcement = self.context.enforcement.borrow();
                    let told = enforcement.held.as_ref().map(|held| &held.error);
                    told == Some(&held.error)
                };
                if !is_told {
                    self.count_reload("held");
                    self.tell(ListChange {
                        allowlist_hash: Some(held.hash.to_string()),
                        rules: Some(proposal.list.list.rules.len()),
                        would_end: held.error.is_none().then_some(held.would_end.len()),
                        running: held.error.is_none().then_some(held.running),
                        containers: held.names(),
                        error: held.error.clone(),
                        ..ListChange::new(ListOutcome::Held)
                    });
                }
                // As soon as the engine answers it is weighed again.
                self.waiting = held.error.is_some().then_some(proposal);
                self.show_held(Some(held));
                self.publish();
                if is_weighed {
                    self.open();
                }
            }
            guard::Outcome::Kept => {}
        }
    }

    /// An engine that hangs keeps the list in force, and that is told.
    pub(super) fn weighing_takes_long(&mut self) {
        if let Some((hash, _)) = self.weighing.take() {
            self.show_held(Some(HeldList::unweighed(
                hash,
                Timestamp::now(),
                "it is being weighed",
            )));
        }
    }

    /// Weighs again what could not be weighed without the engine.
    pub(super) fn weigh_what_waits(&mut self) {
        if let Some(proposal) = self.waiting.take() {
            self.weigh(proposal);
        }
    }

    fn put_in_force(&mut self, proposal: Proposal) {
        let Proposal { list, audit_only } = proposal;
        self.count_reload("applied");
        self.tell(ListChange::applied(&list.hash, list.list.rules.len()));
        self.show_held(None);
        self.context.enforcement.send_modify(|enforcement| {
            // Never one list by another's mode.
            enforcement.mode = list.mode(audit_only, Timestamp::now());
            enforcement.audit_only = audit_only;
            enforcement.in_force = list;
        });
        self.show_list();
        self.judge_all_again(Trigger::Reload);
        self.publish();
    }

    /// Puts on record what became of a list beside the one in force until now.
    fn tell(&self, change: ListChange) {
        let previous = self.context.enforcement.borrow().in_force.hash.to_string();
        self.context.journal.happened(What::Allowlist(ListChange {
            previous_hash: Some(previous),
            ..change
        }));
    }

    fn count_reload(&self, outcome: &str) {
        let reloads = &self.context.metrics.allowlist_reloads;
        reloads.with_label_values(&[outcome]).inc();
    }

    fn show_held(&self, held: Option<HeldList>) {
        self.context
            .metrics
            .allowlist_held
            .set(held.is_some().into());
        self.context
            .enforcement
            .send_modify(|enforcement| enforcement.held = held.map(Arc::new));
    }

    pub(super) fn expired(&mut self) {
        let now = Timestamp::now();
        let passed = {
            let enforcement = self.context.enforcement.borrow();
            let next = enforcement
                .in_force
                .expiries_after(self.expiries_judged(&enforcement));
            next.first().is_some_and(|expiry| *expiry <= now)
        };
        if passed {
            self.expiry_asked = Some(now);
            self.show_list();
            // The end of `audit-until` is no other list, and another mode.
            self.publish();
            self.judge_all_again(Trigger::Expiry);
        }
    }

    /// Up to when expiries have been judged, or their judging is under way.
    fn expiries_judged(&self, enforcement: &Enforcement) -> Timestamp {
        let judged = enforcement.last_sweep.max(self.expiry_asked);
        judged.unwrap_or(enforcement.in_force.loaded_at)
    }

    fn judge_all_again(&mut self, trigger: Trigger) {
        self.sweep_trigger = trigger;
        self.relist.request();
        for tracked in self.tracked.values() {
            // What waits for its turn is judged by what is in force then.
            if tracked.history.is_none() && !tracked.subject.heard().has_time() {
                tracked.subject.mark(trigger, Instant::now(), None);
            }
        }
    }

    /// Sleeps until a rule expires, or for ever.
    pub(super) fn next_expiry(&self) -> impl Future<Output = ()> + use<> {
        let enforcement = self.context.enforcement.borrow();
        let next = enforcement
            .in_force
            .expiries_after(self.expiries_judged(&enforcement));
        let wait = next.first().map(|expiry| {
            let left = expiry.duration_since(Timestamp::now());
            left.clamp(SignedDuration::ZERO, EXPIRY_CHECK)
                .unsigned_abs()
        });
        async move {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }
}
