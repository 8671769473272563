//! The list's file, watched: from a save to a candidate that may come into force.
//!
//! The directory is watched, because a watch on the file stays with the old one when an editor
//! renames a new one over it; and the file is looked at a few times a second all the same, for
//! saves that no watch tells of. A file cut off at a rule's end is a valid list, so a text is
//! taken only when its writer has closed it, or when it has stayed the same for a while.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecursiveMode, Watcher};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::allowlist::SIZE_MAX;
use crate::status::{Candidate, ListError, LoadedList};

/// How long a text stays the same before it is taken, where its writer did not close it.
const STILL: Duration = Duration::from_millis(400);
/// The same after a close: long enough to hear of a next write that has begun.
const CLOSED: Duration = Duration::from_millis(50);
/// How often the file is looked at without being told.
const POLL: Duration = Duration::from_millis(200);
/// How often it is looked at while a change is settling.
const SETTLE: Duration = Duration::from_millis(25);

/// Reads and parses the file once.
pub async fn load(path: &Path) -> Candidate {
    parse(path, read(path).await).await
}

/// Watches the file and hands on what it becomes.
pub struct Reload {
    path: PathBuf,
    candidates: mpsc::Sender<Candidate>,
    /// The file as it was when last looked at.
    stamp: Option<Stamp>,
    /// The text that was last handed on.
    handed_on: Fingerprint,
    /// A text that differs from it, and since when it is the same.
    settling: Option<(Fingerprint, Instant)>,
    /// The last writer is known to have finished.
    is_closed: bool,
    /// Someone asked for what is there, changed or not.
    is_asked: bool,
}

type Fingerprint = Option<[u8; 32]>;
type Text = Result<Vec<u8>, String>;

/// What changes when a file does, by `stat` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// `ctime`: unlike `mtime`, no program can set it back.
    changed: (i64, i64),
}

impl Stamp {
    /// Whether it was changed a moment ago, by the wall clock.
    fn is_young(self) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let changed = i32::try_from(nanoseconds)
            .ok()
            .and_then(|nanoseconds| Timestamp::new(seconds, nanoseconds).ok());
        let age = changed.map(|changed| Timestamp::now().duration_since(changed).unsigned_abs());
        age.is_some_and(|age| age < STILL)
    }
}

enum Heard {
    Written,
    Closed,
    Renamed,
}

impl Reload {
    /// Reads `path` once and returns what it holds. Every other text that it will hold is handed
    /// on to `candidates`.
    pub async fn open(path: PathBuf, candidates: mpsc::Sender<Candidate>) -> (Self, Candidate) {
        let mut stamp = self::stamp(&path).await;
        let mut text = read(&path).await;
        // A writer may be in the middle of it.
        while stamp.is_some_and(Stamp::is_young) {
            tokio::time::sleep(STILL).await;
            let again = read(&path).await;
            let is_same = again == text;
            (stamp, text) = (self::stamp(&path).await, again);
            if is_same {
                break;
            }
        }
        let reload = Self {
            stamp,
            candidates,
            handed_on: fingerprint(&text),
            settling: None,
            is_closed: false,
            is_asked: false,
            path: path.clone(),
        };
        (reload, parse(&path, text).await)
    }

    /// Watches until shutdown. Each signal of `hangup` hands on what is there, changed or not.
    pub async fn run(mut self, mut hangup: Signal, shutdown: CancellationToken) {
        let (sender, mut heard) = mpsc::unbounded_channel();
        let watcher = watch(&self.path, sender);
        if let Err(error) = &watcher {
            tracing::warn!(%error, "no watch on the allowlist's directory; looking at it instead");
        }
        loop {
            let pause = if self.settling.is_some() {
                SETTLE
            } else {
                POLL
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(happening) = heard.recv() => {
                    self.heard(happening).await;
                    while let Ok(happening) = heard.try_recv() {
                        self.heard(happening).await;
                    }
                    self.look(true).await;
                }
                _ = hangup.recv() => {
                    tracing::info!("SIGHUP: reading the allowlist again");
                    self.is_asked = true;
                    self.look(true).await;
                }
                () = tokio::time::sleep(pause) => self.look(false).await,
            }
        }
    }

