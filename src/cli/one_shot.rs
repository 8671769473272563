//! What the one-shot commands share: the list, the engine, and a judged reading of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::{BAD_USAGE, EngineArguments, Failure, NO_ENGINE};
use crate::allowlist::{Allowlist, Verdict};
use crate::container::{Container, ContainerId};
use crate::docker::Docker;
use crate::engine::{Engine, EngineError};
use crate::look::{self, Asker, Memory};
use crate::own;
use crate::reload;
use crate::status::LoadedList;
use crate::together::judge_all;

/// The list that a one-shot command judges by.
#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// The allowlist [default: ./allowlist.toml, else /etc/dockwarden/allowlist.toml]
    #[arg(long, env = "DOCKWARDEN_ALLOWLIST", value_name = "FILE")]
    pub(super) allowlist: Option<PathBuf>,
}

impl ListArguments {
    pub(super) fn path(&self) -> PathBuf {
        let here = Path::new("allowlist.toml");
        match &self.allowlist {
            Some(path) => path.clone(),
            None if here.exists() => here.to_owned(),
            None => PathBuf::from("/etc/dockwarden/allowlist.toml"),
        }
    }
}

pub(super) async fn load(path: &Path) -> Result<LoadedList, Failure> {
    reload::load(path)
        .await
        .map_err(|error| Failure::bad_usage(error.report()))
}

/// The engine, which is always named: acting on another one than meant is the worst of mistakes.
#[allow(clippy::print_stderr)] // Beside the answer, not part of it.
pub(super) fn engine(arguments: &EngineArguments) -> Result<Docker, Failure> {
    let endpoint = arguments.endpoint();
    eprintln!("engine {}", endpoint.url);
    Docker::new(&endpoint).map_err(|error| failure(&error))
}

/// All containers with their verdicts; by name, and those without one last.
pub(super) async fn judged(
    engine: &dyn Engine,
    list: &LoadedList,
) -> Result<Vec<(Container, Verdict)>, Failure> {
    let list = &list.list;
    let seen = see(engine, &|container| {
        list.question(container, Timestamp::now())
    })
    .await?;
    Ok(seen.judged(list))
}

/// All containers of a host.
pub(super) struct Seen {
    pub(super) containers: Vec<Container>,
    /// dockwarden's own: in a container of its own, a command would count itself.
    pub(super) own: BTreeSet<ContainerId>,
}

/// Reads all containers, and all that is asked about each.
pub(super) async fn see(engine: &dyn Engine, asker: Asker<'_>) -> Result<Seen, Failure> {
    let listing = engine.list().await.map_err(|error| failure(&error))?;
    let own = own::resolve(engine, &listing, None).await;
    let surroundings = own::surroundings(engine, &own).await;
    let surroundings = surroundings.map_err(|error| failure(&error))?;
    let mut containers = Vec::new();
    for container in listing.containers {
        let mut memory = Memory::default();
        let listed = container.clone();
        let completed = look::complete(engine, listed, &mut memory, &surroundings, asker).await;
        match completed {
            Ok(None) => {}
            Ok(Some(container)) => containers.push(container),
            Err(error) if error.is_connection() => return Err(failure(&error)),
            // One container's trouble is its own: what is open about it stays so.
            Err(_) => containers.push(container),
        }
    }
    let own = surroundings.own;
    Ok(Seen { containers, own })
}

impl Seen {
    /// Each with its verdict; by name, and those without one last.
    pub(super) fn judged(self, list: &Allowlist) -> Vec<(Container, Verdict)> {
        let now = Timestamp::now();
        let mut verdicts = judge_all(list, &self.own, &self.containers, now);
        let mut judged: Vec<_> = self
            .containers
            .into_iter()
            .map(|container| {
                let verdict = verdicts.remove(&container.id).unwrap_or(Verdict::Unknown);
                (container, verdict)
            })
            .collect();
        judged.sort_by(|(one, _), (other, _)| {
            (one.name.is_none(), &one.name).cmp(&(other.name.is_none(), &other.name))
        });
        judged
    }
}

pub(super) fn failure(error: &EngineError) -> Failure {
    let code = match error {
        EngineError::Misconfigured(_) => BAD_USAGE,
        _ => NO_ENGINE,
    };
    Failure {
        code,
        message: error.chain(),
    }
}
