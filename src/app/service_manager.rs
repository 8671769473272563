//! What a service manager such as systemd is told: that dockwarden serves, what it is doing, that it
//! lives, and that it ends. Where there is none (`NOTIFY_SOCKET`), nothing is told.

use std::future::pending;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::allowlist::Mode;
use crate::printable::counted;
use crate::status::Enforcement;
use crate::weigh::held;

/// Asks a loop for a sign of life.
pub(super) type Pulse = mpsc::Sender<oneshot::Sender<()>>;

/// Tells what is done until the shutdown. The watchdog is fed while the loop behind `pulse` answers,
/// or this task runs where there is no such loop.
pub(super) async fn keep_told(
    mut enforcement: watch::Receiver<Enforcement>,
    pulse: Option<Pulse>,
    shutdown: CancellationToken,
) {
    tell(&[NotifyState::Ready]);
    // A third of it: one that comes late is not the end.
    let every = sd_notify::watchdog_enabled().map(|deadline| deadline / 3);
    let feeding = async {
        match every {
            Some(every) => feed(every, pulse).await,
            None => pending().await,
        }
    };
    let telling = async {
        let mut told = String::new();
        loop {
            let status = status(&enforcement.borrow_and_update());
            if status != told {
                tell(&[NotifyState::Status(&status)]);
                told = status;
            }
            if enforcement.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = feeding => {}
        () = telling => {}
        () = shutdown.cancelled() => tell(&[NotifyState::Stopping]),
    }
}

async fn feed(every: Duration, pulse: Option<Pulse>) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        if lives(pulse.as_ref(), every).await {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("enforcement gives no sign of life");
        }
    }
}

/// Whether the loop answers in time.
async fn lives(pulse: Option<&Pulse>, patience: Duration) -> bool {
    let Some(pulse) = pulse else {
        return true;
    };
    let (answer, answered) = oneshot::channel();
    // A loop that hangs leaves the last question in the channel.
    pulse.try_send(answer).is_ok()
        && matches!(tokio::time::timeout(patience, answered).await, Ok(Ok(())))
}

/// One line for `systemctl status`.
fn status(enforcement: &Enforcement) -> String {
    let rules = counted(enforcement.in_force.list.rules.len(), "rule");
    let hindrance = enforcement.hindrance.as_deref();
    let doing = match (enforcement.mode, hindrance) {
        (_, Some(hindrance)) => format!("not enforcing: {hindrance}"),
        (Mode::Audit, None) => "audit mode: nothing is ended".to_owned(),
        (Mode::Enforce, None) if enforcement.enforcing => "enforcing".to_owned(),
        (Mode::Enforce, None) => "not enforcing".to_owned(),
    };
    let newer = match (&enforcement.rejected, enforcement.held.as_deref()) {
        (Some(_), _) => "; the file is not valid, the last good list is in force".to_owned(),
        (None, Some(one)) => {
            let what = held(&one.hash, &enforcement.in_force.hash);
            let waits = one.error.is_some();
            format!("; {what} {}", if waits { "waits" } else { "is held back" })
        }
        (None, None) => String::new(),
    };
    format!("{doing}; {rules}{newer}")
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_loop_that_answers_lives() {
        let patience = Duration::from_secs(1);
        assert!(lives(None, patience).await, "there is none");
        let (pulse, mut asked) = mpsc::channel(1);
        assert!(!lives(Some(&pulse), patience).await, "it takes nothing");
        assert!(!lives(Some(&pulse), patience).await, "nor later");
        let answering = tokio::spawn(async move {
            while let Some(answer) = asked.recv().await {
                // The first two are waited for no longer.
                let _ = answer.send(());
            }
        });
        tokio::task::yield_now().await;
        assert!(lives(Some(&pulse), patience).await, "it answers");
        answering.abort();
        assert!(answering.await.is_err());
        assert!(!lives(Some(&pulse), patience).await, "it is gone");
    }
}
