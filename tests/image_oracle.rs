//! Image references against others' reading of them: Docker's published grammar as a regular
//! expression, and the Rust library that `oci-client` parses with.

#![allow(clippy::expect_used)]

use dockwarden::image::Reference;
use oci_spec::distribution::Reference as OciReference;
use proptest::prelude::*;
use regex::Regex;
use std::sync::LazyLock;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The grammar in the documentation of `distribution/reference`, rule by rule. Groups: the host,
/// the path, the tag, the digest's algorithm and its digits.
static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| {
    let domain_component = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    let domain_name = format!(r"{domain_component}(?:\.{domain_component})*");
    let domain = format!(r"(?:{domain_name}|\[[a-fA-F0-9:]+\])(?::[0-9]+)?");
    let path_component = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
    let path = format!("{path_component}(?:/{path_component})*");
    let tag = "[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}";
    let algorithm = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*";
    let digest = format!("({algorithm}):([0-9a-fA-F]{{32,}})");
    Regex::new(&format!(
        "^(?:({domain})/)?({path})(?::({tag}))?(?:@{digest})?$"
    ))
    .expect("the grammar compiles")
});

fn ours(text: &str) -> Option<String> {
    Reference::parse(text).map(|reference| reference.to_string())
}

/// Docker's `ParseAnyReference`, then `TagNameOnly`, told in terms of the grammar.
fn by_grammar(text: &str) -> Option<String> {
    if is_id(text) {
        return None;
    }
    let (host, rest) = match text.split_once('/') {
        Some(("index.docker.io", rest)) => ("docker.io", rest),
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.to_lowercase() != first =>
        {
            (first, rest)
        }
        _ => ("docker.io", text),
    };
    let library = if host == "docker.io" && !rest.contains('/') {
        "library/"
    } else {
        ""
    };
    let full = format!("{host}/{library}{rest}");
    let found = GRAMMAR.captures(&full)?;
    let digest_is_known = match (found.get(4), found.get(5)) {
        (Some(algorithm), Some(digits)) => is_known_digest(algorithm.as_str(), digits.as_str()),
        _ => true,
    };
    if found[2].len() > 255 || !digest_is_known {
        return None;
    }
    let is_bare = found.get(3).is_none() && found.get(4).is_none();
    Some(if is_bare {
        format!("{full}:latest")
    } else {
        full
    })
}

fn is_known_digest(algorithm: &str, digits: &str) -> bool {
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    digits.len() == length && is_lower_hex(digits)
}

fn is_lower_hex(text: &str) -> bool {
    text.chars()
        .all(|digit| matches!(digit, '0'..='9' | 'a'..='f'))
}

/// What Docker reads as an id wherever an image may be named.
fn is_id(text: &str) -> bool {
    let is_digits = text.len() == 64 && is_lower_hex(text);
    let is_digest = text
        .split_once(':')
        .is_some_and(|(algorithm, digits)| is_known_digest(algorithm, digits));
    is_digits || is_digest
}

fn by_oci(text: &str) -> Option<String> {
    text.parse::<OciReference>()
        .ok()
        .map(|reference| reference.whole())
}

/// Where the library departs from Docker, and why. It follows an older grammar.
fn deviation(text: &str) -> Option<&'static str> {
    let first = text.split_once('/').map(|(first, _)| first);
    let plain_host = |first: &str| !first.contains(['.', ':']) && first != "localhost";
    if is_id(text) {
        Some("it reads names only: an id becomes a name on Docker Hub")
    } else if first.is_some_and(|first| first.starts_with('[')) {
        Some("it knows no IPv6 hosts")
    } else if first.is_some_and(|first| plain_host(first) && first.to_lowercase() != first) {
        Some("it puts a host that is told by its upper case alone on Docker Hub")
    } else if !text.is_ascii() {
        Some("its tags may have letters of any script")
    } else if text
        .rsplit_once(':')
        .is_some_and(|(rest, digits)| rest.contains('@') && digits.to_lowercase() != digits)
    {
        Some("its digests may have upper-case digits")
    } else if first.is_some_and(|first| first.contains(['.']) && first.contains('_')) {
        Some("it does not count a host that is none, by its `_`, towards the path's length")
    } else {
        None
    }
}

