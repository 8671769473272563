//! `keep-running`: what stops by itself is started again, as the engine's restart policies do it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Context;
use super::outcome::LATE_EVENT;
use super::subject::Subject;
use crate::allowlist::{Mode, Verdict};
use crate::backoff::Backoff;
use crate::container::State;
use crate::engine::{Act, Acted, EngineError};
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
/// wants it alive any more. What fails is tried again, where the engine's restart policies give up.
pub(super) async fn start_again(
    context: Arc<Context>,
    subject: Arc<Subject>,
    mut memory: Memory,
    delay: Duration,
) {
    let id = subject.id.short();
    let (starts, gaps) = (subject.heard().starts, context.gaps());
    let mut backoff = Backoff::new(delay.max(LATE_EVENT), LONGEST);
    let mut has_failed = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(backoff.delay()) => {}
            () = context.shutdown.cancelled() => return,
        }
        {
            let heard = subject.heard();
            if heard.was_signalled || !heard.is_kept_running || heard.starts > starts {
                return;
            }
        }
        if has_failed && context.gaps() != gaps {
            // Somebody may have ended another life of it meanwhile.
            return;
        }
        let error = match start_if_wanted(&context, &subject, &mut memory).await {
            Ok(()) => return,
            Err(error) => error.chain(),
        };
        tracing::warn!(
            id,
            error,
            "container stopped by itself and could not be started again"
        );
        has_failed = true;
    }
}

/// Starts it where it is down and a rule of the list in force still wants it running.
async fn start_if_wanted(
    context: &Context,
    subject: &Subject,
    memory: &mut Memory,
) -> Result<(), EngineError> {
    let enforcement = context.enforcement.borrow().clone();
    let list = &enforcement.in_force.list;
    let asker = |container: &_| list.question(container, Timestamp::now());
    let engine = context.engine.as_ref();
    let surroundings = &enforcement.surroundings;
    let looked = look::look(engine, &subject.id, memory, surroundings, &asker);
    let container = looked.await?;
    let Some(container) = container.filter(|container| container.state == State::Exited) else {
        return Ok(());
    };
    let rule = match enforcement.judge(&container, Timestamp::now()) {
        Verdict::Allowed { rule, .. } => list.rule(&rule),
        _ => None,
    };
    let is_wanted = rule.is_some_and(|rule| rule.keep_running);
    if !is_wanted || enforcement.mode != Mode::Enforce {
        subject.keep_running(false);
        return Ok(());
    }
    if context.engine.act(&subject.id, Act::Start).await? == Acted::Done {
        let id = subject.id.short();
        tracing::info!(id, "container stopped by itself and was started again");
    }
    Ok(())
}
