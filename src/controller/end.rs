//! Ending a denied container. `outcome.rs` puts on record what became of it.

use std::time::Duration;

use tokio::time::Instant;

use super::aim::signal;
use super::attempt::{Attempt, Shown};
use super::attend::{Attendance, Next};
use super::recording::Extra;
use crate::allowlist::{Action, Reason, Verdict};
use crate::backoff::Backoff;
use crate::container::{Container, State};
use crate::engine::Act;
use crate::record::{Outcome, Path};

/// What still runs this long after its verdict has escaped.
pub(super) const ESCAPED: Duration = Duration::from_secs(10);

impl Attendance<'_> {
    /// Ends a denied container, and stays with it until it is.
    pub(super) async fn end(
        &mut self,
        container: &Container,
        verdict: &Verdict,
        action: Action,
        deaths: u64,
        backoff: &mut Backoff,
    ) -> Next {
        let since = match container.state {
            // It has not lived yet.
            State::Created => Instant::now(),
            _ => *self.history.denied_since.get_or_insert_with(Instant::now),
        };
        let (context, subject) = (self.context, self.subject);
        let stop_timeout = self.enforcement.in_force.list.stop_timeout;
        // A stop may take long by design.
        let (act, by_design) = match action {
            Action::Kill => (Act::Kill, Duration::ZERO),
            Action::Stop => (Act::Stop(stop_timeout), stop_timeout),
            Action::Pause => (Act::Pause, Duration::ZERO),
            Action::Remove => (Act::Remove, Duration::ZERO),
        };
        let escaped_at = since + by_design + ESCAPED;
        let mut is_to_signal = context.is_sharing_pids()
            && action.is_by_signal()
            && matches!(container.state, State::Running | State::Unknown);
        let must_ask = matches!(
            verdict.reason(),
            Some(Reason::ForeignExec | Reason::OverMax)
        );
        let is_aimed_at = self.shot.is_none() && self.pid.is_some();
        if is_to_signal && is_aimed_at && !must_ask && !self.is_outdated() {
            // The ends of others are not waited for.
            let is_sent = signal(context, subject, self.pid).await;
            self.shot = is_sent.then_some(Path::Pid);
            is_to_signal = false;
        }
        let attempt = Attempt {
            context,
            subject,
            container,
            verdict,
            judged_by: self.enforcement.clone(),
            action,
            act,
            starts: self.starts,
            deaths,
            pid: self.pid,
            shot: self.shot,
            is_to_signal,
        };
        let mut call = std::pin::pin!(attempt.make_in_turn());
        let in_time = tokio::select! {
            biased;
            result = &mut call => Some(result),
            () = tokio::time::sleep_until(escaped_at) => None,
        };
        let result = match in_time {
            Some(result) => result,
            None => {
                let record = self.put_escape_on_record(container, verdict, action);
                tokio::join!(record, call).1
            }
        };
        match result {
            Ok(None) => Next::After(Duration::ZERO),
            Ok(Some((Shown::Restarting | Shown::Started, _))) => {
                self.history.failures += 1;
                Next::After(Duration::ZERO)
            }
            Ok(Some((Shown::End(end), path))) => {
                let reaction = self.arrived.elapsed();
                self.put_end_on_record(container, verdict, (action, path), end, reaction)
                    .await;
                Next::Settled
            }
            Err(failure) => {
                let extra = Extra {
                    error: Some(failure.error),
                    action: Some(action),
                    ..Extra::default()
                };
                self.record(container, verdict, Some(Outcome::Failed), extra)
                    .await;
                self.history.failures += u32::from(!failure.is_away);
                self.remember_unended(container, verdict);
                Next::After(backoff.delay())
            }
        }
    }
}
