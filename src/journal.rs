//! The one place where a decision, or what happens to dockwarden itself, is emitted: audit record,
//! log line and metrics in one call.
//!
//! One thread owns the sequence numbers and the audit log. A record is with the kernel before
//! [`Journal::record`] returns, and on the disk within a second. A log that can't be written is
//! counted and told, and never keeps anything from being ended.

mod appender;
mod before;
mod decisions;
mod feed;
mod files;
mod log;
mod repeats;
mod search;
mod tail;
mod tell;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{broadcast, oneshot};

use crate::allowlist::{Action, Mode, Verdict};
use crate::container::{Container, is_grouping_label};
use crate::metrics::Metrics;
use crate::record::{self, Entry, Event, Happening, Outcome, Record, Trigger, What};
use log::{AuditLog, Trouble};
use repeats::Repeats;

pub use before::Before;
pub use decisions::{Decisions, Newest};
pub use feed::Feed;
pub use files::MOST_KEPT;
use search::Stamp;
pub use search::{Filter, look_up, search};
pub use tell::tell_happening;
pub use writer::Writer;
use writer::{Recent, Request, Writing};

/// How many of the last records are told apart by container.
const RECENT: usize = 1_000;
/// How many are kept in memory where a file has them all: what waits for a full disk is among them.
const RECENT_BESIDE_FILE: usize = 100;
/// How many records may wait to be written.
const WAITING: usize = 10_000;
/// How many records a listener may fall behind.
const BEHIND: usize = 1_024;
/// How long a record is waited for. A disk that hangs must not keep anything from being ended.
const WRITE: Duration = Duration::from_secs(2);

/// What is to be put on record. The journal adds number and time.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The container as it was judged.
    pub container: Container,
    /// The verdict.
    pub verdict: Verdict,
    /// What made us look.
    pub trigger: Trigger,
    /// The mode in force.
    pub mode: Mode,
    /// What was to be done.
    pub action: Option<Action>,
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// The engine's words where it refused.
    pub error: Option<String>,
    /// By which path it was ended.
    pub path: record::Path,
    /// The restart policy that the container had.
    pub restart_policy: Option<String>,
    /// When the life that this is about began, by the engine.
    pub started_at: Option<Timestamp>,
    /// From start to death.
    pub lived: Option<Duration>,
    /// From the event's arrival to the end confirmed.
    pub reaction: Option<Duration>,
    /// The hash of the list that decided.
    pub allowlist_hash: Arc<str>,
}

/// Takes in decisions and what happens.
#[derive(Clone)]
pub struct Journal {
    requests: mpsc::SyncSender<Request>,
    recent: Recent,
    before: Arc<Before>,
    entries: broadcast::Sender<Entry>,
    trouble: Trouble,
    metrics: Metrics,
    host: Arc<Mutex<String>>,
    repeats: Arc<Mutex<Repeats>>,
}

/// When a file of the audit log is full, and how many old ones are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// How many bytes a file may have, a record that is larger alone in its file aside.
    pub max_size: u64,
    /// How many old files are kept, from 1 to [`MOST_KEPT`].
    pub keep: u32,
}

/// Where the audit log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Memory alone: the last 1,000 records.
    Memory,
    /// Standard output.
    StandardOutput,
    /// A file, appended to and rotated.
    File(PathBuf, Rotation),
}

impl Destination {
    /// The file, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path, _) => Some(path),
            Self::Memory | Self::StandardOutput => None,
        }
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => formatter.write_str("in memory"),
            Self::StandardOutput => formatter.write_str("on standard output"),
            Self::File(path, _) => write!(formatter, "{}", path.display()),
        }
    }
}

impl Journal {
    /// Opens the audit log and starts its thread. Without a host, records bear the name that the
    /// last one bears until [`Journal::set_host`] tells another.
    ///
    /// # Errors
    /// When the file can't be opened, or another process writes it.
    pub fn open(
        destination: &Destination,
        host: Option<String>,
        metrics: Metrics,
    ) -> std::io::Result<(Self, Writer)> {
        let mut before = Before::default();
        let recent = Recent::new(match destination {
            Destination::File(..) => RECENT_BESIDE_FILE,
            Destination::Memory | Destination::StandardOutput => RECENT,
        });
        let (log, last) = match destination {
            Destination::Memory => (AuditLog::none(metrics.clone()), None),
            Destination::StandardOutput => (AuditLog::standard_output(metrics.clone()), None),
            Destination::File(path, rotation) => {
                let log = AuditLog::open(path, *rotation, metrics.clone())?;
                before = Before::read(path)?;
                let newest_first = search(path, &Filter::default(), RECENT_BESIDE_FILE)?;
                for record in newest_first.iter().rev() {
                    recent.push(record.seq, serde_json::to_vec(record)?);
                }
                (log, search::last(path)?)
            }
        };
        let Stamp {
            seq,
            host: last_host,
        } = last.unwrap_or_default();
        let (requests, received) = mpsc::sync_channel(WAITING);
        let trouble = log.trouble();
        let entries = broadcast::Sender::new(BEHIND);
        let writing = Writing {
            log,
            seq,
            recent: recent.clone(),
            entries: entries.clone(),
        };
        let writer = Writer::start(writing, requests.clone(), received)?;
        let journal = Self {
            requests,
            recent,
            before: Arc::new(before),
            entries,
            trouble,
            metrics,
            host: Arc::new(Mutex::new(host.unwrap_or(last_host))),
            repeats: Arc::default(),
        };
        Ok((journal, writer))
    }

