//! Pins go where they belong, and everything else stays.

use super::*;
use crate::allowlist::Allowlist;

fn digest(digits: &str) -> String {
    format!("sha256:{}", digits.repeat(32))
}

/// `a:1` has today the content 2b, by a digest of its own; `b:1` has an id alone.
fn images() -> BTreeMap<String, ImageFacts> {
    let image = |id: &str, names: &[String]| ImageFacts {
        id: Some(digest(id)),
        names: names.to_vec(),
        ..ImageFacts::default()
    };
    let of_a = [
        format!("x/a@{}", digest("9f")),
        format!("a@{}", digest("2b")),
    ];
    [
        ("docker.io/library/a:1".to_owned(), image("aa", &of_a)),
        ("docker.io/library/b:1".to_owned(), image("bb", &[])),
    ]
    .into()
}

/// `@2b` stands for a whole digest.
fn whole(text: &str) -> String {
    let mut whole = text.to_owned();
    for digits in ["00", "11", "2b", "9f", "aa", "bb"] {
        whole = whole.replace(&format!("@{digits}"), &format!("@{}", digest(digits)));
    }
    whole
}

fn pinned(text: &str, update: Update) -> Pinned {
    let pinned = pin(&whole(text), update, &images());
    Allowlist::parse(pinned.text.as_bytes())
        .unwrap_or_else(|error| panic!("{error}\n{}", pinned.text));
    let again = pin(&pinned.text, update, &images());
    assert_eq!(
        (again.text, again.changes),
        (pinned.text.clone(), vec![]),
        "idempotent"
    );
    pinned
}

