//! A decision, put on record once a life, with what an inspection adds to it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::attend::Attendance;
use super::end::ESCAPED;
use super::subject::Heard;
use crate::allowlist::{Action, Reason, Verdict};
use crate::container::Container;
use crate::engine::Inspection;
use crate::journal::Decision;
use crate::look;
use crate::record::{Outcome, Path};

/// How long a record waits for what an inspection adds to it.
pub(super) const INSPECT: Duration = Duration::from_secs(2);
/// How long what is only looked at for its record keeps waiting what happens to it meanwhile.
const HURRY: Duration = Duration::from_millis(100);

/// What only some records have.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) action: Option<Action>,
    pub(super) error: Option<String>,
    pub(super) path: Option<Path>,
    pub(super) restart_policy: Option<String>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) lived: Option<Duration>,
    pub(super) reaction: Option<Duration>,
}

impl Attendance<'_> {
    /// Puts a decision on record, once a life, reason, outcome and list.
    pub(super) async fn record(
        &mut self,
        container: &Container,
        verdict: &Verdict,
        outcome: Option<Outcome>,
        extra: Extra,
    ) {
        let reason = verdict.reason();
        if self.is_on_record(reason, outcome) {
            return;
        }
        let hash = self.enforcement.in_force.hash.clone();
        // What an older list led to is of no more use.
        self.history.on_record.retain(|(_, _, one)| *one == hash);
        self.history.on_record.push((reason, outcome, hash));
        self.write(container, verdict, outcome, extra).await;
    }

    /// Puts on record, once a life, that it lives and can't be judged: whoever holds its lock keeps
    /// it from being inspected.
    pub(super) async fn put_unknown_on_record(&mut self, error: String) {
        let since = *self.history.unknown_since.get_or_insert_with(Instant::now);
        if self.history.told_unknown || since.elapsed() < ESCAPED {
            return;
        }
        if let Ok(Some(container)) = self.context.engine.look(&self.subject.id).await
            && container.state.is_live()
        {
            self.history.told_unknown = true;
            let extra = Extra {
                error: Some(error),
                ..Extra::default()
            };
            self.write(&container, &Verdict::Unknown, None, extra).await;
        }
    }

    async fn write(
        &self,
        container: &Container,
        verdict: &Verdict,
        outcome: Option<Outcome>,
        extra: Extra,
    ) {
        let in_force = &self.enforcement.in_force;
        let decision = Decision {
            container: container.clone(),
            verdict: verdict.clone(),
            trigger: self.trigger,
            mode: self.enforcement.mode,
            action: outcome.map(|_| extra.action.unwrap_or(in_force.list.action)),
            outcome,
            error: extra.error,
            path: extra.path.unwrap_or(Path::Api),
            restart_policy: extra.restart_policy,
            started_at: extra.started_at,
            lived: extra.lived,
            reaction: extra.reaction,
            allowlist_hash: in_force.hash.clone(),
        };
        self.context.journal.record(decision).await;
    }

    /// Whether this life of it has such a record already, under this list.
    pub(super) fn is_on_record(&self, reason: Option<Reason>, outcome: Option<Outcome>) -> bool {
        let hash = &self.enforcement.in_force.hash;
        self.history.is_on_record(reason, outcome, hash)
    }

    /// Puts on record what is left to run. There is time to find out all about it: as it was when
    /// first seen is as it is remembered.
    pub(super) async fn put_at_leisure_on_record(
        &mut self,
        mut container: Container,
        verdict: &Verdict,
        outcome: Option<Outcome>,
    ) {
        if self.is_on_record(verdict.reason(), outcome) {
            return;
        }
        let engine = self.context.engine.as_ref();
        let surroundings = &self.enforcement.surroundings;
        let listed = container.clone();
        let memory = &mut self.history.memory;
        let call = || look::complete(engine, listed, memory, surroundings, &look::everything);
        let call = self.context.lanes.records.call(&self.subject.hung, call);
        let call = tokio::time::timeout(INSPECT, call);
        let subject = self.subject;
        let hurry = async {
            subject.wait_until(Heard::is_urgent).await;
            tokio::time::sleep(HURRY).await;
        };
        let called = tokio::select! {
            biased;
            called = call => called.ok(),
            () = hurry => None,
        };
        match called {
            Some(Ok(Some(completed))) => container = completed,
            _ => self.history.memory.recall(&mut container),
        }
        self.count_unknown_fields();
        self.record(&container, verdict, outcome, Extra::default())
            .await;
    }

    /// A newer engine's fields never decide, and are told.
    fn count_unknown_fields(&mut self) {
        let inspection = self.history.memory.inspection();
        let count = inspection.map_or(0, |inspection| inspection.unknown_fields);
        if count > 0 && !std::mem::replace(&mut self.history.told_of_fields, true) {
            let unreadable = self
                .context
                .metrics
                .unreadable
                .with_label_values(&["field"]);
            unreadable.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
            tracing::warn!(
                id = self.subject.id.short(),
                count,
                "fields of a container that this version does not know were not looked at"
            );
        }
    }

    /// A container as it goes on record: with the powers that nobody had to ask for, as far as an inspection and what
    /// that leads to tell them.
    pub(super) async fn with_powers(
        &self,
        container: &Container,
        inspection: &Inspection,
    ) -> Container {
        let is_known = inspection.created_at.is_some();
        if !is_known || !container.powers_are_open() {
            return container.clone();
        }
        let mut container = container.clone();
        let known = container.powers.get_or_insert_default();
        known.extend(inspection.powers.iter().cloned());
        container.may_do_more = true;
        let (engine, memory) = (self.context.engine.as_ref(), self.history.memory.clone());
        let (surroundings, listed) = (&self.enforcement.surroundings, container.clone());
        let call = || look::with_powers(engine, listed, inspection, memory, surroundings);
        let call = self.context.lanes.records.call(&self.subject.hung, call);
        let call = tokio::time::timeout(INSPECT, call);
        match self.subject.unless_marked(call).await {
            Some(Ok(container)) => container,
            _ => container,
        }
    }
}