    async fn heard(&mut self, happening: Heard) {
        match happening {
            Heard::Written => {
                self.is_closed = false;
                self.settling = None;
            }
            Heard::Closed => self.is_closed = true,
            Heard::Renamed => {
                // What was renamed into place was whole before.
                let inode = |stamp: Option<Stamp>| stamp.map(|stamp| (stamp.device, stamp.inode));
                if inode(stamp(&self.path).await) != inode(self.stamp) {
                    self.is_closed = true;
                }
            }
        }
    }

    /// Looks whether the text is another one, and hands it on when it has settled.
    async fn look(&mut self, is_told: bool) {
        let stamp = stamp(&self.path).await;
        if stamp == self.stamp && !is_told && self.settling.is_none() {
            return;
        }
        self.stamp = stamp;
        let text = read(&self.path).await;
        let found = fingerprint(&text);
        if found == self.handed_on && !self.is_asked {
            // A close says nothing of the texts that a later writer leaves, told of or not.
            self.settling = None;
            self.is_closed = false;
            return;
        }
        let since = match self.settling {
            Some((same, since)) if same == found => since,
            Some(_) if !is_told => {
                self.is_closed = false;
                Instant::now()
            }
            _ => Instant::now(),
        };
        self.settling = Some((found, since));
        let age = since.elapsed();
        if age >= STILL || (self.is_closed && age >= CLOSED) {
            let candidate = parse(&self.path, text).await;
            // A save in two steps closes an empty or half-written file first: no alarm for that.
            if candidate.is_ok() || age >= STILL {
                self.hand_on(found, candidate).await;
            }
        }
    }

    async fn hand_on(&mut self, fingerprint: Fingerprint, candidate: Candidate) {
        self.handed_on = fingerprint;
        self.settling = None;
        self.is_closed = false;
        self.is_asked = false;
        if self.candidates.send(candidate).await.is_err() {
            tracing::debug!("nobody takes allowlists any more");
        }
    }
}

/// Watches the directory of `path`; the watch ends with the value.
fn watch(
    path: &Path,
    heard: mpsc::UnboundedSender<Heard>,
) -> notify::Result<notify::RecommendedWatcher> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
        _ => PathBuf::from("."),
    };
    let name = path.file_name().map(ToOwned::to_owned);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else {
            return;
        };
        let is_ours = event
            .paths
            .iter()
            .any(|path| path.file_name() == name.as_deref());
        let happening = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) if is_ours => Heard::Closed,
            EventKind::Modify(ModifyKind::Name(_)) => Heard::Renamed,
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any)
                if is_ours =>
            {
                Heard::Written
            }
            _ => return,
        };
        // The receiver lives as long as the watch.
        let _ = heard.send(happening);
    })?;
    watcher.watch(&directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

async fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

async fn read(path: &Path) -> Text {
    let read = async {
        let file = tokio::fs::File::open(path).await?;
        let mut text = Vec::new();
        // One byte more than is allowed, so that the parser sees that it is too much.
        let most = u64::try_from(SIZE_MAX)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        file.take(most).read_to_end(&mut text).await?;
        Ok(text)
    };
    read.await
        .map_err(|error: std::io::Error| error.to_string())
}

fn fingerprint(text: &Text) -> Fingerprint {
    text.as_ref().ok().map(|text| Sha256::digest(text).into())
}

/// Parses on a thread of its own: megabytes that are no list take seconds, and must not keep the
/// threads that enforce.
async fn parse(path: &Path, text: Text) -> Candidate {
    let file = path.display().to_string();
    let unreadable = |message| ListError::Unreadable {
        file: file.clone(),
        message,
    };
    let text = text.map_err(unreadable)?;
    let parse = move || LoadedList::parse(&text, Timestamp::now());
    let parsed = tokio::task::spawn_blocking(parse).await;
    parsed
        .map_err(|error| unreadable(error.to_string()))?
        .map_err(|invalid| ListError::Invalid { file, invalid })
}