#[test]
fn patterns_are_pinned_where_they_stand() {
    use Update::{Add, No, Replace};
    let table = [
        (
            No,
            r#"image = "a:1"   # why"#,
            r#"image = "a:1@2b"   # why"#,
        ),
        (No, "image = 'docker.io/a:1'", "image = 'docker.io/a:1@2b'"),
        (No, "image = \"\"\"a:1\"\"\"", "image = \"\"\"a:1@2b\"\"\""),
        (No, r#"image = "\u0061:1""#, r#"image = "a:1@2b""#),
        (No, r#"image = "b:1""#, r#"image = "b:1@bb""#),
        (No, r#"image = "a:1@00""#, r#"image = "a:1@00""#),
        (
            No,
            r#"image = ["a:1@00", "a:1"]"#,
            r#"image = ["a:1@00", "a:1@2b"]"#,
        ),
        (
            No,
            r#"image = ["a:1", "b:1", "c:1"]"#,
            r#"image = ["a:1@2b", "b:1@bb", "c:1"]"#,
        ),
        (
            No,
            r#"image = ["a:1", "library/a:1"]"#,
            r#"image = ["a:1@2b"]"#,
        ),
        (Replace, r#"image = "a:1""#, r#"image = "a:1@2b""#),
        (Replace, r#"image = "a:1@00""#, r#"image = "a:1@2b""#),
        (
            Replace,
            r#"image = ["a:1@00", "a:1@11", "a:1@2b"]"#,
            r#"image = ["a:1@2b"]"#,
        ),
        (
            Replace,
            r#"image = ["a:1@2b", "a:1@00", "a:1@11"]"#,
            r#"image = ["a:1@2b", ]"#,
        ),
        (
            Replace,
            "image = [\"a:1@2b\", # x,\n  \"a:1@00\" # y,\n]",
            "image = [\"a:1@2b\", # x,\n   # y,\n]",
        ),
        (
            Replace,
            "image = [\"a:1@00\" # x\n, \"a:1@2b\"]",
            "image = [\"a:1@2b\" # x\n, \"a:1@2b\"]",
        ),
        // Other pins of the same content are as good.
        (Replace, r#"image = "a:1@aa""#, r#"image = "a:1@aa""#),
        (Replace, r#"image = "a:1@9f""#, r#"image = "a:1@9f""#),
        (
            Replace,
            "image = [\"a:1@00\", # old\n \"a:1@2b\", # new\n]",
            "image = [# old\n \"a:1@2b\", # new\n]",
        ),
        (
            Replace,
            r#"image = ["a:1@00", "a:1@11"]"#,
            r#"image = ["a:1@2b"]"#,
        ),
        (
            Replace,
            r#"image = ["a:1@2b", "a:1@00"]"#,
            r#"image = ["a:1@2b"]"#,
        ),
        (
            Replace,
            r#"image = ["a@00", "a:1*@00", "a*:1"]"#,
            r#"image = ["a@00", "a:1*@00", "a*:1"]"#,
        ),
        (
            Add,
            r#"image = "a:1@00" # x"#,
            r#"image = ["a:1@00", "a:1@2b"] # x"#,
        ),
        (
            Add,
            r#"image = ["a:1@00",]"#,
            r#"image = ["a:1@00", "a:1@2b",]"#,
        ),
        (
            Add,
            r#"image = ["a:1@00", "a:1@11"]"#,
            r#"image = ["a:1@00", "a:1@11", "a:1@2b"]"#,
        ),
        (
            Add,
            r#"image = ["a:1@00", "a:1@2b"]"#,
            r#"image = ["a:1@00", "a:1@2b"]"#,
        ),
        (Add, r#"image = "a:1""#, r#"image = "a:1@2b""#),
    ];
    for (update, image, expected) in table {
        // With line ends of both kinds, and text around that has to stay.
        for end in ["\n", "\r\n"] {
            let around = |image: &str| {
                format!("# first\nversion = 1\n[[allow]]\n{image}\nrule = \"r\"\n# last")
                    .replace('\n', end)
            };
            let found = pinned(&around(image), update);
            assert_eq!(found.text, whole(&around(expected)), "{update:?} {image}");
        }
    }
}

#[test]
fn what_is_left_alone_is_told() {
    let table = [
        ("a", "has no tag", false),
        ("a:*", "no single image", false),
        ("**", "no single image", false),
        ("c:1", "no such image", true),
    ];
    for (image, why, is_failure) in table {
        let text = format!("version = 1\n[[allow]]\nimage = \"{image}\"\n");
        let found = pinned(&text, Update::No);
        assert_eq!((found.text, found.left.len()), (text, 1));
        assert!(found.left[0].why.contains(why) && found.left[0].is_failure == is_failure);
    }
    let text = format!("version = 1\n[[allow]]\nimage = \"{}\"\n", digest("00"));
    assert_eq!(pinned(&text, Update::No).left, []);
    assert_eq!(pinned(&text, Update::Replace).left.len(), 1);
}

#[test]
fn only_what_is_due_is_asked_for() {
    let text = whole(
        "version = 1\n[[allow]]\nimage = [\"a:1\", \"library/a:1\", \"b:1@00\", \"c\", \"d:*\"]\n",
    );
    let names = |update| -> Vec<String> {
        wanted(&text, update)
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(names(Update::No), ["docker.io/library/a:1"]);
    assert_eq!(
        names(Update::Add),
        ["docker.io/library/a:1", "docker.io/library/b:1"]
    );
}

proptest::proptest! {
    #[test]
    fn no_arrangement_is_broken_or_half_done(
        elements in proptest::collection::vec((0_usize..6, 0_usize..5), 1..6),
        is_open in proptest::prelude::any::<bool>(),
    ) {
        const PATTERNS: [&str; 6] = ["a:1", "a:1@00", "a:1@11", "a:1@2b", "b:1", "c:*"];
        const BETWEEN: [&str; 5] = [", ", ",", ",\n    ", ", # x,\n", " # y\n , "];
        let last = elements.len() - 1;
        let list: String = elements
            .iter()
            .enumerate()
            .map(|(index, (pattern, between))| {
                let between = if index == last && !is_open { "" } else { BETWEEN[*between] };
                format!("\"{}\"{between}", PATTERNS[*pattern])
            })
            .collect();
        let text = format!("version = 1\n[[allow]]\nimage = [{list}]\n");
        for update in [Update::No, Update::Replace, Update::Add] {
            let found = pinned(&text, update);
            for (pattern, is_due) in [("a:1", true), ("b:1", true), ("a:1@00", update == Update::Replace)] {
                let literal = format!("\"{}\"", whole(pattern));
                proptest::prop_assert!(!is_due || !found.text.contains(&literal) , "{}", found.text);
            }
            if update != Update::No && list.contains("a:1") {
                proptest::prop_assert!(found.text.contains(&whole("a:1@2b")), "{}", found.text);
            }
        }
    }
}
