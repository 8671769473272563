//! Looking at one container: the list's entry, completed with what only an inspection tells, and
//! only where the entry leaves a name open.
//!
//! What a container was created from, and by which names its image was known when it was first
//! seen, is remembered: a pull, an untag or an `rmi` must never turn it into a denied one.

use crate::container::{Container, ContainerId};
use crate::engine::{Engine, EngineError};

/// What stays true of a container however its image is renamed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    image: Option<String>,
    image_names: Option<Vec<String>>,
}

/// Looks at a container afresh. `None` when it does not exist.
///
/// # Errors
/// When the engine gives no answer, or none that tells the names which rules look at.
pub async fn look(
    engine: &dyn Engine,
    id: &ContainerId,
    memory: &mut Memory,
) -> Result<Option<Container>, EngineError> {
    let Some(container) = engine.look(id).await? else {
        return Ok(None);
    };
    complete(engine, container, memory).await
}

/// Completes a container that was listed. `None` when it is gone by now.
///
/// # Errors
/// As [`look`].
pub async fn complete(
    engine: &dyn Engine,
    mut container: Container,
    memory: &mut Memory,
) -> Result<Option<Container>, EngineError> {
    if memory.recall(&mut container) {
        return Ok(Some(container));
    }
    if memory.image.is_none() {
        // An id in a list is what was typed, or the remains of a name that has moved on.
        match engine.inspect(&container.id).await {
            Ok(inspection) => memory.image = inspection.image,
            Err(EngineError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        }
        if memory.recall(&mut container) {
            return Ok(Some(container));
        }
    }
    if let Some(image_id) = &container.image_id {
        memory.image_names = Some(engine.image_names(image_id).await?);
    }
    memory.recall(&mut container);
    Ok(Some(container))
}

impl Memory {
    /// Fills in what is remembered, and learns what the list tells. Whether that is all.
    pub fn recall(&mut self, container: &mut Container) -> bool {
        if self.image.is_none() && !container.image_is_id() {
            self.image.clone_from(&container.image);
        }
        if let Some(image) = &self.image {
            container.image = Some(image.clone());
        }
        container.image_names.clone_from(&self.image_names);
        !container.image_is_open()
    }
}
