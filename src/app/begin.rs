//! Which list a daemon begins with: the one that was last in force, until it is certain that what is
//! written now would not end too much.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Failure, Settings};
use crate::allowlist::Mode;
use crate::record::{ListChange, ListOutcome};
use crate::state::{self, Accepted, Ledger, StateDirectory};
use crate::status::{Candidate, Enforcement, LoadedList, RejectedList};

/// What a daemon begins with.
pub(super) struct Beginning {
    pub(super) in_force: LoadedList,
    /// Audit mode in force, whatever the list says.
    pub(super) audit_only: bool,
    /// The list that is to come into force, once it is weighed.
    pub(super) wanted: Option<LoadedList>,
    /// The file that is no list.
    pub(super) rejected: Option<RejectedList>,
}

impl Beginning {
    /// From the file, the list that was last in force, and whether audit mode is asked for.
    ///
    /// # Errors
    /// When there is neither file nor list.
    pub(super) fn of(
        file: Candidate,
        accepted: Option<Accepted>,
        audit_only: bool,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let (list, rejected) = match (file, &accepted) {
            (Ok(list), _) => (list, None),
            (Err(error), None) => return Err(Failure::Settings(error.report())),
            (Err(error), Some(accepted)) => {
                let rejected = RejectedList {
                    message: error.to_string(),
                    at: now,
                };
                (accepted.list.clone(), Some(rejected))
            }
        };
        let at_once = Self {
            in_force: list.clone(),
            audit_only,
            wanted: None,
            rejected: rejected.clone(),
        };
        let Some(accepted) = accepted else {
            return Ok(at_once);
        };
        let is_same = list.hash == accepted.list.hash && audit_only == accepted.audit_only;
        let ends_nothing = list.mode(audit_only, now) == Mode::Audit;
        if is_same || ends_nothing || list.list.guard.accepts(&list.hash) {
            return Ok(at_once);
        }
        Ok(Self {
            in_force: accepted.list,
            audit_only: accepted.audit_only,
            wanted: Some(list),
            rejected,
        })
    }

    /// What is put on record of it.
    pub(super) fn list_change(&self) -> ListChange {
        let LoadedList { hash, list, .. } = &self.in_force;
        let is_of_file = self.rejected.is_none() && self.wanted.is_none();
        ListChange {
            outcome: match is_of_file {
                true => ListOutcome::Applied,
                false => ListOutcome::LastAccepted,
            },
            error: self
                .rejected
                .as_ref()
                .map(|rejected| rejected.message.clone()),
            ..ListChange::applied(hash, list.rules.len())
        }
    }

    /// What is done with it, before anything is known of the engine.
    pub(super) fn enforcement(self) -> Enforcement {
        Enforcement {
            mode: self.in_force.mode(self.audit_only, Timestamp::now()),
            in_force: self.in_force,
            rejected: self.rejected,
            held: None,
            audit_only: self.audit_only,
            enforcing: false,
            hindrance: None,
            paths: Vec::new(),
            surroundings: Arc::default(),
            last_sweep: None,
            swept: None,
        }
    }
}

/// The state directory of one who enforces.
pub(super) fn open_state(settings: &Settings) -> Result<Option<Arc<StateDirectory>>, Failure> {
    let path = settings.state_dir.as_deref();
    let Some(path) = path.filter(|_| settings.role.enforces()) else {
        return Ok(None);
    };
    let opened = StateDirectory::open(path);
    let opened = opened
        .map_err(|error| Failure::Settings(format!("state directory {}: {error}", path.display())));
    Ok(Some(Arc::new(opened?)))
}

/// The list that was last in force, as far as it matters here: who enforces nothing shows the file where that is a
/// list. Where it can't be told any more, what is written is believed: else nothing would be enforced at all.
pub(super) fn last_accepted(settings: &Settings, file: &Candidate) -> Option<Accepted> {
    let matters = settings.role.enforces() || file.is_err();
    let directory = settings.state_dir.as_deref().filter(|_| matters)?;
    state::accepted(directory).unwrap_or_else(|error| {
        tracing::error!(%error, "the list that was last in force can't be read; nothing is held back now");
        None
    })
}

/// Takes down the list that it begins with, and reads what is known of containers. Failing costs a
/// later start what it would know, and nothing now.
pub(super) fn remember(state: &StateDirectory, enforcement: &Enforcement, ledger: &Ledger) {
    if let Err(error) = state.accept(state.turn(), &enforcement.in_force, enforcement.audit_only) {
        tracing::error!(%error, "the list in force could not be written down");
    }
    match state::remembered(state.path()) {
        Ok(containers) => ledger.set_all(containers),
        Err(error) => tracing::error!(%error, "what was known of containers can't be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::ListError;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn list(text: &str) -> LoadedList {
        LoadedList::parse(format!("version = 1\n{text}").as_bytes(), NOW).expect("a list")
    }

    #[test]
    fn what_would_end_more_is_weighed_first() {
        let a = || list("[[allow]]\nimage = \"a\"\n");
        let b = || list("[[allow]]\nimage = \"b\"\n");
        let audit = || list("mode = \"audit\"\n[[allow]]\nimage = \"b\"\n");
        let accepting = || {
            let hash = b().hash;
            list(&format!(
                "guard.accept = \"{hash}\"\n[[allow]]\nimage = \"b\"\n"
            ))
        };
        let bad = || {
            Err(ListError::Unreadable {
                file: "list".to_owned(),
                message: "bad".to_owned(),
            })
        };
        let was = |list: LoadedList, audit_only| Some(Accepted { list, audit_only });
        // (case, file, accepted, --mode audit now) => (in force, audit only, wanted)
        let table = [
            ("the first start", Ok(b()), None, false, (b(), false, None)),
            (
                "the same list",
                Ok(a()),
                was(a(), false),
                false,
                (a(), false, None),
            ),
            (
                "another list",
                Ok(b()),
                was(a(), false),
                false,
                (a(), false, Some(b())),
            ),
            (
                "another list that audits",
                Ok(audit()),
                was(a(), false),
                false,
                (audit(), false, None),
            ),
            (
                "another list, audit asked for",
                Ok(b()),
                was(a(), false),
                true,
                (b(), true, None),
            ),
            (
                "audit no longer asked for",
                Ok(a()),
                was(a(), true),
                false,
                (a(), true, Some(a())),
            ),
            (
                "another list that is accepted",
                Ok(accepting()),
                was(a(), false),
                false,
                (accepting(), false, None),
            ),
            (
                "a bad file",
                bad(),
                was(a(), false),
                false,
                (a(), false, None),
            ),
            (
                "a bad file, audit no longer asked for",
                bad(),
                was(a(), true),
                false,
                (a(), true, Some(a())),
            ),
        ];
        for (case, file, accepted, audit_only, expected) in table {
            let is_bad = file.is_err();
            let Ok(found) = Beginning::of(file, accepted, audit_only, NOW) else {
                panic!("{case}: no list");
            };
            let hash = |list: LoadedList| list.hash;
            let (in_force, audit_only, wanted) = expected;
            assert_eq!(found.in_force.hash, in_force.hash, "{case}");
            assert_eq!(found.audit_only, audit_only, "{case}");
            assert_eq!(found.wanted.map(hash), wanted.map(hash), "{case}");
            assert_eq!(found.rejected.is_some(), is_bad, "{case}");
        }
        assert!(Beginning::of(bad(), None, false, NOW).is_err());
    }
}
