//! What a list lets a container do, [`Grant`], and what a container can do, [`Power`].
//!
//! Both are written alike, `host-network` or `bind:/srv/www:ro`: what a denial says is missing can be
//! pasted into `grants`. Which field of the engine's container gives which power is told by
//! `docker/powers.rs` alone.

mod power;

use std::fmt;

use serde::{Serialize, Serializer};

use crate::pattern::{Pattern, Reach};
use power::{PLAIN, split_read_only};

pub use power::{CAPABILITIES, Power, is_under, normal_path};

/// Why a text is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGrant {
    /// There is no such grant.
    #[error("unknown grant `{0}`")]
    Unknown(String),
    /// `bind:` and `device:` take an absolute path without `.` and `..`.
    #[error("`{0}` is no absolute path")]
    Path(String),
    /// The kernel has no such capability.
    #[error("unknown capability `{0}`")]
    Capability(String),
}

impl InvalidGrant {
    /// What is allowed there.
    pub fn help(&self) -> String {
        match self {
            Self::Unknown(_) => {
                let plain: Vec<_> = PLAIN.iter().map(|(word, _)| *word).collect();
                format!(
                    "allowed here: {}, join:<container>, bind:<path>[:ro], bind:<path>/**[:ro], volume:<driver>, device:<path>, cap:<NAME>, runtime:<name>, all",
                    plain.join(", ")
                )
            }
            Self::Path(_) => {
                "allowed here: a path such as /srv/www, without `.` and `..`".to_owned()
            }
            Self::Capability(_) => format!("allowed here: {}", CAPABILITIES.join(", ")),
        }
    }
}

/// Powers that a list grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    text: String,
    scope: Scope,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Everything,
    One(Power),
    Join(Pattern),
    /// A path and what lies under it.
    Under {
        path: String,
        read_only: bool,
    },
}

impl Grant {
    /// Reads a grant as it stands in a list.
    ///
    /// # Errors
    /// When there is no such grant, or its path or capability can't be right.
    pub fn parse(text: &str) -> Result<Self, InvalidGrant> {
        let unknown = || InvalidGrant::Unknown(text.to_owned());
        let scope = match text.split_once(':') {
            None if text == "all" => Scope::Everything,
            Some(("bind", rest)) => {
                let (path, read_only) = split_read_only(rest);
                match path.strip_suffix("/**") {
                    Some(path) => Scope::Under {
                        path: checked_path(if path.is_empty() { "/" } else { path })?,
                        read_only,
                    },
                    None => Scope::One(Power::Bind {
                        path: checked_path(path)?,
                        read_only,
                    }),
                }
            }
            Some(("device", name)) if is_cdi_name(name) => {
                Scope::One(Power::Device(name.to_owned()))
            }
            Some(("device", path)) => Scope::One(Power::Device(checked_path(path)?)),
            Some(("join", name)) if is_container_pattern(name) => {
                Scope::Join(Pattern::new(name, Reach::Everything))
            }
            Some(("cap", name)) => match Power::capability(name) {
                Power::Capability(name) if !CAPABILITIES.contains(&name.as_str()) => {
                    return Err(InvalidGrant::Capability(name));
                }
                power => Scope::One(power),
            },
            Some(("unknown" | "join", _)) => return Err(unknown()),
            _ => Scope::One(Power::parse(text).ok_or_else(unknown)?),
        };
        Ok(Self {
            text: text.to_owned(),
            scope,
        })
    }

    /// What was typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a container that has this grant may have this power.
    pub fn covers(&self, power: &Power) -> bool {
        match &self.scope {
            Scope::Everything => true,
            Scope::Join(pattern) => {
                matches!(power, Power::Join(name) if pattern.matches(name))
            }
            Scope::Under { path, read_only } => {
                matches!(power, Power::Bind { path: bound, read_only: is_read_only }
                    if is_under(bound, path) && (*is_read_only || !read_only))
            }
            // A privileged container has all of these by that alone.
            Scope::One(Power::Privileged) => matches!(
                power,
                Power::Privileged
                    | Power::Unconfined
                    | Power::Capability(_)
                    | Power::Device(_)
                    | Power::DeviceRule
            ),
            Scope::One(Power::Capability(all)) if all == "ALL" => {
                matches!(power, Power::Capability(_))
            }
            Scope::One(Power::Bind { path, read_only }) => {
                matches!(power, Power::Bind { path: bound, read_only: is_read_only }
                    if bound == path && (*is_read_only || !read_only))
            }
            Scope::One(granted) => granted == power,
        }
    }

