//! What would allow a container, written into a list, is a list that allows it.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::{option, sample};
use toml_edit::{DocumentMut, Value};

use super::*;
use crate::container::ContainerId;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const EXPIRED: &str = "expires = 1969-12-31T00:00:00Z\n";

fn digest(digit: &str) -> String {
    format!("sha256:{}", digit.repeat(64))
}

fn container() -> Container {
    let powers = ["host-network", "cap:SYS_TIME"];
    let powers = powers.iter().filter_map(|power| Power::parse(power));
    Container {
        name: Some("web".to_owned()),
        image: Some("shop/web:1".to_owned()),
        image_id: Some(digest("b")),
        labels: Some(Arc::new(
            [("tier".to_owned(), "front\u{202e}\"".to_owned())].into(),
        )),
        powers: Some(powers.collect()),
        runs_image_command: Some(false),
        image_names: Some(Vec::new()),
        ..Container::new(ContainerId::parse(&"ab".repeat(32)).expect("full id"))
    }
}

/// Does with a list, or with this rule of it, what the edit says.
fn applied(text: &str, rule: Option<&str>, edit: &str) -> String {
    let Some(rule) = rule else {
        let gone = "allow-nothing = true\n";
        return match edit.contains("# in place of the line `allow-nothing = true`\n") {
            true => text.replace(gone, "") + edit,
            false => text.to_owned() + edit,
        };
    };
    let mut list: DocumentMut = text.parse().expect("TOML");
    for line in edit.lines() {
        let (key, value) = line.split_once(" = ").expect("a key");
        let rules = list["allow"].as_array_of_tables_mut().expect("rules");
        let mut rules = rules.iter_mut();
        let rule = rules.find(|one| one["rule"].as_str() == Some(rule));
        let value: Value = value.parse().expect("a value");
        rule.expect("that rule")[key] = value.into();
    }
    list.to_string()
}

/// The reason for which it is denied, and the list in which it is not.
fn judged(text: &str, container: &Container) -> (Option<Reason>, Option<String>) {
    let list = Allowlist::parse(text.as_bytes()).expect("a list");
    let verdict = list.judge(container, NOW);
    let edit = list.edit(container, &verdict, NOW);
    if let Some(edit) = &edit {
        assert!(
            !edit.contains(|one| is_hidden(one) && one != '\n'),
            "{edit}"
        );
    }
    let edited = edit.map(|edit| applied(text, verdict.rule(), &edit));
    (verdict.reason(), edited)
}

#[track_caller]
fn allows(text: &str, container: &Container) {
    let list = Allowlist::parse(text.as_bytes());
    let list = list.unwrap_or_else(|error| panic!("{text}\n{}", error.report("list")));
    assert!(list.judge(container, NOW).is_allowed(), "{text}");
}

#[test]
fn what_is_written_allows_it() {
    let (mut executed, mut anonymous) = (container(), container());
    executed.foreign_exec = Some("sh".to_owned());
    anonymous.image = anonymous.image_id.clone();
    let pinned = format!("image = [\"db\", \"shop/web:1@{}\"]\n", digest("a"));
    let table: &[(&str, &str, Reason, &Container)] = &[
        ("allow-nothing = true\n", "", Reason::NoRule, &container()),
        ("allow-nothing = true\n", "", Reason::NoRule, &anonymous),
        (
            "[defaults]\ngrants = [\"cap:SYS_TIME\"]\n",
            "image = \"other\"\n",
            Reason::NoRule,
            &container(),
        ),
        (
            "",
            "image = \"shop/web\"\ngrants = []\n",
            Reason::NotGranted,
            &container(),
        ),
        (
            "",
            "image = \"shop/web\"\ncommand = \"image\"\n",
            Reason::NoRule,
            &container(),
        ),
        (
            "",
            "image = \"other\"\ncontainer = \"web\"\n",
            Reason::NoRule,
            &container(),
        ),
        (
            "",
            "image = \"shop/web\"\ncontainer = \"db\"\n",
            Reason::NoRule,
            &container(),
        ),
        (
            "",
            "image = \"shop/web\"\nlabels = { tier = \"back\" }\n",
            Reason::NoRule,
            &container(),
        ),
        ("", &pinned, Reason::WrongContent, &container()),
        (
            "",
            &format!("image = \"shop/web\"\n{EXPIRED}"),
            Reason::Expired,
            &container(),
        ),
        (
            "",
            "image = \"shop/web\"\nexec = false\n",
            Reason::ForeignExec,
            &executed,
        ),
        // All that misses at once.
        (
            "",
            &format!("{pinned}grants = []\ncommand = \"image\"\nexec = false\n{EXPIRED}"),
            Reason::WrongContent,
            &executed,
        ),
    ];
    for (head, rule, reason, container) in table {
        let rule = match rule.is_empty() {
            true => String::new(),
            false => format!("[[allow]]\nrule = \"web\"\n{rule}"),
        };
        let text = format!("version = 1\n{head}{rule}");
        let (denied, edited) = judged(&text, container);
        assert_eq!(denied, Some(*reason), "{text}");
        allows(
            &edited.unwrap_or_else(|| panic!("no edit: {text}")),
            container,
        );
    }
}

