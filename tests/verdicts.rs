//! Deciding is pure: lists and containers to verdicts, with no engine, no clock and no async.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::Arc;

use dockwarden::allowlist::{Allowlist, Question, Reason, Verdict};
use dockwarden::container::{Ancestor, Container, ContainerId, State};
use dockwarden::grant::Power;
use jiff::Timestamp;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn list(rules: &str) -> Allowlist {
    let text = format!("version = 1\n{rules}");
    Allowlist::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{rules}\n{error}"))
}

fn id(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

/// A container of which everything is known; from `good:1`, whose id is `aaa…`.
fn container() -> Container {
    Container {
        name: Some("web-1".to_owned()),
        image: Some("good:1".to_owned()),
        image_id: Some(id('a')),
        image_names: Some(vec!["good:1".to_owned()]),
        ancestors: Some(Vec::new()),
        powers: Some(BTreeSet::new()),
        runs_image_command: Some(true),
        labels: Some(Arc::new([("tier".to_owned(), "front".to_owned())].into())),
        state: State::Running,
        ..Container::new(ContainerId::parse(&"0".repeat(64)).unwrap())
    }
}

fn with(change: impl FnOnce(&mut Container)) -> Container {
    let mut container = container();
    change(&mut container);
    container
}

fn powers(words: &[&str]) -> Option<BTreeSet<Power>> {
    Some(
        words
            .iter()
            .map(|word| Power::parse(word).unwrap())
            .collect(),
    )
}

/// `allowed RULE`, `audit RULE`, or `REASON [RULE]: DETAIL`.
fn told(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allowed { rule, would_deny } => {
            format!("{} {rule}", if *would_deny { "audit" } else { "allowed" })
        }
        Verdict::Denied {
            reason,
            rule,
            detail,
        } => format!("{reason} {}: {detail}", rule.as_deref().unwrap_or("-")),
        other => other.as_str().to_owned(),
    }
}

#[track_caller]
fn expect(rules: &str, container: &Container, expected: &str) {
    let verdict = told(&list(rules).judge(container, NOW));
    assert!(
        verdict.contains(expected),
        "{rules}\n  expected: {expected}\n  found:    {verdict}"
    );
}

#[test]
fn content_alone_decides_under_a_pin() {
    let rule = |image: &str| format!("[[allow]]\nrule = \"r\"\nimage = \"{image}\"\n");
    let (a, b) = (id('a'), id('b'));
    let pinned = rule(&format!("good:1@{a}"));
    let table = [
        (pinned.clone(), container(), "allowed r"),
        (
            pinned.clone(),
            with(|one| one.image = Some("other:2".to_owned())),
            "allowed r",
        ),
        (
            pinned.clone(),
            with(|one| one.image = Some(id('a'))),
            "allowed r",
        ),
        (
            pinned.clone(),
            with(|one| one.image_id = Some(id('b'))),
            "wrong-content r: rule `r` matches but its image has that name and other content",
        ),
        (
            pinned,
            with(|one| {
                one.image = Some("other:2".to_owned());
                one.image_id = Some(id('b'));
            }),
            "no-rule -: no rule matches: one for image = \"other:2\" would allow it",
        ),
        (rule(&a), container(), "allowed r"),
        (rule(&b), container(), "no-rule"),
        (
            rule(&format!("good:1@{b}")),
            with(|one| one.image_names = Some(vec![format!("any.io/x@{b}")])),
            "allowed r",
        ),
        (
            // A repository that is called like the digest is no digest.
            rule(&format!("good:1@{b}")),
            with(|one| one.image_names = Some(vec![format!("good:{}", "b".repeat(64))])),
            "wrong-content r",
        ),
    ];
    for (rules, container, expected) in table {
        expect(&rules, &container, expected);
    }
}

