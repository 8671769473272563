//! The reading end: an audit log is searched from its end, through all its files, by any reader and
//! while it is written and rotated.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::files;
use crate::container::{ContainerId, LookUp, Who};
use crate::record::{Outcome, Record};

/// How much of a log is read at once, from its end.
const CHUNK: u64 = 256 * 1024;

/// Which records are asked for; a field that is none is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those with a higher number.
    pub after: Option<u64>,
    /// Only those with a lower number.
    pub before: Option<u64>,
    /// Only those of this container.
    pub container: Option<Who>,
    /// Only those with this verdict.
    pub verdict: Option<String>,
    /// Only those with this outcome.
    pub outcome: Option<Outcome>,
    /// Only those from this instant on.
    pub since: Option<Timestamp>,
}

impl Filter {
    /// Whether a record is one of those asked for.
    pub fn passes(&self, record: &Record) -> bool {
        let is_container =
            |who: &Who| who.is((&record.container_id, record.container_name.as_deref()));
        self.after.is_none_or(|after| record.seq > after)
            && self.before.is_none_or(|before| record.seq < before)
            && self.container.as_ref().is_none_or(is_container)
            && self
                .verdict
                .as_ref()
                .is_none_or(|verdict| record.verdict == *verdict)
            && self
                .outcome
                .is_none_or(|outcome| record.outcome == Some(outcome))
            && self.since.is_none_or(|since| record.time >= since)
    }

    /// Whether older records than this one can't pass any more. The clock may have been set back
    /// meanwhile, by an hour at the most as far as is cared for here.
    fn ends_at(&self, record: &Record) -> bool {
        const SET_BACK: SignedDuration = SignedDuration::from_hours(1);
        self.after.is_some_and(|after| record.seq <= after)
            || self
                .since
                .is_some_and(|since| since.duration_since(record.time) > SET_BACK)
    }
}

/// The newest `limit` decisions of a log that pass, newest first. Lines that can't be read are
/// skipped: a writer may have been ended in the middle of one.
///
/// # Errors
/// When the file can't be read.
pub fn search(path: &Path, filter: &Filter, limit: usize) -> io::Result<Vec<Record>> {
    let mut found = Vec::new();
    from_the_end(path, |line| {
        if found.len() == limit {
            return ControlFlow::Break(());
        }
        if let Ok(record) = serde_json::from_slice::<Record>(line) {
            if filter.ends_at(&record) {
                return ControlFlow::Break(());
            }
            if filter.passes(&record) {
                found.push(record);
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// What a decision says of its container.
#[derive(Deserialize)]
struct Named {
    container_id: ContainerId,
    container_name: Option<String>,
}

/// Looks somebody up among all containers that a log knows, the newest record first.
///
/// # Errors
/// When the file can't be read.
pub fn look_up(path: &Path, look_up: &mut LookUp<'_>) -> io::Result<()> {
    from_the_end(path, |line| match serde_json::from_slice::<Named>(line) {
        Ok(named) => look_up.see(&named.container_id, named.container_name.as_deref()),
        Err(_) => ControlFlow::Continue(()),
    })
}

/// What every record has.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Stamp {
    /// Its number.
    pub(super) seq: u64,
    /// The host of its engine.
    pub(super) host: String,
}

/// The last record of any kind.
pub(super) fn last(path: &Path) -> io::Result<Option<Stamp>> {
    let mut last = None;
    from_the_end(path, |line| match serde_json::from_slice(line) {
        Ok(found) => {
            last = Some(found);
            ControlFlow::Break(())
        }
        Err(_) => ControlFlow::Continue(()),
    })?;
    Ok(last)
}

/// Visits the lines of a log, the last one first, until told to stop.
pub(super) fn from_the_end(
    path: &Path,
    mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<()> {
    for file in files::open_all(path)? {
        if from_its_end(file, &mut visit)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn from_its_end(
    mut file: File,
    visit: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut end = file.seek(SeekFrom::End(0))?;
    // The beginning of a line whose end was read in the chunk behind this one.
    let mut tail = Vec::new();
    let mut size = CHUNK;
    while end > 0 {
        let start = end.saturating_sub(size);
        let mut chunk = vec![0; usize::try_from(end - start).unwrap_or(0)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut chunk)?;
        chunk.append(&mut tail);
        let whole_from = match chunk.iter().position(|byte| *byte == b'\n') {
            _ if start == 0 => 0,
            Some(newline) => newline + 1,
            None => {
                // A line without an end is not copied again for each chunk of it.
                size = size.saturating_mul(2);
                chunk.len()
            }
        };
        for line in chunk[whole_from..].rsplit(|byte| *byte == b'\n') {
            if visit(line).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        chunk.truncate(whole_from);
        tail = chunk;
        end = start;
    }
    Ok(ControlFlow::Continue(()))
}
