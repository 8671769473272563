//! From a verdict to what is to be done about a container now. Pure: the same verdict, state and
//! history always lead to the same step.

use crate::allowlist::{Action, Mode, OnCreate, Verdict};
use crate::container::State;
use crate::status::Enforcement;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it may run, does not run, or is ended already.
    Leave,
    /// It may not run, and the mode says to touch nothing.
    Report,
    /// End it.
    End(Action),
}

/// What the list in force and the operator want done about denied containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether anything is done.
    pub mode: Mode,
    /// To those that run.
    pub action: Action,
    /// To those that are only created.
    pub on_create: OnCreate,
}

impl Policy {
    /// What is in force.
    pub fn of(enforcement: &Enforcement) -> Self {
        Self {
            mode: enforcement.mode,
            action: enforcement.in_force.list.action,
            on_create: enforcement.in_force.list.on_create,
        }
    }

    /// Whether a created container that is denied whatever its name is to be removed.
    pub fn removes(&self, state: State) -> bool {
        let is_wanted = self.mode == Mode::Enforce && self.on_create == OnCreate::Remove;
        is_wanted && state == State::Created
    }
}

/// Decides on one container. `failures` counts the attempts to end it that failed since the last one that did
/// not.
///
/// What is only created runs nothing and is judged again when it starts: the verdict on it is that
/// of [`crate::allowlist::Allowlist::judge_at_create`] where the policy removes such containers.
pub fn decide(verdict: &Verdict, state: State, policy: Policy, failures: u32) -> Step {
    if verdict.is_denied() && policy.removes(state) {
        return Step::End(Action::Remove);
    }
    if !verdict.is_denied() || !state.is_live() {
        return Step::Leave;
    }
    if policy.mode == Mode::Audit {
        return Step::Report;
    }
    match policy.action {
        Action::Pause if state == State::Paused => Step::Leave,
        // Between two lives nothing can be frozen, and some live too briefly to be.
        Action::Pause if state == State::Restarting || failures % 3 == 2 => Step::End(Action::Kill),
        // What neither stops nor lets itself be removed must at least not run on.
        Action::Stop | Action::Remove if failures % 2 == 1 => Step::End(Action::Kill),
        action => Step::End(action),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowlist::Reason;

    const ENFORCE: Policy = Policy {
        mode: Mode::Enforce,
        action: Action::Kill,
        on_create: OnCreate::Wait,
    };

    fn with(action: Action) -> Policy {
        Policy { action, ..ENFORCE }
    }

    fn denied() -> Verdict {
        Verdict::Denied {
            reason: Reason::NoRule,
            rule: None,
            detail: String::new(),
        }
    }

    #[test]
    fn only_what_is_denied_and_live_is_ended() {
        use State::{Created, Dead, Exited, Paused, Removing, Restarting, Running, Unknown};
        for state in [Running, Paused, Restarting, Unknown] {
            let step = decide(&denied(), state, ENFORCE, 0);
            assert_eq!(step, Step::End(Action::Kill), "{state:?}");
            let audit = Policy {
                mode: Mode::Audit,
                ..ENFORCE
            };
            let step = decide(&denied(), state, audit, 0);
            assert_eq!(step, Step::Report, "{state:?}");
        }
        for state in [Created, Removing, Exited, Dead] {
            let step = decide(&denied(), state, with(Action::Remove), 0);
            assert_eq!(step, Step::Leave, "{state:?}");
        }
        let allowed = Verdict::Allowed {
            rule: "web".into(),
            would_deny: false,
        };
        for verdict in [allowed, Verdict::Unknown, Verdict::Own] {
            for state in State::ALL {
                let step = decide(&verdict, state, ENFORCE, 3);
                assert_eq!(step, Step::Leave, "{verdict:?} {state:?}");
            }
        }
    }

    #[test]
    fn pausing_is_done_once() {
        let decide = |state| decide(&denied(), state, with(Action::Pause), 0);
        assert_eq!(decide(State::Running), Step::End(Action::Pause));
        assert_eq!(decide(State::Paused), Step::Leave);
    }

    #[test]
    fn what_cannot_be_paused_is_killed() {
        let decide = |state, failures| decide(&denied(), state, with(Action::Pause), failures);
        assert_eq!(decide(State::Restarting, 0), Step::End(Action::Kill));
        let steps = [Action::Pause, Action::Pause, Action::Kill, Action::Pause];
        for (failures, action) in (0..).zip(steps) {
            assert_eq!(decide(State::Running, failures), Step::End(action));
            assert_eq!(decide(State::Paused, failures), Step::Leave);
        }
    }

    #[test]
    fn a_stop_that_fails_is_followed_by_a_kill() {
        let decide = |failures| decide(&denied(), State::Running, with(Action::Stop), failures);
        assert_eq!(decide(0), Step::End(Action::Stop));
        assert_eq!(decide(1), Step::End(Action::Kill));
        assert_eq!(decide(2), Step::End(Action::Stop));
    }

    #[test]
    fn what_is_only_created_is_removed_where_that_is_wanted() {
        let policy = Policy {
            on_create: OnCreate::Remove,
            ..ENFORCE
        };
        let audit = Policy {
            mode: Mode::Audit,
            ..policy
        };
        let removed = Step::End(Action::Remove);
        assert_eq!(decide(&denied(), State::Created, policy, 0), removed);
        assert_eq!(decide(&denied(), State::Created, audit, 0), Step::Leave);
        assert_eq!(decide(&denied(), State::Created, ENFORCE, 0), Step::Leave);
        assert_eq!(decide(&denied(), State::Exited, policy, 0), Step::Leave);
    }
}
