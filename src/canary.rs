//! Whether enforcement works, by trying: a container that no list should allow is started, and how
//! long it lives is measured by the engine's own clock.
//!
//! Every canary has an image and a container of its own, known by one mark: `dockwarden-canary:MARK`,
//! `dockwarden-canary-MARK`, and the label `dockwarden.canary=MARK`. What bears no mark, or a mark
//! that is not its name, is never touched. The second label says until when a canary may be in use;
//! what is older was left behind by a process that is gone, and the next run removes it.

mod clean;
mod flight;
mod program;
mod summary;

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::container::{Container, ContainerId, State};
use crate::docker::Docker;
use crate::engine::{Act, Engine, EngineError};

pub use flight::{Flight, Outcome};
pub use summary::Summary;

/// The name of every canary's image, without its tag.
pub const REPOSITORY: &str = "dockwarden-canary";
/// The label with a canary's mark.
pub const LABEL: &str = "dockwarden.canary";
/// The label that says until when a canary may be in use, in seconds since 1970.
const UNTIL: &str = "dockwarden.canary.until";

/// From the making of a canary's image to its start.
const MAKING: Duration = Duration::from_secs(15);
/// What the program lives longer than it is waited for.
const LIFE_MARGIN: Duration = Duration::from_secs(10);
/// What a canary may be in use longer than it is waited for.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// Whether a container is a canary, by the name of its image: what no list should be learned from.
pub fn is_one(container: &Container) -> bool {
    let image = container.image.as_deref().unwrap_or_default();
    image
        .split_once(':')
        .is_some_and(|(name, _)| name == REPOSITORY)
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// How many canaries.
    pub count: u32,
    /// From the end of one to the making of the next.
    pub interval: Duration,
    /// What still runs so long after its start has escaped.
    pub timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine gave none.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine runs other programs.
    #[error("there is no canary for an engine of {0}")]
    Platform(String),
    /// It took so long that another run may have taken a canary for left behind and removed it.
    #[error("the engine took so long that nothing is proven")]
    Late,
    /// There is something that could not be removed.
    #[error(
        "could not be removed: `{REPOSITORY}-{mark}`, which ends by itself; the next `dockwarden canary` removes it"
    )]
    Left {
        /// Its mark.
        mark: String,
        /// Why.
        source: EngineError,
    },
    /// This machine gave no random name.
    #[error("no random name")]
    Name(#[source] std::io::Error),
    /// The image could not be packed.
    #[error("no archive of the canary's image")]
    Archive(#[source] std::io::Error),
}

/// Starts canaries one after the other, until there were `count` or `stop` is cancelled, and removes
/// each. `tell` hears of each at once.
///
/// # Errors
/// The first [`Error`]; also then what was made is removed, as far as the engine lets it.
pub async fn run(
    docker: &Docker,
    plan: &Plan,
    stop: &CancellationToken,
    mut tell: impl FnMut(&Flight),
) -> Result<Vec<Flight>, Error> {
    let platform = docker.platform().await?;
    let program = program::executable(&platform, plan.timeout + LIFE_MARGIN)
        .ok_or(Error::Platform(platform))?;
    let archive = program::archive(&program).map_err(Error::Archive)?;
    clean::left_behind(docker, now(docker).await?).await;
    let run = random_name().map_err(Error::Name)?;
    let mut flights = Vec::new();
    for number in 1..=plan.count {
        if number > 1 {
            tokio::select! {
                () = tokio::time::sleep(plan.interval) => {}
                () = stop.cancelled() => {}
            }
        }
        if stop.is_cancelled() {
            break;
        }
        let mark = format!("{run}-{number}");
        let flight = fly(docker, &mark, &archive, plan.timeout, stop).await;
        // Whatever came of it: what was made for it is there, or may be.
        let cleaned = clean::own(docker, &mark).await;
        if let Ok(Some(flight)) = &flight {
            tell(flight);
        }
        cleaned?;
        flights.extend(flight?);
    }
    Ok(flights)
}

/// One canary, from its making to its end; `None` when it is told to stop before that. What is being
/// made when it is told to stop is made, so that it can be removed.
async fn fly(
    docker: &Docker,
    mark: &str,
    archive: &[u8],
    timeout: Duration,
    stop: &CancellationToken,
) -> Result<Option<Flight>, Error> {
    let begun = Instant::now();
    let until = now(docker).await?.as_second() + seconds(timeout + LEASE_MARGIN);
    let labels = BTreeMap::from([
        (LABEL.to_owned(), mark.to_owned()),
        (UNTIL.to_owned(), until.to_string()),
    ]);
    let name = format!("{REPOSITORY}-{mark}");
    // From before it is there, or its end could be missed.
    let mut events = docker.changes(None).await?;
    let making = async {
        docker
            .import((REPOSITORY, mark), &labels, archive.to_vec())
            .await?;
        let image = format!("{REPOSITORY}:{mark}");
        let id = docker.create(&name, &image, program::PATH, &labels).await?;
        start(docker, &id).await?;
        Ok(id)
    };
    let made: Result<_, EngineError> = tokio::time::timeout(MAKING, making)
        .await
        .unwrap_or(Err(EngineError::Timeout(MAKING)));
    let id = made?;
    let flight = tokio::select! {
        flight = flight::watch(docker, &id, &name, &mut events, timeout) => flight?,
        () = stop.cancelled() => return Ok(None),
    };
    if begun.elapsed() > timeout + LEASE_MARGIN {
        return Err(Error::Late);
    }
    Ok(Some(flight))
}

/// Starts it, or finds that it was ended or removed while it started.
async fn start(docker: &Docker, id: &ContainerId) -> Result<(), EngineError> {
    match docker.act(id, Act::Start).await {
        Err(refused @ EngineError::Refused { .. }) => match docker.look(id).await? {
            Some(container) if container.state == State::Created => Err(refused),
            _ => Ok(()),
        },
        answer => answer.map(drop),
    }
}

/// The time on the engine's host; this host's where a proxy hides that.
async fn now(docker: &Docker) -> Result<Timestamp, EngineError> {
    Ok(docker.info().await?.time.unwrap_or_else(Timestamp::now))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// What tells one run's marks from another's.
fn random_name() -> std::io::Result<String> {
    let mut random = [0; 6];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
