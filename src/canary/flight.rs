//! One canary's life: from its start to its end, to its escape, or to the end that came first.

use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use serde::Serialize;

use super::program::EXIT_TERMINATED;
use crate::container::{ContainerId, State};
use crate::engine::{Change, ChangeKind, Engine, EngineError, Message, Messages};

/// What became of a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was ended.
    Ended,
    /// It was frozen.
    Paused,
    /// It was removed before it could start.
    NeverRan,
    /// It ended without anybody's doing, which proves nothing.
    EndedItself,
    /// It still ran when the time was up.
    Escaped,
}

impl Outcome {
    /// Whether it shows that what is forbidden does not live.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Ended | Self::Paused | Self::NeverRan)
    }
}

/// A canary that was started.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flight {
    /// Its container.
    pub container_id: ContainerId,
    /// Its container's name.
    pub container_name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// From its start to its end, or to its being frozen, in milliseconds by the engine's clock; 0
    /// when it never ran, none when it escaped.
    pub lived_ms: Option<f64>,
}

/// What the engine's events told of it.
#[derive(Debug, Default)]
struct Heard {
    started: Option<Timestamp>,
    died: Option<Timestamp>,
    paused: Option<Timestamp>,
    is_gone: bool,
}

impl Heard {
    fn hear(&mut self, change: &Change) {
        match change.kind {
            ChangeKind::Start => self.started = Some(change.time),
            ChangeKind::Die => self.died = Some(change.time),
            ChangeKind::Pause => self.paused = Some(change.time),
            ChangeKind::Destroy => self.is_gone = true,
            _ => {}
        }
    }

    fn is_over(&self) -> bool {
        self.died.is_some() || self.paused.is_some() || self.is_gone
    }
}

/// Waits for the end of a container that was just started, at most `timeout`.
pub(super) async fn watch(
    engine: &dyn Engine,
    id: &ContainerId,
    name: &str,
    events: &mut Messages,
    timeout: Duration,
) -> Result<Flight, EngineError> {
    let mut heard = Heard::default();
    let end = async {
        while !heard.is_over() {
            match events.next().await {
                Some(Ok(Message::Change(change))) if change.id == *id => heard.hear(&change),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(EngineError::Unreachable("its events ended".into())),
            }
        }
        Ok(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(timeout, end).await {
        return Err(error);
    }
    let (outcome, lived) = judge(engine, id, &heard).await?;
    Ok(Flight {
        container_id: id.clone(),
        container_name: name.to_owned(),
        outcome,
        lived_ms: lived.map(|lived| lived.as_secs_f64() * 1_000.0),
    })
}

/// What became of it. Events can be lost, and a list may trail them: they tell of an end first, and
/// the list of what they did not tell.
async fn judge(
    engine: &dyn Engine,
    id: &ContainerId,
    heard: &Heard,
) -> Result<(Outcome, Option<Duration>), EngineError> {
    let state = match heard.is_over() {
        true => None,
        false => engine.look(id).await?.map(|container| container.state),
    };
    let inspection = match engine.inspect(id).await {
        Err(EngineError::NotFound) => None,
        answer => Some(answer?),
    };
    let inspected_start = inspection.as_ref().and_then(|found| found.started_at);
    let started = inspected_start.or(heard.started);
    Ok(match (state, &inspection) {
        (Some(State::Created), _) => {
            return Err(EngineError::Refused {
                status: 409,
                message: format!("the canary {} was not started", id.short()),
            });
        }
        (Some(State::Running | State::Restarting | State::Unknown), _) => (Outcome::Escaped, None),
        _ if heard.paused.is_some() || state == Some(State::Paused) => {
            (Outcome::Paused, between(started, heard.paused))
        }
        (_, Some(found)) if found.finished_at >= started && started.is_some() => {
            let outcome = match found.exit_code {
                // By SIGKILL, or by SIGTERM as the program or its engine tells it.
                Some(137 | 143 | EXIT_TERMINATED) => Outcome::Ended,
                _ => Outcome::EndedItself,
            };
            (outcome, between(started, found.finished_at))
        }
        _ if started.is_none() => (Outcome::NeverRan, Some(Duration::ZERO)),
        // It was removed: only its events have its times.
        _ => (Outcome::Ended, between(heard.started, heard.died)),
    })
}

fn between(begin: Option<Timestamp>, end: Option<Timestamp>) -> Option<Duration> {
    Duration::try_from(end?.duration_since(begin?)).ok()
}
