//! Why a container is denied: the nearest rule, and the one edit that would allow it.

use jiff::Timestamp;

use super::edit::name_of_image;
use super::index::Candidates;
use super::matching::{Facts, ImageMatch, label_fits};
use super::{Allowlist, Key, Reason, Rule, Verdict, explain};
use crate::container::Container;
use crate::grant::{Grant, Power};

/// How far a rule is from matching. What it says about who a container is counts before what it
/// says about what that one may do.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Distance {
    identity: usize,
    rest: usize,
}

/// As near as a rule can be that speaks of another container.
const ONE_KEY: Distance = Distance {
    identity: 1,
    rest: 0,
};

/// The verdict on a container that no rule matches.
pub(super) fn denial(
    list: &Allowlist,
    candidates: &Candidates<'_>,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Verdict {
    let of_a_kind = candidates
        .iter()
        .map(|rule| (distance(rule, facts, now), rule))
        .filter(|(distance, _)| distance.identity == 0)
        .min_by(|(one, _), (other, _)| one.cmp(other));
    let near = || {
        let is_open = |rule: &Rule| beside_identity(rule, facts.container) == 0;
        let is_near = |rule: &Rule| distance(rule, facts, now) == ONE_KEY;
        let rule = candidates.first_near(is_open, is_near)?;
        Some((ONE_KEY, rule))
    };
    by_nearest(list, of_a_kind.or_else(near), facts, now)
}

/// The same, by asking every rule.
#[cfg(test)]
pub(super) fn denial_by_scan(list: &Allowlist, facts: &Facts<'_>, now: Timestamp) -> Verdict {
    let nearest = list
        .rules
        .in_order()
        .map(|rule| (distance(rule, facts, now), rule))
        .min_by(|(one, _), (other, _)| one.cmp(other));
    by_nearest(list, nearest, facts, now)
}

