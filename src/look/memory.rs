//! What is remembered of one container, and how its open questions are answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::powers::{add_joined, add_volumes, guard};
use crate::allowlist::Question;
use crate::container::{Ancestor, Container, ContainerId};
use crate::engine::{Engine, EngineError, ImageFacts, Inspection};
use crate::grant::Power;
use crate::image;
use crate::status::Surroundings;

/// How many images a chain of parents is followed through; overlay2 allows 128 layers.
const PARENTS_MAX: usize = 256;

/// What stays true of a container however its image is renamed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    image: Option<String>,
    image_facts: Option<Arc<ImageFacts>>,
    inspection: Option<Arc<Inspection>>,
    /// The powers that were found so far, but for those that its paths lead to.
    powers: BTreeSet<Power>,
    /// Where more of them are to be looked for; `None`: those are all.
    next: Option<Step>,
    /// It was started since it was inspected.
    is_outdated: bool,
    /// The names of the containers that it joins, by id, as they were when first seen.
    joined: BTreeMap<String, String>,
    /// What its paths led to when it was last looked at.
    linked: BTreeSet<Power>,
    ancestors: Option<Vec<Ancestor>>,
    /// One that was found in it, in a life that may be over.
    foreign_exec: Option<ForeignExec>,
}

/// What is looked at after a container's own inspection, one after the other: calls on volumes never hang, those on
/// containers may, and only paths may lead elsewhere at each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Volumes,
    Joined,
    Links,
}

/// What of a [`Memory`] outlives the process: what no engine tells any more when it has forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lasting {
    image: Option<String>,
    image_facts: Option<Arc<ImageFacts>>,
    joined: BTreeMap<String, String>,
    foreign_exec: Option<ForeignExec>,
}

/// Someone executed a program in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ForeignExec {
    program: String,
    /// In the life that began then.
    started_at: Option<Timestamp>,
}

impl From<Lasting> for Memory {
    fn from(lasting: Lasting) -> Self {
        Self {
            image: lasting.image,
            image_facts: lasting.image_facts,
            joined: lasting.joined,
            foreign_exec: lasting.foreign_exec,
            ..Self::default()
        }
    }
}

impl Memory {
    /// Fills in what is remembered, and learns what the list tells.
    pub fn recall(&mut self, container: &mut Container) {
        if self.image.is_none() && !container.image_is_id() {
            self.image.clone_from(&container.image);
        }
        if let Some(image) = &self.image {
            container.image = Some(image.clone());
        }
        if let Some(inspection) = &self.inspection {
            container.created_at = inspection.created_at.or(container.created_at);
            if std::mem::take(&mut container.name_is_open) {
                container.name.clone_from(&inspection.name);
            }
            let linked = self.linked.iter().filter(|_| self.next.is_none());
            container.powers = Some(self.powers.iter().chain(linked).cloned().collect());
            container.may_do_more = self.next.is_some();
        }
        if let Some(facts) = &self.image_facts {
            container.image_names = Some(facts.names.clone());
        }
        if let (Some(inspection), Some(facts)) = (&self.inspection, &self.image_facts) {
            container.runs_image_command =
                Some(facts.command.as_ref() == Some(&inspection.command));
        }
        container.ancestors.clone_from(&self.ancestors);
        // That is known of this life once it was inspected.
        let present = self.foreign_exec.as_ref().filter(|_| self.is_current());
        container.foreign_exec = present.map(|exec| exec.program.clone());
    }

    /// Fills in what is remembered, but for the powers that its paths lead to: those may be others at each
    /// start.
    pub fn recall_without_links(&self, container: &mut Container) {
        let mut memory = self.clone();
        memory.forget_links();
        memory.recall(container);
    }

    /// What is to be known of it by the next process.
    pub fn lasting(&self) -> Lasting {
        Lasting {
            image: self.image.clone(),
            image_facts: self.image_facts.clone(),
            joined: self.joined.clone(),
            foreign_exec: self.foreign_exec.clone(),
        }
    }

    /// Someone executed this program in it, in the life that it was last inspected in.
    pub fn foreign_exec(&mut self, program: String) {
        self.foreign_exec = Some(ForeignExec {
            program,
            started_at: self.inspection.as_ref().and_then(|one| one.started_at),
        });
    }

    /// When the life began that it is in, where that is known.
    pub fn started_at(&self) -> Option<Timestamp> {
        let inspection = self.inspection.as_ref().filter(|_| self.is_current());
        inspection.and_then(|inspection| inspection.started_at)
    }

    /// Whether it was inspected in its present life.
    fn is_current(&self) -> bool {
        self.inspection.is_some() && !self.is_outdated
    }

    /// Its life is over, and with it what was executed in it.
    pub fn end_life(&mut self) {
        self.foreign_exec = None;
    }

    /// Another life of it has begun, or may have.
    pub fn begin_life(&mut self) {
        self.is_outdated = self.inspection.is_some();
    }

    /// Whether it was started since it was inspected.
    pub(super) fn is_outdated(&self) -> bool {
        self.is_outdated
    }

    /// What an inspection told is to be asked for again.
    pub(super) fn forget_inspection(&mut self) {
        self.inspection = None;
    }

    /// Whether more of its powers may be found.
    pub(super) fn may_learn_more(&self) -> bool {
        self.next.is_some()
    }

    /// Whether its image was asked for.
    pub fn knows_image(&self) -> bool {
        self.image_facts.is_some()
    }