#[test]
fn docker_answers_so() {
    // What the Docker CLI 28.2 answered to `docker create --pull never`.
    let long = |length| "a".repeat(length);
    let accepted = [
        (
            "docker.io".to_owned(),
            "docker.io/library/docker.io:latest".to_owned(),
        ),
        (
            "Docker.IO/nginx".to_owned(),
            "Docker.IO/nginx:latest".to_owned(),
        ),
        ("REGISTRY/app".to_owned(), "REGISTRY/app:latest".to_owned()),
        (
            "LOCALHOST/app".to_owned(),
            "LOCALHOST/app:latest".to_owned(),
        ),
        ("[::1]/a".to_owned(), "[::1]/a:latest".to_owned()),
        ("[::1]:5000/a".to_owned(), "[::1]:5000/a:latest".to_owned()),
        ("a_b/foo".to_owned(), "docker.io/a_b/foo:latest".to_owned()),
        ("a_b.c/foo".to_owned(), "a_b.c/foo:latest".to_owned()),
        (
            "a_b.c/d_e.f/g".to_owned(),
            "a_b.c/d_e.f/g:latest".to_owned(),
        ),
        (format!("{HEX}:1"), format!("docker.io/library/{HEX}:1")),
        (
            "sha256:abc".to_owned(),
            "docker.io/library/sha256:abc".to_owned(),
        ),
        (
            format!("sha256:{HEX}@sha256:{HEX}"),
            format!("docker.io/library/sha256:{HEX}@sha256:{HEX}"),
        ),
        (
            format!("x.io/{}", long(255)),
            format!("x.io/{}:latest", long(255)),
        ),
        (long(247), format!("docker.io/library/{}:latest", long(247))),
    ];
    for (typed, normal) in &accepted {
        assert_eq!(ours(typed).as_ref(), Some(normal), "{typed}");
        assert_eq!(by_grammar(typed).as_ref(), Some(normal), "{typed}");
    }
    let refused = [
        "A_b.c/foo".to_owned(),
        "a_b:5000/foo".to_owned(),
        "::1/a".to_owned(),
        "docker.io/".to_owned(),
        "a:tag/x".to_owned(),
        "a..b".to_owned(),
        "a..b.c/x".to_owned(),
        format!("a@SHA256:{HEX}"),
        format!("a:1@SHA256:{HEX}"),
        format!("a@sha256:{}", HEX.to_uppercase()),
        format!("a@sha384:{HEX}"),
        format!("a@md5:{}", &HEX[..32]),
        format!("x.io/{}", long(256)),
        long(248),
        format!("docker.io/{}", long(248)),
        // Ids: Docker accepts them, as no name.
        HEX.to_owned(),
        format!("sha256:{HEX}"),
    ];
    for typed in &refused {
        assert_eq!(ours(typed), None, "{typed}");
        assert_eq!(by_grammar(typed), None, "{typed}");
    }
}

#[test]
fn every_deviation_is_one() {
    let table = [
        HEX.to_owned(),
        format!("sha256:{HEX}"),
        "[::1]:5000/app".to_owned(),
        "REGISTRY/app".to_owned(),
        "nginx:\u{e9}".to_owned(),
        format!("nginx@sha256:{}", HEX.to_uppercase()),
        format!("a_b.c/{}", "a".repeat(250)),
    ];
    for typed in table {
        assert!(deviation(&typed).is_some(), "{typed} is not listed");
        assert_ne!(ours(&typed), by_oci(&typed), "{typed} is none any more");
        assert_eq!(ours(&typed), by_grammar(&typed), "{typed}");
    }
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let read = ours(text);
    prop_assert_eq!(&read, &by_grammar(text), "{:?} by the grammar", text);
    if deviation(text).is_none() {
        prop_assert_eq!(&read, &by_oci(text), "{:?} by the library", text);
    }
    if let Some(normal) = read {
        prop_assert_eq!(ours(&normal), Some(normal.clone()), "normalised again");
    }
    Ok(())
}

