//! Who holds a place under a rule with `max`.
//!
//! What is known here may be incomplete, and then one too many is let in until the next sweep. It is
//! never out of date where that would end something: before a container is found to be one too many,
//! each of those before it is looked at afresh.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use jiff::Timestamp;

use crate::allowlist::{Allowlist, Verdict};
use crate::container::{Container, ContainerId};
use crate::engine::Engine;
use crate::together::allot;

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
            match found {
                Some(found) if found.is_denied() => {
                    let looks = before.iter().map(|id| engine.look(id));
                    let looked = join_all(looks).await;
                    let mut is_changed = false;
                    for (id, looked) in before.iter().zip(looked) {
                        match looked {
                            Ok(Some(other)) if other.state.is_live() => {}
                            Ok(_) => {
                                is_changed = true;
                                self.vacate(id);
                            }
                            // Nothing is done on the strength of a reading that failed.
                            Err(_) => return Verdict::Unknown,
                        }
                    }
                    if !is_changed {
                        return found;
                    }
                }
                Some(found) => return found,
                // Word of its death came meanwhile.
                None => return verdict,
            }
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

fn wants_seat(list: &Allowlist, container: &Container, now: Timestamp) -> bool {
    container.state.is_live()
        && list
            .matching(container, now)
            .iter()
            .any(|rule| rule.max.is_some())
}
