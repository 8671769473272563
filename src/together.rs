//! The verdicts on containers together: `max` says how many of a kind may run at once. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use crate::allowlist::{Allowlist, Verdict};
use crate::container::{Container, ContainerId};

/// The verdicts on all containers together, `max` included.
pub fn judge_all<'a>(
    list: &Allowlist,
    own: &BTreeSet<ContainerId>,
    containers: impl IntoIterator<Item = &'a Container>,
    now: Timestamp,
) -> BTreeMap<ContainerId, Verdict> {
    let containers: Vec<_> = containers.into_iter().collect();
    let judge = |container: &Container| match own.contains(&container.id) {
        true => Verdict::Own,
        false => list.judge(container, now),
    };
    let judged = containers.iter().map(|one| (one.id.clone(), judge(one)));
    let mut verdicts: BTreeMap<_, _> = judged.collect();
    if list.has_max() {
        let allowed = containers
            .into_iter()
            .filter(|container| verdicts.get(&container.id).is_some_and(Verdict::is_allowed));
        let seats = allot(list, allowed.collect(), now);
        verdicts.extend(seats);
    }
    verdicts
}

/// Who of these containers is allowed by which rule, and who is one too many: the live ones take, in
/// order of their creation, the first rule that matches and has room.
pub fn allot(
    list: &Allowlist,
    mut containers: Vec<&Container>,
    now: Timestamp,
) -> BTreeMap<ContainerId, Verdict> {
    containers.retain(|container| container.state.is_live());
    containers.sort_by_key(|container| (container.created_at, &container.id));
    let mut taken: HashMap<&str, u32> = HashMap::new();
    let mut verdicts = BTreeMap::new();
    for container in containers {
        let rules = list.matching(container, now);
        let with_room = rules.iter().find(|rule| {
            let taken = taken.get(&*rule.name).copied().unwrap_or(0);
            rule.max.is_none_or(|max| taken < max)
        });
        let verdict = match (with_room, rules.first()) {
            (Some(rule), _) => {
                *taken.entry(&rule.name).or_default() += 1;
                Verdict::Allowed {
                    rule: rule.name.clone(),
                    would_deny: rule.audit,
                }
            }
            (None, Some(first)) => Verdict::over_max(first),
            (None, None) => continue,
        };
        verdicts.insert(container.id.clone(), verdict);
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::State;

    #[test]
    fn the_oldest_stay_and_each_takes_the_first_rule_with_room() {
        let text = "version = 1\n[[allow]]\nrule = \"two\"\nimage = \"a\"\nmax = 2\n[[allow]]\nrule = \"spare\"\nimage = \"a\"\ncontainer = \"s*\"\nmax = 1\n";
        let list = Allowlist::parse(text.as_bytes()).expect("a list");
        let container = |digit: &str, created: i64, name: &str, state: State| Container {
            name: Some(name.to_owned()),
            image: Some("a".to_owned()),
            image_id: Some(format!("sha256:{}", "1a".repeat(32))),
            state,
            created_at: Timestamp::from_second(created).ok(),
            powers: Some(std::collections::BTreeSet::new()),
            ..Container::new(ContainerId::parse(&digit.repeat(64)).expect("full id"))
        };
        let all = [
            container("e", 5, "s2", State::Running),
            container("d", 4, "s1", State::Paused),
            container("c", 3, "x", State::Running),
            container("b", 3, "y", State::Restarting),
            container("a", 1, "z", State::Exited),
        ];
        let verdicts = allot(&list, all.iter().collect(), Timestamp::UNIX_EPOCH);
        let found: Vec<_> = verdicts
            .iter()
            .map(|(id, verdict)| (&id.as_str()[..1], verdict.as_str(), verdict.rule()))
            .collect();
        let expected = [
            ("b", "allowed", Some("two")),
            ("c", "allowed", Some("two")),
            ("d", "allowed", Some("spare")),
            ("e", "denied", Some("two")),
        ];
        assert_eq!(found, expected);
    }
}
