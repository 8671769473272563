//! What was decided, for those who ask: from memory, or from an audit log.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::{Filter, Journal, RECENT, look_up, search};
use crate::container::{ContainerId, LookUp};
use crate::record::Record;

/// What was decided, for those who ask: from memory, or from the audit log where there is one.
#[derive(Clone)]
pub enum Decisions {
    /// This process decides.
    Own(Box<Journal>, Option<PathBuf>),
    /// Another process decides and writes this file.
    Foreign(PathBuf),
    /// Nobody decides, as far as is known here.
    None,
}

/// Which record was the newest: another one later is told apart, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Newest {
    /// Of this number.
    Own(u64),
    /// The last one in a file, as it was then: its inode, its length in bytes, and when it was last changed.
    Foreign(u64, u64, SystemTime),
}

impl Decisions {
    /// Whether [`Decisions::newest`] blocks on a file.
    pub fn blocks(&self) -> bool {
        matches!(self, Self::Foreign(_))
    }

    /// The newest record, where there is one. Blocks on a file's description where another process decides.
    pub fn newest(&self) -> Option<Newest> {
        match self {
            Self::Own(journal, _) => journal.newest().map(Newest::Own),
            Self::Foreign(path) => {
                let file = std::fs::metadata(path).ok()?;
                Some(Newest::Foreign(
                    file.ino(),
                    file.len(),
                    file.modified().ok()?,
                ))
            }
            Self::None => None,
        }
    }

    /// The newest `limit` records that pass, newest first. Blocks on a file.
    ///
    /// # Errors
    /// When the audit log can't be read.
    pub fn search(&self, filter: &Filter, limit: usize) -> io::Result<Vec<Record>> {
        let (journal, path) = match self {
            Self::None => return Ok(Vec::new()),
            Self::Foreign(path) => return if_there(search(path, filter, limit)),
            Self::Own(journal, path) => (journal, path),
        };
        // What waits for a disk that is full is in memory alone.
        let recent = journal.recent();
        let mut found: Vec<_> = recent
            .iter()
            .rev()
            .filter(|record| filter.passes(record))
            .take(limit)
            .map(|record| Record::clone(record))
            .collect();
        if let Some(path) = path
            && found.len() < limit
        {
            let older = Filter {
                before: recent.first().map(|oldest| oldest.seq),
                ..filter.clone()
            };
            found.extend(if_there(search(path, &older, limit - found.len()))?);
        }
        Ok(found)
    }

    /// Looks somebody up among all containers that are on record. Blocks on a file.
    ///
    /// # Errors
    /// When the audit log can't be read.
    pub fn look_up(&self, wanted: &mut LookUp<'_>) -> io::Result<()> {
        if let Self::Own(journal, _) = self {
            for record in journal.recent().iter().rev() {
                let name = record.container_name.as_deref();
                if wanted.see(&record.container_id, name).is_break() {
                    return Ok(());
                }
            }
        }
        match self.path() {
            Some(path) => if_there(look_up(path, wanted)),
            None => Ok(()),
        }
    }

    /// Whether older records than those that are found may be gone: memory has the last thousand alone.
    pub fn forgets(&self) -> bool {
        match self {
            Self::Own(journal, None) => journal.recent().len() >= RECENT,
            Self::Own(_, Some(_)) | Self::Foreign(_) | Self::None => false,
        }
    }

    /// The audit log's file, where there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Own(_, path) => path.as_deref(),
            Self::Foreign(path) => Some(path),
            Self::None => None,
        }
    }

    /// Why what is decided is not written now, where it is not.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Own(journal, _) => journal.trouble(),
            Self::Foreign(_) | Self::None => None,
        }
    }

    /// The last record of each container among the last thousand. Blocks on a file.
    ///
    /// # Errors
    /// When the audit log can't be read.
    pub fn last_by_container(&self) -> io::Result<BTreeMap<ContainerId, Arc<Record>>> {
        let newest_first = self.search(&Filter::default(), RECENT)?;
        let oldest_first = newest_first.into_iter().rev().map(Arc::new);
        Ok(oldest_first
            .map(|record| (record.container_id.clone(), record))
            .collect())
    }
}

/// In a log that nobody has begun yet nothing is found.
fn if_there<T: Default>(found: io::Result<T>) -> io::Result<T> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        found => found,
    }
}