#[test]
fn what_is_not_granted_is_denied_and_named() {
    let rule = |grants: &str| format!("[[allow]]\nrule = \"web\"\nimage = \"good\"\n{grants}\n");
    let none = "[defaults]\ngrants = []\n";
    let table = [
        ("", rule(""), vec!["privileged"], "allowed web"),
        (none, rule(""), vec![], "allowed web"),
        (
            none,
            rule(""),
            vec!["host-network"],
            "not-granted web: rule `web` matches but does not grant `host-network`: add that to its `grants`",
        ),
        (
            "",
            rule("grants = []"),
            vec!["host-pid", "bind:/srv:ro"],
            "does not grant `host-pid`, `bind:/srv:ro`",
        ),
        (
            none,
            rule("grants = [\"host-network\"]"),
            vec!["host-network"],
            "allowed web",
        ),
        (
            "[defaults]\ngrants = [\"host-network\"]\n",
            rule("grants = [\"bind:/srv/**\"]"),
            vec!["host-network", "bind:/srv/www"],
            "allowed web",
        ),
        (
            none,
            rule("grants = [\"all\"]"),
            vec!["unknown:IpcMode=new"],
            "allowed web",
        ),
        (
            none,
            rule("grants = [\"privileged\"]"),
            vec!["unknown:IpcMode=new"],
            "does not grant `unknown:IpcMode=new`: only `all` in its `grants` covers that",
        ),
        (
            none,
            rule(""),
            vec!["bind:/srv/a*b"],
            "does not grant `bind:/srv/a*b`: only `all` in its `grants` covers that",
        ),
        (
            none,
            rule("container = \"db\"\nlabels = { no = \"no\" }"),
            vec!["unknown:IpcMode=new", "host-pid"],
            "one for image = \"good:1\" with grants = [\"all\"] would allow it",
        ),
    ];
    for (defaults, rule, held, expected) in table {
        let container = with(|one| one.powers = powers(&held));
        expect(&format!("{defaults}{rule}"), &container, expected);
    }
}

#[test]
fn the_other_keys_say_what_would_allow_it() {
    let rule = |keys: &str| format!("[[allow]]\nrule = \"r\"\nimage = \"good:*\"\n{keys}\n");
    let table = [
        (rule("command = \"image\""), container(), "allowed r"),
        (
            rule("command = \"image\""),
            with(|one| one.runs_image_command = Some(false)),
            "no-rule r: rule `r` matches but asks for the image's own command",
        ),
        (
            rule("exec = false"),
            with(|one| one.foreign_exec = Some("sh".to_owned())),
            "foreign-exec r: rule `r` matches but lets nobody execute anything in it, and `sh` was: `exec = true`",
        ),
        (
            rule("exec = true"),
            with(|one| one.foreign_exec = Some("sh".to_owned())),
            "allowed r",
        ),
        (
            format!(
                "{}[[allow]]\nrule = \"s\"\nimage = \"good\"\n",
                rule("exec = false")
            ),
            with(|one| one.foreign_exec = Some("sh".to_owned())),
            "allowed s",
        ),
        (
            rule("expires = 1960-01-01T00:00:00Z"),
            container(),
            "expired r: rule `r` matches but expired at 1960-01-01T00:00:00Z: set a later `expires`",
        ),
        (rule("audit = true"), container(), "audit r"),
        (
            format!(
                "{}[[allow]]\nrule = \"s\"\nimage = \"good\"\n",
                rule("audit = true")
            ),
            container(),
            "allowed s",
        ),
        (
            rule("container = \"db-*\""),
            container(),
            "no-rule r: rule `r` matches but for `container`: `web-1` does not fit `db-*`: add \"web-1\" to its `container`",
        ),
        (
            rule("labels = { tier = \"back\" }"),
            container(),
            "no-rule r: rule `r` matches but for `labels`: `front` does not fit `tier` = `back`: change that label",
        ),
        (
            rule("container = \"db-*\"\nlabels = { tier = \"back\" }"),
            container(),
            "no-rule -: no rule matches",
        ),
    ];
    for (rules, container, expected) in table {
        expect(&rules, &container, expected);
    }
}

#[test]
fn the_steps_of_a_build_are_allowed_by_what_they_are_built_on() {
    let rule = |keys: &str| format!("[[allow]]\nrule = \"r\"\nimage = \"base:1\"\n{keys}\n");
    let step = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        with(|one| {
            one.image = Some(id('a'));
            one.image_names = Some(Vec::new());
            one.ancestors = Some(vec![
                Ancestor {
                    id: id('b'),
                    names: Vec::new(),
                },
                Ancestor { id: id('c'), names },
            ]);
        })
    };
    let steps = rule("build-steps = true");
    expect(&steps, &step(&["base:1"]), "allowed r");
    expect(&steps, &step(&["other:1"]), "no-rule");
    expect(&rule(""), &step(&["base:1"]), "no-rule");
    let by_pin = format!(
        "[[allow]]\nrule = \"r\"\nimage = \"base:1@{}\"\nbuild-steps = true\n",
        id('c')
    );
    expect(&by_pin, &step(&[]), "allowed r");
    // What is run by its name is no step of a build.
    let named = Container {
        image: Some("built:1".to_owned()),
        ..step(&["base:1"])
    };
    expect(&steps, &named, "no-rule");
}

