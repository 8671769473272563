//! The undo: what was ended and is allowed now runs again, with the restart policy that it had.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::allowlist::{Allowlist, Verdict};
use crate::container::{ContainerId, State};
use crate::engine::{Act, Acted, Engine, EngineError, RestartPolicy};
use crate::look::{self, Memory};
use crate::record::Record;
use crate::state::Remembered;
use crate::status::Surroundings;

/// A container that was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Its full id.
    pub container_id: ContainerId,
    /// Its name then.
    pub container_name: Option<String>,
    /// What it was created from.
    pub image: Option<String>,
    /// When its end was put on record.
    pub ended_at: Timestamp,
    /// When the life began that ended then, by the engine, where that is on record.
    #[serde(skip)]
    pub started_at: Option<Timestamp>,
    /// The restart policy that it had, where that is known.
    #[serde(skip)]
    pub restart_policy: Option<RestartPolicy>,
}

impl Ended {
    /// By what it is looked up.
    pub fn calls(&self) -> (&ContainerId, Option<&str>) {
        (&self.container_id, self.container_name.as_deref())
    }
}

/// What becomes of one that was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "detail", rename_all = "kebab-case")]
pub enum Outcome {
    /// It runs again.
    Started,
    /// It was frozen and runs on.
    Resumed,
    /// It would be started or resumed.
    WouldStart,
    /// It runs already, or has run since.
    RanSince,
    /// It does not exist any more.
    Removed,
    /// It is not allowed now, for this reason.
    Denied(String),
    /// The engine refused, with these words.
    Failed(String),
}

/// What records say was ended, by container, the newest end of each. `records` come newest first.
pub fn ended(
    records: impl IntoIterator<Item = Record>,
    remembered: &BTreeMap<ContainerId, Remembered>,
) -> Vec<Ended> {
    let mut all: Vec<Ended> = Vec::new();
    let mut index: BTreeMap<ContainerId, usize> = BTreeMap::new();
    for record in records {
        let policy = record.restart_policy.as_deref().and_then(real_policy);
        let place = *index.entry(record.container_id.clone()).or_insert_with(|| {
            let known = remembered.get(&record.container_id);
            let known = known.and_then(|known| known.restart_policy.as_deref());
            all.push(Ended {
                container_id: record.container_id,
                container_name: record.container_name,
                image: record.image,
                ended_at: record.time,
                started_at: record.started_at,
                restart_policy: known.and_then(real_policy),
            });
            all.len() - 1
        });
        // Of several ends only the first one found the policy that its owner gave it.
        if let Some(ended) = all.get_mut(place) {
            ended.restart_policy = ended.restart_policy.or(policy);
        }
    }
    all
}

/// One by which the engine would start it.
fn real_policy(text: &str) -> Option<RestartPolicy> {
    let policy = text.parse().ok();
    policy.filter(|policy| *policy != RestartPolicy::No)
}

/// Whoever restores.
pub struct Restorer<'a> {
    /// The engine.
    pub engine: &'a dyn Engine,
    /// The list in force.
    pub list: &'a Allowlist,
    /// Where this process stands.
    pub surroundings: &'a Surroundings,
    /// What is known of containers.
    pub remembered: &'a BTreeMap<ContainerId, Remembered>,
    /// Nothing is to be done.
    pub is_dry: bool,
}

impl Restorer<'_> {
    /// Brings one back.
    pub async fn restore(&self, ended: &Ended) -> Outcome {
        match self.try_restore(ended).await {
            Ok(outcome) => outcome,
            Err(EngineError::NotFound) => Outcome::Removed,
            Err(error) => Outcome::Failed(error.chain()),
        }
    }

    async fn try_restore(&self, ended: &Ended) -> Result<Outcome, EngineError> {
        let id = &ended.container_id;
        let known = self.remembered.get(id).cloned().unwrap_or_default();
        let mut memory = Memory::from(known.lasting);
        let now = Timestamp::now();
        let asker = |container: &_| self.list.question(container, now);
        let looked = look::look(self.engine, id, &mut memory, self.surroundings, &asker);
        let Some(container) = looked.await? else {
            return Ok(Outcome::Removed);
        };
        let inspection = self.engine.inspect(id).await?;
        let is_paused = container.state == State::Paused;
        let has_run_since = match ended.started_at {
            Some(_) => inspection.started_at != ended.started_at,
            // A record's own time is by another clock.
            None => inspection.started_at > Some(ended.ended_at),
        };
        if has_run_since || (container.state.is_live() && !is_paused) {
            return Ok(Outcome::RanSince);
        }
        match self.list.judge(&container, now) {
            Verdict::Allowed { .. } => {}
            verdict => {
                let detail = verdict.detail().unwrap_or("it can't be judged");
                return Ok(Outcome::Denied(detail.to_owned()));
            }
        }
        if self.is_dry {
            return Ok(Outcome::WouldStart);
        }
        if let Some(policy) = ended.restart_policy {
            self.engine.act(id, Act::SetRestartPolicy(policy)).await?;
        }
        let act = if is_paused { Act::Unpause } else { Act::Start };
        Ok(match self.engine.act(id, act).await? {
            Acted::Gone => Outcome::Removed,
            Acted::NotNeeded => Outcome::RanSince,
            Acted::Done if is_paused => Outcome::Resumed,
            Acted::Done => Outcome::Started,
        })
    }
}