#[test]
fn where_no_line_helps_none_is_written() {
    let (mut without_image, mut unlabelled) = (container(), container());
    without_image.image_id = Some(String::new());
    unlabelled.labels = Some(Arc::default());
    let rule = "version = 1\n[[allow]]\nrule = \"web\"\nimage = \"shop/web\"\nlabels = { tier = \"back\" }\n";
    let (reason, edited) = judged(rule, &without_image);
    assert_eq!((reason, edited), (Some(Reason::NoImage), None));
    let (reason, edited) = judged(rule, &unlabelled);
    assert_eq!((reason, edited), (Some(Reason::NoRule), None));
}

/// Some of the keys of a rule, each with one of a few values.
fn keys() -> impl Strategy<Value = String> {
    let key = |texts: &'static [&'static str]| option::of(sample::select(texts));
    (
        sample::select(&[
            "image = \"shop/*\"\n",
            "image = \"other:2\"\n",
            "image = [\"shop/web:1@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]\n",
            "image = \"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\"\n",
        ][..]),
        key(&["container = \"web\"\n", "container = [\"db\", \"d*\"]\n"]),
        key(&["labels = { tier = \"fr*\" }\n", "labels = { tier = \"back\", \"a.b\" = \"*\" }\n"]),
        key(&["grants = []\n", "grants = [\"host-network\", \"bind:/srv\"]\n"]),
        key(&["command = \"image\"\n"]),
        key(&["exec = false\n"]),
        key(&[EXPIRED, "expires = 2999-01-01T00:00:00Z\n"]),
        key(&["audit = true\n"]),
    )
        .prop_map(|(image, container, labels, grants, command, exec, expires, audit)| {
            let others = [container, labels, grants, command, exec, expires, audit];
            image.to_owned() + &others.into_iter().flatten().collect::<String>()
        })
}

proptest! {
    #[test]
    fn what_is_written_always_allows_it(
        rules in proptest::collection::vec(keys(), 0..4),
        defaults in option::of(Just("[defaults]\ngrants = [\"cap:SYS_TIME\"]\n")),
        is_executed: bool,
        is_named: bool,
        is_labelled: bool,
    ) {
        let mut container = container();
        container.foreign_exec = is_executed.then(|| "sh".to_owned());
        if !is_named {
            container.image = container.image_id.clone();
        }
        if is_labelled {
            let labels = Arc::make_mut(container.labels.get_or_insert_default());
            labels.insert("a.b".to_owned(), "any".to_owned());
        }
        let mut text = "version = 1\n".to_owned();
        if rules.is_empty() {
            text.push_str("allow-nothing = true\n");
        }
        text.push_str(defaults.unwrap_or_default());
        for (number, rule) in rules.iter().enumerate() {
            text.push_str(&format!("[[allow]]\nrule = \"r{number}\"\n{rule}"));
        }
        if let (_, Some(edited)) = judged(&text, &container) {
            allows(&edited, &container);
        }
    }
}
