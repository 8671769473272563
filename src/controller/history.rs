//! What is known of one container from one look to the next: its names, and what of its present
//! life is on record already.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::keep_dead::due;
use super::outcome::Unended;
use super::subject::ToldExec;
use crate::allowlist::{Mode, Reason, Verdict};
use crate::container::{Container, State};
use crate::decide::{Policy, Step, decide};
use crate::engine::RestartPolicy;
use crate::look::Memory;
use crate::record::Outcome;
use crate::state::Remembered;
use crate::status::Enforcement;

/// What a container's tasks hand on to each other.
#[derive(Default)]
pub(super) struct History {
    pub(super) memory: Memory,
    /// The container and its verdict when it was last looked at.
    pub(super) last: Option<(Container, Verdict)>,
    /// What is on record about this life of it.
    pub(super) on_record: Vec<(Option<Reason>, Option<Outcome>, Arc<str>)>,
    /// The deaths that were heard of when this life began.
    pub(super) deaths: u64,
    /// When it was last looked at.
    pub(super) looked_at: Option<Instant>,
    /// When the end of its last life was put on record.
    pub(super) settled_at: Option<Instant>,
    pub(super) denied_since: Option<Instant>,
    /// Since when it can't be judged.
    pub(super) unknown_since: Option<Instant>,
    /// That is on record.
    pub(super) told_unknown: bool,
    /// The attempts to end it that failed since the last one that did not. Lives may be shorter than that.
    pub(super) failures: u32,
    pub(super) unended: Option<Box<Unended>>,
    /// The starts that were heard of, and the gaps between events, when it was last looked at.
    pub(super) looked_at_life: (u64, u64),
    /// It died before it was known that it is to be kept running.
    pub(super) is_to_revive: bool,
    /// Execs that were told of and not looked at yet.
    pub(super) execs: Vec<ToldExec>,
    /// The fields of it that are not known were counted.
    pub(super) told_of_fields: bool,
    /// The restart policy that was taken from it.
    pub(super) restart_policy: Option<RestartPolicy>,
    /// The list by which the gate was last told of it.
    pub(super) prepared_by: Option<Arc<str>>,
    /// It has none by which the engine would start it again.
    pub(super) is_kept_dead: bool,
    /// The list by which it was ended, though it is allowed by it now that it is dead: for an exec, or as one
    /// too many.
    pub(super) ended_by: Option<Arc<str>>,
    /// When its present life began, by the engine.
    pub(super) started_at: Option<Timestamp>,
}

impl From<Remembered> for History {
    fn from(remembered: Remembered) -> Self {
        let policy = remembered.restart_policy;
        Self {
            memory: remembered.lasting.into(),
            restart_policy: policy.and_then(|policy| policy.parse().ok()),
            ended_by: remembered.ended_by,
            ..Self::default()
        }
    }
}

impl History {
    /// Whether a listed container has to be looked at: it may not run, or can't be judged by what is known; it is
    /// not yet on record, or its execs count; its restart policy is to be taken or given back.
    pub(super) fn needs_attention(
        &mut self,
        container: &Container,
        enforcement: &Enforcement,
        now: Timestamp,
        listed_since: Instant,
    ) -> bool {
        if Policy::of(enforcement).removes(container.state) {
            return true;
        }
        if !container.state.is_live() {
            // Such a list says nothing about the life seen then.
            if !self.is_newer_than(listed_since) {
                self.life_is_over();
                self.memory.begin_life();
            }
            return self.has_policy_to_set(container, enforcement, now);
        }
        let mut container = container.clone();
        self.memory.recall(&mut container);
        let verdict = enforcement.judge(&container, now);
        let is_owed_its_policy = self.restart_policy.is_some() && verdict.is_allowed();
        if is_owed_its_policy && enforcement.mode == Mode::Enforce {
            return true;
        }
        let list = &enforcement.in_force;
        let reason = verdict.reason();
        let step = decide(
            &verdict,
            container.state,
            Policy::of(enforcement),
            self.failures,
        );
        match (step, &verdict) {
            (Step::Leave, Verdict::Unknown) => true,
            (Step::Leave, Verdict::Allowed { rule, would_deny }) => {
                let outcome = would_deny.then_some(Outcome::WouldDeny);
                let forbids_exec = list.list.rule(rule).is_some_and(|rule| !rule.exec);
                forbids_exec || !self.is_on_record(None, outcome, &list.hash)
            }
            (Step::Leave, _) => self.has_policy_to_set(&container, enforcement, now),
            (Step::Report, _) => !self.is_on_record(reason, Some(Outcome::AuditOnly), &list.hash),
            (Step::End(_), _) => true,
        }
    }

    /// Whether it was looked at, or its end put on record, since a list was begun: that shows then what is over.
    pub(super) fn is_newer_than(&self, listed_since: Instant) -> bool {
        self.looked_at.max(self.settled_at) >= Some(listed_since)
    }

    /// Whether the gate may have to be told of one that does not run.
    pub(super) fn is_unprepared(&self, container: &Container, enforcement: &Enforcement) -> bool {
        let verdict = self.last.as_ref().map(|(_, verdict)| verdict);
        !container.state.is_live()
            && self.prepared_by.as_ref() != Some(&enforcement.in_force.hash)
            && verdict.is_none_or(Verdict::is_denied)
    }

    /// Whether one that does not run, or is frozen, is to be kept from being started by the engine, or no longer.
    fn has_policy_to_set(
        &mut self,
        container: &Container,
        enforcement: &Enforcement,
        now: Timestamp,
    ) -> bool {
        let list = &enforcement.in_force.list;
        let is_settled = self.restart_policy.is_none() && (self.is_kept_dead || !list.keep_dead);
        let is_own = enforcement.surroundings.own.contains(&container.id);
        if is_settled || is_own || enforcement.mode != Mode::Enforce {
            return false;
        }
        let mut container = container.clone();
        self.memory.recall(&mut container);
        let verdict = match container.state {
            State::Created => list.judge_at_create(&container, now),
            _ => list.judge(&container, now),
        };
        // What there is to ask about it is asked when it is looked at.
        verdict == Verdict::Unknown
            || due(self, &enforcement.in_force, container.state, &verdict).is_some()
    }

    /// Whether it was ended by this list for something that was over with its life: a start by the engine would
    /// undo that.
    pub(super) fn stays_dead_by(&self, hash: &str) -> bool {
        self.ended_by.as_deref() == Some(hash)
    }

    pub(super) fn is_on_record(
        &self,
        reason: Option<Reason>,
        outcome: Option<Outcome>,
        hash: &str,
    ) -> bool {
        self.on_record
            .iter()
            .any(|(one_reason, one_outcome, one_hash)| {
                (*one_reason, *one_outcome, &**one_hash) == (reason, outcome, hash)
            })
    }

    /// Its life is over, and all that was known of that.
    pub(super) fn life_is_over(&mut self) {
        self.is_dealt_with();
        self.memory.end_life();
        self.execs.clear();
    }

    /// What it does next is another matter.
    pub(super) fn is_dealt_with(&mut self) {
        self.on_record.clear();
        self.denied_since = None;
        self.unknown_since = None;
        self.told_unknown = false;
        self.unended = None;
    }
}
