//! Which container is dockwarden's own: found in `/proc`, proven by a nonce.
//!
//! A hostile container can copy names, labels and images, so none of them says who we are. The
//! kernel's files name candidates; the proof is that the engine sees, among a candidate's
//! processes, the random name that this process has just given itself. That needs neither a
//! writable file nor a volume.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;

use crate::container::{Container, ContainerId};
use crate::engine::{Engine, EngineError, Listing};
use crate::grant::Power;
use crate::status::Surroundings;

/// What is known of dockwarden's own container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own {
    /// Not looked for yet.
    Unresolved,
    /// None on this engine: a host, a remote engine.
    None,
    /// Its own, and the one whose network it joins.
    Proven(BTreeSet<ContainerId>),
    /// It runs in a container of this engine and can't tell which.
    Unproven(String),
}

impl Own {
    /// Whether enforcement may begin.
    pub fn is_resolved(&self) -> bool {
        matches!(self, Self::None | Self::Proven(_))
    }

    /// The containers that are never touched.
    pub fn ids(&self) -> BTreeSet<ContainerId> {
        match self {
            Self::Proven(ids) => ids.clone(),
            _ => BTreeSet::new(),
        }
    }

    /// What keeps enforcement from beginning.
    pub fn hindrance(&self) -> Option<String> {
        match self {
            Self::Unresolved => Some("containers have not been listed yet".to_owned()),
            Self::Unproven(why) => Some(format!("own container not proven: {why}")),
            Self::None | Self::Proven(_) => None,
        }
    }
}

/// Finds and proves dockwarden's own container among those that are listed.
pub async fn resolve(engine: &dyn Engine, listing: &Listing, named: Option<&str>) -> Own {
    let mut ids = ids_in_cgroup(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    ids.extend(ids_in_mounts(
        &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
    ));
    let is_named = |container: &Container| {
        // A container that has just been started may still be listed as created.
        ids.contains(&container.id) || named.is_some_and(|named| container.is_called(named))
    };
    // Behind a joined network the kernel's files show the other container's id.
    let is_joined = |container: &Container| {
        let joined = container.joined_network();
        container.state.is_live() && joined.is_some_and(|joined| ids.contains(&joined))
    };
    let all = &listing.containers;
    let by_name: Vec<_> = all.iter().filter(|one| is_named(one)).collect();
    let by_network: Vec<_> = all
        .iter()
        .filter(|one| is_joined(one) && !is_named(one))
        .collect();
    if by_name.is_empty() && by_network.is_empty() {
        return match named {
            Some(named) => Own::Unproven(format!("this engine has no container `{named}`")),
            // It may be the one that could not be read.
            None if !ids.is_empty() && listing.unreadable > 0 => Own::Unresolved,
            None => Own::None,
        };
    }
    match prove(engine, &by_name, &by_network).await {
        Ok(Some(own)) => {
            let joined = own.joined_network();
            Own::Proven([own.id.clone()].into_iter().chain(joined).collect())
        }
        Ok(None) => {
            let looked_at: Vec<_> = by_name
                .iter()
                .chain(&by_network)
                .map(|one| one.id.short())
                .collect();
            Own::Unproven(format!(
                "looked at {}; none of them is this process",
                looked_at.join(", ")
            ))
        }
        Err(error) => Own::Unproven(error),
    }
}

/// Gives this process a random name for as long as the engine is asked who bears it.
///
/// Who shares our processes sees the name and could take it too: so those that the kernel names
/// come first, and of those that only share a network there must be exactly one.
async fn prove<'a>(
    engine: &dyn Engine,
    by_name: &[&'a Container],
    by_network: &[&'a Container],
) -> Result<Option<&'a Container>, String> {
    const COMMAND_NAME: &str = "/proc/self/comm";
    let before = fs::read_to_string(COMMAND_NAME).map_err(|error| error.to_string())?;
    let nonce = nonce().map_err(|error| error.to_string())?;
    fs::write(COMMAND_NAME, &nonce).map_err(|error| error.to_string())?;
    let found = async {
        let bearers = bearers(engine, by_name, &nonce).await?;
        if let Some(first) = bearers.first() {
            return Ok(Some(*first));
        }
        let bearers = self::bearers(engine, by_network, &nonce).await?;
        Ok(match bearers.as_slice() {
            [only] => Some(*only),
            _ => None,
        })
    };
    let found: Result<_, EngineError> = found.await;
    // The name is only for show from here on.
    let _ = fs::write(COMMAND_NAME, before.trim_end());
    found.map_err(|error| error.chain())
}

/// Where this process stands, by what it is.
///
/// # Errors
/// When its own container can't be inspected.
pub async fn surroundings(engine: &dyn Engine, own: &Own) -> Result<Surroundings, EngineError> {
    let mut surroundings = Surroundings {
        own: own.ids(),
        sees_host: *own == Own::None && engine.is_local(),
        ..Surroundings::default()
    };
    for id in own.ids() {
        let inspection = match engine.inspect(&id).await {
            Err(EngineError::NotFound) => continue,
            inspection => inspection?,
        };
        let paths = inspection
            .powers
            .into_iter()
            .filter_map(|power| match power {
                Power::Bind { path, .. } => Some(path),
                _ => None,
            });
        surroundings.paths.extend(paths);
        surroundings.volumes.extend(inspection.local_volumes);
    }
    Ok(surroundings)
}

async fn bearers<'a>(
    engine: &dyn Engine,
    candidates: &[&'a Container],
    nonce: &str,
) -> Result<Vec<&'a Container>, EngineError> {
    let mut bearers = Vec::new();
    let mut failure = None;
    for candidate in candidates {
        match engine.command_names(&candidate.id).await {
            Ok(names) if names.iter().any(|name| name == nonce) => bearers.push(*candidate),
            Ok(_) | Err(EngineError::NotFound) => {}
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if bearers.is_empty() => Err(error),
        _ => Ok(bearers),
    }
}

/// 15 characters, the most that the kernel keeps of a command's name: 52 random bits.
fn nonce() -> std::io::Result<String> {
    let mut random = [0; 7];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("dw{}", &digits[..13]))
}

