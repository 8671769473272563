//! A container as dockwarden sees it: the facts that a rule may look at and that people are
//! shown, in our words. What the engine did not tell is `None`, never a guess.

mod look_up;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::grant::Power;
use crate::image;
pub use look_up::{Ambiguous, LookUp, Who};

/// A container's full id: 64 hex digits, the only name that is ever acted on.
///
/// A container can be *named* like another's short id and then wins the engine's look-up; a full
/// id always means itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, ToSchema)]
#[schema(pattern = "^[0-9a-f]{64}$")]
pub struct ContainerId(Arc<str>);

impl ContainerId {
    /// `None` unless `text` is 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let is_full = text.len() == 64
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_full.then(|| Self(text.into()))
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `beginning` is the beginning of it, or all of it.
    pub fn begins_with(&self, beginning: &str) -> bool {
        !beginning.is_empty() && self.0.starts_with(beginning)
    }

    /// The 12 digits that Docker's own tables show.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for ContainerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ContainerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("a container id has 64 hex digits"))
    }
}

/// A container's state, in the engine's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum State {
    /// Never started.
    Created,
    /// Its process runs.
    Running,
    /// Frozen; resumes with `unpause`.
    Paused,
    /// Between two lives under a restart policy.
    Restarting,
    /// Being removed.
    Removing,
    /// Its process ended.
    Exited,
    /// A removal failed half-way.
    Dead,
    /// A word that this version does not know, or none.
    Unknown,
}

impl State {
    /// Every state, in the order in which a container passes them.
    pub const ALL: [Self; 8] = [
        Self::Created,
        Self::Running,
        Self::Paused,
        Self::Restarting,
        Self::Removing,
        Self::Exited,
        Self::Dead,
        Self::Unknown,
    ];

    /// The engine's word for it; everything unheard of is [`State::Unknown`].
    pub fn parse(word: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .unwrap_or(Self::Unknown)
    }

    /// The engine's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }

    /// Whether its program runs, or will again without anyone's doing. An unknown state counts
    /// as running: a newer engine's word must not shelter a container.
    pub fn is_live(self) -> bool {
        match self {
            Self::Running | Self::Paused | Self::Restarting | Self::Unknown => true,
            Self::Created | Self::Removing | Self::Exited | Self::Dead => false,
        }
    }
}

/// A port as the engine lists it, published or only exposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Port {
    /// Address on the host; empty when not published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Port inside the container.
    pub private_port: u16,
    /// Port on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
    /// `tcp`, `udp`, `sctp`, or whatever the engine says.
    #[serde(rename = "type")]
    pub protocol: String,
}

/// An image that another one was built on, on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ancestor {
    /// Its full id.
    pub id: String,
    /// Its tags and repo digests.
    pub names: Vec<String>,
}

/// What is known of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The full id.
    pub id: ContainerId,
    /// Its name without the leading slash; never an alias from `--link`.
    pub name: Option<String>,
    /// The list does not tell it: links by others made its names too long to be read.
    pub name_is_open: bool,
    /// What it was created from, as typed; `sha256:…` in a list once that name means another image.
    pub image: Option<String>,
    /// The full id of its image; empty for a container without an image.
    pub image_id: Option<String>,
    /// The tags and repo digests of its image when it was first seen; `None`: not asked for yet.
    pub image_names: Option<Vec<String>>,
    /// The images that its image was built on here, nearest first; `None`: not asked for yet.
    pub ancestors: Option<Vec<Ancestor>>,
    /// What it can do beyond an ordinary container; `None`: not inspected yet.
    pub powers: Option<BTreeSet<Power>>,
    /// There may be more of those: what it joins, or its paths lead to, is not known yet.
    pub may_do_more: bool,
    /// Whether its entrypoint and command are its image's own; `None`: not compared yet.
    pub runs_image_command: Option<bool>,
    /// The program of a foreign exec that was started in this life of it.
    pub foreign_exec: Option<String>,
    /// Its labels; `None` when they are absent or too large to be read. They may be long, and what is known of a
    /// container is held in several places.
    pub labels: Option<Arc<BTreeMap<String, String>>>,
    /// Where it is in its life.
    pub state: State,
    /// The engine's sentence about the state, such as `Up 3 minutes`.
    pub status_text: Option<String>,
    /// When it was created, by the engine's clock.
    pub created_at: Option<Timestamp>,
    /// When its process last started, by the engine's clock. Lists don't tell.
    pub started_at: Option<Timestamp>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// `HostConfig.NetworkMode`, such as `bridge`, `host` or `container:<id>`.
    pub network_mode: Option<String>,
}

