//! Who holds a place under a rule with `max`.
//!
//! What is known here may be incomplete: who is let in before an older one is known is found to be one too many
//! when that takes its place. It is never out of date where that would end something: before a container is found
//! to be one too many, each of those before it is looked at afresh.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::allowlist::{Allowlist, Verdict};
use crate::container::{Container, ContainerId};
use crate::engine::Engine;
use crate::together::allot;

/// From so many on one full list costs less than a look at each.
const LOOKS_MAX: usize = 16;

/// The live containers that rules with `max` match, as last seen.
#[derive(Default)]
pub(super) struct Seats {
    taken: Mutex<BTreeMap<ContainerId, Container>>,
    displaced: Notify,
}

impl Seats {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Container>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody has lost a place to an older one.
    pub(super) async fn displaced(&self) {
        self.displaced.notified().await;
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
        let over_before = self.over(list, now);
        self.lock().insert(container.id.clone(), container.clone());
        loop {
            let (found, before) = self.find(list, container, now);
            let Some(found) = found else {
                // Word of its death came meanwhile.
                return verdict;
            };
            if !found.is_denied() {
                let mut over = self.over(list, now).into_keys();
                if over.any(|id| !over_before.contains_key(&id)) {
                    self.displaced.notify_one();
                }
                return found;
            }
            // Nothing is done on the strength of a reading that failed. With the next one it takes its place anew.
            let Some(dead) = gone_among(engine.as_ref(), &before).await else {
                self.vacate(&container.id);
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
    ) -> (Option<Verdict>, Vec<Container>) {
        let seats = self.lock();
        let verdict = allot(list, seats.values().collect(), now).remove(&container.id);
        let age = |one: &Container| (one.created_at, one.id.clone());
        let before = seats
            .values()
            .filter(|other| age(other) < age(container))
            .cloned();
        (verdict, before.collect())
    }
}

/// Those of these containers that do not run, or under another name by now: word of that is on its
/// way. `None` when the engine does not tell.
async fn gone_among(engine: &dyn Engine, seen: &[Container]) -> Option<Vec<ContainerId>> {
    let now: Vec<_> = if seen.len() > LOOKS_MAX {
        engine.list().await.ok()?.containers
    } else {
        let looked = join_all(seen.iter().map(|one| engine.look(&one.id))).await;
        let looked: Result<Vec<_>, _> = looked.into_iter().collect();
        looked.ok()?.into_iter().flatten().collect()
    };
    let now: BTreeMap<_, _> = now.iter().map(|one| (&one.id, one)).collect();
    let stays = |one: &&Container| {
        let now = now.get(&one.id);
        let is_called_so = |now: &Container| now.name_is_open || now.name == one.name;
        now.is_some_and(|now| now.state.is_live() && is_called_so(now))
    };
    let gone = seen.iter().filter(|one| !stays(one));
    Some(gone.map(|one| one.id.clone()).collect())
}

fn wants_seat(list: &Allowlist, container: &Container, now: Timestamp) -> bool {
    container.state.is_live()
        && list
            .matching(container, now)
            .iter()
            .any(|rule| rule.max.is_some())
}
