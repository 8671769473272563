//! A full list: every container is judged by it, and those that must be looked at are marked.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Controller;
use crate::allowlist::Verdict;
use crate::container::ContainerId;
use crate::engine::Listing;
use crate::record::Trigger;
use crate::status::Enforcement;
use crate::uptime::uptime;

/// How long word of what is over may come after word of its removal.
const LATE: Duration = Duration::from_secs(20);

impl Controller {
    /// Judges every container of a full list. What is denied gets a look of its own before
    /// anything is done: the list is as old as its reading.
    pub(super) fn sweep(&mut self, listing: Listing, took: Duration) {
        let begun = Instant::now();
        let listed_since = begun.checked_sub(took).unwrap_or(begun);
        self.unreadable("container", listing.unreadable);
        let trigger = std::mem::replace(&mut self.sweep_trigger, Trigger::Sweep);
        // The end of `audit-until` may have passed since.
        self.publish();
        let now = Timestamp::now();
        let enforcement = self.context.enforcement.borrow().clone();
        self.sweeps += 1;
        let over = self.take_seats(&listing, &enforcement, now, listed_since);
        let gaps = self.context.gaps();
        let shares_pids = self.context.is_sharing_pids();
        let lists_nothing = listing.containers.is_empty();
        let ends_may_be_missing = self.context.journal.before().is_cut_short();
        for container in listing.containers {
            let id = container.id.clone();
            let tracked = self.tracked(&id);
            let needs_attention = match &mut tracked.history {
                None => true,
                Some(history) => {
                    let is_over = over.contains_key(&id);
                    let may_be_another_life = history.looked_at_life.1 != gaps;
                    let is_unseen = ends_may_be_missing && history.looked_at.is_none();
                    history.needs_attention(&container, &enforcement, now, listed_since)
                        || is_over
                        || (shares_pids && history.is_unprepared(&container, &enforcement))
                        || (is_unseen && !container.state.is_live())
                        || (may_be_another_life && container.state.is_live())
                }
            };
            if needs_attention {
                tracked.subject.mark(trigger, listed_since, Some(container));
                self.attend(&id);
            }
        }
        // A container may be younger than the list: only the second one that lacks it counts, unless the engine
        // has said that it was removed. One that lists nothing may be without its disk for a while: then only
        // what it said was removed is forgotten.
        let sweeps = self.sweeps;
        self.tracked.retain(|_, tracked| {
            let destroyed = tracked.subject.heard().destroyed_since;
            let is_over = match destroyed {
                Some(since) => tracked.seen < sweeps && since.elapsed() > LATE,
                None => tracked.seen + 2 <= sweeps && !lists_nothing,
            };
            tracked.history.is_none() || !is_over
        });
        let tracked = &self.tracked;
        self.context.ledger.retain(|id| tracked.contains_key(id));
        self.context.prepared.retain(|id| tracked.contains_key(id));
        let metrics = &self.context.metrics;
        metrics.last_sweep.set(now.as_duration().as_secs_f64());
        metrics
            .sweep_duration
            .observe((took + begun.elapsed()).as_secs_f64());
        self.connected = true;
        self.context.enforcement.send_modify(|enforcement| {
            enforcement.last_sweep = Some(now);
            enforcement.swept = Some(uptime());
        });
        self.publish();
    }

    /// Who is one too many among all that are listed.
    fn take_seats(
        &mut self,
        listing: &Listing,
        enforcement: &Enforcement,
        now: Timestamp,
        listed_since: Instant,
    ) -> BTreeMap<ContainerId, Verdict> {
        let list = &enforcement.in_force.list;
        if !list.has_max() {
            return BTreeMap::new();
        }
        let known = listing.containers.iter().filter_map(|container| {
            let history = self.tracked.get_mut(&container.id)?.history.as_mut()?;
            if history.is_newer_than(listed_since) {
                return None;
            }
            let mut container = container.clone();
            history.memory.recall(&mut container);
            let is_own = enforcement.surroundings.own.contains(&container.id);
            (!is_own).then_some(container)
        });
        self.context.seats.take_over(list, known, now);
        self.context.seats.over(list, now)
    }
}
