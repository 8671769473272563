//! What a container can do by what it joins and mounts, beside what its own configuration says.

use std::collections::{BTreeMap, BTreeSet};

use crate::container::ContainerId;
use crate::engine::{Engine, EngineError, Inspection};
use crate::grant::{Power, is_under};
use crate::status::Surroundings;

/// How many containers a chain of joined namespaces is followed through.
const JOINS_MAX: usize = 8;

/// All powers of a container: its own, what its volumes are, and what the containers that it joins
/// can do.
pub(super) async fn powers(
    engine: &dyn Engine,
    inspection: &Inspection,
    names: &mut BTreeMap<String, String>,
    surroundings: &Surroundings,
) -> Result<BTreeSet<Power>, EngineError> {
    let mut powers = inspection.powers.clone();
    let mut volumes = inspection.local_volumes.clone();
    let mut joined = BTreeSet::new();
    let mut to_join: Vec<_> = inspection.joins.iter().cloned().collect();
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
                volumes.extend(other.local_volumes);
                to_join.extend(other.joins);
            }
            Err(EngineError::NotFound) => {
                let name = names.get(&target).cloned();
                powers.insert(Power::Join(name.unwrap_or(target)));
            }
            Err(error) => return Err(error),
        }
    }
    for volume in &volumes {
        powers.extend(engine.volume_powers(volume).await?);
    }
    Ok(guarded(powers, &volumes, surroundings))
}

/// Adds `engine-socket` where a path or volume is one that dockwarden's own container mounts: its
/// list, its state, its way to the engine.
pub(super) fn guarded(
    mut powers: BTreeSet<Power>,
    volumes: &BTreeSet<String>,
    surroundings: &Surroundings,
) -> BTreeSet<Power> {
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
    powers
}