    /// Whether its image was asked for, and was there.
    pub fn found_image(&self) -> bool {
        let facts = self.image_facts.as_ref();
        facts.is_some_and(|facts| **facts != ImageFacts::default())
    }

    /// Takes over the repo digests that its image was given since it was first asked for, by a push or
    /// a pull: a hash is proof of content whenever it appears.
    ///
    /// # Errors
    /// When the engine gives no answer.
    pub async fn learn_digests(
        &mut self,
        engine: &dyn Engine,
        container: &Container,
    ) -> Result<(), EngineError> {
        let Some(known) = &self.image_facts else {
            return Ok(());
        };
        let image_id = container.image_id.as_deref().unwrap_or_default();
        let mut facts = engine.image(image_id).await?;
        if self.found_image() {
            let is_new = |name: &String| {
                image::hash_of_repo_digest(name).is_some() && !known.names.contains(name)
            };
            let digests = facts.names.into_iter().filter(is_new);
            let names = known.names.iter().cloned().chain(digests).collect();
            facts = ImageFacts {
                names,
                ..(**known).clone()
            };
        }
        self.image_facts = Some(Arc::new(facts));
        Ok(())
    }

    /// What its inspection told.
    pub fn inspection(&self) -> Option<&Inspection> {
        self.inspection.as_deref()
    }

    /// Whether that is what its image's own health check executes.
    pub fn is_health_check(&self, command: &[String]) -> bool {
        let facts = self.image_facts.as_ref();
        facts.is_some_and(|facts| facts.health_checks.iter().any(|check| check == command))
    }

    /// Answers one question, for good.
    ///
    /// # Errors
    /// When the engine does not.
    pub async fn ask(
        &mut self,
        engine: &dyn Engine,
        container: &Container,
        question: Question,
        surroundings: &Surroundings,
    ) -> Result<(), EngineError> {
        let image_id = container.image_id.as_deref().unwrap_or_default();
        match question {
            Question::Inspection if self.inspection.is_none() => {
                self.inspect(engine, &container.id).await?;
            }
            Question::Inspection => self.look_further(engine, surroundings).await?,
            Question::ImageNames => self.image_facts(engine, image_id).await?,
            Question::Command => {
                if self.inspection.is_none() {
                    self.inspect(engine, &container.id).await?;
                }
                if self.image_facts.is_none() {
                    self.image_facts(engine, image_id).await?;
                }
            }
            Question::Ancestors => self.ancestors = Some(ancestors(engine, image_id).await?),
        }
        Ok(())
    }

    async fn image_facts(
        &mut self,
        engine: &dyn Engine,
        image_id: &str,
    ) -> Result<(), EngineError> {
        self.image_facts = Some(Arc::new(engine.image(image_id).await?));
        Ok(())
    }

    pub(super) async fn inspect(
        &mut self,
        engine: &dyn Engine,
        id: &ContainerId,
    ) -> Result<(), EngineError> {
        let inspection = match engine.inspect(id).await {
            // What is still listed is not gone, whoever says so.
            Err(EngineError::NotFound) if engine.look(id).await?.is_some() => {
                return Err(EngineError::Refused {
                    status: 404,
                    message: "it is listed, and there is no inspection of it".to_owned(),
                });
            }
            answer => answer?,
        };
        self.take(Arc::new(inspection));
        Ok(())
    }

    /// Takes over what an inspection tells by itself.
    pub(super) fn take(&mut self, inspection: Arc<Inspection>) {
        if self.image.is_none() {
            self.image.clone_from(&inspection.image);
        }
        self.is_outdated = false;
        // No death may have been heard of since it was found.
        self.foreign_exec
            .take_if(|exec| exec.started_at != inspection.started_at);
        self.powers.clone_from(&inspection.powers);
        self.inspection = Some(inspection);
        self.next = Some(Step::Volumes);
    }

    /// Its paths may lead elsewhere by now.
    pub(super) fn forget_links(&mut self) {
        if self.inspection.is_some() {
            self.next.get_or_insert(Step::Links);
        }
    }

    /// Takes the next step to all its powers.
    pub(super) async fn look_further(
        &mut self,
        engine: &dyn Engine,
        surroundings: &Surroundings,
    ) -> Result<(), EngineError> {
        let (Some(step), Some(inspection)) = (self.next, &self.inspection) else {
            return Ok(());
        };
        let powers = &mut self.powers;
        self.next = match step {
            Step::Volumes => {
                let volumes = &inspection.local_volumes;
                add_volumes(engine, volumes, surroundings, powers).await?;
                Some(Step::Joined)
            }
            Step::Joined => {
                let (joins, names) = (&inspection.joins, &mut self.joined);
                add_joined(engine, joins, names, surroundings, powers).await?;
                Some(Step::Links)
            }
            Step::Links => {
                if surroundings.sees_host {
                    self.linked = engine.follow_links(powers).await?;
                    guard(&mut self.linked, &BTreeSet::new(), surroundings);
                }
                None
            }
        };
        Ok(())
    }
}

/// The images that an image was built on here, nearest first.
async fn ancestors(engine: &dyn Engine, image_id: &str) -> Result<Vec<Ancestor>, EngineError> {
    let mut ancestors: Vec<Ancestor> = Vec::new();
    let mut parent = engine.image(image_id).await?.parent;
    while let Some(id) = parent {
        if ancestors.len() >= PARENTS_MAX || ancestors.iter().any(|known| known.id == id) {
            break;
        }
        let facts = engine.image(&id).await?;
        let names = facts.names;
        ancestors.push(Ancestor { id, names });
        parent = facts.parent;
    }
    Ok(ancestors)
}