fn by_nearest(
    list: &Allowlist,
    nearest: Option<(Distance, &Rule)>,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Verdict {
    match nearest {
        Some((Distance { identity: 0, .. }, rule)) => of_a_kind(rule, facts, now),
        Some((ONE_KEY, rule)) if is_close(rule) => {
            let name = Some(rule.name.clone());
            Verdict::denied(Reason::NoRule, name, &one_miss(rule, facts, now))
        }
        _ => Verdict::denied(Reason::NoRule, None, &no_rule(list, facts.container)),
    }
}

/// Whether more than the key that misses speaks for a rule.
fn is_close(rule: &Rule) -> bool {
    let keys = usize::from(!rule.image.is_empty())
        + usize::from(!rule.container.is_empty())
        + rule.labels.len();
    keys > 1
}

fn distance(rule: &Rule, facts: &Facts<'_>, now: Timestamp) -> Distance {
    let container = facts.container;
    let labels = rule.labels.iter();
    let image = rule.image_fits(facts);
    let identity = usize::from(!rule.container_fits(facts))
        + labels
            .filter(|(key, pattern)| !label_fits(key, pattern, container))
            .count()
        + usize::from(matches!(image, ImageMatch::Misses | ImageMatch::Open(_)));
    let rest = usize::from(image == ImageMatch::WrongContent)
        + beside_identity(rule, container)
        + usize::from(rule.is_expired(now));
    Distance { identity, rest }
}

/// How much of what a container does a rule does not let it do, whoever it is.
fn beside_identity(rule: &Rule, container: &Container) -> usize {
    rule.missing_grants(container).len()
        + usize::from(!is_command_fine(rule, container))
        + usize::from(!rule.exec_fits(container))
}

fn is_command_fine(rule: &Rule, container: &Container) -> bool {
    container.runs_image_command != Some(false) || rule.command == super::Command::Any
}

/// What keeps a rule from matching that speaks of this very container.
fn of_a_kind(rule: &Rule, facts: &Facts<'_>, now: Timestamp) -> Verdict {
    let container = facts.container;
    let name = &rule.name;
    let mut misses = Vec::new();
    if rule.image_fits(facts) == ImageMatch::WrongContent {
        let content = container.image_id.as_deref().unwrap_or("unknown");
        misses.push((
            Reason::WrongContent,
            format!(
                "its image has that name and other content, {content}: if that is meant, `dockwarden pin --update` takes it over"
            ),
        ));
    }
    let missing = rule.missing_grants(container);
    if !missing.is_empty() {
        let edit = match missing.iter().all(|power| is_grant(power)) {
            true => "add that to its `grants`",
            false => "only `all` in its `grants` covers that",
        };
        let missing: Vec<_> = missing.iter().map(|power| format!("`{power}`")).collect();
        misses.push((
            Reason::NotGranted,
            format!("does not grant {}: {edit}", missing.join(", ")),
        ));
    }
    if !is_command_fine(rule, container) {
        misses.push((
            Reason::NoRule,
            "asks for the image's own command, and it runs another: `command = \"any\"` allows that"
                .to_owned(),
        ));
    }
    if let Some(expires) = rule.expires.filter(|_| rule.is_expired(now)) {
        misses.push((
            Reason::Expired,
            format!("expired at {expires}: set a later `expires`"),
        ));
    }
    if let Some(program) = container.foreign_exec.as_deref().filter(|_| !rule.exec) {
        let program = explain::quoted(Some(program));
        misses.push((
            Reason::ForeignExec,
            format!(
                "lets nobody execute anything in it, and {program} was: `exec = true` allows that"
            ),
        ));
    }
    let reason = misses.first().map_or(Reason::NoRule, |(reason, _)| *reason);
    let sentences: Vec<_> = misses.into_iter().map(|(_, sentence)| sentence).collect();
    let detail = format!("rule `{name}` matches but {}", sentences.join("; and "));
    Verdict::denied(reason, Some(name.clone()), &detail)
}

fn one_miss(rule: &Rule, facts: &Facts<'_>, now: Timestamp) -> String {
    let container = facts.container;
    let Some(missed) = explain::keys(rule, facts, now).find(|key| !key.matches) else {
        return format!("rule `{}` matches", rule.name);
    };
    let edit = match missed.key {
        Key::Image => container.names_of_image().next(),
        Key::Container => container.name.as_deref(),
        _ => None,
    };
    let edit = match edit {
        Some(name) => {
            let (name, key) = (explain::shortened(name), missed.key.as_str());
            format!(": add {name:?} to its `{key}`")
        }
        None if missed.key == Key::Labels => ": change that label in the rule".to_owned(),
        None => String::new(),
    };
    format!("rule `{}` matches but for {missed}{edit}", rule.name)
}

/// Whether a power can be granted as it is written. A path with `*` can't, nor what has no name here.
pub(super) fn is_grant(power: &Power) -> bool {
    Grant::parse(&power.to_string()).is_ok_and(|grant| grant.covers(power))
}

/// The rule that would allow it, as no other is near.
fn no_rule(list: &Allowlist, container: &Container) -> String {
    let Some(image) = name_of_image(container) else {
        return "no rule matches".to_owned();
    };
    let image = explain::shortened(image);
    let mut grants = String::new();
    let is_asked = list
        .defaults
        .as_ref()
        .is_some_and(|defaults| defaults.grants.is_some());
    let powers: Vec<_> = container.powers.iter().flatten().collect();
    if is_asked && !powers.is_empty() {
        let powers: Vec<_> = match powers.iter().all(|power| is_grant(power)) {
            true => powers
                .iter()
                .map(|power| format!("{:?}", power.to_string()))
                .collect(),
            false => vec!["\"all\"".to_owned()],
        };
        grants = format!(" with grants = [{}]", powers.join(", "));
    }
    format!("no rule matches: one for image = {image:?}{grants} would allow it")
}