#[test]
fn nothing_is_asked_about_what_no_rule_could_allow() {
    use Question::{Ancestors, Command, ImageNames, Inspection};
    let unknown = |one: &mut Container| {
        one.image_names = None;
        one.ancestors = None;
        one.powers = None;
        one.runs_image_command = None;
    };
    let by_id = |one: &mut Container| {
        unknown(one);
        one.image = Some(id('a'));
    };
    let rule = |keys: &str| list(&format!("[[allow]]\n{keys}\n"));
    let pinned = format!("image = \"good:1@{}\"", id('b'));
    let table = [
        (rule("image = \"good\""), with(unknown), None),
        (rule("image = \"other\"\ngrants = []"), with(unknown), None),
        (
            rule("image = \"good\"\ngrants = []"),
            with(unknown),
            Some(Inspection),
        ),
        (
            rule("image = \"good\"\ncontainer = \"db\"\ngrants = []"),
            with(unknown),
            None,
        ),
        (
            rule("image = \"good\"\nmax = 1"),
            with(unknown),
            Some(Inspection),
        ),
        (
            rule("image = \"good\"\ncommand = \"image\""),
            with(unknown),
            Some(Command),
        ),
        (rule(&pinned), with(unknown), Some(ImageNames)),
        (rule("image = \"good\""), with(by_id), Some(Inspection)),
        (
            rule("image = \"good\""),
            with(|one| {
                by_id(one);
                one.powers = powers(&[]);
            }),
            Some(ImageNames),
        ),
        (
            rule("image = \"good\"\nbuild-steps = true"),
            with(|one| {
                by_id(one);
                one.powers = powers(&[]);
                one.image_names = Some(Vec::new());
            }),
            Some(Ancestors),
        ),
    ];
    for (list, container, question) in table {
        assert_eq!(list.question(&container, NOW), question, "{:?}", list.rules);
        let is_open = list.judge(&container, NOW) == Verdict::Unknown;
        assert_eq!(is_open, question.is_some(), "{:?}", list.rules);
    }
}

#[test]
fn names_deny_nothing_that_is_only_created() {
    let list = list("[[allow]]\nimage = \"good\"\ncontainer = \"db\"\nmax = 1\ngrants = []\n");
    let created = container();
    assert!(list.judge(&created, NOW).is_denied());
    assert!(list.judge_at_create(&created, NOW).is_allowed());
    let powerful = with(|one| one.powers = powers(&["host-pid"]));
    let verdict = list.judge_at_create(&powerful, NOW);
    assert_eq!(verdict.reason(), Some(Reason::NotGranted));
}

#[test]
fn an_audit_that_ends_is_no_other_list() {
    let text = "audit-until = 1970-01-02T00:00:00Z\n[[allow]]\nimage = \"a\"\n";
    let list = list(text);
    assert_eq!(list.mode_at(NOW).as_str(), "audit");
    let later = "1970-01-02T00:00:00Z".parse().unwrap();
    assert_eq!(list.mode_at(later).as_str(), "enforce");
}

#[test]
fn keys_at_their_default_leave_the_hash_as_it_was() {
    let short = list("[[allow]]\nimage = \"a\"\n");
    let long = list(
        "stop-timeout = \"10s\"\non-create = \"wait\"\n[[allow]]\nimage = \"a\"\nexec = true\ncommand = \"any\"\nkeep-running = false\nbuild-steps = false\naudit = false\n",
    );
    assert_eq!(short.hash(), long.hash());
    for other in [
        "[defaults]\ngrants = []\n[[allow]]\nimage = \"a\"\n",
        "stop-timeout = \"11s\"\n[[allow]]\nimage = \"a\"\n",
        "[[allow]]\nimage = \"a\"\nmax = 3\n",
    ] {
        assert_ne!(list(other).hash(), short.hash(), "{other}");
    }
}
