//! Remarks on one rule.

use jiff::Timestamp;

use super::{NEAR, of_grant};
use crate::allowlist::{Allowlist, Command, Mode, Rule};
use crate::pattern::Pattern;

pub(super) fn of_rule(rule: &Rule, list: &Allowlist, now: Timestamp) -> Vec<String> {
    let mut messages = Vec::new();
    messages.extend(identity(rule));
    messages.extend(names(rule));
    messages.extend(rule.grants.iter().flatten().filter_map(of_grant));
    messages.extend(limits(rule));
    messages.extend(effects(rule, list));
    messages.extend(expiry(rule, now));
    messages
}

/// Whether whoever starts a container can satisfy the rule.
fn identity(rule: &Rule) -> Option<String> {
    if rule.image.is_empty() {
        return Some(
            "names no image, and container names and labels are typed by whoever starts a container: add `image`"
                .to_owned(),
        );
    }
    if let Some(pattern) = rule.image.iter().find(|pattern| pattern.is_everything()) {
        return Some(format!(
            "image `{pattern}` is every image there is: name those that are meant"
        ));
    }
    let loose = || rule.image.iter().filter(|pattern| pattern.pin().is_none());
    let first = loose().next()?;
    let is = match loose().count() {
        1 => format!("`{first}` is"),
        count => format!("`{first}` and {} more are", count - 1),
    };
    let typed = match loose().find(|pattern| pattern.has_tag()) {
        Some(_) => " (a tag typed beside a digest counts too, though the engine ignores it)",
        None => "",
    };
    Some(format!(
        "{is} not pinned, and any image can be tagged so{typed}: `dockwarden pin` writes pins"
    ))
}

/// Container patterns that no name fits.
fn names(rule: &Rule) -> Option<String> {
    const WHY: &str = "names have two characters or more and begin with a letter or a digit";
    let idle = || {
        rule.container
            .iter()
            .filter(|pattern| !fits_a_name(pattern))
    };
    let quoted: Vec<_> = idle().map(|pattern| format!("`{pattern}`")).collect();
    let quoted = quoted.join(", ");
    match idle().count() {
        0 => None,
        all if all == rule.container.len() => {
            Some(format!("`container` can never match: {quoted}; {WHY}"))
        }
        _ => Some(format!("`container` can't match by {quoted}: {WHY}")),
    }
}

/// Docker's names are `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, and a pattern has no other characters.
fn fits_a_name(pattern: &Pattern) -> bool {
    let text = pattern.as_str();
    let is_long_enough = text.len() > 1 || text.contains('*');
    is_long_enough && !text.starts_with(['_', '.', '-'])
}

/// What is meant for strangers and hits friends.
fn limits(rule: &Rule) -> Vec<String> {
    let mut messages = Vec::new();
    if !rule.exec {
        messages.push(
            "`exec = false` also ends what Compose or the kubelet checks the health of: only an image's own check is known"
                .to_owned(),
        );
    }
    let is_compose = |key: &String| key.starts_with("com.docker.compose.");
    if let Some(max) = rule.max.filter(|_| !rule.labels.keys().any(is_compose)) {
        messages.push(format!(
            "`max = {max}` leaves no room for an update that starts first, as Swarm's may: that takes one more"
        ));
    }
    messages
}

/// Keys that the others make idle.
fn effects(rule: &Rule, list: &Allowlist) -> Vec<String> {
    let mut messages = Vec::new();
    let mut idle = |key: &str, why: &str| {
        messages.push(format!("`{key}` takes no effect {why}: remove it"));
    };
    if rule.build_steps {
        let has_generated_names = |pattern: &Pattern| pattern.as_str().contains('*');
        if rule.image.is_empty() {
            idle("build-steps", "without `image`");
        } else if rule.command == Command::Image {
            idle(
                "build-steps",
                "with `command = \"image\"`, as steps run other commands",
            );
        } else if !rule.container.is_empty() && !rule.container.iter().any(has_generated_names) {
            idle(
                "build-steps",
                "with these `container` names, as those of steps are generated",
            );
        }
    }
    if rule.keep_running && list.mode == Mode::Audit {
        idle("keep-running", "in audit mode");
    }
    messages
}

fn expiry(rule: &Rule, now: Timestamp) -> Option<String> {
    let expires = rule.expires?;
    if expires <= now {
        Some(format!(
            "expired at {expires} and allows nothing: remove it, or set a later `expires`"
        ))
    } else if expires.duration_since(now) < NEAR {
        Some(format!(
            "expires soon, at {expires}: set a later `expires` if it is still needed"
        ))
    } else {
        None
    }
}
