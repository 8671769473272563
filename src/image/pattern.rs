//! Patterns over references, and the content pins that an allowlist may write in their place.

use std::fmt;

use serde::{Serialize, Serializer};

use super::Reference;
use super::grammar::{
    PATH_MAX, SHA256, is_first_component, is_path_component, is_pin, is_tag, is_whole_id,
    path_length, split_digest, split_host, split_tag,
};
use crate::pattern::{Pattern, Reach};

/// Why a text is no image pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImagePattern {
    /// The text is empty.
    #[error("an image pattern can't be empty")]
    Empty,
    /// What should pin content is no whole SHA-256 digest.
    #[error(
        "`{0}` pins no content: write `sha256:` and all 64 hex digits, lower-case \
         (no other algorithm pins)"
    )]
    Pin(String),
    /// A repository can't contain this.
    #[error("`{0}` can't be part of an image's name")]
    Name(String),
    /// A repository's path has a limit.
    #[error("an image's name has at most {PATH_MAX} characters behind its host")]
    TooLong,
    /// A tag can't contain this.
    #[error("`{0}` can't be an image's tag")]
    Tag(String),
    /// Docker refuses upper case outside the host.
    #[error("image names are lower-case: `{0}` would never match")]
    UpperCase(String),
}

/// What an allowlist says of an image: a pattern over its name (`*` within a component or tag,
/// `**` across components), a pin of its content (`sha256:…`), or both (`name:tag@sha256:…`).
///
/// With a pin, content alone decides and the name is for the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePattern {
    text: String,
    name: Option<NamePattern>,
    pin: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct NamePattern {
    repository: Pattern,
    tag: Option<Pattern>,
}

impl ImagePattern {
    /// Compiles a pattern. Without a host it speaks of Docker Hub, without a tag of any tag;
    /// `**` alone is every image. `sha256:` and 64 digits alone are a pin without a name.
    pub fn parse(text: &str) -> Result<Self, InvalidImagePattern> {
        if text.is_empty() {
            return Err(InvalidImagePattern::Empty);
        }
        let (name, pin) = if is_pin(text) {
            (None, Some(text))
        } else if is_whole_id(text) || (text.starts_with(SHA256) && !text.contains('/')) {
            // The engine gives no repository this name, so an id was meant.
            return Err(InvalidImagePattern::Pin(text.to_owned()));
        } else {
            let (name, pin) = split_digest(text);
            if let Some(pin) = pin.filter(|pin| !is_pin(pin)) {
                return Err(InvalidImagePattern::Pin(format!("@{pin}")));
            }
            (Some(NamePattern::parse(name)?), pin)
        };
        Ok(Self {
            text: text.to_owned(),
            name,
            pin: pin.map(str::to_owned),
        })
    }

    /// What was typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The pinned digest, `sha256:…`.
    pub fn pin(&self) -> Option<&str> {
        self.pin.as_deref()
    }

    /// The pattern over repositories in normal form and the one over tags, where it has a name and a tag.
    pub fn name(&self) -> Option<(&Pattern, Option<&Pattern>)> {
        let name = self.name.as_ref()?;
        Some((&name.repository, name.tag.as_ref()))
    }

    /// What all that it covers begin with: its pin, or its repository up to the first wildcard.
    pub fn beginning(&self) -> &str {
        let repository = || self.name.as_ref().map(|name| name.repository.beginning());
        self.pin().or_else(repository).unwrap_or_default()
    }

    /// Whether a tag was typed.
    pub fn has_tag(&self) -> bool {
        self.name.as_ref().is_some_and(|name| name.tag.is_some())
    }

    /// Whether this is `**` or `**:*`: every image there is, or nearly.
    pub fn is_everything(&self) -> bool {
        self.pin.is_none()
            && self.name.as_ref().is_some_and(|name| {
                let any_tag = name.tag.as_ref().is_none_or(|tag| tag.as_str() == "*");
                name.repository.is_everything() && any_tag
            })
    }

    /// Whether this names exactly one reference: a name and a tag, no wildcard, no pin.
    pub fn names_one(&self) -> bool {
        self.pin.is_none() && self.has_tag() && !self.has_wildcard()
    }

    /// The reference that a pattern which [names one](Self::names_one) names, or the one that
    /// stands before a pin, without its digest.
    pub fn reference(&self) -> Option<Reference> {
        let (name, _) = split_digest(&self.text);
        let is_one = self.names_one() || (self.pin.is_some() && !self.has_wildcard());
        (self.name.is_some() && is_one)
            .then(|| Reference::parse(name))
            .flatten()
    }

