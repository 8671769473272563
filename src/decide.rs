//! From a verdict to what is to be done about a container now. Pure: the same verdict, state and
//! history always lead to the same step.

use crate::allowlist::{Action, Mode, Verdict};
use crate::container::State;

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

/// Decides on one container. `failures` counts the attempts to end this life of it that failed.
///
/// What is only created is left alone: it runs nothing, and is judged again when it starts.
pub fn decide(verdict: &Verdict, state: State, mode: Mode, action: Action, failures: u32) -> Step {
    if !verdict.is_denied() || !state.is_live() {
        return Step::Leave;
    }
    if mode == Mode::Audit {
        return Step::Report;
    }
    match action {
        Action::Pause if state == State::Paused => Step::Leave,
        // What neither stops nor lets itself be removed must at least not run on.
        Action::Stop | Action::Remove if failures % 2 == 1 => Step::End(Action::Kill),
        action => Step::End(action),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowlist::Reason;

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
            let step = decide(&denied(), state, Mode::Enforce, Action::Kill, 0);
            assert_eq!(step, Step::End(Action::Kill), "{state:?}");
            let step = decide(&denied(), state, Mode::Audit, Action::Kill, 0);
            assert_eq!(step, Step::Report, "{state:?}");
        }
        for state in [Created, Removing, Exited, Dead] {
            let step = decide(&denied(), state, Mode::Enforce, Action::Remove, 0);
            assert_eq!(step, Step::Leave, "{state:?}");
        }
        let allowed = Verdict::Allowed {
            rule: "web".into(),
            would_deny: false,
        };
        for verdict in [allowed, Verdict::Unknown, Verdict::Own] {
            for state in State::ALL {
                let step = decide(&verdict, state, Mode::Enforce, Action::Kill, 3);
                assert_eq!(step, Step::Leave, "{verdict:?} {state:?}");
            }
        }
    }

    #[test]
    fn pausing_is_done_once() {
        let decide = |state| decide(&denied(), state, Mode::Enforce, Action::Pause, 0);
        assert_eq!(decide(State::Running), Step::End(Action::Pause));
        assert_eq!(decide(State::Paused), Step::Leave);
    }

    #[test]
    fn a_stop_that_fails_is_followed_by_a_kill() {
        let decide = |failures| {
            decide(
                &denied(),
                State::Running,
                Mode::Enforce,
                Action::Stop,
                failures,
            )
        };
        assert_eq!(decide(0), Step::End(Action::Stop));
        assert_eq!(decide(1), Step::End(Action::Kill));
        assert_eq!(decide(2), Step::End(Action::Stop));
    }
}
