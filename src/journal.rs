//! The one place where a decision is emitted: audit record, log line and metrics in one call.
//!
//! One thread owns the sequence numbers and the audit log. A record is with the kernel before
//! [`Journal::record`] returns, and on the disk within a second. A log that can't be written is
//! counted and told, and never keeps anything from being ended.

mod decisions;
mod log;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::allowlist::{Action, Mode, Verdict};
use crate::container::{Container, is_grouping_label};
use crate::metrics::Metrics;
use crate::record::{self, Event, Outcome, Record, Trigger};
use log::AuditLog;

pub use decisions::Decisions;
pub use log::{Filter, search};

/// How many records are kept in memory.
const RECENT: usize = 1_000;

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
    /// The restart policy that the container had.
    pub restart_policy: Option<String>,
    /// From start to death.
    pub lived: Option<Duration>,
    /// From the event's arrival to the end confirmed.
    pub reaction: Option<Duration>,
    /// The hash of the list that decided.
    pub allowlist_hash: Arc<str>,
}

type Recent = Arc<Mutex<VecDeque<Arc<Record>>>>;

struct Request {
    record: Box<Record>,
    written: oneshot::Sender<()>,
}

/// Takes decisions in.
#[derive(Clone)]
pub struct Journal {
    requests: mpsc::Sender<Request>,
    recent: Recent,
    metrics: Metrics,
    host: Arc<Mutex<String>>,
}

/// The thread that writes; joined at the end, after every [`Journal`] is dropped.
pub struct Writer(thread::JoinHandle<()>);

impl Writer {
    /// Waits until everything is written. Blocks.
    pub fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("the journal's thread panicked");
        }
    }
}

/// Where the audit log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Memory alone: the last 1,000 records.
    Memory,
    /// Standard output.
    StandardOutput,
    /// A file, appended to.
    File(PathBuf),
}

impl Destination {
    /// The file, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Memory | Self::StandardOutput => None,
        }
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => formatter.write_str("in memory"),
            Self::StandardOutput => formatter.write_str("on standard output"),
            Self::File(path) => write!(formatter, "{}", path.display()),
        }
    }
}

