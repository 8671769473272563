//! What another list or another mode would end among what runs, whether that is too much, and how that is told.
//! Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::allowlist::{Mode, Verdict};
use crate::container::Container;
use crate::printable::counted;
use crate::status::{Enforcement, LoadedList, WouldEnd};
use crate::together::judge_all;

/// Of many containers that would be ended so many are named.
const NAMED: usize = 10;

/// What a change would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighed {
    /// How many containers run, dockwarden's own aside.
    pub running: usize,
    /// Those that would be ended, and are not by what is in force.
    pub would_end: Vec<WouldEnd>,
    /// How many of these only count because they can't be judged now.
    pub unjudged: usize,
}

impl Weighed {
    /// Whether the guard of the list in force holds the change back.
    pub fn is_held(&self, enforcement: &Enforcement) -> bool {
        let guard = &enforcement.in_force.list.guard;
        guard.holds(self.would_end.len(), self.running)
    }

    /// Whether it is held back only until more of what runs can be judged.
    pub fn hangs_on_unjudged(&self, enforcement: &Enforcement) -> bool {
        let guard = &enforcement.in_force.list.guard;
        let judged = self.would_end.len() - self.unjudged;
        self.is_held(enforcement) && !guard.holds(judged, self.running)
    }
}

/// Weighs a list that would be in force with this mode. A container that it can't judge counts as one
/// that it ends: an engine that answers half must not make a change look small.
pub fn weigh(
    enforcement: &Enforcement,
    list: &LoadedList,
    mode: Mode,
    containers: &[Container],
    now: Timestamp,
) -> Weighed {
    let own = &enforcement.surroundings.own;
    let live = || {
        let is_weighed = |one: &&Container| one.state.is_live() && !own.contains(&one.id);
        containers.iter().filter(is_weighed)
    };
    let mut weighed = Weighed {
        running: live().count(),
        would_end: Vec::new(),
        unjudged: 0,
    };
    if mode == Mode::Audit {
        return weighed;
    }
    let before = match enforcement.mode {
        Mode::Enforce => enforcement.judge_all(containers, now),
        Mode::Audit => BTreeMap::new(),
    };
    let after = judge_all(&list.list, own, containers, now);
    let ends = |one: &&Container| {
        let is_ended = before.get(&one.id).is_some_and(Verdict::is_denied);
        let may_run = after.get(&one.id).is_some_and(Verdict::is_allowed);
        !may_run && !is_ended
    };
    let is_unjudged = |one: &&Container| matches!(after.get(&one.id), Some(Verdict::Unknown));
    weighed.unjudged = live().filter(ends).filter(is_unjudged).count();
    let would_end = live().filter(ends).map(|one| WouldEnd {
        container_id: one.id.clone(),
        container_name: one.name.clone(),
        image: one.image.clone(),
        detail: match after.get(&one.id) {
            Some(Verdict::Unknown) => Some("it can't be judged now".to_owned()),
            verdict => verdict.and_then(Verdict::detail).map(str::to_owned),
        },
    });
    weighed.would_end = would_end.collect();
    weighed
}

/// What is held back: where it is no other list, it is the mode.
pub fn held(hash: &str, in_force: &str) -> &'static str {
    match hash == in_force {
        true => "leaving audit mode",
        false => "a newer list",
    }
}

/// Why the list of this hash is held back, as a sentence without its end: how many it would end of how many
/// that run, and which; or else why that is not known.
pub fn hold(
    hash: &str,
    in_force: &str,
    weighed: Result<(usize, usize, &[String]), &str>,
) -> String {
    let what = held(hash, in_force);
    let (would_end, running, names) = match weighed {
        Ok(weighed) => weighed,
        Err(error) => return format!("{what} waits: what it would end is not known ({error})"),
    };
    let named = names.get(..NAMED).unwrap_or(names);
    let mut which = named.join(", ");
    if names.len() > named.len() {
        which = format!("{which} and {} more", names.len() - named.len());
    }
    format!(
        "{what} is held back: it would end {would_end} of the {}: {which}",
        counted(running, "running container")
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::container::{ContainerId, State};
    use crate::status::Surroundings;

    fn list(text: &str) -> LoadedList {
        let text = format!("version = 1\n{text}");
        LoadedList::parse(text.as_bytes(), Timestamp::UNIX_EPOCH).expect("a list")
    }

    fn container(digit: u8, image: &str, state: State) -> Container {
        let id = format!("{digit:064x}");
        Container {
            image: Some(image.to_owned()),
            image_id: Some(format!("sha256:{}", "1a".repeat(32))),
            state,
            ..Container::new(ContainerId::parse(&id).expect("full id"))
        }
    }

    fn in_force(list: LoadedList, mode: Mode) -> Enforcement {
        let own = ContainerId::parse(&format!("{:064x}", 9)).expect("full id");
        Enforcement {
            in_force: list,
            rejected: None,
            held: None,
            audit_only: false,
            mode,
            enforcing: true,
            hindrance: None,
            paths: Vec::new(),
            surroundings: Arc::new(Surroundings {
                own: [own].into(),
                ..Surroundings::default()
            }),
            last_sweep: None,
            swept: None,
        }
    }

    #[test]
    fn what_counts_is_what_the_change_would_end() {
        let a = || list("[[allow]]\nimage = \"a\"\n");
        let b = || list("[[allow]]\nimage = \"b\"\n");
        let asks = || list("[[allow]]\nimage = \"a\"\ngrants = []\n");
        let all = [
            container(1, "a", State::Running),
            container(2, "a", State::Paused),
            container(3, "b", State::Restarting),
            container(4, "c", State::Running),
            container(5, "a", State::Exited),
            container(6, "a", State::Created),
            container(9, "a", State::Running),
        ];
        use Mode::{Audit, Enforce};
        let table = [
            ("another list", a(), Enforce, b(), Enforce, vec![1, 2]),
            ("the same", a(), Enforce, a(), Enforce, vec![]),
            ("audit to enforce", a(), Audit, a(), Enforce, vec![3, 4]),
            ("enforce to audit", a(), Enforce, b(), Audit, vec![]),
            (
                "one that can't be judged",
                a(),
                Enforce,
                asks(),
                Enforce,
                vec![1, 2],
            ),
        ];
        for (name, before, mode, after, next, expected) in table {
            let enforcement = in_force(before, mode);
            let weighed = weigh(&enforcement, &after, next, &all, Timestamp::UNIX_EPOCH);
            let ended: Vec<_> = weighed
                .would_end
                .iter()
                .map(|one| &one.container_id)
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|digit| container(*digit, "", State::Running).id)
                .collect();
            assert_eq!(ended, expected.iter().collect::<Vec<_>>(), "{name}");
            assert_eq!(weighed.running, 4, "{name}");
            let unjudged = if name.contains("can't") { 2 } else { 0 };
            assert_eq!(weighed.unjudged, unjudged, "{name}");
        }
    }
}
