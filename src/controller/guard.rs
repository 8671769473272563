//! The safety net under a change of the list, or of the mode: what would end too much is held back.
//!
//! A task reads the engine and weighs, so that the loop never waits; the list in force stays until
//! the change has been weighed, and what comes into force is written down first.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use super::Context;
use crate::allowlist::Mode;
use crate::container::{Container, ContainerId};
use crate::engine::EngineError;
use crate::look::{self, Memory};
use crate::status::{Enforcement, HeldList, LoadedList};
use crate::weigh::weigh as weigh_all;

/// How many containers are looked at at once.
const LOOKS: usize = 8;
/// How long a look may take. One that can't be judged by then counts as one that would be ended.
const LOOK: Duration = Duration::from_millis(500);
/// How long a list may take to be written down. A disk that hangs must not keep it out of force.
const WRITE: Duration = Duration::from_secs(2);

/// A list, or a mode, that is to be in force.
#[derive(Debug, Clone)]
pub(super) struct Proposal {
    pub(super) list: LoadedList,
    pub(super) audit_only: bool,
}

/// What becomes of a proposal.
pub(super) enum Outcome {
    InForce(Proposal),
    Held(Proposal, HeldList),
    /// The list in force is written down again.
    Kept,
}

/// Decides on a change by what runs now.
pub(super) async fn weigh(
    context: Arc<Context>,
    proposal: Proposal,
    memories: HashMap<ContainerId, Memory>,
    can_be_weighed: bool,
) -> Outcome {
    let now = Timestamp::now();
    let mode = proposal.list.mode(proposal.audit_only, now);
    let is_accepted = proposal.list.list.guard.accepts(&proposal.list.hash);
    if !is_accepted && mode == Mode::Enforce {
        let held = if can_be_weighed {
            hold(&context, &proposal, mode, memories, now).await
        } else {
            Some(HeldList::unweighed(
                proposal.list.hash.clone(),
                now,
                "the engine is out of reach",
            ))
        };
        if let Some(held) = held {
            return Outcome::Held(proposal, held);
        }
    }
    write_down(&context, proposal.list.clone(), proposal.audit_only).await;
    Outcome::InForce(proposal)
}

/// Writes down the list in force again: it guards itself otherwise now, or another one may have been
/// written down that does not come into force after all.
pub(super) fn keep(context: &Context) -> impl Future<Output = Outcome> + Send + use<> {
    let (list, audit_only) = {
        let enforcement = context.enforcement.borrow();
        (enforcement.in_force.clone(), enforcement.audit_only)
    };
    let written = write_down(context, list, audit_only);
    async {
        written.await;
        Outcome::Kept
    }
}

async fn hold(
    context: &Context,
    proposal: &Proposal,
    mode: Mode,
    memories: HashMap<ContainerId, Memory>,
    now: Timestamp,
) -> Option<HeldList> {
    let enforcement = context.enforcement.borrow().clone();
    let unweighed = |why: &str| {
        let hash = proposal.list.hash.clone();
        Some(HeldList::unweighed(hash, now, why))
    };
    let (containers, unreadable) = match see(context, &enforcement, &proposal.list, memories).await
    {
        Ok(seen) => seen,
        Err(error) => return unweighed(&error.chain()),
    };
    if unreadable > 0 {
        return unweighed(&format!("containers that can't be read: {unreadable}"));
    }
    let weighed = weigh_all(&enforcement, &proposal.list, mode, &containers, now);
    if weighed.hangs_on_unjudged(&enforcement) {
        return unweighed(&format!(
            "containers that can't be judged yet: {}",
            weighed.unjudged
        ));
    }
    weighed.is_held(&enforcement).then(|| HeldList {
        hash: proposal.list.hash.clone(),
        since: now,
        running: weighed.running,
        would_end: weighed.would_end,
        error: None,
    })
}

/// All that runs, with what both lists ask about it, and how many more the engine listed unreadably.
async fn see(
    context: &Context,
    enforcement: &Enforcement,
    list: &LoadedList,
    mut memories: HashMap<ContainerId, Memory>,
) -> Result<(Vec<Container>, usize), EngineError> {
    let listing = context.engine.list().await?;
    let now = Timestamp::now();
    let asker = |container: &Container| {
        let before = &enforcement.in_force.list;
        let question = list.list.question(container, now);
        question.or_else(|| before.question(container, now))
    };
    let live = listing
        .containers
        .into_iter()
        .filter(|one| one.state.is_live());
    let looks = live.map(|mut container| {
        let mut memory = memories.remove(&container.id).unwrap_or_default();
        let (engine, asker) = (context.engine.as_ref(), &asker);
        async move {
            let listed = container.clone();
            let surroundings = &enforcement.surroundings;
            let look = look::complete(engine, listed, &mut memory, surroundings, asker);
            match tokio::time::timeout(LOOK, look).await {
                Ok(Ok(looked)) => looked,
                Ok(Err(_)) | Err(_) => {
                    memory.recall(&mut container);
                    Some(container)
                }
            }
        }
    });
    // Collected first: the compiler can't see that a lazy map of closures is fine to send.
    let looks: Vec<_> = looks.collect();
    let seen = stream::iter(looks).buffer_unordered(LOOKS);
    let seen = seen.filter_map(std::future::ready).collect().await;
    Ok((seen, listing.unreadable))
}

/// Takes down which list is in force from now on, for the next start. Its turn is that of this call.
fn write_down(
    context: &Context,
    list: LoadedList,
    audit_only: bool,
) -> impl Future<Output = ()> + Send + use<> {
    let directory = context.state.clone();
    let directory = directory.map(|directory| (directory.turn(), directory));
    async move {
        let Some((turn, directory)) = directory else {
            return;
        };
        let write = tokio::task::spawn_blocking(move || directory.accept(turn, &list, audit_only));
        let error = match tokio::time::timeout(WRITE, write).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => error,
            Ok(Err(abnormal)) => io::Error::other(abnormal),
            Err(_) => io::Error::other("it takes too long"),
        };
        tracing::error!(%error, "the list that comes into force could not be written down: the next start knows an older one");
    }
}
