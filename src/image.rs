//! Image references, ids and digests in one normal form, and patterns over them.
//!
//! Grammar and normalisation are those of Docker's own reference library: without a host a name
//! is Docker Hub's, a single component there lives under `library/`, and a name without tag and
//! digest means `latest`. Everything else stays as typed, a host's case included.

mod grammar;
mod pattern;

use std::fmt;

use grammar::{
    PATH_MAX, SHA256, is_digest, is_first_component, is_hex, is_path_component, is_pin, is_tag,
    is_whole_id, path_length, split_digest, split_host, split_tag,
};
pub use pattern::{ImagePattern, InvalidImagePattern};

/// A parsed reference: `host/path[:tag][@digest]`, normalised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Parses what a user may type after `docker run`. `None` for everything that Docker refuses,
    /// whole ids included: an id is not a name.
    pub fn parse(text: &str) -> Option<Self> {
        if is_whole_id(text) {
            return None;
        }
        let (rest, digest) = split_digest(text);
        let (name, tag) = split_tag(rest);
        let (host, path) = split_host(name);
        let is_valid = digest.is_none_or(is_digest)
            && tag.is_none_or(is_tag)
            && is_first_component(host)
            && path.split('/').all(is_path_component)
            && path_length(host, &path) <= PATH_MAX;
        let tag = match (tag, digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        is_valid.then(|| Self {
            repository: format!("{host}/{path}"),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// The shortest text that means the same: `nginx:1.27` for `docker.io/library/nginx:1.27`.
    pub fn familiar(&self) -> String {
        let whole = self.to_string();
        let shortened = ["docker.io/library/", "docker.io/"]
            .into_iter()
            .filter_map(|prefix| whole.strip_prefix(prefix))
            .find(|short| Self::parse(short).as_ref() == Some(self));
        shortened.unwrap_or(&whole).to_owned()
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
    match text.strip_prefix(SHA256) {
        Some(hex) => !hex.is_empty() && is_hex(hex),
        None => text.len() == 64 && is_hex(text),
    }
}

/// Whether `typed` is an id, whole or shortened, of the image whose full id is `image_id`.
///
/// A short id can't be told from a repository's name by its looks (`c9e547d4c22c` is a valid
/// name, and the engine prefers the name), so only the image that was really used decides.
pub fn is_id_of(typed: &str, image_id: &str) -> bool {
    let hex = typed.strip_prefix(SHA256).unwrap_or(typed);
    let full = image_id.strip_prefix(SHA256).unwrap_or(image_id);
    !hex.is_empty() && is_hex(hex) && full.starts_with(hex)
}

/// The `sha256:…` of a repo digest, `repository@sha256:…`.
///
/// Only this hash is proof of content: whoever may push to a registry chooses the repository.
pub fn hash_of_repo_digest(text: &str) -> Option<&str> {
    let (_, digest) = split_digest(text);
    digest.filter(|digest| is_pin(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn normal(typed: &str) -> Option<String> {
        Reference::parse(typed).map(|reference| reference.to_string())
    }

    #[test]
    fn references_are_normalised_as_docker_does() {
        let table = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("library/nginx", "docker.io/library/nginx:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            (
                "index.docker.io/library/nginx:1.27",
                "docker.io/library/nginx:1.27",
            ),
            ("team/app:V1.0_x-y", "docker.io/team/app:V1.0_x-y"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:1", "localhost:5000/app:1"),
            ("[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app:latest"),
            // Hosts are compared as typed, Docker Hub's own too.
            ("Docker.IO/nginx", "Docker.IO/nginx:latest"),
            ("REGISTRY/app", "REGISTRY/app:latest"),
            ("LOCALHOST/app", "LOCALHOST/app:latest"),
            // Without a `/` nothing is a host.
            ("localhost:5000", "docker.io/library/localhost:5000"),
            ("docker.io", "docker.io/library/docker.io:latest"),
            // A host with `_` is none.
            ("a_b.c/app", "a_b.c/app:latest"),
            ("a--b/c__d.e", "docker.io/a--b/c__d.e:latest"),
            // A short id looks like a name.
            ("c9e547d4c22c", "docker.io/library/c9e547d4c22c:latest"),
        ];
        for (typed, expected) in table {
            assert_eq!(normal(typed).as_deref(), Some(expected), "{typed}");
        }
        for typed in [
            "",
            "nginx:",
            "nginx:-x",
            "nginx:1:2",
            "Nginx",
            "team/App",
            "A_b.c/app",
            "a___b",
            "a..b",
            "-a",
            "a/",
            "/a",
            "a//b",
            "docker.io/",
            "a:b/c",
            "::1/a",
            "[]/a",
            "[::1/a",
            "a.b:/c",
            "nginx name",
            "nginx\n",
            "n\u{e9}",
        ] {
            assert_eq!(normal(typed), None, "{typed:?}");
        }
    }

    #[test]
    fn digests_are_whole_and_of_a_known_algorithm() {
        let long = HEX.repeat(2);
        for typed in [
            format!("nginx@sha256:{HEX}"),
            format!("nginx:1.27@sha256:{HEX}"),
            format!("nginx@sha384:{}", &long[..96]),
            format!("nginx@sha512:{long}"),
        ] {
            let expected = format!("docker.io/library/{typed}");
            assert_eq!(normal(&typed), Some(expected), "{typed}");
        }
        for typed in [
            format!("nginx@sha256:{}", &HEX[1..]),
            format!("nginx@sha384:{HEX}"),
            format!("nginx@sha256:{}", HEX.to_uppercase()),
            format!("nginx@SHA256:{HEX}"),
            format!("nginx@md5:{}", &HEX[..32]),
            format!("nginx@{HEX}"),
            format!("@sha256:{HEX}"),
            "nginx@".to_owned(),
        ] {
            assert_eq!(normal(&typed), None, "{typed}");
        }
    }

    #[test]
    fn a_whole_id_is_not_a_name() {
        let sha512 = format!("sha512:{}", HEX.repeat(2));
        for typed in [HEX, &format!("sha256:{HEX}"), &sha512] {
            assert_eq!(normal(typed), None, "{typed}");
        }
        let tagged = format!("{HEX}:1");
        assert_eq!(normal(&tagged), Some(format!("docker.io/library/{tagged}")));
    }

    #[test]
    fn lengths_are_limited() {
        let table = [
            ("", 255 - "library/".len(), ""),
            ("docker.io/", 255 - "library/".len(), ""),
            ("registry.example.com/", 255, ""),
            ("registry.example.com/team/", 250, ":1"),
            ("a_b.c/", 249, ""),
            ("nginx:", 128, ""),
        ];
        for (before, most, after) in table {
            let typed = |length| format!("{before}{}{after}", "a".repeat(length));
            assert!(normal(&typed(most)).is_some(), "{before} {most}");
            assert!(normal(&typed(most + 1)).is_none(), "{before} {most}");
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

    #[test]
    fn a_repo_digest_has_a_hash() {
        let hash = format!("sha256:{HEX}");
        let table = [
            (format!("example.com:5000/app@{hash}"), Some(hash.as_str())),
            (hash.clone(), None),
            ("<none>@<none>".to_owned(), None),
            (format!("app@sha512:{HEX}"), None),
        ];
        for (text, expected) in table {
            assert_eq!(hash_of_repo_digest(&text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(text in "([A-Za-z0-9._]{1,8}(:[0-9]{1,4})?/)?[a-z0-9]{1,6}([._-][a-z0-9]{1,4})?(/[a-z0-9]{1,5})?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,5})?(@sha256:[0-9a-f]{64})?") {
            if let Some(reference) = Reference::parse(&text) {
                let printed = reference.to_string();
                proptest::prop_assert_eq!(Reference::parse(&printed), Some(reference.clone()));
                let familiar = reference.familiar();
                proptest::prop_assert_eq!(Reference::parse(&familiar), Some(reference), "{}", familiar);
            }
        }

        #[test]
        fn nothing_typed_panics(text in "\\PC{0,40}") {
            let _ = Reference::parse(&text);
            let _ = (is_id(&text), is_id_of(&text, &text), hash_of_repo_digest(&text));
        }
    }
}
