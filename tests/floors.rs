//! Holds the house together: which room may import which, by reading `src/`.

#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;

/// The rooms by floor, from the ground up. A room imports from lower floors, and from those
/// further left on its own; those of floor 5 meet only in `app`.
const FLOORS: &[&[&str]] = &[
    &["printable", "pattern", "image", "grant", "container"],
    &["allowlist"],
    &["record", "together", "status", "weigh", "decide"],
    &["engine", "metrics", "backoff", "uptime", "processes"],
    &["follow", "look", "own", "journal", "state", "credentials"],
    &[
        "docker",
        "containerd",
        "reload",
        "inventory",
        "controller",
        "api",
        "notification",
        "serve",
    ],
    &["app", "telemetry", "learn", "pin", "restore", "canary"],
    &["cli", "main"],
];
const STRANGERS: usize = 5;
/// Up to here everything is pure.
const PURE: usize = 2;

/// What speaks to an engine. `healthcheck` asks another dockwarden, `notification` posts to an address
/// that it is given, and nobody else has a client; `serve` and `credentials` are what clients meet.
const CLIENTS: &[&str] = &[
    "bollard",
    "hyper",
    "hyper_util",
    "hyperlocal",
    "hyper_rustls",
    "rustls",
];
const CLIENT_OF_ITSELF: &str = "cli/healthcheck.rs";

#[test]
fn the_floors_hold() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    read(&source, &source, &mut files);
    assert!(files.len() > 20, "{files:?}");
    let wrong: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| violations(path, text))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let rooms: BTreeSet<_> = files.iter().map(|(path, _)| room(path)).collect();
    for room in FLOORS.iter().copied().flatten() {
        assert!(rooms.contains(room), "`{room}` is on the map and not there");
    }
}

#[test]
fn a_violation_is_found() {
    let purpose = "//! What it is for.\n";
    let table = [
        ("image.rs", "use crate::pattern::Pattern;", None),
        (
            "pattern.rs",
            "use crate::image::Reference;",
            Some("imports `image`"),
        ),
        (
            "decide.rs",
            "fn f(_: crate::engine::Acted) {}",
            Some("imports `engine`"),
        ),
        (
            "allowlist/parse.rs",
            "use crate::{image::X, status::{Y}};",
            Some("imports `status`"),
        ),
        ("allowlist/parse.rs", "use crate::allowlist::Mode;", None),
        (
            "reload.rs",
            "use crate::docker::Docker;",
            Some("imports `docker`"),
        ),
        (
            "api/page.rs",
            "use crate::controller::Controller;",
            Some("imports `controller`"),
        ),
        (
            "api/page.rs",
            "use super::super::controller::X;",
            Some("super::super"),
        ),
        (
            "api.rs",
            "use super::controller::X;",
            Some("super` of a room"),
        ),
        (
            "api.rs",
            "mod tests {\n    use super::*;\n    use super::X;\n}",
            None,
        ),
        ("app.rs", "use crate::docker::Docker; use crate::api;", None),
        ("app.rs", "use crate::cli;", Some("imports `cli`")),
        (
            "app.rs",
            "use crate::unheard_of::X;",
            Some("imports `unheard_of`"),
        ),
        (
            "engine.rs",
            "use bollard::Docker;",
            Some("client `bollard`"),
        ),
        (
            "inventory.rs",
            "fn f() { hyperlocal::X }",
            Some("client `hyperlocal`"),
        ),
        (
            "cli/ps.rs",
            "use hyper_util::client;",
            Some("client `hyper_util`"),
        ),
        ("cli/healthcheck.rs", "use hyper_util::client;", None),
        (
            "cli/healthcheck.rs",
            "use bollard::Docker;",
            Some("client `bollard`"),
        ),
        ("docker/transport.rs", "use hyper_util::client;", None),
        ("notification/post.rs", "use hyper_util::client;", None),
        (
            "notification/post.rs",
            "use hyperlocal::X;",
            Some("client `hyperlocal`"),
        ),
        (
            "status.rs",
            "use tokio::sync::watch;",
            Some("reaches `tokio`"),
        ),
        (
            "record.rs",
            "fn f() { std::fs::read(x) }",
            Some("reaches `std::fs`"),
        ),
        (
            "record.rs",
            "use std::{fmt, net::{IpAddr}};",
            Some("reaches `std::net`"),
        ),
        (
            "allowlist.rs",
            "fn f() { std::process::exit(1) }",
            Some("reaches `std::process`"),
        ),
        (
            "decide.rs",
            "fn f() { Timestamp::now() }",
            Some("reaches `Timestamp::now`"),
        ),
        (
            "decide.rs",
            "use std::time::{Duration, Instant};",
            Some("reaches `Instant`"),
        ),
        (
            "pattern.rs",
            "fn f() { SystemTime::now() }",
            Some("reaches `SystemTime`"),
        ),
        (
            "journal.rs",
            "use std::time::Instant; fn f() { Timestamp::now() }",
            None,
        ),
        (
            "pattern.rs",
            "// use tokio::x; crate::api\nconst X: &str = \"crate::api::x // tokio\";",
            None,
        ),
        (
            "pattern.rs",
            "const Y: char = '\"'; use crate::api; const Z: char = '\"';",
            Some("imports `api`"),
        ),
        (
            "pattern.rs",
            "const Y: &str = r#\"a \" b\"#; use crate::api;",
            Some("imports `api`"),
        ),
        ("attic.rs", "", Some("no room on the map")),
    ];
    for (path, text, expected) in table {
        let found = violations(path, &format!("{purpose}{text}"));
        match expected {
            None => assert!(found.is_empty(), "{path}: {text}: {found:?}"),
            Some(expected) => assert!(
                found.len() == 1 && found[0].contains(expected),
                "{path}: {text}: {found:?}"
            ),
        }
    }
    let found = violations("pattern.rs", "use std::fmt;\n");
    assert!(found[0].contains("purpose"), "{found:?}");
}

