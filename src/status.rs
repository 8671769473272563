//! The values that rooms hand each other: which service this is, the list in force, a newer one that may
//! replace it, what enforcement is doing, and what is known of all containers.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::allowlist::{Allowlist, InvalidAllowlist, Mode, Rule, Verdict};
use crate::container::{Container, ContainerId};
use crate::record::Path;
use crate::together;

/// How early it is told that a rule expires.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Which of the services this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Enforcement and status in one process.
    Run,
    /// Enforcement alone.
    Controller,
    /// Status alone.
    Api,
}

impl Role {
    /// The command that runs it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Controller => "controller",
            Self::Api => "api",
        }
    }

    /// Whether this process decides and ends.
    pub fn enforces(self) -> bool {
        self != Self::Api
    }

    /// Whether this process shows containers.
    pub fn shows(self) -> bool {
        self != Self::Controller
    }
}

/// A valid list with what is to be said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedList {
    /// The list.
    pub list: Arc<Allowlist>,
    /// Its hash.
    pub hash: Arc<str>,
    /// When it was read.
    pub loaded_at: Timestamp,
    /// The text that it was read from.
    pub text: Arc<str>,
    /// When its rules and its audit mode end, in order.
    expiries: Arc<[Timestamp]>,
}

impl LoadedList {
    /// Parses and hashes a text that was read at `loaded_at`.
    ///
    /// # Errors
    /// As [`Allowlist::parse`].
    pub fn parse(text: &[u8], loaded_at: Timestamp) -> Result<Self, InvalidAllowlist> {
        let list = Allowlist::parse(text)?;
        let rules = list.rules.iter().filter_map(|rule| rule.expires);
        let mut expiries: Vec<_> = rules.chain(list.audit_until).collect();
        expiries.sort_unstable();
        Ok(Self {
            hash: list.hash().into(),
            expiries: expiries.into(),
            list: Arc::new(list),
            loaded_at,
            text: String::from_utf8_lossy(text).into(),
        })
    }

    /// The mode that it asks for at an instant, unless the operator asked for audit.
    pub fn mode(&self, audit_only: bool, now: Timestamp) -> Mode {
        if audit_only {
            Mode::Audit
        } else {
            self.list.mode_at(now)
        }
    }

    /// The instants after `from` at which a rule expires, and verdicts with it, or audit mode ends.
    pub fn expiries_after(&self, from: Timestamp) -> &[Timestamp] {
        let passed = self.expiries.partition_point(|expiry| *expiry <= from);
        &self.expiries[passed..]
    }

    /// The rules that expire within a week from `now`, and when.
    pub fn expiring(&self, now: Timestamp) -> impl Iterator<Item = (&Rule, Timestamp)> {
        let rules = self.list.rules.iter();
        let expiries = rules.filter_map(|rule| rule.expires.map(|expires| (rule, expires)));
        expiries.filter(move |(_, expires)| {
            let left = expires.duration_since(now);
            left > SignedDuration::ZERO && left < EXPIRES_SOON
        })
    }
}

/// Why the text of a list could not become one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ListError {
    /// The file can't be read.
    #[error("{file}: {message}")]
    Unreadable {
        /// The file.
        file: String,
        /// The system's words.
        message: String,
    },
    /// The text is no list.
    #[error("{file}: {invalid}")]
    Invalid {
        /// The file.
        file: String,
        /// Everything that is wrong with it.
        invalid: InvalidAllowlist,
    },
}

impl ListError {
    /// The message for a terminal: with source lines and carets where there are any.
    pub fn report(&self) -> String {
        match self {
            Self::Unreadable { .. } => format!("{self}\n"),
            Self::Invalid { file, invalid } => invalid.report(file),
        }
    }
}

/// What came of reading the file again.
pub type Candidate = Result<LoadedList, ListError>;

/// A newer list that is kept out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RejectedList {
    /// What is wrong with it.
    pub message: String,
    /// When it was read.
    pub at: Timestamp,
}

/// A newer list, or the end of a mode that was asked for, that is held back: it would end too much,
/// or nobody can tell yet how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldList {
    /// The hash that accepts it.
    pub hash: Arc<str>,
    /// Since when.
    pub since: Timestamp,
    /// How many containers ran here then.
    pub running: usize,
    /// Those of them that it would end.
    pub would_end: Vec<WouldEnd>,
    /// Why that is not known, where it is not.
    pub error: Option<String>,
}

impl HeldList {
    /// Those that it would end, by name where they have one.
    pub fn names(&self) -> Vec<String> {
        let name = |one: &WouldEnd| {
            let name = one.container_name.as_deref();
            name.unwrap_or(one.container_id.short()).to_owned()
        };
        self.would_end.iter().map(name).collect()
    }

    /// One of which nobody can tell yet what it would end, for this reason.
    pub fn unweighed(hash: Arc<str>, since: Timestamp, error: &str) -> Self {
        Self {
            hash,
            since,
            running: 0,
            would_end: Vec::new(),
            error: Some(error.to_owned()),
        }
    }
}

