//! `keep-running`: what stops by itself is started again, as the engine's restart policies do it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Context;
use super::outcome::LATE_EVENT;
use super::subject::Subject;
use crate::allowlist::{Mode, Verdict};
use crate::container::State;
use crate::engine::{Act, Acted};
use crate::look::{self, Memory};

/// The engine's own numbers: the first delay doubles up to the last, and begins anew after a life of
/// this length.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
const CALM: Duration = Duration::from_secs(10);

/// The delay before the next start of one that has lived this long.
pub(super) fn delay(last: Option<Duration>, lived: Option<Duration>) -> Duration {
    match last {
        Some(last) if lived.is_none_or(|lived| lived < CALM) => (last * 2).min(LONGEST),
        _ => FIRST,
    }
}

/// Starts a container that has just died, after a while, unless someone wanted it dead or nothing
/// wants it alive any more.
pub(super) async fn start_again(
    context: Arc<Context>,
    subject: Arc<Subject>,
    memory: Memory,
    delay: Duration,
) {
    let starts = subject.heard().starts;
    tokio::select! {
        () = tokio::time::sleep(delay.max(LATE_EVENT)) => {}
        () = context.shutdown.cancelled() => return,
    }
    {
        let heard = subject.heard();
        if heard.was_signalled || !heard.is_kept_running || heard.starts > starts {
            return;
        }
    }
    match wants_it(&context, &subject, memory).await {
        Some(true) => {}
        Some(false) => {
            subject.keep_running(false);
            return;
        }
        None => return,
    }
    let id = subject.id.short();
    match context.engine.act(&subject.id, Act::Start).await {
        Ok(Acted::Done) => tracing::info!(id, "container stopped by itself and was started again"),
        Ok(Acted::NotNeeded | Acted::Gone) => {}
        Err(error) => tracing::warn!(
            id,
            error = error.chain(),
            "container stopped by itself and could not be started again"
        ),
    }
}

/// Whether it is down, and a rule of the list in force still wants it running.
async fn wants_it(context: &Context, subject: &Subject, mut memory: Memory) -> Option<bool> {
    let enforcement = context.enforcement.borrow().clone();
    let list = &enforcement.in_force.list;
    let asker = |container: &_| list.question(container, Timestamp::now());
    let engine = context.engine.as_ref();
    let looked = look::look(
        engine,
        &subject.id,
        &mut memory,
        &enforcement.surroundings,
        &asker,
    );
    let container = looked.await.ok()??;
    if container.state != State::Exited {
        return None;
    }
    let rule = match enforcement.judge(&container, Timestamp::now()) {
        Verdict::Allowed { rule, .. } => list.rule(&rule),
        _ => None,
    };
    let wants = rule.is_some_and(|rule| rule.keep_running);
    Some(wants && enforcement.mode == Mode::Enforce)
}
