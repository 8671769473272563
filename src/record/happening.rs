//! The audit record of what happened to dockwarden itself: its life, its list, its mode, its engine.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::allowlist::Mode;
use crate::container::ContainerId;

/// One line of the audit log that is no decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// The version of this format, 1.
    pub v: u8,
    /// Counts up by one a record, decisions included, across restarts.
    pub seq: u64,
    /// When it was written, UTC with nanoseconds.
    pub time: Timestamp,
    /// The host of the engine; empty before the engine first answered.
    pub host: String,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen; the word of the kind is the record's `event`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// A list came into force, or was kept out.
    Allowlist(ListChange),
    /// Another mode came into force.
    Mode {
        /// The mode in force now.
        mode: Mode,
        /// The one before; none at the start.
        previous: Option<Mode>,
    },
    /// dockwarden started or stopped.
    Lifecycle {
        /// Which of both.
        change: Life,
        /// dockwarden's version.
        version: String,
        /// The command that runs: `run`, `controller`.
        command: String,
        /// The process.
        pid: u32,
        /// The engine's URL.
        engine: String,
        /// The allowlist's file.
        allowlist: String,
        /// The signal that stopped it, where one did.
        signal: Option<String>,
        /// Why it stopped by itself, where it did.
        error: Option<String>,
    },
    /// The engine answered, or no longer did.
    Engine {
        /// Which of both.
        change: Connection,
        /// The engine's version, where it answers.
        version: Option<String>,
        /// Why it is out of reach.
        error: Option<String>,
    },
    /// A container's restart policy was changed, or put back.
    RestartPolicy {
        /// The container's full id.
        container_id: ContainerId,
        /// Its name.
        container_name: Option<String>,
        /// The policy that it has now.
        restart_policy: String,
        /// The one that it had.
        previous: String,
    },
}

/// What became of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListChange {
    /// What became of it.
    pub outcome: ListOutcome,
    /// The hash of the list that this is about; none where the file is no list.
    pub allowlist_hash: Option<String>,
    /// The hash of the list in force until now, which stays so where this one is kept out.
    pub previous_hash: Option<String>,
    /// How many rules it has.
    pub rules: Option<usize>,
    /// How many containers that run it would end, where that was counted.
    pub would_end: Option<usize>,
    /// How many containers run.
    pub running: Option<usize>,
    /// Those that it would end, by name where they have one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
    /// What is wrong with it.
    pub error: Option<String>,
}

impl ListChange {
    /// Nothing but what became of it.
    pub fn new(outcome: ListOutcome) -> Self {
        Self {
            outcome,
            allowlist_hash: None,
            previous_hash: None,
            rules: None,
            would_end: None,
            running: None,
            containers: Vec::new(),
            error: None,
        }
    }

    /// A list of so many rules came into force.
    pub fn applied(hash: &str, rules: usize) -> Self {
        Self {
            allowlist_hash: Some(hash.to_owned()),
            rules: Some(rules),
            ..Self::new(ListOutcome::Applied)
        }
    }
}

/// What can become of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListOutcome {
    /// It came into force.
    Applied,
    /// It is kept out until it is accepted: it would end too much.
    Held,
    /// It is kept out: it is no valid list.
    Invalid,
    /// It came into force at the start in the place of the file, being the last one accepted: the
    /// file's is no valid list, or is weighed first.
    LastAccepted,
}

/// The two ends of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// It began.
    Started,
    /// It ended in order: one that is killed has no such record.
    Stopped,
}

/// The two states of the way to an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connection {
    /// It answers.
    Connected,
    /// It is out of reach.
    Disconnected,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    #[test]
    fn a_happening_is_flat_and_comes_back_and_is_no_decision() {
        let happening = Happening {
            v: 1,
            seq: 7,
            time: Timestamp::UNIX_EPOCH,
            host: "vm".to_owned(),
            what: What::Allowlist(ListChange {
                rules: Some(3),
                ..ListChange::new(ListOutcome::LastAccepted)
            }),
        };
        let text = serde_json::to_string(&happening).expect("JSON");
        assert_eq!(
            text,
            r#"{"v":1,"seq":7,"time":"1970-01-01T00:00:00Z","host":"vm","event":"allowlist","outcome":"last-accepted","allowlist_hash":null,"previous_hash":null,"rules":3,"would_end":null,"running":null,"error":null}"#
        );
        assert_eq!(
            serde_json::from_str::<Happening>(&text).ok(),
            Some(happening)
        );
        assert!(serde_json::from_str::<Record>(&text).is_err());
    }
}
