//! Who holds a place under a rule with `max`.
//!
//! What is known here may be incomplete, and then one too many is let in until the next sweep. It is
//! never out of date where that would end something: before a container is found to be one too many,
//! each of those before it is looked at afresh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use jiff::Timestamp;

use crate::allowlist::{Allowlist, Verdict};
use crate::container::{Container, ContainerId};
use crate::engine::Engine;
use crate::together::allot;

/// From so many on one full list costs less than a look at each.
const LOOKS_MAX: usize = 16;

/// The live containers that rules with `max` match, as last seen.
#[derive(Default)]
pub(super) struct Seats(Mutex<BTreeMap<ContainerId, Container>>);

impl Seats {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Container>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It does not run any more.
    pub(super) fn vacate(&self, id: &ContainerId) {
        self.lock().remove(id);
    }

    /// Takes over what a full list showed, but for those that are just being looked at.
    pub(super) fn take_over(
        &self,
        list: &Allowlist,
        listed: impl IntoIterator<Item = Container>,
        now: Timestamp,
    ) {
        let mut seats = self.lock();
        for container in listed {
            if wants_seat(list, &container, now) {
                seats.insert(container.id.clone(), container);
            } else {
                seats.remove(&container.id);
            }
        }
    }

    /// Those that are one too many.
    pub(super) fn over(&self, list: &Allowlist, now: Timestamp) -> BTreeMap<ContainerId, Verdict> {
        let seats = self.lock();
        let mut verdicts = allot(list, seats.values().collect(), now);
        verdicts.retain(|_, verdict| verdict.is_denied());
        verdicts
    }

    /// The verdict on a container that was judged without regard to the others.
    pub(super) async fn judge(
        &self,
        engine: &Arc<dyn Engine>,
        list: &Allowlist,
        container: &Container,
        verdict: Verdict,
        now: Timestamp,
    ) -> Verdict {
        let wants_seat = verdict.is_allowed() && wants_seat(list, container, now);
        if !wants_seat {
            self.vacate(&container.id);
            return verdict;
        }
        self.lock().insert(container.id.clone(), container.clone());
        loop {
            let (found, before) = self.find(list, container, now);
            let Some(found) = found else {
                // Word of its death came meanwhile.
                return verdict;
            };
            if !found.is_denied() {
                return found;
            }
            // Nothing is done on the strength of a reading that failed.
            let Some(dead) = dead_among(engine.as_ref(), &before).await else {
                return Verdict::Unknown;
            };
            if dead.is_empty() {
                return found;
            }
            dead.into_iter().for_each(|id| self.vacate(&id));
        }
    }

    /// Its verdict among all, and those that come before it.
    fn find(
        &self,
        list: &Allowlist,
        container: &Container,
        now: Timestamp,
    ) -> (Option<Verdict>, Vec<ContainerId>) {
        let seats = self.lock();
        let verdict = allot(list, seats.values().collect(), now).remove(&container.id);
        let age = |one: &Container| (one.created_at, one.id.clone());
        let before = seats
            .values()
            .filter(|other| age(other) < age(container))
            .map(|other| other.id.clone());
        (verdict, before.collect())
    }
}

/// Those of these containers that do not run; `None` when the engine does not tell.
async fn dead_among(engine: &dyn Engine, ids: &[ContainerId]) -> Option<Vec<ContainerId>> {
    let is_live = |container: &Container| container.state.is_live();
    if ids.len() > LOOKS_MAX {
        let listed = engine.list().await.ok()?.containers;
        let live: BTreeSet<_> = listed
            .into_iter()
            .filter(is_live)
            .map(|one| one.id)
            .collect();
        return Some(
            ids.iter()
                .filter(|id| !live.contains(id))
                .cloned()
                .collect(),
        );
    }
    let looked = join_all(ids.iter().map(|id| engine.look(id))).await;
    let mut dead = Vec::new();
    for (id, looked) in ids.iter().zip(looked) {
        if !looked.ok()?.as_ref().is_some_and(is_live) {
            dead.push(id.clone());
        }
    }
    Some(dead)
}

fn wants_seat(list: &Allowlist, container: &Container, now: Timestamp) -> bool {
    container.state.is_live()
        && list
            .matching(container, now)
            .iter()
            .any(|rule| rule.max.is_some())
}
