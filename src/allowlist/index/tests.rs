//! What the index finds is what asking every rule finds, and few are asked for it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{select, subsequence};
use proptest::test_runner::Config;
use proptest::{collection, option};

use super::*;
use crate::allowlist::matching::Match;
use crate::allowlist::{Allowlist, Question, Verdict, allowing, explain, nearest};
use crate::container::{Ancestor, Container, ContainerId};
use crate::grant::Power;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// The verdict or the question, by asking every rule.
fn scanned(list: &Allowlist, facts: &Facts<'_>) -> Result<Verdict, Question> {
    if facts.container.image_id.as_deref() == Some("") {
        return list.consider(facts, NOW);
    }
    let allowed = allowing(list.rules.in_order(), facts, NOW)?;
    Ok(allowed.unwrap_or_else(|| nearest::denial_by_scan(list, facts, NOW)))
}

/// Compares all that a list says of a container with what asking every rule says.
fn check(list: &Allowlist, container: &Container) {
    let facts = Facts::of(container);
    let now = scanned(list, &facts);
    let at_create = scanned(list, &Facts::at_create(container));
    let told = (
        list.judge(container, NOW),
        list.question(container, NOW),
        list.judge_at_create(container, NOW),
        list.question_at_create(container, NOW),
    );
    let expected = (
        now.clone().unwrap_or(Verdict::Unknown),
        now.err(),
        at_create.clone().unwrap_or(Verdict::Unknown),
        at_create.err(),
    );
    assert_eq!(told, expected, "{list:#?}\n{container:#?}");
    let matching = list.rules.in_order();
    let matching = matching.filter(|rule| rule.compare(&facts, NOW) == Match::Yes);
    let expected: Vec<_> = matching.map(|rule| &rule.name).collect();
    let told = list.matching(container, NOW);
    let told: Vec<_> = told.iter().map(|rule| &rule.name).collect();
    assert_eq!(told, expected, "{list:#?}\n{container:#?}");
}

fn hash(digit: &str) -> String {
    format!("sha256:{}", digit.repeat(64))
}

/// Longer than what is searched for of a literal.
const LONG: &str = "r.io/a-path/that-is-longer/than-a-piece-of-it/may-be/so-that-it-is/cut";

fn image_pattern() -> impl Strategy<Value = String> {
    let wide = vec![
        "**",
        "*",
        "**:1",
        "**/a",
        "r.io/**",
        "**/*-it/**",
        "a:1.*",
        "**:*",
    ];
    let long = vec![
        LONG.to_owned(),
        format!("{LONG}-*"),
        format!("{LONG}*:1"),
        LONG.replacen("a-path", "*", 1),
    ];
    let name = prop_oneof![
        6 => "((r\\.io|\\*\\.io)/)?[ab*]{1,2}(/[ab*]{1,2})?(:[12*]{1,3})?",
        1 => select(wide).prop_map(str::to_owned),
        1 => select(long),
    ];
    let pin = select(vec!["1", "2", "3"]).prop_map(hash);
    prop_oneof![
        4 => name.clone(),
        1 => pin.clone(),
        2 => (name, pin).prop_map(|(name, pin)| format!("{name}@{pin}")),
    ]
}

fn image_name() -> impl Strategy<Value = String> {
    let long = vec![LONG.to_owned(), format!("{LONG}-x"), format!("{LONG}s:1")];
    let odd = vec!["", "<none>@<none>", "A:1", "12", "1", "a:1.2"];
    let digest = (select(vec!["a", "a:1", "b"]), select(vec!["1", "2", "3"]));
    prop_oneof![
        6 => "(r\\.io/)?[ab]{1,2}(/[ab]{1,2})?(:[12]{1,2})?",
        1 => select(long),
        1 => select(odd).prop_map(str::to_owned),
        2 => digest.prop_map(|(name, digit)| format!("{name}@{}", hash(digit))),
    ]
}

fn text_pattern() -> impl Strategy<Value = String> {
    prop_oneof!["[ab*]{1,3}", Just("*".to_owned()), Just("ab".to_owned())]
}

const REST: [&str; 11] = [
    "expires = 1971-01-01T00:00:00Z",
    "expires = 1969-01-01T00:00:00Z",
    "exec = false",
    "command = \"image\"",
    "build-steps = true",
    "audit = true",
    "max = 1",
    "grants = []",
    "grants = [\"host-network\"]",
    "grants = [\"host-network\", \"bind:/srv\"]",
    "grants = [\"all\"]",
];

