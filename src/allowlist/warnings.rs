//! What a valid list may still get wrong: rules that anyone can satisfy, powers that are as good as
//! root on the host, and what never takes effect.

mod covered;
mod rule;

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Action, Allowlist, Mode, STOP_TIMEOUT};
use crate::grant::{Grant, Power};

/// How long before its end an expiry is worth a warning.
const NEAR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Where engines listen, and the directories that hold these sockets.
const ENGINES: &[&str] = &[
    "/",
    "/run",
    "/run/docker.sock",
    "/run/podman",
    "/run/podman/podman.sock",
    "/run/containerd",
    "/run/containerd/containerd.sock",
    "/run/crio",
    "/run/crio/crio.sock",
    "/run/user",
];
/// What such sockets are called elsewhere, of rootless engines for one.
const ENGINE_SOCKETS: &[&str] = &["docker.sock", "podman.sock", "containerd.sock"];

/// A remark on the list, or on one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The rule's name; `None` where it is about the list.
    pub rule: Option<Arc<str>>,
    /// What is weak about it, and what helps.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(formatter, "rule `{rule}`: {}", self.message),
            None => formatter.write_str(&self.message),
        }
    }
}

pub(super) fn warnings(list: &Allowlist, now: Timestamp) -> Vec<Warning> {
    let about_list = of_list(list, now).into_iter().map(|message| Warning {
        rule: None,
        message,
    });
    let mut all: Vec<_> = about_list.collect();
    let looks_at_powers = !looks_at_no_powers(list);
    let covered = covered::covered(&list.rules, now);
    for (rule, covering) in list.rules.iter().zip(covered) {
        let mut messages = rule::of_rule(rule, list, now);
        if looks_at_powers && rule.granted().is_none() {
            messages.push("does not look at powers: give it `grants`, `[]` for none".to_owned());
        }
        messages.extend(covering.map(|other| {
            format!(
                "rule `{}` allows all that it allows: remove it, or narrow that one",
                other.name
            )
        }));
        all.extend(messages.into_iter().map(|message| Warning {
            rule: Some(rule.name.clone()),
            message,
        }));
    }
    all
}

fn of_list(list: &Allowlist, now: Timestamp) -> Vec<String> {
    let mut messages = Vec::new();
    if looks_at_no_powers(list) && !list.rules.is_empty() {
        messages.push(
            "powers are not looked at: with `[defaults] grants = []` rules say what containers may do"
                .to_owned(),
        );
    }
    let defaults = list.defaults.iter();
    let grants = defaults.flat_map(|defaults| defaults.grants.iter().flat_map(|all| all.iter()));
    messages.extend(
        grants
            .filter_map(of_grant)
            .map(|message| format!("`[defaults]` {message}")),
    );
    match list.audit_until {
        Some(until) if until <= now => {
            messages.push(format!("`audit-until` ended at {until}: remove it"));
        }
        Some(_) if list.mode == Mode::Audit => messages.push(
            "`audit-until` ends nothing with `mode = \"audit\"`: let that be `enforce`".to_owned(),
        ),
        Some(until) if until.duration_since(now) < NEAR => messages.push(format!(
            "audit mode ends soon, at {until}, and what is denied is ended from then on"
        )),
        _ => {}
    }
    if list.stop_timeout != STOP_TIMEOUT && list.action != Action::Stop {
        messages.push("`stop-timeout` counts with `action = \"stop\"` only: remove it".to_owned());
    }
    messages
}

/// Whether no rule looks at powers.
fn looks_at_no_powers(list: &Allowlist) -> bool {
    list.rules.iter().all(|rule| rule.granted().is_none())
}

fn of_grant(grant: &Grant) -> Option<String> {
    if reaches_an_engine(grant) {
        Some(format!(
            "grants `{grant}`, which reaches an engine and so is root on its host: grant it to pinned images alone"
        ))
    } else if grant.is_tree() {
        Some(format!(
            "grants `{grant}`, and a symlink written there leads anywhere: grant the very paths"
        ))
    } else {
        None
    }
}