/// A container that a list would end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WouldEnd {
    /// Its full id.
    pub container_id: ContainerId,
    /// Its name.
    pub container_name: Option<String>,
    /// What it was created from.
    pub image: Option<String>,
    /// Why.
    pub detail: Option<String>,
}

/// Where a dockwarden stands: what of the host is its own, and what it sees of the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// dockwarden's own containers.
    pub own: BTreeSet<ContainerId>,
    /// The paths of the host that its own container mounts.
    pub paths: BTreeSet<String>,
    /// The volumes that its own container mounts.
    pub volumes: BTreeSet<String>,
    /// Whether it sees the files of the engine's host.
    pub sees_host: bool,
}

/// What enforcement is doing.
#[derive(Debug, Clone, PartialEq)]
pub struct Enforcement {
    /// The list in force.
    pub in_force: LoadedList,
    /// The newer list that is kept out.
    pub rejected: Option<RejectedList>,
    /// The newer list, or the mode, that is held back.
    pub held: Option<Arc<HeldList>>,
    /// Audit mode in force, whatever the list says.
    pub audit_only: bool,
    /// The mode in force: the list's, unless audit was asked for on the command line.
    pub mode: Mode,
    /// Whether this process ends what is denied, now.
    pub enforcing: bool,
    /// What keeps it from enforcing, where something does.
    pub hindrance: Option<String>,
    /// By which paths what is denied is ended, the slowest first.
    pub paths: Vec<Path>,
    /// Where this process stands.
    pub surroundings: Arc<Surroundings>,
    /// When all containers were last listed and judged.
    pub last_sweep: Option<Timestamp>,
    /// The process's uptime then: a wall clock that is set changes no age.
    pub swept: Option<Duration>,
}

impl Enforcement {
    /// Whether the same list is in force in the same mode.
    pub fn judges_as(&self, other: &Self) -> bool {
        (&self.in_force.hash, self.mode) == (&other.in_force.hash, other.mode)
    }

    /// The verdict on a container, dockwarden's own included and other containers aside.
    pub fn judge(&self, container: &Container, now: Timestamp) -> Verdict {
        if self.surroundings.own.contains(&container.id) {
            return Verdict::Own;
        }
        self.in_force.list.judge(container, now)
    }

    /// The verdicts on all containers together, `max` included.
    pub fn judge_all<'a>(
        &self,
        containers: impl IntoIterator<Item = &'a Container>,
        now: Timestamp,
    ) -> BTreeMap<ContainerId, Verdict> {
        together::judge_all(&self.in_force.list, &self.surroundings.own, containers, now)
    }
}

/// All containers as last seen.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The containers by id. Who reads them takes them along: nobody who writes waits for that.
    pub containers: Arc<BTreeMap<ContainerId, Arc<Container>>>,
    /// Whether the engine answers.
    pub connected: bool,
    /// The engine's version.
    pub version: Option<String>,
    /// The name of the engine's host.
    pub host: Option<String>,
    /// The last change or full list; none before the first one.
    pub as_of: Option<Timestamp>,
    /// The process's uptime then.
    pub read: Option<Duration>,
    /// The process's uptime when all containers were last listed.
    pub listed: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiries_come_in_order_and_pass() {
        let text = "version = 1\n[[allow]]\nimage = \"a\"\nexpires = 2027-02-01T00:00:00Z\n[[allow]]\nimage = \"b\"\nexpires = 2027-01-01T00:00:00Z\n";
        let list = LoadedList::parse(text.as_bytes(), Timestamp::UNIX_EPOCH).expect("a list");
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let (first, second) = (at("2027-01-01T00:00:00Z"), at("2027-02-01T00:00:00Z"));
        assert_eq!(list.expiries_after(Timestamp::UNIX_EPOCH), [first, second]);
        assert_eq!(list.expiries_after(first), [second]);
        assert!(list.expiries_after(second).is_empty());
    }

    #[test]
    fn a_rule_expires_soon_within_a_week() {
        let text = "version = 1\naudit-until = 2027-01-01T00:00:00Z\n[[allow]]\nimage = \"a\"\n[[allow]]\nrule = \"b\"\nimage = \"b\"\nexpires = 2027-01-08T00:00:00Z\n";
        let list = LoadedList::parse(text.as_bytes(), Timestamp::UNIX_EPOCH).expect("a list");
        let expiring = |now: &str| {
            let expiring = list.expiring(now.parse().expect("a time"));
            let names = expiring.map(|(rule, _)| rule.name.to_string());
            names.collect::<Vec<_>>()
        };
        assert!(expiring("2027-01-01T00:00:00Z").is_empty());
        assert_eq!(expiring("2027-01-01T00:00:01Z"), ["b"]);
        assert_eq!(expiring("2027-01-07T23:59:59Z"), ["b"]);
        assert!(expiring("2027-01-08T00:00:00Z").is_empty());
    }
}
