//! The files of the state directory.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CONTAINERS, Remembered};
use crate::container::ContainerId;
use crate::status::LoadedList;

/// How many accepted lists are kept.
const KEPT: usize = 5;

/// A state directory, and the right to write it.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
    turns: AtomicU64,
    /// The turn of the accepted list that is on the disk.
    accepted: Mutex<u64>,
}

/// When it was decided that a list is to be written down: one that was decided later is never
/// written over, however long a disk takes.
#[derive(Debug, Clone, Copy)]
pub struct Turn(u64);

/// A list that was in force.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The list.
    pub list: LoadedList,
    /// Audit mode was asked for, whatever the list says.
    pub audit_only: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct AcceptedName {
    hash: String,
    audit_only: bool,
    accepted_at: Timestamp,
}

impl StateDirectory {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory to write, and makes it where it is not there; what is above it has to be.
    ///
    /// # Errors
    /// When it can't be made or locked, or another process writes it.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Not those above it: a path that was mistyped is one to be told of.
        for directory in [path, &path.join("accepted")] {
            match fs::create_dir(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
                turns: AtomicU64::new(0),
                accepted: Mutex::new(0),
            }),
            Err(TryLockError::WouldBlock) => {
                Err(io::Error::other("another process writes this state"))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The next turn to write down a list.
    pub fn turn(&self) -> Turn {
        Turn(self.turns.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Takes down that a list comes into force. It is on the disk when this returns, or one of a
    /// later turn is.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn accept(&self, turn: Turn, list: &LoadedList, audit_only: bool) -> io::Result<()> {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if *accepted > turn.0 {
            return Ok(());
        }
        let name = AcceptedName {
            hash: list.hash.to_string(),
            audit_only,
            accepted_at: Timestamp::now(),
        };
        let text = list_path(&self.path, &list.hash);
        let write = |file: &mut File| file.write_all(list.text.as_bytes());
        replace(&text, Durable::Yes, write)?;
        let name = serde_json::to_vec(&name)?;
        let write = |file: &mut File| file.write_all(&name);
        replace(&self.path.join("accepted.json"), Durable::Yes, write)?;
        *accepted = turn.0;
        if let Err(error) = self.forget_old(&text) {
            tracing::warn!(%error, "accepted lists from before can't be removed");
        }
        Ok(())
    }

    pub(super) fn write(&self, name: &str, content: &impl Serialize) -> io::Result<()> {
        replace(&self.path.join(name), Durable::No, |file| {
            let mut writer = BufWriter::new(file);
            serde_json::to_writer(&mut writer, content)?;
            writer.flush()
        })
    }

    /// Removes all but the newest accepted lists.
    fn forget_old(&self, newest: &Path) -> io::Result<()> {
        let mut others: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(self.path.join("accepted"))? {
            let entry = entry?;
            if entry.path() != newest {
                others.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        others.sort();
        let most = others.len().saturating_sub(KEPT - 1);
        others
            .drain(..most)
            .try_for_each(|(_, path)| fs::remove_file(path))
    }
}

/// The list that was last in force, by this state directory. `None` where there was none.
///
/// # Errors
/// When a file can't be read, or is not what was written.
pub fn accepted(directory: &Path) -> io::Result<Option<Accepted>> {
    let Some(name) = read_json::<AcceptedName>(&directory.join("accepted.json"))? else {
        return Ok(None);
    };
    Ok(Some(Accepted {
        list: accepted_list(directory, &name.hash, Timestamp::now())?,
        audit_only: name.audit_only,
    }))
}

/// What was known of containers when that was last written down.
///
/// # Errors
/// When it can't be read, or is not what was written.
pub fn remembered(directory: &Path) -> io::Result<BTreeMap<ContainerId, Remembered>> {
    Ok(read_json(&directory.join(CONTAINERS))?.unwrap_or_default())
}

/// The text of an accepted list, parsed again.
pub(super) fn accepted_list(
    directory: &Path,
    hash: &str,
    loaded_at: Timestamp,
) -> io::Result<LoadedList> {
    let path = list_path(directory, hash);
    let broken = |what: &str| io::Error::other(format!("{}: {what}", path.display()));
    let text = fs::read(&path).map_err(|error| broken(&error.to_string()))?;
    let list = LoadedList::parse(&text, loaded_at).map_err(|error| broken(&error.to_string()))?;
    if *list.hash == *hash {
        Ok(list)
    } else {
        Err(broken("not the list that it is called by"))
    }
}

fn list_path(directory: &Path, hash: &str) -> PathBuf {
    // What is no hash leads nowhere, whoever wrote it.
    let is_hash = ContainerId::parse(hash).is_some();
    let name = if is_hash { hash } else { "no-hash" };
    directory.join("accepted").join(format!("{name}.toml"))
}

/// A file's content; `None` where it is not there.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(content) => Ok(Some(content)),
            Err(error) => Err(io::Error::other(format!("{}: {error}", path.display()))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(PartialEq)]
enum Durable {
    Yes,
    No,
}

/// Replaces a file in one step.
fn replace(
    path: &Path,
    durable: Durable,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    write(&mut file)?;
    if durable == Durable::Yes {
        file.sync_all()?;
    }
    fs::rename(&draft, path)?;
    match path.parent() {
        Some(directory) if durable == Durable::Yes => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_later_is_never_written_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDirectory::open(directory.path()).expect("a state directory");
        let list = |image: &str| {
            let text = format!("version = 1\n[[allow]]\nimage = \"{image}\"\n");
            LoadedList::parse(text.as_bytes(), Timestamp::UNIX_EPOCH).expect("a list")
        };
        let (earlier, later) = (state.turn(), state.turn());
        state.accept(later, &list("b"), false).expect("written");
        state
            .accept(earlier, &list("a"), true)
            .expect("passed over");
        let accepted = accepted(directory.path()).expect("readable");
        let accepted = accepted.expect("a list");
        assert_eq!(accepted.list.hash, list("b").hash);
        assert!(!accepted.audit_only);
        let next = state.turn();
        state.accept(next, &list("c"), true).expect("written");
        let accepted = super::accepted(directory.path()).expect("readable");
        assert_eq!(accepted.expect("a list").list.hash, list("c").hash);
    }
}
