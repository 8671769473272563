//! What dockwarden needs of a container engine, in its own words.
//!
//! An engine's events only say where to look. What is true about a container is what a fresh
//! [`Engine::look`] returns.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::container::{Container, ContainerId};
use crate::grant::Power;
use crate::image::Reference;

/// Who answers at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// The engine's version, such as `20.10.24`.
    pub version: String,
    /// The name of its host.
    pub host: String,
    /// The time there, where the engine told.
    pub time: Option<Timestamp>,
    /// Whether its processes have the same numbers for this process.
    pub has_same_pids: bool,
}

/// What happened to a container, as far as that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It was created.
    Create,
    /// It started, whoever started it.
    Start,
    /// It was restarted; its `Start` came before.
    Restart,
    /// It was resumed.
    Unpause,
    /// It has another name.
    Rename,
    /// Its resources or restart policy changed.
    Update,
    /// A program was executed in it.
    ExecStart,
    /// It was frozen.
    Pause,
    /// Its process ended.
    Die,
    /// It was removed.
    Destroy,
    /// It was stopped; its `Die` came before.
    Stop,
    /// A signal was sent to it.
    Kill,
    /// Something else.
    Other,
}

impl ChangeKind {
    /// The engine's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Unpause => "unpause",
            Self::Rename => "rename",
            Self::Update => "update",
            Self::ExecStart => "exec_start",
            Self::Pause => "pause",
            Self::Die => "die",
            Self::Destroy => "destroy",
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Other => "other",
        }
    }
}

/// One event: a container's id, and what made the engine speak of it.
///
/// Everything that an event carries beyond these can be forged by labels, and is looked at with that in mind or
/// not at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// Which container.
    pub id: ContainerId,
    /// What happened.
    pub kind: ChangeKind,
    /// When, by the engine's clock.
    pub time: Timestamp,
    /// Which exec was started. A label can forge it: what it names has to be this container's.
    pub exec: Option<Arc<str>>,
    /// What its process exited with. A label of the same name can forge it.
    pub exit_code: Option<i64>,
}

impl Change {
    /// The name of what an event tells of an exit code, and of the label that forges it.
    pub const EXIT_CODE: &str = "exitCode";
}

/// A message of the event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Something happened to a container.
    Change(Change),
    /// An image was given a name, lost one, came or went.
    Images,
    /// Something that can't be read; the stream goes on.
    Unreadable,
}

/// All containers, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Those that could be read.
    pub containers: Vec<Container>,
    /// How many elements of the list could not be read.
    pub unreadable: usize,
}

/// What only an inspection tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Its name.
    pub name: Option<String>,
    /// What the container was created from, as typed.
    pub image: Option<String>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When its process last started.
    pub started_at: Option<Timestamp>,
    /// When its process last ended.
    pub finished_at: Option<Timestamp>,
    /// Its first process, by its number on the engine's host, while it runs.
    pub pid: Option<u32>,
    /// What its process exited with when it last ended; none while it runs, and where the engine
    /// was not there to see it.
    pub exit_code: Option<i64>,
    /// When the engine starts it again by itself.
    pub restart_policy: Option<RestartPolicy>,
    /// Its powers, but for what its volumes are and what the containers that it joins can do.
    pub powers: BTreeSet<Power>,
    /// The containers whose namespaces it joins, by id or as typed.
    pub joins: BTreeSet<String>,
    /// Its volumes of the driver `local`, by name.
    pub local_volumes: BTreeSet<String>,
    /// Fields of its configuration that this version does not know.
    pub unknown_fields: usize,
    /// The program that it runs, with its arguments.
    pub command: Vec<String>,
    /// The user that it runs as, as typed; empty for the image's own.
    pub user: String,
    /// The execs that run in it.
    pub execs: BTreeSet<String>,
}

/// What a process that SIGKILL ended exits with.
pub const KILLED: i64 = 128 + 9;

impl Inspection {
    /// Whether SIGKILL ended it, as far as is known.
    pub fn is_killed(&self) -> bool {
        self.exit_code.is_none_or(|code| code == KILLED)
    }
}

/// When an engine starts a container again by itself; written as `docker run --restart` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Never.
    No,
    /// Always, and when the engine starts.
    Always,
    /// The same, unless someone stopped it.
    UnlessStopped,
    /// When it failed, at most so many times; 0: without limit.
    OnFailure(u32),
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => formatter.write_str("no"),
            Self::Always => formatter.write_str("always"),
            Self::UnlessStopped => formatter.write_str("unless-stopped"),
            Self::OnFailure(0) => formatter.write_str("on-failure"),
            Self::OnFailure(most) => write!(formatter, "on-failure:{most}"),
        }
    }
}

/// A restart policy that is not known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a restart policy")]
pub struct UnknownPolicy(String);