impl Journal {
    /// Opens the audit log and starts its thread.
    ///
    /// # Errors
    /// When the file can't be opened, or another process writes it.
    pub fn open(
        destination: &Destination,
        host: String,
        metrics: Metrics,
    ) -> std::io::Result<(Self, Writer)> {
        let (log, recent, mut seq) = match destination {
            Destination::Memory => (AuditLog::none(), Vec::new(), 0),
            Destination::StandardOutput => (AuditLog::standard_output(), Vec::new(), 0),
            Destination::File(path) => {
                let log = AuditLog::open(path)?;
                let mut recent = search(path, &Filter::default(), RECENT)?;
                recent.reverse();
                let seq = recent.last().map_or(0, |record| record.seq);
                (log, recent, seq)
            }
        };
        let recent: Recent = Arc::new(Mutex::new(recent.into_iter().map(Arc::new).collect()));
        let (requests, receiver) = mpsc::channel::<Request>();
        let journal = Self {
            requests,
            recent: recent.clone(),
            metrics: metrics.clone(),
            host: Arc::new(Mutex::new(host)),
        };
        let mut log = log;
        let write = move || {
            loop {
                match receiver.recv_timeout(Duration::from_secs(1)) {
                    Ok(Request {
                        mut record,
                        written,
                    }) => {
                        seq += 1;
                        record.seq = seq;
                        record.time = Timestamp::now();
                        if let Err(error) = log.append(&record) {
                            metrics.audit_write_errors.inc();
                            tracing::error!(%error, "the audit log could not be written");
                        }
                        let mut recent = recent.lock().unwrap_or_else(PoisonError::into_inner);
                        recent.push_back(Arc::from(record));
                        if recent.len() > RECENT {
                            recent.pop_front();
                        }
                        drop(recent);
                        // The asker may be gone at shutdown; the record stands all the same.
                        let _ = written.send(());
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
                if let Err(error) = log.sync_if_due() {
                    metrics.audit_write_errors.inc();
                    tracing::error!(%error, "the audit log could not be synced");
                }
            }
            if let Err(error) = log.sync() {
                tracing::error!(%error, "the audit log could not be synced");
            }
        };
        let writer = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(write)?;
        Ok((journal, Writer(writer)))
    }

    /// Names the host in the records to come.
    pub fn set_host(&self, host: &str) {
        host.clone_into(&mut self.host.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Puts a decision on record; returns when it is written.
    pub async fn record(&self, decision: Decision) {
        self.count(&decision);
        tell(&decision);
        let host = self
            .host
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (written, done) = oneshot::channel();
        let request = Request {
            record: Box::new(to_record(decision, host)),
            written,
        };
        if self.requests.send(request).is_err() || done.await.is_err() {
            self.metrics.audit_write_errors.inc();
            tracing::error!("the journal's thread is gone; the record is lost");
        }
    }

    /// The last records, oldest first.
    pub fn recent(&self) -> Vec<Arc<Record>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().cloned().collect()
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

/// The log line of a decision, in the past tense.
fn tell(decision: &Decision) {
    let Decision {
        container, verdict, ..
    } = decision;
    let id = container.id.short();
    let name = container.name.as_deref().unwrap_or_default();
    let image = container.image.as_deref().unwrap_or_default();
    let rule = verdict.rule().unwrap_or_default();
    let trigger = decision.trigger.as_str();
    let reason = verdict.reason().map_or("", |reason| reason.as_str());
    let detail = verdict.detail().unwrap_or_default();
    let error = decision.error.as_deref().unwrap_or_default();
    let lived_ms = decision.lived.map(|lived| lived.as_secs_f64() * 1_000.0);
    let action = decision.action.map_or("", Action::as_str);
    match decision.outcome {
        None => tracing::info!(id, name, image, rule, trigger, "container was allowed"),
        Some(Outcome::Done) => tracing::warn!(
            id,
            name,
            image,
            reason,
            detail,
            trigger,
            action,
            lived_ms,
            "container was ended"
        ),
        Some(Outcome::Gone) => tracing::warn!(
            id,
            name,
            image,
            reason,
            detail,
            trigger,
            "container was ended by someone else"
        ),
        Some(Outcome::EndedItself) => tracing::warn!(
            id,
            name,
            image,
            reason,
            detail,
            trigger,
            lived_ms,
            "denied container ended itself"
        ),
        Some(Outcome::AuditOnly) => tracing::warn!(
            id,
            name,
            image,
            reason,
            detail,
            trigger,
            "denied container was left running: audit"
        ),
        Some(Outcome::Failed) => tracing::error!(
            id,
            name,
            image,
            reason,
            detail,
            trigger,
            action,
            error,
            "container was not ended"
        ),
        Some(Outcome::Escaped) => tracing::error!(
            id,
            name,
            image,
            reason,
            detail,
            trigger,
            action,
            error,
            "denied container still runs ten seconds after its verdict"
        ),
    }
}

fn to_record(decision: Decision, host: String) -> Record {
    let Decision {
        container, verdict, ..
    } = decision;
    let ended = matches!(decision.outcome, Some(Outcome::Done));
    Record {
        v: 1,
        seq: 0,
        event: Event::Decision,
        time: Timestamp::UNIX_EPOCH,
        host,
        container_name: container.name,
        image: container.image,
        image_id: container.image_id,
        labels: container.labels.map_or_else(BTreeMap::new, |labels| {
            labels
                .into_iter()
                .filter(|(key, _)| is_grouping_label(key))
                .collect()
        }),
        container_id: container.id,
        verdict: verdict.as_str().to_owned(),
        rule: verdict.rule().map(str::to_owned),
        reason: verdict.reason(),
        detail: verdict.detail().map(str::to_owned),
        trigger: decision.trigger,
        mode: decision.mode,
        action: decision.action,
        outcome: decision.outcome,
        error: decision.error,
        path: ended.then_some(record::Path::Api),
        restart_policy: decision.restart_policy,
        lived_ms: decision.lived.map(|lived| lived.as_secs_f64() * 1_000.0),
        allowlist_hash: decision.allowlist_hash.to_string(),
    }
}
