//! What is shown of containers: of all of them, of one, and of one that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::Sources;
use super::openapi::VerdictWord;
use crate::allowlist::{Action, Reason, RuleCheck, Verdict};
use crate::container::{
    Ancestor, Container, ContainerId, Port, State as ContainerState, is_grouping_label,
};
use crate::grant::Power;
use crate::record::{Outcome, Record, Trigger};
use crate::status::{Enforcement, Snapshot};
use crate::uptime::age;

/// What stands in the place of a label's value that is not shown.
pub const HIDDEN: &str = "…";

/// The answer to `GET /containers`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Listing {
    /// The engine's host.
    pub(super) host: Option<String>,
    /// The last change or full list.
    pub(super) as_of: Option<Timestamp>,
    /// How old that is.
    #[serde(skip)]
    pub(super) age: Option<Duration>,
    /// The audit log could not be read.
    #[serde(skip)]
    pub(super) lacks_decisions: bool,
    /// The engine.
    pub(super) engine: EngineView,
    /// Whether denied containers are ended, now.
    pub(super) enforcing: bool,
    /// The containers.
    pub(super) data: Vec<View>,
}

/// What is known of the engine itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EngineView {
    /// Whether it answers.
    pub(super) connected: bool,
    /// Its version.
    pub(super) version: Option<String>,
}

/// One container as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct View {
    /// The full id.
    pub(super) container_id: ContainerId,
    /// Its name.
    pub(super) container_name: Option<String>,
    /// What it was created from, as typed.
    pub(super) image: Option<String>,
    /// The full id of its image.
    pub(super) image_id: Option<String>,
    /// Its state, in the engine's words.
    #[schema(value_type = ContainerState)]
    pub(super) status: &'static str,
    /// Whether it counts as running.
    #[serde(skip)]
    pub(super) is_live: bool,
    /// The engine's sentence, as of the listing's `as_of`.
    pub(super) status_text: Option<String>,
    /// When it was created.
    pub(super) created_at: Option<Timestamp>,
    /// When it last started.
    pub(super) started_at: Option<Timestamp>,
    /// Its labels; `…` stands in the place of a value that is not shown.
    pub(super) labels: BTreeMap<String, String>,
    /// Its ports, published or only exposed.
    pub(super) ports: Vec<Port>,
    /// What it can do beyond an ordinary container; null: not known yet.
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) powers: Option<BTreeSet<Power>>,
    /// The tags and repo digests of its image when it was first seen; null: not known yet.
    pub(super) image_names: Option<Vec<String>>,
    /// Whether it runs its image's own command; null: not known yet.
    pub(super) runs_image_command: Option<bool>,
    /// The images that its image was built on here, where a rule asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ancestors: Option<Vec<Ancestor>>,
    /// Whether it may run.
    #[schema(value_type = VerdictWord)]
    pub(super) verdict: &'static str,
    /// The rule that allows, or nearly does.
    pub(super) rule: Option<String>,
    /// Why it is denied.
    pub(super) reason: Option<Reason>,
    /// A sentence about the denial.
    pub(super) detail: Option<String>,
    /// What to write into the list so that it is allowed, where that helps: keys of `rule`, or, without one, a
    /// rule of its own.
    pub(super) edit: Option<String>,
    /// The newest record about it.
    pub(super) last_decision: Option<LastDecision>,
    /// Rule by rule, where one container is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) explanation: Option<Vec<RuleCheck>>,
}

/// A container that is gone, as the audit log knows it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Gone {
    /// The full id.
    pub(super) container_id: ContainerId,
    /// Its last name.
    pub(super) container_name: Option<String>,
    /// Always true.
    pub(super) gone: bool,
    /// What was judged and done, newest first.
    pub(super) decisions: Vec<Record>,
}

/// One container, here or gone.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Answer {
    /// It is here.
    Here(Box<View>),
    /// It was.
    Gone(Gone),
}

/// A record in short.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LastDecision {
    /// The record's number.
    seq: u64,
    /// When it was written.
    time: Timestamp,
    /// Its verdict.
    verdict: String,
    /// Why it was denied.
    reason: Option<Reason>,
    /// What made us look.
    trigger: Trigger,
    /// What was to be done.
    #[serde(skip)]
    action: Option<Action>,
    /// What became of it.
    outcome: Option<Outcome>,
    /// From its start to its death, in milliseconds.
    lived_ms: Option<f64>,
}

impl LastDecision {
    /// What dockwarden did by this decision to a container that is in this state now, and when.
    pub(super) fn done(&self, status: &str) -> Option<(&'static str, String)> {
        let at = self.time.strftime("%F %T UTC");
        let is_pause = self.action == Some(Action::Pause);
        let ended = "ended by dockwarden ";
        match (status, self.outcome?) {
            ("paused", Outcome::Done) if is_pause => {
                Some(("paused by dockwarden, ", at.to_string()))
            }
            ("created" | "exited" | "dead", Outcome::NeverRan) => {
                Some((ended, format!("before it ran, {at}")))
            }
            ("created" | "exited" | "dead", Outcome::Done) if !is_pause => {
                Some(match self.lived_ms {
                    Some(lived) => (ended, format!("after {lived:.0} ms, {at}")),
                    None => (ended, at.to_string()),
                })
            }
            _ => None,
        }
    }
}