fn rule() -> impl Strategy<Value = String> {
    let labels = collection::btree_map(select(vec!["k", "l", "m"]), text_pattern(), 1..4);
    let parts = (
        collection::vec(image_pattern(), 1..4),
        collection::vec(text_pattern(), 1..3),
        labels,
        // Which of the three it gives, by bits.
        select(vec![1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7]),
        option::of(subsequence(REST.to_vec(), 0..4)),
    );
    parts.prop_map(|(images, names, labels, given, rest)| {
        let mut lines = vec!["[[allow]]".to_owned()];
        if given & 1 != 0 {
            lines.push(format!("image = {images:?}"));
        }
        if given & 2 != 0 {
            lines.push(format!("container = {names:?}"));
        }
        if given & 4 != 0 {
            let labels = labels
                .iter()
                .map(|(key, value)| format!("{key} = {value:?}"));
            let labels: Vec<_> = labels.collect();
            lines.push(format!("labels = {{ {} }}", labels.join(", ")));
        }
        let mut keys = BTreeSet::new();
        for line in rest.into_iter().flatten() {
            if keys.insert(line.split(' ').next()) {
                lines.push(line.to_owned());
            }
        }
        lines.join("\n") + "\n"
    })
}

fn allowlist(rules: Range<usize>) -> impl Strategy<Value = Allowlist> {
    let defaults = vec![
        "",
        "[defaults]\ngrants = []\n",
        "[defaults]\ngrants = [\"gpus\"]\n",
    ];
    let parts = (select(defaults), collection::vec(rule(), rules));
    parts.prop_map(|(defaults, rules)| parsed(&format!("{defaults}{}", rules.concat())))
}

fn parsed(text: &str) -> Allowlist {
    let text = format!("version = 1\n{text}");
    Allowlist::parse(text.as_bytes())
        .unwrap_or_else(|error| panic!("{}\n{text}", error.report("the list")))
}

fn container() -> impl Strategy<Value = Container> {
    let id = || select(vec!["1", "2", "3"]).prop_map(hash);
    let names = || collection::vec(image_name(), 0..4);
    let ancestor = (id(), names()).prop_map(|(id, names)| Ancestor { id, names });
    let typed = prop_oneof![4 => image_name(), 1 => id(), 1 => Just("11".to_owned())];
    let image = (
        option::weighted(0.9, typed),
        option::weighted(0.9, prop_oneof![9 => id(), 1 => Just(String::new())]),
        option::of(names()),
        option::of(collection::vec(ancestor, 0..3)),
        proptest::bool::weighted(0.25),
    );
    let labels = select(vec!["k", "l", "m", "n", "o"]).prop_map(str::to_owned);
    let powers = subsequence(vec!["host-network", "bind:/srv", "gpus"], 0..3);
    let powers = powers.prop_map(|powers| powers.into_iter().filter_map(Power::parse).collect());
    let rest = (
        option::weighted(0.9, "[ab]{1,3}"),
        option::weighted(0.9, collection::btree_map(labels, "[ab]{0,3}", 0..5)),
        (option::weighted(0.7, powers), any::<bool>()),
        option::of(any::<bool>()),
        option::weighted(0.2, Just("sh".to_owned())),
        proptest::bool::weighted(0.1),
    );
    (image, rest).prop_map(|(image, rest)| {
        let (typed, image_id, image_names, ancestors, is_step) = image;
        let (name, labels, (powers, may_do_more), runs_image_command, foreign_exec, name_is_open) =
            rest;
        Container {
            image: if is_step { image_id.clone() } else { typed },
            image_id,
            image_names,
            ancestors,
            name: name.filter(|_| !name_is_open),
            name_is_open,
            labels: labels.map(Into::into),
            may_do_more: may_do_more && powers.is_some(),
            powers,
            runs_image_command,
            foreign_exec,
            ..unknown()
        }
    })
}

fn unknown() -> Container {
    Container::new(ContainerId::parse(&"ab".repeat(32)).expect("full id"))
}

proptest::proptest! {
    #![proptest_config(Config::with_cases(400))]

    #[test]
    fn the_index_finds_what_asking_all_finds(
        list in allowlist(1..8),
        containers in collection::vec(container(), 6),
    ) {
        for container in &containers {
            check(&list, container);
        }
    }

    #[test]
    fn so_it_does_among_many_rules(
        list in allowlist(30..60),
        containers in collection::vec(container(), 3),
    ) {
        for container in &containers {
            check(&list, container);
        }
    }

    #[test]
    fn what_is_not_searched_for_counts_as_found(
        list in allowlist(1..8),
        containers in collection::vec(container(), 3),
    ) {
        let mut list = list;
        list.rules = list.rules.without_automaton();
        for container in &containers {
            check(&list, container);
        }
    }
}

/// The text of so many rules, with the number of each in the place of `{}` and a hash in that of `HEX`.
fn many(count: usize, rule: &str) -> String {
    let rules = (0..count).map(|number| format!("[[allow]]\n{}\n", filled(rule, number)));
    format!("[defaults]\ngrants = []\n{}", rules.collect::<String>())
}

fn filled(text: &str, number: usize) -> String {
    text.replace("{}", &number.to_string())
        .replace("HEX", &format!("{number:064x}"))
}