/// What is wrong with a file of `src/`.
fn violations(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if !text.starts_with("//! ") {
        wrong.push(format!("{path}: does not begin with its purpose (`//! …`)"));
    }
    if path == "lib.rs" {
        return wrong;
    }
    let Some((floor, place)) = position(room(path)) else {
        wrong.push(format!("{path}: no room on the map; it has a floor first"));
        return wrong;
    };
    let code = without_texts(text);
    for import in after(&code, "crate") {
        let fits = import == room(path)
            || position(&import).is_some_and(|(other, further)| {
                other < floor || (other == floor && further < place && floor != STRANGERS)
            });
        if !fits {
            wrong.push(format!("{path}: imports `{import}`"));
        }
    }
    for client in CLIENTS {
        let is_of_itself =
            path == CLIENT_OF_ITSELF && (client.starts_with("hyper") || *client == "rustls");
        let serves = room(path) == "serve" && ["hyper", "hyper_util", "rustls"].contains(client)
            || room(path) == "credentials" && *client == "rustls";
        let posts = room(path) == "notification" && client.contains("rustls")
            || path == "notification/post.rs" && ["hyper", "hyper_util"].contains(client);
        if room(path) != "docker" && !is_of_itself && !posts && !serves && has_word(&code, client) {
            wrong.push(format!("{path}: has the client `{client}` of an engine"));
        }
    }
    if code.contains("super::super") {
        wrong.push(format!(
            "{path}: `super::super` hides what is imported; say `crate::`"
        ));
    }
    let is_single = !path.contains('/');
    if is_single
        && code
            .lines()
            .any(|line| !line.starts_with(' ') && line.contains("super::"))
    {
        wrong.push(format!("{path}: `super` of a room is the whole house"));
    }
    if floor <= PURE {
        let std = after(&code, "std");
        for module in ["fs", "net", "process", "thread", "env"] {
            if std.contains(module) {
                wrong.push(format!("{path}: reaches `std::{module}`"));
            }
        }
        for word in ["tokio", "SystemTime", "Instant"] {
            if has_word(&code, word) {
                wrong.push(format!("{path}: reaches `{word}`"));
            }
        }
        for call in ["Timestamp::now", "Zoned::now"] {
            if code.contains(call) {
                wrong.push(format!("{path}: reaches `{call}`"));
            }
        }
    }
    wrong
}

fn room(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn position(room: &str) -> Option<(usize, usize)> {
    FLOORS.iter().enumerate().find_map(|(floor, rooms)| {
        let place = rooms.iter().position(|other| *other == room)?;
        Some((floor, place))
    })
}

/// The names that follow `root::`, alone or in a group: `a` and `b` of `root::{a::X, b::{Y}}`.
fn after(code: &str, root: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let prefix = format!("{root}::");
    for (at, _) in code.match_indices(&prefix) {
        if code[..at].ends_with(is_of_word) {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => names.extend([first_word(rest)]),
            Some(group) => names.extend(of_group(group).into_iter().map(first_word)),
        }
    }
    names.remove("");
    names
}

/// The parts of a group, cut at the commas that are its own.
fn of_group(group: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                parts.push(&group[begin..at]);
                begin = at + 1;
                if character == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    parts
}

fn first_word(text: &str) -> String {
    let text = text.trim_start();
    text.chars().take_while(|one| is_of_word(*one)).collect()
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(is_of_word) && !code[at + word.len()..].starts_with(is_of_word)
    })
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The code alone: comments are dropped, and texts are emptied.
fn without_texts(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let raw = rest
            .strip_prefix('r')
            .map(|after| after.trim_start_matches('#'))
            .filter(|after| after.starts_with('"') && !code.ends_with(is_of_word));
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(after) = raw {
            let hashes = rest.len() - after.len() - 1;
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = hashes + 2;
            rest[begin..]
                .find(&end)
                .map_or(rest.len(), |at| begin + at + end.len())
        } else if character == '"' {
            end_of_text(rest)
        } else if character == '\'' {
            end_of_char(rest)
        } else {
            0
        };
        if skipped == 0 {
            code.push(character);
            rest = &rest[character.len_utf8()..];
        } else {
            rest = &rest[skipped..];
        }
    }
    code
}

fn end_of_text(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The end of a character's literal; 0 for a lifetime.
fn end_of_char(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((escape, _))) => text[escape + 1..]
            .find('\'')
            .map_or(0, |at| escape + 1 + at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

fn read(root: &Path, directory: &Path, files: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(directory).expect("a directory of src") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("below src");
            let text = std::fs::read_to_string(&path).expect("text");
            files.push((name.to_string_lossy().into_owned(), text));
        }
    }
}
