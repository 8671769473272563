//! Looking at one container: the list's entry, completed with what only inspections tell, and only
//! as far as a list asks for it.
//!
//! What a container was created from, and what was known of its image when it was first seen, is
//! remembered: a pull, an untag or an `rmi` must never turn it into a denied one.

mod memory;
mod powers;

use std::sync::Arc;

use crate::allowlist::Question;
use crate::container::{Container, ContainerId};
use crate::engine::{Engine, EngineError, Inspection};
use crate::status::Surroundings;

pub use memory::{Lasting, Memory};

/// Tells what is still to be asked about a container.
pub type Asker<'a> = &'a (dyn Fn(&Container) -> Option<Question> + Send + Sync);

/// Looks at a container afresh. `None` when it does not exist.
///
/// # Errors
/// When the engine gives no answer, or none that tells what is asked for.
pub async fn look(
    engine: &dyn Engine,
    id: &ContainerId,
    memory: &mut Memory,
    surroundings: &Surroundings,
    asker: Asker<'_>,
) -> Result<Option<Container>, EngineError> {
    let Some(container) = engine.look(id).await? else {
        return Ok(None);
    };
    if surroundings.sees_host {
        memory.forget_links();
    }
    complete(engine, container, memory, surroundings, asker).await
}

/// Completes a container that was listed. `None` when it is gone by now.
///
/// # Errors
/// As [`look`].
pub async fn complete(
    engine: &dyn Engine,
    mut container: Container,
    memory: &mut Memory,
    surroundings: &Surroundings,
    asker: Asker<'_>,
) -> Result<Option<Container>, EngineError> {
    if container.name_is_open {
        // It may have been renamed since.
        memory.forget_inspection();
    }
    memory.recall(&mut container);
    match answer(engine, &mut container, memory, surroundings, asker).await {
        Ok(()) => Ok(Some(container)),
        Err(EngineError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asks until nothing is open. Powers only ever add: what one of them denies is denied, however little can be told
/// of the rest.
async fn answer(
    engine: &dyn Engine,
    container: &mut Container,
    memory: &mut Memory,
    surroundings: &Surroundings,
    asker: Asker<'_>,
) -> Result<(), EngineError> {
    while let Some(question) = asker(container) {
        let answered = memory.ask(engine, container, question, surroundings).await;
        memory.recall(container);
        match answered {
            Err(EngineError::NotFound) => return answered,
            Err(_) if asker(container).is_some() => return answered,
            _ => {}
        }
    }
    Ok(())
}

/// Inspects a container again that was started since it was: up to API 1.23, which engines before
/// version 25 still speak, a start may bring powers of its own.
///
/// # Errors
/// As [`look`].
pub async fn refresh(
    engine: &dyn Engine,
    container: &mut Container,
    memory: &mut Memory,
    surroundings: &Surroundings,
    asker: Asker<'_>,
) -> Result<(), EngineError> {
    if memory.is_outdated() {
        memory.inspect(engine, &container.id).await?;
        memory.recall(container);
        answer(engine, container, memory, surroundings, asker).await?;
    }
    Ok(())
}

/// A container with all its powers, beside those that it has: by an inspection, and as far as what that leads to tells
/// them.
pub async fn with_powers(
    engine: &dyn Engine,
    mut container: Container,
    inspection: &Inspection,
    mut memory: Memory,
    surroundings: &Surroundings,
) -> Container {
    memory.take(Arc::new(inspection.clone()));
    // What was found before an error is better than nothing.
    while memory.may_learn_more() && memory.look_further(engine, surroundings).await.is_ok() {}
    let mut told = container.clone();
    memory.recall(&mut told);
    let powers = container.powers.get_or_insert_default();
    powers.extend(told.powers.into_iter().flatten());
    container.may_do_more = told.may_do_more;
    container
}

/// What is asked of every container that is shown: all but what only the classic builder's steps
/// need.
pub fn everything(container: &Container) -> Option<Question> {
    let open = [
        (container.powers_are_open(), Question::Inspection),
        (container.image_names.is_none(), Question::ImageNames),
        (container.runs_image_command.is_none(), Question::Command),
    ];
    let first = open.into_iter().find(|(is_open, _)| *is_open);
    first.map(|(_, question)| question)
}
