//! Image references, ids and digests in one normal form, and patterns over them.
//!
//! The grammar and the normalisation are those of Docker's own reference library: without a host
//! a name is Docker Hub's, a single component there lives under `library/`, and a name without
//! tag and digest means `latest`. Hosts compare without regard to case.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::pattern::{Pattern, Reach};

const DOCKER_HUB: &str = "docker.io";
/// Docker's limit for a repository's name, host included.
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// A parsed reference: `host/path[:tag][@digest]`, normalised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Parses what a user may type after `docker run`. `None` for everything that Docker refuses,
    /// bare ids included: an id is not a name.
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return None;
        }
        let (name, tag) = split_tag(rest);
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return None;
        }
        if name.len() == 64 && is_hex(name) {
            return None;
        }
        let (host, path) = split_host(name);
        if !is_host(&host) || !path.split('/').all(is_path_component) {
            return None;
        }
        let path = under_library(&host, path);
        let repository = format!("{host}/{path}");
        if repository.len() > NAME_MAX {
            return None;
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Some(Self {
            repository,
            tag,
            digest: digest.map(str::to_owned),
        })
    }

    /// Host and path, such as `docker.io/library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag: the one typed, `latest` where neither tag nor digest was, else none.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, such as `sha256:…`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether `text` may only be read as an id: `sha256:` and hex digits, or all 64 of them.
pub fn is_id(text: &str) -> bool {
    match text.strip_prefix("sha256:") {
        Some(hex) => !hex.is_empty() && is_hex(hex),
        None => text.len() == 64 && is_hex(text),
    }
}

/// Whether `typed` is an id, whole or shortened, of the image whose full id is `image_id`.
///
/// A short id can't be told from a repository's name by its looks (`c9e547d4c22c` is a valid
/// name, and the engine prefers the name), so only the image that was really used decides.
pub fn is_id_of(typed: &str, image_id: &str) -> bool {
    let hex = typed.strip_prefix("sha256:").unwrap_or(typed);
    let full = image_id.strip_prefix("sha256:").unwrap_or(image_id);
    !hex.is_empty() && is_hex(hex) && full.starts_with(hex)
}

/// The hash of a repo digest, `sha256:…` of `repository@sha256:…`.
pub fn hash_of_repo_digest(text: &str) -> Option<&str> {
    text.split_once('@').map(|(_, digest)| digest)
}

/// Why a text is no image pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImagePattern {
    /// The text is empty.
    #[error("an image pattern can't be empty")]
    Empty,
    /// Content pins follow in a later version.
    #[error("content pins (`@sha256:…` and image ids) are not supported yet")]
    Pin,
    /// A repository can't contain this.
    #[error("`{0}` can't be part of an image's name")]
    Name(String),
    /// A tag can't contain this.
    #[error("`{0}` can't be an image's tag")]
    Tag(String),
    /// Docker refuses upper case outside the host.
    #[error("image names are lower-case: `{0}` would never match")]
    UpperCase(String),
}

/// A pattern over references: `*` within a component or tag, `**` across components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePattern {
    text: String,
    repository: Pattern,
    tag: Option<Pattern>,
}

impl ImagePattern {
    /// Compiles a pattern. Without a host it speaks of Docker Hub, without a tag of any tag;
    /// `**` alone is every image.
    pub fn parse(text: &str) -> Result<Self, InvalidImagePattern> {
        if text.is_empty() {
            return Err(InvalidImagePattern::Empty);
        }
        if text.contains('@') || is_id(text) {
            return Err(InvalidImagePattern::Pin);
        }
        let (name, tag) = split_tag(text);
        if let Some(tag) = tag.filter(|tag| !is_tag(&without_stars(tag))) {
            return Err(InvalidImagePattern::Tag(tag.to_owned()));
        }
        let repository = if name == "**" {
            name.to_owned()
        } else {
            let (host, path) = split_host(name);
            if path.chars().any(char::is_uppercase) {
                return Err(InvalidImagePattern::UpperCase(path.to_owned()));
            }
            if !is_host(&without_stars(&host)) {
                return Err(InvalidImagePattern::Name(host));
            }
            if let Some(component) = path
                .split('/')
                .find(|component| !is_path_component(&without_stars(component)))
            {
                return Err(InvalidImagePattern::Name(component.to_owned()));
            }
            format!("{host}/{}", under_library(&host, path))
        };
        Ok(Self {
            text: text.to_owned(),
            repository: Pattern::new(&repository, Reach::Component),
            tag: tag.map(|tag| Pattern::new(tag, Reach::Component)),
        })
    }

