//! The audit records: what was judged and done about one container, and what happened to dockwarden
//! itself, each as one JSON object.

mod happening;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::allowlist::{Action, Mode, Reason};
use crate::container::ContainerId;
use crate::grant::Power;
pub use happening::{Connection, Happening, Life, ListChange, ListOutcome, What};

/// What made dockwarden look at a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// It was created.
    Create,
    /// It started.
    Start,
    /// It was restarted.
    Restart,
    /// It was resumed.
    Unpause,
    /// It has another name now.
    Rename,
    /// Its resources or restart policy changed.
    Update,
    /// A program was executed in it.
    Exec,
    /// An image was given a name, lost one, came or went.
    Image,
    /// A full list of all containers.
    Sweep,
    /// Another list came into force.
    Reload,
    /// A rule expired.
    Expiry,
}

impl Trigger {
    /// Whether the engine told that something happened to the container itself.
    pub fn is_event(self) -> bool {
        match self {
            Self::Create
            | Self::Start
            | Self::Restart
            | Self::Unpause
            | Self::Rename
            | Self::Update
            | Self::Exec => true,
            Self::Image | Self::Sweep | Self::Reload | Self::Expiry => false,
        }
    }

    /// The word in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Unpause => "unpause",
            Self::Rename => "rename",
            Self::Update => "update",
            Self::Exec => "exec",
            Self::Image => "image",
            Self::Sweep => "sweep",
            Self::Reload => "reload",
            Self::Expiry => "expiry",
        }
    }
}

/// What became of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was ended by us.
    Done,
    /// It was removed before it could start, or its first process was ended before its program began.
    NeverRan,
    /// It was ended by someone else while we were about to.
    Gone,
    /// Its own process ended before we could act.
    EndedItself,
    /// The engine refused; it is tried again.
    Failed,
    /// It still runs ten seconds after its verdict; it is tried again.
    Escaped,
    /// Audit mode: nothing was done.
    AuditOnly,
    /// It is allowed, by no rule but such with `audit = true`.
    WouldDeny,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::NeverRan,
        Self::Gone,
        Self::EndedItself,
        Self::Failed,
        Self::Escaped,
        Self::AuditOnly,
        Self::WouldDeny,
    ];

    /// Whether a life is over with it.
    pub fn is_end(self) -> bool {
        matches!(
            self,
            Self::Done | Self::NeverRan | Self::Gone | Self::EndedItself
        )
    }

    /// The word in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NeverRan => "never-ran",
            Self::Gone => "gone",
            Self::EndedItself => "ended-itself",
            Self::Failed => "failed",
            Self::Escaped => "escaped",
            Self::AuditOnly => "audit-only",
            Self::WouldDeny => "would-deny",
        }
    }
}

/// One line of the audit log: a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Record {
    /// The version of this format, 1.
    pub v: u8,
    /// Counts up by one a record, happenings included, across restarts.
    pub seq: u64,
    /// What kind of record this is: `decision`.
    pub event: Event,
    /// When it was written, UTC with nanoseconds.
    pub time: Timestamp,
    /// The host of the engine.
    pub host: String,
    /// The container's full id.
    pub container_id: ContainerId,
    /// Its name.
    pub container_name: Option<String>,
    /// What it was created from, as typed.
    pub image: Option<String>,
    /// The full id of its image.
    pub image_id: Option<String>,
    /// Its labels that say to what it belongs (Compose, Swarm, Kubernetes).
    pub labels: BTreeMap<String, String>,
    /// What it can do beyond an ordinary container, where that was looked at.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub powers: Option<BTreeSet<Power>>,
    /// There may be more of those: not all that it joins or mounts was looked at.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_do_more: bool,
    /// The repo digests of its image, where they were looked at.
    #[serde(default)]
    pub image_digests: Vec<String>,
    /// `allowed`, `denied`, `unknown`.
    pub verdict: String,
    /// The rule that allows, or nearly does.
    pub rule: Option<String>,
    /// Why it was denied.
    pub reason: Option<Reason>,
    /// A sentence about the denial.
    pub detail: Option<String>,
    /// What made us look.
    pub trigger: Trigger,
    /// The mode in force.
    pub mode: Mode,
    /// What was to be done, or would be; none for what is allowed.
    pub action: Option<Action>,
    /// What became of it; none for what is allowed or can't be judged.
    pub outcome: Option<Outcome>,
    /// The engine's words where it refused.
    pub error: Option<String>,
    /// By which path it was ended.
    pub path: Option<Path>,
    /// The restart policy it had.
    pub restart_policy: Option<String>,
    /// When the life that this is about began, by the engine's clock, where that was asked for.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// From its start to its death by the engine's clock, in milliseconds, where both are known.
    pub lived_ms: Option<f64>,
    /// The hash of the list that decided.
    pub allowlist_hash: String,
}

impl Record {
    /// What became of the container, for people; none for what is allowed or can't be judged.
    pub fn became(&self) -> Option<&'static str> {
        Some(match self.outcome? {
            Outcome::Done => match self.action {
                Some(Action::Kill) => "killed",
                Some(Action::Stop) => "stopped",
                Some(Action::Pause) => "paused",
                Some(Action::Remove) => "removed",
                None => "ended",
            },
            Outcome::NeverRan => "ended before it ran",
            Outcome::Gone => "ended by someone else",
            Outcome::EndedItself => "ended by itself",
            Outcome::Failed => "could not be ended; trying again",
            Outcome::Escaped => "still runs",
            Outcome::AuditOnly => "left running (audit mode)",
            Outcome::WouldDeny => "allowed by a rule that only audits",
        })
    }
}

/// What was put on record.
#[derive(Debug, Clone)]
pub enum Entry {
    /// What was judged and done about a container.
    Decision(Arc<Record>),
    /// What happened to dockwarden itself.
    Happening(Arc<Happening>),
}

/// The kind of record that a decision is; [`What`] has the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A container was judged.
    Decision,
}

/// How a container can be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// By the engine's API.
    Api,
    /// By a signal to its first process, with the engine's own kill behind it.
    Pid,
    /// By a signal to its first process before its program began, or as it did.
    Gate,
}

impl Path {
    /// Every path, the slowest first.
    pub const ALL: [Self; 3] = [Self::Api, Self::Pid, Self::Gate];

    /// What it does, for people.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Api => "the engine is asked to end it",
            Self::Pid => "its process is ended by a signal, then the engine is asked to end it",
            Self::Gate => "its process is ended before its program begins, where that can be known",
        }
    }

    /// The word in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Pid => "pid",
            Self::Gate => "gate",
        }
    }
}
