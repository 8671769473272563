//! What the one-shot commands share: the list, the engine, and a judged reading of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;

use super::{BAD_USAGE, EngineArguments, Failure, NO_ENGINE, saved};
use crate::allowlist::{Allowlist, Key, Question, SIZE_MAX, Verdict};
use crate::container::{Container, ContainerId};
use crate::docker::Docker;
use crate::engine::{Engine, EngineError, Listing};
use crate::look::{self, Asker, Memory};
use crate::own;
use crate::printable::counted;
use crate::reload;
use crate::status::{Candidate, ListError, LoadedList, Surroundings};
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

/// Reads a list, `-` from standard input.
pub(super) async fn load(path: &Path) -> Result<LoadedList, Failure> {
    let candidate = if path == Path::new("-") {
        read_standard_input()
    } else {
        reload::load(path).await
    };
    candidate.map_err(|error| Failure::bad_usage(error.report()))
}

fn read_standard_input() -> Candidate {
    let file = "standard input".to_owned();
    let mut bytes = Vec::new();
    // One byte more than a list may have makes it too large.
    let most = SIZE_MAX as u64 + 1;
    match io::stdin().lock().take(most).read_to_end(&mut bytes) {
        Err(error) => Err(ListError::Unreadable {
            file,
            message: error.to_string(),
        }),
        Ok(_) => LoadedList::parse(&bytes, Timestamp::now())
            .map_err(|invalid| ListError::Invalid { file, invalid }),
    }
}

/// Where the containers are that a one-shot command judges.
#[derive(Debug, Args)]
pub(super) struct SourceArguments {
    #[command(flatten)]
    engine: EngineArguments,
    /// Saved answers of `GET /containers`, of one host each, in place of an engine
    #[arg(
        long,
        env = "DOCKWARDEN_CONTAINERS",
        value_name = "FILE",
        num_args = 1..
    )]
    containers: Vec<PathBuf>,
}

impl SourceArguments {
    /// Whether it is files, and no engine.
    pub(super) fn is_saved(&self) -> bool {
        !self.containers.is_empty()
    }

    /// All containers of all hosts, with all that is asked about each.
    pub(super) async fn see(&self, asker: Asker<'_>) -> Result<Vec<Seen>, Failure> {
        if self.is_saved() {
            return saved::read(&self.containers);
        }
        let engine = engine(&self.engine)?;
        Ok(vec![see(&engine, asker).await?])
    }

    /// The same, and the name of the engine's host where it is an engine.
    pub(super) async fn see_with_host(
        &self,
        asker: Asker<'_>,
    ) -> Result<(Vec<Seen>, Option<Arc<str>>), Failure> {
        if self.is_saved() {
            return Ok((saved::read(&self.containers)?, None));
        }
        let engine = engine(&self.engine)?;
        let info = engine.info().await.map_err(|error| failure(&error))?;
        let seen = see(&engine, asker).await?;
        Ok((vec![seen], Some(info.host.into())))
    }

    /// All containers with their verdicts; host by host, by name, and those without one last.
    pub(super) async fn judged(&self, list: &LoadedList) -> Result<Vec<Judged>, Failure> {
        let list = &list.list;
        // Whether a pin is a repo digest of what has that id, too, is for `check` to tell.
        let names_of_pinned = |container: &Container| {
            let id = container.image_id.as_deref();
            let mut images = list.rules.iter().flat_map(|rule| &rule.image);
            let is_pinned = id.is_some() && images.any(|pattern| pattern.pin() == id);
            (is_pinned && container.image_names.is_none()).then_some(Question::ImageNames)
        };
        let asker = |container: &Container| {
            let open = list.question(container, Timestamp::now());
            open.or_else(|| names_of_pinned(container))
        };
        let seen = self.see(&asker).await?;
        let judged: Vec<_> = seen.iter().flat_map(|seen| seen.judged(list)).collect();
        warn_of_unknown(&judged);
        Ok(judged)
    }
}

/// Tells of those whose verdict is not known: they count as neither allowed nor denied.
pub(super) fn warn_of_unknown<'a>(judged: impl IntoIterator<Item = &'a Judged>) {
    let is_unknown = |one: &&Judged| one.verdict == Verdict::Unknown;
    let unknown = judged.into_iter().filter(is_unknown);
    let (hidden, open): (Vec<_>, Vec<_>) = unknown.partition(|one| one.is_hidden);
    if !hidden.is_empty() {
        note(&format!(
            "{} can't be judged, for rules look at labels whose values were hidden when they were saved: save them from a dockwarden with `--show-labels all`",
            counted(hidden.len(), "container")
        ));
    }
    if !open.is_empty() {
        note(&format!(
            "{} can't be judged: what rules look at is not known",
            counted(open.len(), "container")
        ));
    }
}