    /// Whether it reaches an engine, and with it everything on its host.
    pub fn is_engine_socket(&self) -> bool {
        matches!(
            self.scope,
            Scope::One(Power::EngineSocket) | Scope::Everything
        )
    }

    /// Whether it is a path with all that lies under it.
    pub fn is_tree(&self) -> bool {
        matches!(self.scope, Scope::Under { .. })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Whether `text` can be a pattern of container names.
pub fn is_container_pattern(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-*".contains(&byte))
}

/// `vendor.com/class=name`, as the Container Device Interface names devices.
fn is_cdi_name(text: &str) -> bool {
    let parts = text.split_once('=').and_then(|(kind, name)| {
        let (vendor, class) = kind.split_once('/')?;
        Some([vendor, class, name])
    });
    let is_word = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-:".contains(&byte))
    };
    parts.is_some_and(|parts| parts.into_iter().all(is_word))
}

fn checked_path(path: &str) -> Result<String, InvalidGrant> {
    let is_clean = path.starts_with('/')
        && !path.contains(['*', '\0'])
        && !path.split('/').any(|part| part == "." || part == "..");
    if is_clean {
        Ok(normal_path(path))
    } else {
        Err(InvalidGrant::Path(path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_covers_what_it_says() {
        let table = [
            // grant, power, covered
            ("host-network", "host-network", true),
            ("host-network", "host-pid", false),
            ("all", "privileged", true),
            ("all", "unknown:IpcMode=new", true),
            ("privileged", "cap:SYS_ADMIN", true),
            ("privileged", "unconfined", true),
            ("privileged", "bind:/", false),
            ("privileged", "host-network", false),
            ("bind:/srv/www", "bind:/srv/www", true),
            ("bind:/srv/www", "bind:/srv/www:ro", true),
            ("bind:/srv/www:ro", "bind:/srv/www", false),
            ("bind:/srv/www:ro", "bind:/srv/www:ro", true),
            ("bind:/srv/www/", "bind:/srv//www", true),
            ("bind:/srv/www", "bind:/srv/www/sub", false),
            ("bind:/srv/**", "bind:/srv/www", true),
            ("bind:/srv/**", "bind:/srv", true),
            ("bind:/srv/**", "bind:/srv-evil", false),
            ("bind:/srv/**:ro", "bind:/srv/www", false),
            ("bind:/srv/**:ro", "bind:/srv/www:ro", true),
            ("bind:/**", "bind:/", true),
            ("bind:/**", "engine-socket", false),
            ("bind:/srv", "bind:/srv/../etc", false),
            ("bind:/var/run/x", "bind:/run/x", true),
            ("cap:sys_admin", "cap:CAP_SYS_ADMIN", true),
            ("cap:ALL", "cap:NET_ADMIN", true),
            ("cap:NET_ADMIN", "cap:ALL", false),
            ("join:web-*", "join:web-1", true),
            ("join:web-*", "join:db", false),
            ("volume:nfs", "volume:nfs", true),
            ("device:/dev/fuse", "device:/dev/fuse", true),
            ("device:/dev", "device:/dev/fuse", false),
            ("device:nvidia.com/gpu=0", "device:nvidia.com/gpu=0", true),
            ("runtime:kata", "runtime:runsc", false),
        ];
        for (grant, power, covered) in table {
            let case = format!("{grant} on {power}");
            let grant = Grant::parse(grant).expect(&case);
            let power = Power::parse(power).expect(&case);
            assert_eq!(grant.covers(&power), covered, "{case}");
        }
    }

    #[test]
    fn a_writable_directory_called_ro_is_writable() {
        let power = Power::bind("/srv:ro", false);
        assert_eq!(power.to_string(), "bind:/srv:ro:rw");
        assert!(!Grant::parse("bind:/srv:ro").expect("valid").covers(&power));
    }

    #[test]
    fn bad_grants_are_refused() {
        for text in [
            "",
            "host",
            "Privileged",
            "bind:",
            "bind:srv",
            "bind:/srv/../etc",
            "bind:/srv/*/x",
            "bind:/srv/*",
            "cap:",
            "cap:SYS_ADMN",
            "device:fuse",
            "join:",
            "join:a b",
            "volume:",
            "runtime:",
            "unknown:x",
            "all:x",
            "gpus:0",
        ] {
            assert!(Grant::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn powers_print_as_they_parse(kind in "bind|device|cap|join|volume|runtime", rest in "/?[a-z:./]{1,12}") {
            if let Some(power) = Power::parse(&format!("{kind}:{rest}")) {
                proptest::prop_assert_eq!(Power::parse(&power.to_string()), Some(power));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = Grant::parse(&text);
            let _ = Power::parse(&text);
        }
    }
}