/// Every full id that stands in a cgroup's path.
fn ids_in_cgroup(text: &str) -> BTreeSet<ContainerId> {
    text.split(|character: char| !character.is_ascii_alphanumeric())
        .filter_map(ContainerId::parse)
        .collect()
}

/// The id in the root of the files that the engine mounts into every container. Other ids that
/// stand there, as a host's mounts for its containers do, are not ours.
fn ids_in_mounts(text: &str) -> BTreeSet<ContainerId> {
    text.lines()
        .filter_map(|mount| {
            let fields: Vec<_> = mount.split(' ').collect();
            let (root, place) = (fields.get(3)?, fields.get(4)?);
            if !["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"].contains(place) {
                return None;
            }
            let (_, rest) = root.rsplit_once("/containers/")?;
            ContainerId::parse(rest.split('/').next()?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_every_form_that_the_kernel_shows() {
        let id = "0123456789abcdef".repeat(4);
        let found = |ids: BTreeSet<ContainerId>| -> Vec<String> {
            ids.iter().map(ToString::to_string).collect()
        };
        for text in [
            format!("12:pids:/docker/{id}\n"),
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!("0::/kubepods/burstable/pod1/{id}\n"),
        ] {
            assert_eq!(found(ids_in_cgroup(&text)), vec![id.clone()], "{text}");
        }
        assert!(ids_in_cgroup("0::/\n").is_empty());
        let own = format!(
            "621 600 254:0 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(found(ids_in_mounts(&own)), vec![id.clone()]);
        for of_another in [
            format!("99 28 0:50 / /var/lib/docker/containers/{id}/mounts/shm rw - tmpfs shm rw\n"),
            format!(
                "98 28 0:51 / / rw - overlay overlay rw,upperdir=/var/lib/docker/overlay2/{id}/diff\n"
            ),
        ] {
            assert!(ids_in_mounts(&of_another).is_empty(), "{of_another}");
        }
    }

    #[test]
    fn nonces_fit_and_differ() {
        let (one, other) = (nonce().expect("random"), nonce().expect("random"));
        assert!(one.len() == 15 && one != other);
    }
}