/// The engine, which is always named: acting on another one than meant is the worst of mistakes.
pub(super) fn engine(arguments: &EngineArguments) -> Result<Docker, Failure> {
    let endpoint = arguments.endpoint();
    note(&format!("engine {}", endpoint.url));
    Docker::new(&endpoint).map_err(|error| failure(&error))
}

/// Tells a person something beside the answer.
pub(super) fn note(text: &str) {
    // The answer alone goes to standard output, and does so whether or not this is read.
    let _ = writeln!(std::io::stderr(), "{}", crate::printable::lines(text));
}

/// All containers of a host.
pub(super) struct Seen {
    /// The host, where there may be several.
    pub(super) host: Option<Arc<str>>,
    pub(super) containers: Vec<Container>,
    /// dockwarden's own: in a container of its own, a command would count itself.
    pub(super) own: BTreeSet<ContainerId>,
    /// The labels whose values are not told, by their keys.
    pub(super) hidden: BTreeMap<ContainerId, BTreeSet<String>>,
}

/// A container with its verdict.
pub(super) struct Judged {
    /// Its host, where there may be several.
    pub(super) host: Option<Arc<str>>,
    pub(super) container: Container,
    pub(super) verdict: Verdict,
    /// It is unknown because a label's value is not told.
    is_hidden: bool,
}

impl Judged {
    /// One by itself.
    pub(super) fn alone(container: Container, verdict: Verdict) -> Self {
        Self {
            host: None,
            container,
            verdict,
            is_hidden: false,
        }
    }

    /// Whether it runs and the list in question would end it.
    pub(super) fn would_end(&self) -> bool {
        self.container.state.is_live() && self.verdict.is_denied()
    }
}

/// Where this process stands on the engine's host.
pub(super) async fn surroundings(engine: &dyn Engine) -> Result<Surroundings, Failure> {
    let listing = engine.list().await.map_err(|error| failure(&error))?;
    among(engine, &listing).await
}

async fn among(engine: &dyn Engine, listing: &Listing) -> Result<Surroundings, Failure> {
    let own = own::resolve(engine, listing, None).await;
    let surroundings = own::surroundings(engine, &own).await;
    surroundings.map_err(|error| failure(&error))
}

/// Reads all containers of an engine, and all that is asked about each.
async fn see(engine: &dyn Engine, asker: Asker<'_>) -> Result<Seen, Failure> {
    let listing = engine.list().await.map_err(|error| failure(&error))?;
    let surroundings = among(engine, &listing).await?;
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
            Err(_) => {
                let mut container = container;
                memory.recall(&mut container);
                containers.push(container);
            }
        }
    }
    Ok(Seen {
        host: None,
        containers,
        own: surroundings.own,
        hidden: BTreeMap::new(),
    })
}

impl Seen {
    /// Each with its verdict; by name, and those without one last.
    pub(super) fn judged(&self, list: &Allowlist) -> Vec<Judged> {
        let now = Timestamp::now();
        let mut verdicts = judge_all(list, &self.own, &self.containers, now);
        let judge = |container: &Container| {
            let verdict = verdicts.remove(&container.id).unwrap_or(Verdict::Unknown);
            let is_hidden = verdict.is_denied() && self.hides_what_decides(list, container, now);
            Judged {
                host: self.host.clone(),
                container: container.clone(),
                verdict: if is_hidden { Verdict::Unknown } else { verdict },
                is_hidden,
            }
        };
        let mut judged: Vec<_> = self.containers.iter().map(judge).collect();
        judged.sort_by(|one, other| {
            let (one, other) = (&one.container.name, &other.container.name);
            (one.is_none(), one).cmp(&(other.is_none(), other))
        });
        judged
    }

    /// Whether a rule might match, were a label's value told.
    fn hides_what_decides(&self, list: &Allowlist, container: &Container, now: Timestamp) -> bool {
        let Some(hidden) = self.hidden.get(&container.id) else {
            return false;
        };
        list.explain(container, now).iter().any(|check| {
            let only_labels_miss = check
                .keys
                .iter()
                .all(|key| key.matches || key.key == Key::Labels);
            let labels = list.rule(&check.rule).map(|rule| &rule.labels);
            only_labels_miss
                && labels.is_some_and(|labels| {
                    let missing = |key: &&String| match container.labels.as_ref() {
                        Some(labels) => !labels.contains_key(*key),
                        None => true,
                    };
                    labels
                        .keys()
                        .filter(missing)
                        .any(|key| hidden.contains(key))
                })
        })
    }
}

/// A file that was named and can't be read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::bad_usage(format!("{}: {error}", path.display()))
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