    /// Names the host in the records to come.
    pub fn set_host(&self, host: &str) {
        host.clone_into(&mut self.host.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Puts a decision on record; returns when it is written, or when it is clear that it can't
    /// be now. Then it is counted and told.
    pub async fn record(&self, decision: Decision) {
        let (written, done) = oneshot::channel();
        let request = Request::Decision {
            record: Box::new(to_record(&decision, self.host())),
            written,
        };
        let is_sent = self.requests.try_send(request).is_ok();
        if !is_sent || !matches!(tokio::time::timeout(WRITE, done).await, Ok(Ok(()))) {
            self.metrics.audit_write_errors.inc();
            tracing::error!(
                id = decision.container.id.short(),
                "a record is not written yet, or lost: the audit log hangs"
            );
        }
        self.count(&decision);
        let admitted = {
            let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
            repeats.admit(&decision, Instant::now())
        };
        if let Some(left_out) = admitted {
            tell::tell(&decision, left_out);
        }
    }

    /// Puts on record what happened. Never waits: it is counted and told where too much is waiting
    /// to be written.
    pub fn happened(&self, what: What) {
        tell::tell_happening(&what);
        let happening = Happening {
            v: 1,
            seq: 0,
            time: Timestamp::UNIX_EPOCH,
            host: self.host(),
            what,
        };
        let request = Request::Happening(Box::new(happening));
        if self.requests.try_send(request).is_err() {
            self.metrics.audit_write_errors.inc();
            tracing::error!("what happened is not on record: the audit log takes nothing");
        }
    }

    /// What is put on record from now on. Who falls far behind misses some, and is told how many.
    pub fn listen(&self) -> broadcast::Receiver<Entry> {
        self.entries.subscribe()
    }

    fn host(&self) -> String {
        let host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        host.clone()
    }

    /// Why records are not written now, where they are not.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone()
    }

    /// What the process before had on record.
    pub fn before(&self) -> Arc<Before> {
        self.before.clone()
    }

    /// The last decisions, oldest first.
    pub fn recent(&self) -> Vec<Arc<Record>> {
        self.recent.records()
    }

    fn newest(&self) -> Option<u64> {
        self.recent.newest()
    }

    fn count(&self, decision: &Decision) {
        let metrics = &self.metrics;
        let reason = decision
            .verdict
            .reason()
            .map_or("", |reason| reason.as_str());
        metrics
            .decisions
            .with_label_values(&[decision.verdict.as_str(), reason, decision.trigger.as_str()])
            .inc();
        if let (Some(action), Some(outcome)) = (decision.action, decision.outcome) {
            metrics
                .actions
                .with_label_values(&[action.as_str(), outcome.as_str()])
                .inc();
        }
        match decision.outcome {
            Some(Outcome::Done) => {
                Metrics::observe(&metrics.lived, decision.lived);
                Metrics::observe(&metrics.reaction, decision.reaction);
            }
            Some(Outcome::Escaped) => metrics.escaped.inc(),
            _ => {}
        }
    }
}

fn to_record(decision: &Decision, host: String) -> Record {
    let Decision {
        container, verdict, ..
    } = decision;
    let ended = matches!(decision.outcome, Some(Outcome::Done | Outcome::NeverRan));
    let names = container.image_names.iter().flatten();
    let labels = container.labels.iter().flat_map(|labels| labels.iter());
    Record {
        v: 1,
        seq: 0,
        event: Event::Decision,
        time: Timestamp::UNIX_EPOCH,
        host,
        container_id: container.id.clone(),
        container_name: container.name.clone(),
        image: container.image.clone(),
        image_id: container.image_id.clone(),
        labels: labels
            .filter(|(key, _)| is_grouping_label(key))
            .map(|(key, value)| (shortened(key), shortened(value)))
            .collect(),
        powers: container.powers.clone(),
        may_do_more: container.may_do_more,
        image_digests: names.filter(|name| name.contains('@')).cloned().collect(),
        verdict: verdict.as_str().to_owned(),
        rule: verdict.rule().map(str::to_owned),
        reason: verdict.reason(),
        detail: verdict.detail().map(str::to_owned),
        trigger: decision.trigger,
        mode: decision.mode,
        action: decision.action,
        outcome: decision.outcome,
        error: decision.error.clone(),
        path: ended.then_some(decision.path),
        restart_policy: decision.restart_policy.clone(),
        started_at: decision.started_at,
        lived_ms: decision.lived.map(|lived| lived.as_secs_f64() * 1_000.0),
        allowlist_hash: decision.allowlist_hash.to_string(),
    }
}

/// A label of a megabyte must not make a record of one.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 1_024;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