/// What the grammar speaks of, and its borders: every part may be there or not, and be a bit off.
fn written() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        3 => Just(String::new()),
        1 => Just("docker.io/".to_owned()),
        1 => Just("index.docker.io/".to_owned()),
        1 => Just("Index.Docker.io/".to_owned()),
        1 => "(localhost|LocalHost)(:[0-9]{1,5})?/",
        2 => "[a-zA-Z0-9-]{1,5}([._-][a-zA-Z0-9]{1,4}){0,2}(:[0-9]{0,5})?/",
        1 => r"\[[a-fA-F0-9:]{0,8}\](:[0-9]{1,4})?/",
    ];
    let path = prop_oneof![
        8 => r"[a-z0-9]{1,4}((\.|_|__|___|-|--|\._)[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,4}([._-][a-z0-9]{1,3})?){0,3}",
        1 => "library/[a-z0-9]{1,4}(/[a-z0-9]{1,4})?",
        1 => "[a-f0-9]{63,65}",
        1 => "sha(256|384|512)",
        1 => "[a-z]{240,260}",
        1 => "([a-z]{50}/){4}[a-z]{40,60}",
        1 => "[A-Za-z]{1,5}(/[A-Za-z]{1,5})?",
    ];
    let tag = prop_oneof![
        3 => Just(String::new()),
        4 => ":[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}",
        1 => ":[A-Za-z0-9_.-]{126,130}",
        1 => ":[a-f0-9]{64}",
        1 => ":[.-]?[a-z]{0,3}",
    ];
    let digest = prop_oneof![
        4 => Just(String::new()),
        3 => "@sha256:[0-9a-f]{64}",
        1 => "@sha256:[0-9a-fA-F]{64}",
        1 => "@sha256:[0-9a-f]{63,65}",
        1 => "@sha384:[0-9a-f]{96}",
        1 => "@sha512:[0-9a-f]{128}",
        1 => "@([A-Za-z][A-Za-z0-9]{0,4}[-_+.]?){1,3}:[0-9a-f]{30,66}",
    ];
    (host, path, tag, digest).prop_map(|(host, path, tag, digest)| host + &path + &tag + &digest)
}

/// Characters that mean something somewhere in a reference, or nothing anywhere.
const EDGES: &[char] = &[
    '/', ':', '@', '.', '_', '-', '[', ']', '+', 'a', 'f', 'g', 'z', 'A', 'Z', '0', '9', ' ', '\n',
    '\0', '*', '\u{e9}', '\u{c9}', '\u{130}', '\u{661}',
];

/// A written reference with a few characters put in, replaced or taken out.
fn mutated() -> impl Strategy<Value = String> {
    let edit = (
        any::<prop::sample::Index>(),
        0..3_u8,
        prop::sample::select(EDGES),
    );
    (written(), prop::collection::vec(edit, 1..4)).prop_map(|(text, edits)| {
        let mut characters: Vec<char> = text.chars().collect();
        for (place, kind, character) in edits {
            let place = place.index(characters.len() + 1);
            match kind {
                0 => characters.insert(place, character),
                _ if place == characters.len() => {}
                1 => characters[place] = character,
                _ => {
                    characters.remove(place);
                }
            }
        }
        characters.into_iter().collect()
    })
}

fn scattered() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(EDGES), 0..12)
        .prop_map(|characters| characters.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_written_reads_alike(text in written()) {
        check(&text)?;
    }

    #[test]
    fn what_is_mutated_reads_alike(text in mutated()) {
        check(&text)?;
    }

    #[test]
    fn what_is_scattered_reads_alike(text in scattered()) {
        check(&text)?;
    }
}
