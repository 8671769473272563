//! What a container can do by what it mounts and joins, beside what its own configuration says.

use std::collections::{BTreeMap, BTreeSet};

use crate::container::ContainerId;
use crate::engine::{Engine, EngineError};
use crate::grant::{Power, is_under};
use crate::status::Surroundings;

/// How many containers a chain of joined namespaces is followed through.
const JOINS_MAX: usize = 8;

/// Adds what its volumes are.
pub(super) async fn add_volumes(
    engine: &dyn Engine,
    volumes: &BTreeSet<String>,
    surroundings: &Surroundings,
    powers: &mut BTreeSet<Power>,
) -> Result<(), EngineError> {
    for volume in volumes {
        powers.extend(engine.volume_powers(volume).await?);
    }
    guard(powers, volumes, surroundings);
    Ok(())
}

/// Adds what the containers that it joins can do, and those that they join. What was found stays where one of them
/// can't be inspected.
pub(super) async fn add_joined(
    engine: &dyn Engine,
    joins: &BTreeSet<String>,
    names: &mut BTreeMap<String, String>,
    surroundings: &Surroundings,
    powers: &mut BTreeSet<Power>,
) -> Result<(), EngineError> {
    let mut joined = BTreeSet::new();
    let mut to_join: Vec<_> = joins.iter().cloned().collect();
    while let Some(target) = to_join.pop() {
        if joined.len() >= JOINS_MAX {
            powers.insert(Power::Unknown("joins too many containers".to_owned()));
            break;
        }
        if !joined.insert(target.clone()) {
            continue;
        }
        let Some(id) = ContainerId::parse(&target) else {
            // Where the engine keeps a name, nothing of that name existed. Whoever bears it when
            // this one starts is joined, and may have handed it on since.
            let shown: String = target.chars().take(100).collect();
            powers.insert(Power::Unknown(format!(
                "joins {shown}, which did not exist"
            )));
            powers.insert(Power::Join(target));
            continue;
        };
        if surroundings.own.contains(&id) {
            powers.insert(Power::EngineSocket);
        }
        match engine.inspect(&id).await {
            Ok(other) => {
                let name = other.name.unwrap_or_else(|| target.clone());
                let name = names.entry(target).or_insert(name);
                powers.insert(Power::Join(name.clone()));
                powers.extend(other.powers);
                // (Which also looks at what all of them mount.)
                add_volumes(engine, &other.local_volumes, surroundings, powers).await?;
                to_join.extend(other.joins);
            }
            Err(EngineError::NotFound) => {
                let name = names.get(&target).cloned();
                powers.insert(Power::Join(name.unwrap_or(target)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Adds `engine-socket` where a path or volume is one that dockwarden's own container mounts: its
/// list, its state, its way to the engine.
pub(super) fn guard(
    powers: &mut BTreeSet<Power>,
    volumes: &BTreeSet<String>,
    surroundings: &Surroundings,
) {
    let is_ours = |power: &Power| match power {
        Power::Bind { path, .. } => surroundings.paths.iter().any(|own| {
            // Beside an engine's socket lie those of others.
            let is_part = is_under(path, own) && !is_under("/run/docker.sock", own);
            is_part || is_under(own, path)
        }),
        _ => false,
    };
    let shares_volume = volumes
        .iter()
        .any(|name| surroundings.volumes.contains(name));
    if shares_volume || powers.iter().any(is_ours) {
        powers.insert(Power::EngineSocket);
    }
}