impl From<&Record> for LastDecision {
    fn from(record: &Record) -> Self {
        Self {
            seq: record.seq,
            time: record.time,
            verdict: record.verdict.clone(),
            reason: record.reason,
            trigger: record.trigger,
            action: record.action,
            outcome: record.outcome,
            lived_ms: record.lived_ms,
        }
    }
}

/// All containers, with the verdicts of the one that enforces. Blocks on a file.
pub(super) fn listing(
    sources: &Sources,
    snapshot: &Snapshot,
    enforcement: &Enforcement,
    now: Timestamp,
) -> Listing {
    let last = last_decisions(sources);
    let lacks_decisions = last.is_none();
    let last = last.unwrap_or_default();
    let mut verdicts = sources.verdicts(snapshot, enforcement, now);
    let views = snapshot.containers.values().map(|container| {
        let verdict = verdicts.remove(&container.id).unwrap_or(Verdict::Unknown);
        let show_all_labels = sources.show_all_labels;
        view(
            container,
            &verdict,
            enforcement,
            show_all_labels,
            &last,
            now,
        )
    });
    Listing {
        host: snapshot.host.clone(),
        as_of: snapshot.as_of,
        age: snapshot.read.map(age),
        lacks_decisions,
        engine: EngineView {
            connected: snapshot.connected,
            version: snapshot.version.clone(),
        },
        enforcing: enforcement.enforcing,
        data: views.collect(),
    }
}

/// One container.
pub(super) fn view(
    container: &Container,
    verdict: &Verdict,
    enforcement: &Enforcement,
    show_all_labels: bool,
    last: &BTreeMap<ContainerId, Arc<Record>>,
    now: Timestamp,
) -> View {
    let is_shown = |key: &str| {
        show_all_labels || is_grouping_label(key) || enforcement.in_force.list.looks_at_label(key)
    };
    let labels = container.labels.iter().flat_map(|labels| labels.iter());
    let labels = labels.map(|(key, value)| {
        let value = if is_shown(key) { value } else { HIDDEN };
        (key.clone(), value.to_owned())
    });
    View {
        container_id: container.id.clone(),
        container_name: container.name.clone(),
        image: container.image.clone(),
        image_id: container.image_id.clone(),
        status: container.state.as_str(),
        is_live: container.state.is_live(),
        status_text: container.status_text.clone(),
        created_at: container.created_at,
        started_at: container.started_at,
        labels: labels.collect(),
        ports: container.ports.clone(),
        powers: container.powers.clone().filter(|_| !container.may_do_more),
        image_names: container.image_names.clone(),
        runs_image_command: container.runs_image_command,
        ancestors: container.ancestors.clone(),
        verdict: verdict.as_str(),
        rule: verdict.rule().map(str::to_owned),
        reason: verdict.reason(),
        detail: verdict.detail().map(str::to_owned),
        edit: enforcement.in_force.list.edit(container, verdict, now),
        last_decision: last
            .get(&container.id)
            .map(|record| LastDecision::from(&**record)),
        explanation: None,
    }
}

/// The newest record about each container. An audit log that can't be read costs these alone: then `None`.
pub(super) fn last_decisions(sources: &Sources) -> Option<BTreeMap<ContainerId, Arc<Record>>> {
    let read = sources.decisions.last_by_container();
    read.inspect_err(|error| tracing::warn!(%error, "the audit log can't be read"))
        .ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_done_is_said_of_what_is_still_so() {
        let done = |status: &str, action: &str, outcome: &str, lived: Option<f64>| {
            let record = json!({
                "v": 1, "seq": 1, "event": "decision", "time": "2026-01-01T00:00:00Z", "host": "h",
                "container_id": "ab".repeat(32), "labels": {}, "verdict": "denied", "trigger": "start",
                "mode": "enforce", "action": action, "outcome": outcome, "lived_ms": lived,
                "allowlist_hash": "00",
            });
            let record: Record = serde_json::from_value(record).expect("a record");
            let done = LastDecision::from(&record).done(status);
            done.map(|(done, when)| format!("{done}{when}"))
        };
        for (status, action, outcome, lived, said) in [
            (
                "exited",
                "kill",
                "done",
                Some(7.2),
                "ended by dockwarden after 7 ms, 2026-01-01 00:00:00 UTC",
            ),
            (
                "dead",
                "remove",
                "done",
                None,
                "ended by dockwarden 2026-01-01 00:00:00 UTC",
            ),
            (
                "created",
                "kill",
                "never-ran",
                Some(0.0),
                "ended by dockwarden before it ran, 2026-01-01 00:00:00 UTC",
            ),
            (
                "paused",
                "pause",
                "done",
                None,
                "paused by dockwarden, 2026-01-01 00:00:00 UTC",
            ),
        ] {
            let told = done(status, action, outcome, lived);
            assert_eq!(told.as_deref(), Some(said), "{status}");
        }
        for (status, action, outcome) in [
            ("running", "kill", "done"),
            ("paused", "kill", "done"),
            ("exited", "pause", "done"),
            ("exited", "kill", "ended-itself"),
        ] {
            assert_eq!(
                done(status, action, outcome, None),
                None,
                "{status} {outcome}"
            );
        }
    }
}