    /// What was typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this is `**` or `**:*`: every image there is, or nearly.
    pub fn is_everything(&self) -> bool {
        let any_tag = self.tag.as_ref().is_none_or(|tag| tag.as_str() == "*");
        self.repository.is_everything() && any_tag
    }

    /// The content that it pins, `sha256:…`.
    pub fn pin(&self) -> Option<&str> {
        None
    }

    /// Whether the reference is one of those that the pattern speaks of.
    pub fn name_matches(&self, reference: &Reference) -> bool {
        let tag_matches = match (&self.tag, reference.tag()) {
            (None, _) => true,
            (Some(pattern), Some(tag)) => pattern.matches(tag),
            (Some(_), None) => false,
        };
        tag_matches && self.repository.matches(reference.repository())
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for ImagePattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Splits at the `:` behind the last `/`, so that a port stays with its host.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    let path_start = text.rfind('/').map_or(0, |slash| slash + 1);
    match text[path_start..].find(':') {
        Some(colon) => (
            &text[..path_start + colon],
            Some(&text[path_start + colon + 1..]),
        ),
        None => (text, None),
    }
}

/// The host in lower case (Docker Hub where none is given) and the path.
fn split_host(name: &str) -> (String, &str) {
    if let Some((first, path)) = name.split_once('/') {
        let is_host = first.contains(['.', ':'])
            || first == "localhost"
            || first
                .chars()
                .any(|character| character.is_ascii_uppercase());
        if is_host {
            let lower = first.to_ascii_lowercase();
            let host = match lower.as_str() {
                "index.docker.io" => DOCKER_HUB.to_owned(),
                // Its upper case is all that tells this host from a path.
                plain if !plain.contains(['.', ':']) && plain != "localhost" => first.to_owned(),
                _ => lower,
            };
            return (host, path);
        }
    }
    (DOCKER_HUB.to_owned(), name)
}

/// Docker Hub keeps names of one component under `library/`. A leading `**` stands for any depth.
fn under_library(host: &str, path: &str) -> String {
    if host == DOCKER_HUB && !path.contains('/') && !path.starts_with("**") {
        format!("library/{path}")
    } else {
        path.to_owned()
    }
}

/// An example of what a pattern stands for: a digit is valid wherever a wildcard may be.
fn without_stars(text: &str) -> String {
    text.replace('*', "0")
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let algorithm_is_valid = algorithm.split(['+', '.', '-', '_']).all(|part| {
        part.starts_with(|first: char| first.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    let expected_length = match algorithm {
        "sha256" => Some(64),
        "sha384" => Some(96),
        "sha512" => Some(128),
        _ => None,
    };
    algorithm_is_valid
        && hex.len() >= 32
        && expected_length.is_none_or(|length| hex.len() == length)
        && is_hex(hex)
}

fn is_tag(text: &str) -> bool {
    text.len() <= TAG_MAX
        && !text.is_empty()
        && !text.starts_with(['.', '-'])
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// `[a-z0-9]+` runs, joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(text: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn references_are_normalised_as_docker_does() {
        let table = [
            ("nginx", Some("docker.io/library/nginx:latest")),
            ("library/nginx", Some("docker.io/library/nginx:latest")),
            ("docker.io/nginx", Some("docker.io/library/nginx:latest")),
            (
                "index.docker.io/library/nginx:1.27",
                Some("docker.io/library/nginx:1.27"),
            ),
            ("Docker.IO/nginx", Some("docker.io/library/nginx:latest")),
            ("team/app:V1.0_x-y", Some("docker.io/team/app:V1.0_x-y")),
            ("localhost/app", Some("localhost/app:latest")),
            ("localhost:5000/app:1", Some("localhost:5000/app:1")),
            ("localhost:5000", Some("docker.io/library/localhost:5000")),
            (
                "[2001:db8::1]:5000/app",
                Some("[2001:db8::1]:5000/app:latest"),
            ),
            ("REGISTRY/app", Some("REGISTRY/app:latest")),
            ("LOCALHOST/app", Some("localhost/app:latest")),
            ("a--b/c__d.e", Some("docker.io/a--b/c__d.e:latest")),
            (
                "c9e547d4c22c",
                Some("docker.io/library/c9e547d4c22c:latest"),
            ),
            ("", None),
            ("nginx:", None),
            ("nginx:-x", None),
            ("Nginx", None),
            ("team/App", None),
            ("a___b", None),
            ("-a", None),
            ("a/", None),
            ("/a", None),
            ("a//b", None),
            ("nginx@sha256:abc", None),
            ("nginx name", None),
            (
                "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                None,
            ),
        ];
        for (typed, normal) in table {
            let parsed = Reference::parse(typed).map(|reference| reference.to_string());
            assert_eq!(parsed.as_deref(), normal, "{typed}");
        }
        let pinned = format!("nginx:1.27@{DIGEST}");
        let parsed = Reference::parse(&pinned).map(|reference| reference.to_string());
        assert_eq!(parsed, Some(format!("docker.io/library/{pinned}")));
        let long = format!("{}/app", "a".repeat(260));
        assert_eq!(Reference::parse(&long), None);
    }

    #[test]
    fn patterns_match_whole_components() {
        let table = [
            ("nginx", "nginx:1.27", true),
            ("nginx", "docker.io/library/nginx", true),
            ("nginx", "nginx-evil", false),
            ("nginx", "evil/nginx", false),
            ("nginx", "example.com/nginx", false),
            ("nginx:1.27*", "nginx:1.27-alpine", true),
            ("nginx:1.27*", "nginx:1.26", false),
            ("nginx:1.27*", "nginx", false),
            ("nginx:latest", "nginx", true),
            ("team/*", "team/app:2", true),
            ("team/*", "team/app/sub", false),
            ("team/**", "team/app/sub", true),
            ("*", "nginx", true),
            ("*", "team/app", false),
            ("**", "example.com:5000/a/b/c:1", true),
            ("**:1", "example.com:5000/a/b/c:1", true),
            ("**:1", "example.com:5000/a/b/c:2", false),
            ("docker.io/**", "team/app", true),
            ("docker.io/**", "example.com/team/app", false),
            ("example.com/**", "example.com.evil/team/app", false),
            ("*.example.com/**", "r1.example.com/team/app", true),
            ("*.example.com/**", "example.com/team/app", false),
            ("*.example.com/**", "evil/x.example.com/app", false),
            ("EXAMPLE.com/app", "example.COM/app", true),
            ("localhost:5000/*", "localhost:5000/app", true),
            ("localhost:5000/*", "localhost:5001/app", false),
        ];
        for (pattern, reference, expected) in table {
            let compiled = ImagePattern::parse(pattern).expect(pattern);
            let parsed = Reference::parse(reference).expect(reference);
            assert_eq!(
                compiled.name_matches(&parsed),
                expected,
                "{pattern} on {reference}"
            );
        }
    }

    #[test]
    fn a_tag_pattern_needs_a_typed_tag_beside_a_digest() {
        let with_tag = Reference::parse(&format!("nginx:1.27@{DIGEST}")).expect("valid");
        let without = Reference::parse(&format!("nginx@{DIGEST}")).expect("valid");
        let pattern = ImagePattern::parse("nginx:1.27").expect("valid");
        assert!(pattern.name_matches(&with_tag));
        assert!(!pattern.name_matches(&without));
        assert!(
            ImagePattern::parse("nginx")
                .expect("valid")
                .name_matches(&without)
        );
    }

    #[test]
    fn malformed_patterns_are_refused() {
        let pinned = format!("nginx@{DIGEST}");
        for text in [
            "",
            &pinned,
            DIGEST,
            "Nginx",
            "team/App:1",
            "a b",
            "nginx:",
            "a//b",
            "/a",
            "nginx:1:2",
            "-x",
            "a/\u{0}",
        ] {
            assert!(ImagePattern::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_id_is_one_only_of_the_image_it_belongs_to() {
        let full = "sha256:1a562bc51f8e0000000000000000000000000000000000000000000000000000";
        for typed in ["1a56", "1a562bc51f8e", "sha256:1a562bc51f8e", full] {
            assert!(is_id_of(typed, full), "{typed}");
        }
        for typed in ["", "sha256:", "c9e547d4c22c", "nginx", "1A56"] {
            assert!(!is_id_of(typed, full), "{typed}");
        }
    }

    proptest::proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(text in "([A-Za-z0-9.]{1,8}(:[0-9]{1,4})?/)?[a-z0-9]{1,6}([._-][a-z0-9]{1,4})?(/[a-z0-9]{1,5})?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,5})?") {
            if let Some(reference) = Reference::parse(&text) {
                let printed = reference.to_string();
                proptest::prop_assert_eq!(Reference::parse(&printed), Some(reference));
            }
        }

        #[test]
        fn nothing_typed_panics(text in "\\PC{0,40}") {
            let _ = Reference::parse(&text);
            let _ = ImagePattern::parse(&text);
        }
    }
}