    /// Whether the name is one that the pattern speaks of. A pin is not looked at: where there is
    /// one, content decides. A pin without a name speaks of none.
    pub fn name_matches(&self, reference: &Reference) -> bool {
        self.name
            .as_ref()
            .is_some_and(|name| name.matches(reference))
    }

    /// Whether this surely matches all that the other does. Names never cover a pin: what is
    /// pinned may have any name, or none.
    pub fn covers(&self, other: &Self) -> bool {
        match (&self.pin, &other.pin) {
            (Some(pin), Some(others)) => pin == others,
            (None, None) => match (&self.name, &other.name) {
                (Some(name), Some(others)) => name.covers(others),
                _ => false,
            },
            _ => false,
        }
    }

    fn has_wildcard(&self) -> bool {
        self.text.contains('*')
    }
}

impl NamePattern {
    fn parse(text: &str) -> Result<Self, InvalidImagePattern> {
        let (name, tag) = split_tag(text);
        if let Some(tag) = tag.filter(|tag| !is_tag(&without_stars(tag))) {
            return Err(InvalidImagePattern::Tag(tag.to_owned()));
        }
        let repository = if name == "**" {
            name.to_owned()
        } else {
            repository(name)?
        };
        Ok(Self {
            repository: Pattern::new(&repository, Reach::Component),
            tag: tag.map(|tag| Pattern::new(tag, Reach::Component)),
        })
    }

    fn matches(&self, reference: &Reference) -> bool {
        let tag_matches = match (&self.tag, reference.tag()) {
            (None, _) => true,
            (Some(pattern), Some(tag)) => pattern.matches(tag),
            (Some(_), None) => false,
        };
        tag_matches && self.repository.matches(reference.repository())
    }

    fn covers(&self, other: &Self) -> bool {
        let tag_covers = match (&self.tag, &other.tag) {
            (None, _) => true,
            (Some(tag), Some(others)) => tag.covers(others),
            // Without a tag it also speaks of `name@sha256:…`, which has none.
            (Some(_), None) => false,
        };
        tag_covers && self.repository.covers(&other.repository)
    }
}

/// The pattern over normalised repositories that a typed name stands for.
fn repository(name: &str) -> Result<String, InvalidImagePattern> {
    let (host, path) = split_host(name);
    if path.chars().any(char::is_uppercase) {
        return Err(InvalidImagePattern::UpperCase(path.into_owned()));
    }
    if !is_first_component(&without_stars(host)) {
        return Err(InvalidImagePattern::Name(host.to_owned()));
    }
    if let Some(component) = path
        .split('/')
        .find(|component| !is_path_component(&without_stars(component)))
    {
        return Err(InvalidImagePattern::Name(component.to_owned()));
    }
    if !name.contains('*') && path_length(host, &path) > PATH_MAX {
        return Err(InvalidImagePattern::TooLong);
    }
    // A host is one component: across it `**.example.com` would also be `evil.io/x.example.com`.
    let mut host = host.to_owned();
    while host.contains("**") {
        host = host.replace("**", "*");
    }
    Ok(format!("{host}/{path}"))
}