impl Container {
    /// A container of which nothing but the id is known.
    pub fn new(id: ContainerId) -> Self {
        Self {
            id,
            name: None,
            name_is_open: false,
            image: None,
            image_id: None,
            image_names: None,
            ancestors: None,
            powers: None,
            may_do_more: false,
            runs_image_command: None,
            foreign_exec: None,
            labels: None,
            state: State::Unknown,
            status_text: None,
            created_at: None,
            started_at: None,
            ports: Vec::new(),
            network_mode: None,
        }
    }

    /// Whether `image` is an id of this container's own image and so tells no name.
    pub fn image_is_id(&self) -> bool {
        match (&self.image, &self.image_id) {
            (Some(image), Some(image_id)) => {
                image::is_id(image) || image::is_id_of(image, image_id)
            }
            (Some(image), None) => image::is_id(image),
            (None, _) => false,
        }
    }

    /// Whether something of what it can do is still to be asked for.
    pub fn powers_are_open(&self) -> bool {
        self.powers.is_none() || self.may_do_more
    }

    /// The names by which rules may know its image.
    pub fn names_of_image(&self) -> impl Iterator<Item = &str> {
        let typed = self.image.as_deref().filter(|_| !self.image_is_id());
        let remembered = if typed.is_none() {
            self.image_names.as_deref().unwrap_or_default()
        } else {
            &[]
        };
        typed
            .into_iter()
            .chain(remembered.iter().map(String::as_str))
    }

    /// The id of the container whose network namespace it joins.
    pub fn joined_network(&self) -> Option<ContainerId> {
        let mode = self.network_mode.as_deref()?;
        ContainerId::parse(mode.strip_prefix("container:")?)
    }

    /// Whether a person may mean it by `name`: its name, its id, or the beginning of its id.
    pub fn is_called(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name) || self.id.begins_with(name)
    }

    /// By what it is looked up.
    pub fn calls(&self) -> (&ContainerId, Option<&str>) {
        (&self.id, self.name.as_deref())
    }

    /// A name for people: its own, or the short id.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.id.short())
    }
}

/// Whether a label says to what a container belongs: Compose, Swarm and Kubernetes set these.
pub fn is_grouping_label(key: &str) -> bool {
    ["com.docker.compose.", "com.docker.swarm.", "io.kubernetes."]
        .iter()
        .any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_orchestrators_group() {
        for (key, expected) in [
            ("com.docker.compose.project", true),
            ("com.docker.swarm.service.name", true),
            ("io.kubernetes.pod.namespace", true),
            ("com.docker.swarmed", false),
            ("my.io.kubernetes.pod", false),
        ] {
            assert_eq!(is_grouping_label(key), expected, "{key}");
        }
    }

    #[test]
    fn only_full_ids_are_ids() {
        assert!(ContainerId::parse(&"ab".repeat(32)).is_some());
        for text in [
            "",
            "abc",
            &"AB".repeat(32),
            &"ab".repeat(33),
            &"zz".repeat(32),
        ] {
            assert!(ContainerId::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn an_unheard_of_state_counts_as_running() {
        assert_eq!(State::parse("checkpointing"), State::Unknown);
        assert!(State::Unknown.is_live());
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), state);
        }
    }

    #[test]
    fn an_id_gives_way_to_the_remembered_names() {
        let mut container = Container::new(ContainerId::parse(&"ab".repeat(32)).expect("full"));
        container.image_id = Some(format!("sha256:{}", "1a".repeat(32)));
        container.image_names = Some(vec!["nginx:1".to_owned()]);
        for (typed, names) in [
            ("1a1a", vec!["nginx:1"]),
            (&format!("sha256:{}", "1a".repeat(32)), vec!["nginx:1"]),
            ("c9e5", vec!["c9e5"]),
            ("busybox", vec!["busybox"]),
        ] {
            container.image = Some(typed.to_owned());
            assert_eq!(container.names_of_image().collect::<Vec<_>>(), names);
        }
    }
}
