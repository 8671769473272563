//! Docker's grammar of references (`distribution/reference`), piece by piece, without a backtrack.

use std::borrow::Cow;

pub(super) const DOCKER_HUB: &str = "docker.io";
const OLD_DOCKER_HUB: &str = "index.docker.io";

/// Docker's limit for the path. Older engines count the host too: what only they refuse has no
/// container there, so today's limit serves both.
pub(super) const PATH_MAX: usize = 255;
const TAG_MAX: usize = 128;
pub(super) const SHA256: &str = "sha256:";

/// Splits `name[:tag]` from the digest behind the `@`.
pub(super) fn split_digest(text: &str) -> (&str, Option<&str>) {
    match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    }
}

/// Splits at the `:` behind the last `/`, so that a port stays with its host.
pub(super) fn split_tag(text: &str) -> (&str, Option<&str>) {
    let path_start = text.rfind('/').map_or(0, |slash| slash + 1);
    match text[path_start..].find(':') {
        Some(colon) => (
            &text[..path_start + colon],
            Some(&text[path_start + colon + 1..]),
        ),
        None => (text, None),
    }
}

/// The host (Docker Hub where none is given) and the path, under `library/` where Docker Hub
/// keeps it. Both are as typed: Docker tells hosts apart by case, and `Docker.io` is not its Hub.
pub(super) fn split_host(name: &str) -> (&str, Cow<'_, str>) {
    let (host, path) = match name.split_once('/') {
        Some((OLD_DOCKER_HUB, path)) => (DOCKER_HUB, path),
        Some((first, path)) if is_host_by_looks(first) => (first, path),
        _ => (DOCKER_HUB, name),
    };
    // A leading `**` of a pattern stands for any depth, so for `library/` as well.
    if host == DOCKER_HUB && !path.contains('/') && !path.starts_with("**") {
        (host, Cow::Owned(format!("library/{path}")))
    } else {
        (host, Cow::Borrowed(path))
    }
}

/// Whether Docker takes a name's first component for a host. Paths are lower-case.
fn is_host_by_looks(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// Whether this may stand before the first `/`. What looks like a host and is none by its `_`
/// (`a_b.c/app`) Docker takes as well, as the beginning of a path on no host.
pub(super) fn is_first_component(text: &str) -> bool {
    is_host(text) || is_path_component(text)
}

/// How much of a name counts towards [`PATH_MAX`].
pub(super) fn path_length(host: &str, path: &str) -> usize {
    if is_host(host) {
        path.len()
    } else {
        host.len() + 1 + path.len()
    }
}

/// A host name, an IPv4 address or an IPv6 address in brackets, with or without a port.
fn is_host(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        return !address.is_empty()
            && address
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b':')
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    port.is_none_or(is_port)
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `[a-z0-9]+` runs, joined by one `.`, one or two `_`, or any number of `-`.
pub(super) fn is_path_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    is_word(*first)
        && is_word(*last)
        && bytes
            .split(|byte| is_word(*byte))
            .all(|separator| match separator {
                [] | b"." | b"_" | b"__" => true,
                dashes => dashes.iter().all(|byte| *byte == b'-'),
            })
}

pub(super) fn is_tag(text: &str) -> bool {
    text.len() <= TAG_MAX
        && !text.is_empty()
        && !text.starts_with(['.', '-'])
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// A digest by one of the algorithms that Docker knows, whole. Any other it refuses.
pub(super) fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length && is_hex(hex)
}

/// Whether this is a digest that may pin content: only SHA-256 is both an image's id and a
/// registry's digest.
pub(super) fn is_pin(text: &str) -> bool {
    text.starts_with(SHA256) && is_digest(text)
}

/// Whether Docker reads the whole text as an id: a digest, or the 64 digits of a SHA-256 one.
pub(super) fn is_whole_id(text: &str) -> bool {
    is_digest(text) || (text.len() == 64 && is_hex(text))
}

pub(super) fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