/// An example of what a pattern stands for: a digit is valid wherever a wildcard may be.
fn without_stars(text: &str) -> String {
    text.replace('*', "0")
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

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "sha256:1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn compiled(text: &str) -> ImagePattern {
        ImagePattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
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
            ("**.example.com/**", "a.b.example.com/team/app", true),
            ("**.example.com/**", "evil.io/x.example.com/app", false),
            ("Example.com/app", "Example.com/app", true),
            ("Example.com/app", "example.com/app", false),
            ("docker.io/**", "Docker.io/nginx", false),
            ("index.docker.io/nginx", "nginx", true),
            ("**/nginx", "team/sub/nginx", true),
            ("**/nginx", "nginx", true),
            ("**/nginx", "example.com/nginx", false),
            ("[2001:db8::*]:*/app", "[2001:db8::1]:5000/app", true),
            ("a_b.c/*", "a_b.c/app", true),
            ("sha256:5000/app:1", "sha256:5000/app:1", true),
            ("nginx:*", "nginx", true),
            ("localhost:5000/*", "localhost:5000/app", true),
            ("localhost:5000/*", "localhost:5001/app", false),
        ];
        for (pattern, reference, expected) in table {
            let compiled = compiled(pattern);
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
        let with_tag = Reference::parse(&format!("nginx:1.27@{PIN}")).expect("valid");
        let without = Reference::parse(&format!("nginx@{PIN}")).expect("valid");
        assert!(compiled("nginx:1.27").name_matches(&with_tag));
        assert!(!compiled("nginx:1.27").name_matches(&without));
        assert!(compiled("nginx").name_matches(&without));
    }

    #[test]
    fn pins_are_read() {
        let table = [
            // before the pin, has a tag, the reference it names
            ("nginx:1.27@", true, Some("docker.io/library/nginx:1.27")),
            ("nginx@", false, Some("docker.io/library/nginx:latest")),
            ("localhost:5000/app:1@", true, Some("localhost:5000/app:1")),
            ("nginx:1.*@", true, None),
            ("team/**@", false, None),
            ("**@", false, None),
            ("", false, None),
        ];
        for (before, has_tag, reference) in table {
            let text = format!("{before}{PIN}");
            let pattern = compiled(&text);
            assert_eq!(pattern.pin(), Some(PIN), "{text}");
            assert_eq!(pattern.has_tag(), has_tag, "{text}");
            let named = pattern.reference().map(|named| named.to_string());
            assert_eq!(named.as_deref(), reference, "{text}");
            assert!(!pattern.names_one() && !pattern.is_everything(), "{text}");
            assert_eq!(pattern.to_string(), text);
        }
    }

    #[test]
    fn the_name_beside_a_pin_matches_names() {
        let pinned = Reference::parse(&format!("nginx:1.27@{OTHER}")).expect("valid");
        let table = [
            (format!("nginx:1.27@{PIN}"), true),
            (format!("nginx@{PIN}"), true),
            (format!("**@{PIN}"), true),
            (format!("nginx:1.26@{PIN}"), false),
            (PIN.to_owned(), false),
        ];
        for (text, expected) in table {
            assert_eq!(compiled(&text).name_matches(&pinned), expected, "{text}");
        }
    }

    #[test]
    fn one_image_is_named_by_a_name_and_a_tag() {
        let table = [
            ("nginx:1.27", Some("docker.io/library/nginx:1.27")),
            ("example.com/app:1", Some("example.com/app:1")),
            ("nginx", None),
            ("nginx:*", None),
            ("*:1", None),
            ("**", None),
        ];
        for (text, reference) in table {
            let pattern = compiled(text);
            assert_eq!(pattern.names_one(), reference.is_some(), "{text}");
            let named = pattern.reference().map(|named| named.to_string());
            assert_eq!(named.as_deref(), reference, "{text}");
        }
    }

    #[test]
    fn everything_is_known_by_its_stars() {
        for text in ["**", "**:*"] {
            assert!(compiled(text).is_everything(), "{text}");
        }
        for text in ["*", "**:1", "**/*", "docker.io/**"] {
            assert!(!compiled(text).is_everything(), "{text}");
        }
    }

    #[test]
    fn covering_is_by_name_or_by_content() {
        let pinned = |name: &str| format!("{name}@{PIN}");
        let table = [
            ("nginx", "nginx:1.27".to_owned(), true),
            ("nginx", "docker.io/library/nginx".to_owned(), true),
            ("**", "example.com/*:1".to_owned(), true),
            ("nginx:1.*", "nginx:1.27".to_owned(), true),
            ("team/*", "team/app".to_owned(), true),
            ("nginx:1.27", "nginx".to_owned(), false),
            // `nginx` also speaks of what has no tag.
            ("nginx:*", "nginx".to_owned(), false),
            ("team/app", "team/*".to_owned(), false),
            ("nginx", pinned("nginx"), false),
            ("**", pinned("nginx"), false),
            ("**", PIN.to_owned(), false),
            (PIN, pinned("nginx"), true),
            (PIN, format!("nginx@{OTHER}"), false),
            (PIN, "nginx".to_owned(), false),
        ];
        for (pattern, other, covers) in table {
            let (pattern, other) = (compiled(pattern), compiled(&other));
            assert_eq!(pattern.covers(&other), covers, "{pattern} over {other}");
        }
        assert!(compiled(&pinned("a")).covers(&compiled(PIN)));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        let hex = &PIN[SHA256.len()..];
        let pin = |text: &str| InvalidImagePattern::Pin(text.to_owned());
        let name = |text: &str| InvalidImagePattern::Name(text.to_owned());
        let tag = |text: &str| InvalidImagePattern::Tag(text.to_owned());
        let upper = |text: &str| InvalidImagePattern::UpperCase(text.to_owned());
        let cut = &PIN[..PIN.len() - 1];
        let longer = format!("{PIN}0");
        let shouted = format!("sha256:{}", hex.to_uppercase());
        let sha512 = format!("sha512:{hex}{hex}");
        let md5 = format!("md5:{}", &hex[..32]);
        let table = [
            (String::new(), InvalidImagePattern::Empty),
            ("Nginx".to_owned(), upper("library/Nginx")),
            ("team/App:1".to_owned(), upper("team/App")),
            ("a b".to_owned(), name("a b")),
            ("a//b".to_owned(), name("")),
            ("/a".to_owned(), name("")),
            ("-x".to_owned(), name("-x")),
            ("a/\0".to_owned(), name("\0")),
            ("a_b:1/c".to_owned(), name("a_b:1")),
            ("nginx:".to_owned(), tag("")),
            ("nginx:1:2".to_owned(), tag("1:2")),
            (
                format!("x.io/{}", "a".repeat(256)),
                InvalidImagePattern::TooLong,
            ),
            // Ids and digests that pin nothing.
            (hex.to_owned(), pin(hex)),
            ("sha256:".to_owned(), pin("sha256:")),
            ("sha256:abc".to_owned(), pin("sha256:abc")),
            ("sha256:*".to_owned(), pin("sha256:*")),
            (cut.to_owned(), pin(cut)),
            (longer.clone(), pin(&longer)),
            (shouted.clone(), pin(&shouted)),
            (sha512.clone(), pin(&sha512)),
            ("nginx@".to_owned(), pin("@")),
            (format!("nginx@{hex}"), pin(&format!("@{hex}"))),
            (format!("nginx@{cut}"), pin(&format!("@{cut}"))),
            (format!("nginx@{longer}"), pin(&format!("@{longer}"))),
            (format!("nginx@{shouted}"), pin(&format!("@{shouted}"))),
            (format!("nginx@{sha512}"), pin(&format!("@{sha512}"))),
            (format!("nginx@{md5}"), pin(&format!("@{md5}"))),
            ("nginx@sha256:*".to_owned(), pin("@sha256:*")),
            (format!("nginx@{PIN}@{PIN}"), pin(&format!("@{PIN}@{PIN}"))),
            // A pin does not save a bad name.
            (format!("@{PIN}"), name("")),
            (format!("Nginx@{PIN}"), upper("library/Nginx")),
            (format!("nginx:@{PIN}"), tag("")),
        ];
        for (text, error) in table {
            assert_eq!(ImagePattern::parse(&text), Err(error), "{text:?}");
        }
        let message = pin("@md5:00").to_string();
        assert!(
            message.contains("`sha256:` and all 64 hex digits"),
            "{message}"
        );
    }

    const TYPED: &str = "((a\\.b|\\*\\.b|[ab*]{1,2})/)?[ab*]{1,3}(:[ab*]{1,2})?";

    proptest::proptest! {
        #[test]
        fn what_is_covered_is_matched(pattern in TYPED, other in TYPED, typed in "((a\\.b|b\\.b|[ab]{1,2})/)?[ab]{1,3}(:[ab]{1,2})?(@sha256:[0-9a-f]{64})?") {
            let (pattern, other) = (compiled(&pattern), compiled(&other));
            let reference = Reference::parse(&typed).expect("valid");
            proptest::prop_assert!(pattern.covers(&pattern));
            if pattern.covers(&other) && other.name_matches(&reference) {
                proptest::prop_assert!(pattern.name_matches(&reference));
            }
        }

        #[test]
        fn what_names_one_matches_it(text in "([A-Za-z0-9._*]{1,6}(:[0-9]{1,4})?/)?[a-z0-9._*-]{1,6}(:[A-Za-z0-9_.*]{1,5})?") {
            if let Ok(pattern) = ImagePattern::parse(&text) {
                proptest::prop_assert_eq!(pattern.reference().is_some(), pattern.names_one());
                if let Some(reference) = pattern.reference() {
                    proptest::prop_assert!(pattern.name_matches(&reference));
                }
            }
        }

        #[test]
        fn nothing_typed_panics(text in "\\PC{0,40}") {
            let _ = ImagePattern::parse(&text);
        }
    }
}