fn reaches_an_engine(grant: &Grant) -> bool {
    let is_bind = grant.as_str().starts_with("bind:");
    grant.is_engine_socket()
        || ENGINES
            .iter()
            // That it can't be written to keeps nobody from connecting.
            .any(|path| grant.covers(&Power::bind(path, true)))
        || (is_bind
            && ENGINE_SOCKETS
                .iter()
                .any(|name| grant.as_str().contains(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const NOW: &str = "2027-01-20T00:00:00Z";

    fn warned(text: &str) -> Vec<String> {
        let list = Allowlist::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        let warnings = list.warnings(NOW.parse().expect("a time"));
        warnings.iter().map(ToString::to_string).collect()
    }

    /// A list without a weakness but for what is added to the top and to its rule.
    fn strong(top: &str, keys: &str) -> String {
        format!(
            "version = 1\n{top}\ndefaults.grants = []\n[[allow]]\nrule = \"web\"\nimage = \"nginx:1.27@{PIN}\"\n{keys}\n"
        )
    }

    #[test]
    fn a_strong_list_has_no_warning() {
        for keys in [
            "",
            "container = \"web-*\"",
            "grants = [\"host-network\", \"bind:/srv/www\", \"cap:ALL\"]",
            "expires = 2028-01-01T00:00:00Z",
            "build-steps = true\ncontainer = \"*\"",
            "keep-running = true",
            "max = 1\nlabels = { \"com.docker.compose.project\" = \"shop\" }",
            "[[allow]]\nimage = \"caddy@sha256:1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"",
        ] {
            assert_eq!(warned(&strong("", keys)), Vec::<String>::new(), "{keys}");
        }
        assert!(warned("version = 1\nallow-nothing = true\n").is_empty());
    }

    #[test]
    fn each_weakness_is_told_once() {
        let table = [
            // top, keys of the rule, what is told
            (
                "audit-until = 2027-01-19T00:00:00Z",
                "",
                "`audit-until` ended at 2027-01-19",
            ),
            (
                "audit-until = 2027-01-21T00:00:00Z",
                "",
                "audit mode ends soon, at 2027-01-21",
            ),
            (
                "audit-until = 2028-01-21T00:00:00Z\nmode = \"audit\"",
                "",
                "`audit-until` ends nothing",
            ),
            (
                "stop-timeout = \"5s\"",
                "",
                "`stop-timeout` counts with `action = \"stop\"` only",
            ),
            (
                "",
                "expires = 2027-01-20T00:00:00Z",
                "rule `web`: expired at 2027-01-20",
            ),
            (
                "",
                "expires = 2027-01-26T00:00:00Z",
                "rule `web`: expires soon, at 2027-01-26",
            ),
            (
                "",
                "grants = [\"engine-socket\"]",
                "rule `web`: grants `engine-socket`, which reaches an engine",
            ),
            (
                "",
                "grants = [\"all\"]",
                "grants `all`, which reaches an engine",
            ),
            (
                "",
                "grants = [\"bind:/var/run/docker.sock:ro\"]",
                "reaches an engine",
            ),
            ("", "grants = [\"bind:/run\"]", "reaches an engine"),
            ("", "grants = [\"bind:/run/**:ro\"]", "reaches an engine"),
            (
                "",
                "grants = [\"bind:/run/podman/**\"]",
                "reaches an engine",
            ),
            ("", "grants = [\"bind:/\"]", "reaches an engine"),
            (
                "",
                "grants = [\"bind:/run/user/1000/docker.sock\"]",
                "reaches an engine",
            ),
            (
                "",
                "grants = [\"bind:/srv/**\"]",
                "grants `bind:/srv/**`, and a symlink written there leads anywhere",
            ),
            ("", "container = \"w\"", "`container` can never match: `w`"),
            (
                "",
                "container = [\"web\", \"-*\", \"_a\"]",
                "`container` can't match by `-*`, `_a`",
            ),
            ("", "exec = false", "`exec = false` also ends"),
            ("", "max = 3", "`max = 3` leaves no room"),
            (
                "",
                "build-steps = true\ncontainer = \"web\"",
                "`build-steps` takes no effect",
            ),
            (
                "",
                "build-steps = true\ncommand = \"image\"",
                "`build-steps` takes no effect",
            ),
            (
                "mode = \"audit\"",
                "keep-running = true",
                "`keep-running` takes no effect",
            ),
            (
                "",
                "[[allow]]\nrule = \"second\"\nimage = \"nginx:1.27@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"",
                "rule `second`: rule `web` allows all",
            ),
        ];
        for (top, keys, expected) in table {
            let told = warned(&strong(top, keys));
            assert!(
                told.len() == 1 && told[0].contains(expected),
                "{top} {keys}: {told:#?}"
            );
        }
    }

    #[test]
    fn weak_identities_and_powers_that_nobody_looks_at_are_told() {
        let table: [(&str, &[&str]); 7] = [
            (
                "defaults.grants = []\n[[allow]]\ncontainer = \"web\"",
                &["rule `allow-1`: names no image"],
            ),
            (
                "defaults.grants = []\n[[allow]]\nlabels = { a = \"b\" }",
                &["names no image"],
            ),
            (
                "defaults.grants = []\n[[allow]]\nimage = \"**\"",
                &["image `**` is every image"],
            ),
            (
                "defaults.grants = []\n[[allow]]\nimage = [\"nginx:1.27\", \"caddy\"]",
                &["`nginx:1.27` and 1 more are not pinned"],
            ),
            (
                "defaults.grants = [\"all\"]\n[[allow]]\ncontainer = \"web\"",
                &["`[defaults]` grants `all`", "names no image"],
            ),
            (
                "[[allow]]\ncontainer = \"web\"",
                &["powers are not looked at", "names no image"],
            ),
            (
                "[[allow]]\ncontainer = \"web\"\n[[allow]]\ncontainer = \"db\"\ngrants = []",
                &[
                    "rule `allow-1`: names no image",
                    "rule `allow-1`: does not look at powers",
                    "rule `allow-2`: names no image",
                ],
            ),
        ];
        for (text, expected) in table {
            let told = warned(&format!("version = 1\n{text}\n"));
            let fits = told
                .iter()
                .zip(expected)
                .all(|(told, expected)| told.contains(expected));
            assert!(fits && told.len() == expected.len(), "{text}: {told:#?}");
        }
    }
}
