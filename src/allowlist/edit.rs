//! The one edit that would allow a container, as text to paste into the list.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};

use super::matching::{Facts, ImageMatch, label_fits};
use super::nearest::is_grant;
use super::{Allowlist, Command, Reason, Rule, Verdict};
use crate::container::Container;
use crate::grant::{Grant, Power};
use crate::image::{self, ImagePattern};
use crate::printable::is_hidden;

/// For how long a rule that has expired would go on.
const LONGER: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How many bytes of a label's value are worth writing down.
const LABEL: usize = 256;

impl Allowlist {
    /// What to write so that a denied container is allowed: keys of the rule that the verdict names, or else a
    /// rule of its own. None where no line does that.
    pub fn edit(&self, container: &Container, verdict: &Verdict, now: Timestamp) -> Option<String> {
        let reason = verdict.reason()?;
        let near = verdict.rule().and_then(|name| self.rule(name));
        let Some(rule) = near else {
            return (reason == Reason::NoRule).then(|| self.new_rule(container))?;
        };
        let lines = match reason {
            Reason::OverMax => vec![("max", (u64::from(rule.max?) + 1).to_string())],
            _ => changed_keys(rule, container, now)?,
        };
        let mut text = String::new();
        for (key, value) in lines {
            let _ = writeln!(text, "{key} = {value}");
        }
        Some(text)
    }

    fn new_rule(&self, container: &Container) -> Option<String> {
        let image = name_of_image(container)?;
        let base = container.name.as_deref().unwrap_or(image);
        let mut name = base.to_owned();
        let mut number = 2;
        while self.rule(&name).is_some() {
            name = format!("{base}-{number}");
            number += 1;
        }
        let mut text = String::new();
        if self.allow_nothing {
            text.push_str("# in place of the line `allow-nothing = true`\n");
        }
        let (name, image) = (quoted(&name), quoted(image));
        let _ = writeln!(text, "[[allow]]\nrule = {name}\nimage = {image}");
        let defaults = self.defaults.as_ref();
        let asks = defaults.and_then(|defaults| defaults.grants.as_ref());
        if let Some(granted) = asks {
            let powers = container.powers.iter().flatten();
            let missing: Vec<_> = powers
                .filter(|power| !granted.iter().any(|grant| grant.covers(power)))
                .collect();
            if !missing.is_empty() {
                let _ = writeln!(text, "grants = {}", list(as_grants(&missing)));
            }
        }
        Some(text)
    }
}

/// The keys by which a rule misses a container, with values by which it does not.
fn changed_keys(
    rule: &Rule,
    container: &Container,
    now: Timestamp,
) -> Option<Vec<(&'static str, String)>> {
    let facts = Facts::of(container);
    let mut changed = Vec::new();
    match rule.image_fits(&facts) {
        ImageMatch::Fits => {}
        ImageMatch::WrongContent => changed.push(("image", list(pinned_anew(rule, &facts)?))),
        ImageMatch::Misses => {
            let known = rule.image.iter().map(ImagePattern::as_str);
            let images = known.chain([name_of_image(container)?]);
            changed.push(("image", list(images.map(str::to_owned))));
        }
        ImageMatch::Open(_) => return None,
    }
    if !rule.container_fits(&facts) {
        let known = rule.container.iter().map(|pattern| pattern.as_str());
        let names = known.chain([container.name.as_deref()?]);
        changed.push(("container", list(names.map(str::to_owned))));
    }
    if let Some(labels) = changed_labels(rule, container)? {
        changed.push(("labels", labels));
    }
    let missing = rule.missing_grants(container);
    if !missing.is_empty() {
        let own = rule.grants.iter().flatten().map(Grant::to_string);
        changed.push(("grants", list(own.chain(as_grants(&missing)))));
    }
    if container.runs_image_command == Some(false) && rule.command == Command::Image {
        changed.push(("command", quoted(Command::Any.as_str())));
    }
    if rule.is_expired(now) {
        let expires = now.checked_add(LONGER).ok()?;
        changed.push(("expires", expires.strftime("%FT00:00:00Z").to_string()));
    }
    if !rule.exec_fits(container) {
        changed.push(("exec", true.to_string()));
    }
    Some(changed)
}

/// By what a rule may know its image: a name, or else the content.
pub(super) fn name_of_image(container: &Container) -> Option<&str> {
    let name = container.names_of_image().next();
    name.or(container.image_id.as_deref())
        .filter(|name| ImagePattern::parse(name).is_ok())
}

/// The patterns of a rule's images; those that pin another content of a container's image pin this one.
fn pinned_anew(rule: &Rule, facts: &Facts<'_>) -> Option<Vec<String>> {
    let container = facts.container;
    let names = container.image_names.iter().flatten();
    let digest = names
        .filter_map(|name| image::hash_of_repo_digest(name))
        .next();
    let content = digest.or(container.image_id.as_deref())?;
    let anew = |pattern: &ImagePattern| {
        let is_meant = facts.names.iter().any(|name| pattern.name_matches(name));
        match pattern.as_str().split_once('@') {
            Some((name, _)) if is_meant => format!("{name}@{content}"),
            _ => pattern.as_str().to_owned(),
        }
    };
    let mut patterns = Vec::new();
    for pattern in rule.image.iter().map(anew) {
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    Some(patterns)
}

/// A rule's labels with the values of a container's, where they don't fit; none where it has no such label,
/// or one that is no pattern for itself alone.
#[allow(clippy::option_option)] // nothing to change, and no change that helps
fn changed_labels(rule: &Rule, container: &Container) -> Option<Option<String>> {
    let mut is_changed = false;
    let mut pairs = Vec::new();
    for (key, pattern) in &rule.labels {
        let value = match label_fits(key, pattern, container) {
            true => pattern.as_str(),
            false => {
                is_changed = true;
                let value = container.labels.as_ref()?.get(key)?;
                if value.contains('*') || value.len() > LABEL {
                    return None;
                }
                value
            }
        };
        pairs.push(format!("{} = {}", quoted(key), quoted(value)));
    }
    Some(is_changed.then(|| format!("{{ {} }}", pairs.join(", "))))
}

/// What can't be granted by its name is granted by `all`.
fn as_grants(powers: &[&Power]) -> Vec<String> {
    match powers.iter().all(|power| is_grant(power)) {
        true => powers.iter().map(ToString::to_string).collect(),
        false => vec!["all".to_owned()],
    }
}

fn list(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| quoted(&word)).collect();
    format!("[{}]", words.join(", "))
}

/// A text as TOML has it, in which nothing hides.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if is_hidden(character) => {
                let _ = write!(quoted, "\\U{:08x}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