impl FromStr for RestartPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let unknown = || UnknownPolicy(text.to_owned());
        match text {
            "no" | "" => Ok(Self::No),
            "always" => Ok(Self::Always),
            "unless-stopped" => Ok(Self::UnlessStopped),
            "on-failure" => Ok(Self::OnFailure(0)),
            _ => {
                let most = text.strip_prefix("on-failure:").ok_or_else(unknown)?;
                most.parse().map(Self::OnFailure).map_err(|_| unknown())
            }
        }
    }
}

/// What is known of an image. Nothing of it when it is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Its full id.
    pub id: Option<String>,
    /// Its tags and repo digests.
    pub names: Vec<String>,
    /// The id of the image that it was built on, on this host.
    pub parent: Option<String>,
    /// Its entrypoint and command.
    pub command: Option<Vec<String>>,
    /// What its health check executes, in one way or another.
    pub health_checks: Vec<Vec<String>>,
}

/// A program that was executed in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exec {
    /// Which container.
    pub container_id: String,
    /// The program with its arguments.
    pub command: Vec<String>,
    /// As whom.
    pub user: String,
    /// With all powers.
    pub privileged: bool,
    /// It runs or did; an exec is created before it is started.
    pub has_started: bool,
}

/// What is done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// SIGKILL.
    Kill,
    /// SIGTERM, and SIGKILL after this long, whatever the container asks for.
    Stop(Duration),
    /// Freeze it.
    Pause,
    /// Kill and remove it.
    Remove,
    /// Start it.
    Start,
    /// Let it run on.
    Unpause,
    /// Give it another restart policy.
    SetRestartPolicy(RestartPolicy),
}

/// What the engine answered to an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acted {
    /// It did as told.
    Done,
    /// There was nothing to do: the container does not run, or its removal is under way.
    NotNeeded,
    /// No such container.
    Gone,
}

/// Why the engine gave no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine can't be reached.
    #[error("the engine can't be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The engine does not answer in time.
    #[error("the engine did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// No such thing on this engine.
    #[error("not found")]
    NotFound,
    /// The engine refuses.
    #[error("the engine answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// The answer can't be read.
    #[error("the engine's answer can't be read")]
    Unreadable(#[source] serde_json::Error),
    /// The way to the engine can't be right.
    #[error("{0}")]
    Misconfigured(String),
}

impl EngineError {
    /// Whether the connection itself is in doubt, so that everything is to be read anew.
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Timeout(_))
    }

    /// The error with all that led to it, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            let message = error.to_string();
            if !text.contains(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            source = error.source();
        }
        text
    }
}

/// A stream of messages; an error or its end means that the connection is lost.
pub type Messages = BoxStream<'static, Result<Message, EngineError>>;

/// An engine that runs containers. Every call has a deadline of its own.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Who answers.
    async fn info(&self) -> Result<EngineInfo, EngineError>;

    /// Subscribes to what happens, from `since` on as far as the engine remembers.
    async fn changes(&self, since: Option<Timestamp>) -> Result<Messages, EngineError>;

    /// Lists all containers, running or not.
    async fn list(&self) -> Result<Listing, EngineError>;

    /// Lists one container: cheap, and never blocked by the container's own lock. `None` when it
    /// does not exist.
    ///
    /// # Errors
    /// [`EngineError::Unreadable`] when there is an answer that can't be read.
    async fn look(&self, id: &ContainerId) -> Result<Option<Container>, EngineError>;

    /// Inspects one container. May hang as long as the container starts.
    async fn inspect(&self, id: &ContainerId) -> Result<Inspection, EngineError>;

    /// What is known of an image, by its full id; nothing when it is gone.
    async fn image(&self, image_id: &str) -> Result<ImageFacts, EngineError>;

    /// The image that a name stands for here now. `None` where there is none.
    async fn image_by_name(&self, name: &Reference) -> Result<Option<ImageFacts>, EngineError>;

    /// The powers that a volume of the driver `local` gives by its options.
    async fn volume_powers(&self, name: &str) -> Result<BTreeSet<Power>, EngineError>;

    /// An exec, by its id.
    async fn exec(&self, id: &str) -> Result<Exec, EngineError>;

    /// What the paths among these powers lead to on the host, symbolic links followed. Only where
    /// this process sees the host's files.
    async fn follow_links(&self, powers: &BTreeSet<Power>) -> Result<BTreeSet<Power>, EngineError>;

    /// Whether the engine's host is the one whose files this process may see.
    fn is_local(&self) -> bool;

    /// The command names of a container's processes, as the engine's host sees them.
    async fn command_names(&self, id: &ContainerId) -> Result<Vec<String>, EngineError>;

    /// Does something to a container.
    async fn act(&self, id: &ContainerId, act: Act) -> Result<Acted, EngineError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_policy_is_what_it_is_written_as() {
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        for policy in [No, Always, UnlessStopped, OnFailure(0), OnFailure(5)] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        for text in ["Always", "on-failure:", "on-failure:-1", "sometimes"] {
            assert!(text.parse::<RestartPolicy>().is_err(), "{text}");
        }
    }
}