/// How many rules are asked for a decision, each as often as it is.
fn asked(list: &Allowlist, facts: &Facts<'_>) -> usize {
    let count = Cell::new(0);
    let counted = |answer: bool| {
        count.set(count.get() + 1);
        answer
    };
    let candidates = list.rules.candidates(facts);
    let mut rules = candidates.iter();
    if rules.any(|rule| counted(rule.compare(facts, NOW) != Match::No)) {
        return count.get();
    }
    let missed = |rule: &Rule| {
        explain::keys(rule, facts, NOW)
            .filter(|key| !key.matches)
            .count()
    };
    candidates.first_near(
        |rule| counted(rule.missing_grants(facts.container).is_empty()),
        |rule| counted(missed(rule) == 1),
    );
    count.get()
}

#[test]
fn few_of_many_rules_are_asked() {
    let meant = Container {
        name: Some("web-77-1".to_owned()),
        image: Some("r.io/team-77/app:1.77".to_owned()),
        image_id: Some(filled("sha256:HEX", 77)),
        image_names: Some(Vec::new()),
        powers: Some(BTreeSet::new()),
        labels: Some(Arc::new(BTreeMap::from([
            ("project".to_owned(), "shop".to_owned()),
            ("service".to_owned(), "web-77".to_owned()),
        ]))),
        ..unknown()
    };
    let changes: [fn(&mut Container); 9] = [
        |_| {},
        |one| one.image = Some("miner".to_owned()),
        |one| one.image_id = Some(filled("sha256:HEX", 5_000)),
        |one| one.name = Some("other".to_owned()),
        |one| one.labels = None,
        |one| one.powers = Some(BTreeSet::from([Power::Privileged])),
        |one| one.image_names = None,
        |one| one.image = one.image_id.clone(),
        |one| (one.image_id, one.name) = (None, None),
    ];
    let rules = [
        "image = 'r.io/team-{}/app:1.{}'",
        "image = 'r.io/team-{}/*'",
        "image = 'r.io/*/app:1.{}'",
        "image = 'r.io/team/app:1.{}-*'",
        "image = 'r.io/team/app:1.{}'",
        "image = 'r.io/team-{}/app@sha256:HEX'",
        "image = 'sha256:HEX'",
        "container = 'web-{}-1'",
        "container = 'web-{}-*'",
        "container = '*b-{}-*'",
        "labels = { service = 'web-{}' }",
        "labels = { service-{} = '*' }",
        "image = '**'\ncontainer = 'web-{}-*'",
        "image = 'r.io/team-{}/**'\nlabels = { project = 'shop' }",
        "image = 'r.io/team-{}/app@sha256:HEX'\nlabels = { project = 'shop', service = 'web-{}' }",
        "image = 'r.io/team-{}/app@sha256:HEX'\ncontainer = 'web-{}-1'",
        "image = ['r.io/team-{}/app', 'r.io/team-{}/other:*']\ncontainer = 'web-*'",
        "image = 'r.io/team-{}/app'\ngrants = ['bind:/srv/{}']",
    ];
    for rule in rules {
        let list = parsed(&many(1_000, rule));
        for (first, one) in changes.iter().enumerate() {
            for another in &changes[first..] {
                let mut container = meant.clone();
                one(&mut container);
                another(&mut container);
                check(&list, &container);
                let has_powers = container
                    .powers
                    .as_ref()
                    .is_some_and(|powers| !powers.is_empty());
                if has_powers && container.image_names.is_none() {
                    // Rules that say no more than what can't be told yet, and none is open.
                    continue;
                }
                let asked = asked(&list, &Facts::of(&container));
                assert!(asked <= 6, "{asked} are asked: {rule}\n{container:#?}");
            }
        }
    }
}

/// How many bytes an index takes, about.
fn size(index: &Index) -> usize {
    let of_view = |view: &View| {
        let unsettled: usize = view.unsettled.iter().map(Postings::size).sum();
        view.rules.size() + unsettled + view.near.size()
    };
    let automaton = index.automaton.as_ref().map(AhoCorasick::memory_usage);
    size_of_val(&*index.order)
        + index.conditions.capacity() * (size_of::<(u64, usize)>() + 1)
        + automaton.unwrap_or_default()
        + of_view(&index.named)
        + index.unnamed.as_ref().map(of_view).unwrap_or_default()
}

#[test]
fn ten_thousand_rules_take_a_few_mebibytes() {
    let long = "a-long-path/".repeat(10);
    let table = [
        "image = 'r.io/team-{}/app:1.{}'".to_owned(),
        "image = 'r.io/team-{}/*:1.*'".to_owned(),
        "image = 'HEX/team-{}/*'".to_owned(),
        format!("image = '{long}HEX/*'"),
        "image = 'r.io/team-{}/app@sha256:HEX'\ncontainer = 'web-{}-*'\nlabels = { service = 'web-{}' }".to_owned(),
    ];
    for rule in table {
        let rules = parsed(&many(10_000, &rule)).rules.to_vec();
        let size = size(&Index::new(&rules));
        eprintln!("{size} {rule}");
        assert!(size < 6 * 1024 * 1024, "{size} bytes: {rule}");
    }
}
