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

/// What is known of dockwarden's own container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Own {
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
    pub(super) fn is_resolved(&self) -> bool {
        matches!(self, Self::None | Self::Proven(_))
    }

    pub(super) fn ids(&self) -> BTreeSet<ContainerId> {
        match self {
            Self::Proven(ids) => ids.clone(),
            _ => BTreeSet::new(),
        }
    }

    /// What keeps enforcement from beginning.
    pub(super) fn hindrance(&self) -> Option<String> {
        match self {
            Self::Unresolved => Some("containers have not been listed yet".to_owned()),
            Self::Unproven(why) => Some(format!("own container not proven: {why}")),
            Self::None | Self::Proven(_) => None,
        }
    }
}

/// Finds and proves dockwarden's own container among those that are listed.
pub(super) async fn resolve(engine: &dyn Engine, listing: &Listing, named: Option<&str>) -> Own {
    let mut ids = ids_in(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    ids.extend(ids_in(
        &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
    ));
    let candidates: Vec<_> = listing
        .containers
        .iter()
        .filter(|container| is_candidate(container, &ids, named))
        .collect();
    if candidates.is_empty() {
        return match named {
            Some(named) => Own::Unproven(format!("this engine has no container `{named}`")),
            None => Own::None,
        };
    }
    match prove(engine, &candidates).await {
        Ok(Some(own)) => {
            let joined = own.joined_network();
            Own::Proven([own.id.clone()].into_iter().chain(joined).collect())
        }
        Ok(None) => Own::Unproven(format!(
            "{} looked like it and none was",
            candidates
                .iter()
                .map(|candidate| candidate.id.short())
                .collect::<Vec<_>>()
                .join(", ")
        )),
        Err(error) => Own::Unproven(error),
    }
}

/// Whether the kernel's files or the operator name it, or it shares the network of one that they
/// name: behind a joined network the files show the other container's id.
fn is_candidate(container: &Container, ids: &BTreeSet<ContainerId>, named: Option<&str>) -> bool {
    let is_named = |named: &str| {
        container.name.as_deref() == Some(named)
            || (named.len() >= 12 && container.id.as_str().starts_with(named))
    };
    container.state.is_live()
        && (ids.contains(&container.id)
            || container
                .joined_network()
                .is_some_and(|joined| ids.contains(&joined))
            || named.is_some_and(is_named))
}

/// Gives this process a random name for as long as the engine is asked who bears it.
async fn prove<'a>(
    engine: &dyn Engine,
    candidates: &[&'a Container],
) -> Result<Option<&'a Container>, String> {
    const COMMAND_NAME: &str = "/proc/self/comm";
    let before = fs::read_to_string(COMMAND_NAME).map_err(|error| error.to_string())?;
    let nonce = nonce().map_err(|error| error.to_string())?;
    fs::write(COMMAND_NAME, &nonce).map_err(|error| error.to_string())?;
    let found = find_bearer(engine, candidates, &nonce).await;
    // The name is only for show from here on.
    let _ = fs::write(COMMAND_NAME, before.trim_end());
    found.map_err(|error| error.chain())
}

async fn find_bearer<'a>(
    engine: &dyn Engine,
    candidates: &[&'a Container],
    nonce: &str,
) -> Result<Option<&'a Container>, EngineError> {
    let mut failure = None;
    for candidate in candidates {
        match engine.command_names(&candidate.id).await {
            Ok(names) if names.iter().any(|name| name == nonce) => return Ok(Some(candidate)),
            Ok(_) | Err(EngineError::NotFound) => {}
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(None), Err)
}

/// 15 characters, the most that the kernel keeps of a command's name: 52 random bits.
fn nonce() -> std::io::Result<String> {
    let mut random = [0; 7];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("dw{}", &digits[..13]))
}

/// Every full id that stands in a cgroup path, or behind `containers/` in a mount's root.
fn ids_in(text: &str) -> BTreeSet<ContainerId> {
    text.split(|character: char| !character.is_ascii_alphanumeric())
        .filter_map(ContainerId::parse)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_every_form_that_the_kernel_shows() {
        let id = "0123456789abcdef".repeat(4);
        for text in [
            format!("12:pids:/docker/{id}\n"),
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!("0::/kubepods/burstable/pod1/{id}\n"),
            format!(
                "621 600 254:0 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
            ),
        ] {
            let found = ids_in(&text);
            assert_eq!(
                found.iter().map(ContainerId::as_str).collect::<Vec<_>>(),
                [&id],
                "{text}"
            );
        }
        assert!(ids_in("0::/\n").is_empty());
    }

    #[test]
    fn nonces_fit_and_differ() {
        let (one, other) = (nonce().expect("random"), nonce().expect("random"));
        assert!(one.len() == 15 && one != other);
    }
}
