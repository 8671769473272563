//! What the one-shot commands share: the list, the engine, and a judged reading of it.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::{BAD_USAGE, EngineArguments, Failure, NO_ENGINE};
use crate::allowlist::Verdict;
use crate::container::Container;
use crate::docker::Docker;
use crate::engine::{Engine, EngineError};
use crate::look::{self, Memory};
use crate::own;
use crate::reload;
use crate::status::LoadedList;

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

/// All containers with their names, each with its verdict; by name, and those without one last.
pub(super) async fn judged(
    engine: &dyn Engine,
    list: &LoadedList,
) -> Result<Vec<(Container, Verdict)>, Failure> {
    let listing = engine.list().await.map_err(|error| failure(&error))?;
    // In a container of its own, a command would count itself.
    let own = own::resolve(engine, &listing, None).await.ids();
    let now = Timestamp::now();
    let mut judged = Vec::new();
    for container in listing.containers {
        let completed = look::complete(engine, container.clone(), &mut Memory::default()).await;
        let container = match completed {
            Ok(None) => continue,
            Ok(Some(container)) => container,
            Err(error) if error.is_connection() => return Err(failure(&error)),
            // One container's trouble is its own: what is open about it stays so.
            Err(_) => container,
        };
        let verdict = if own.contains(&container.id) {
            Verdict::Own
        } else {
            list.judge(&container, now)
        };
        judged.push((container, verdict));
    }
    judged.sort_by(|(one, _), (other, _)| {
        (one.name.is_none(), &one.name).cmp(&(other.name.is_none(), &other.name))
    });
    Ok(judged)
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
