//! The audit log: JSON lines, appended by one writer, searched from the end by any reader.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::record::{Outcome, Record};

/// How often what was written is forced onto the disk.
const SYNC_EACH: Duration = Duration::from_secs(1);
/// How much of a log is read at once, from its end.
const CHUNK: u64 = 256 * 1024;

/// The writing end.
pub(super) struct AuditLog {
    output: Output,
    unsynced_since: Option<Instant>,
    /// The last line may have been written in part.
    is_torn: bool,
}

enum Output {
    None,
    Standard,
    File(File),
}

impl AuditLog {
    pub(super) fn none() -> Self {
        Self::to(Output::None)
    }

    pub(super) fn standard_output() -> Self {
        Self::to(Output::Standard)
    }

    fn to(output: Output) -> Self {
        Self {
            output,
            unsynced_since: None,
            is_torn: false,
        }
    }

    /// Opens a file to append to, and locks it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process writes this audit log"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                // The last writer was ended in the middle of a line, which stays behind as such.
                file.write_all(b"\n")?;
            }
        }
        Ok(Self::to(Output::File(file)))
    }

    /// Hands a record to the kernel.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        match &mut self.output {
            Output::None => Ok(()),
            Output::Standard => {
                let mut output = io::stdout().lock();
                output.write_all(&line)?;
                output.flush()
            }
            Output::File(file) => {
                if self.is_torn {
                    line.insert(0, b'\n');
                }
                self.unsynced_since.get_or_insert_with(Instant::now);
                self.is_torn = true;
                file.write_all(&line)?;
                self.is_torn = false;
                Ok(())
            }
        }
    }

    pub(super) fn sync_if_due(&mut self) -> io::Result<()> {
        match self.unsynced_since {
            Some(since) if since.elapsed() >= SYNC_EACH => self.sync(),
            _ => Ok(()),
        }
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Output::File(file) = &self.output
            && self.unsynced_since.take().is_some()
        {
            file.sync_data()?;
        }
        Ok(())
    }
}

/// Which records are asked for; a field that is none is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those with a higher number.
    pub after: Option<u64>,
    /// Only those of the container with this name, id, or beginning of an id.
    pub container: Option<String>,
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
        let is_container = |wanted: &str| {
            record.container_name.as_deref() == Some(wanted)
                || record.container_id.begins_with(wanted)
        };
        self.after.is_none_or(|after| record.seq > after)
            && self.container.as_deref().is_none_or(is_container)
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

/// The newest `limit` records of a log that pass, newest first. Lines that can't be read are
/// skipped: a writer may have been ended in the middle of one.
///
/// # Errors
/// When the file can't be read.
pub fn search(path: &Path, filter: &Filter, limit: usize) -> io::Result<Vec<Record>> {
    let mut file = File::open(path)?;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut found = Vec::new();
    // The beginning of a line whose end was read in the chunk behind this one.
    let mut tail = Vec::new();
    while end > 0 && found.len() < limit {
        let start = end.saturating_sub(CHUNK);
        let mut chunk = vec![0; usize::try_from(end - start).unwrap_or(0)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut chunk)?;
        chunk.append(&mut tail);
        let whole_from = match chunk.iter().position(|byte| *byte == b'\n') {
            _ if start == 0 => 0,
            Some(newline) => newline + 1,
            None => chunk.len(),
        };
        for line in chunk[whole_from..].rsplit(|byte| *byte == b'\n') {
            let Ok(record) = serde_json::from_slice::<Record>(line) else {
                continue;
            };
            if filter.ends_at(&record) || found.len() == limit {
                return Ok(found);
            }
            if filter.passes(&record) {
                found.push(record);
            }
        }
        chunk.truncate(whole_from);
        tail = chunk;
        end = start;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowlist::Mode;
    use crate::container::ContainerId;
    use crate::record::{Event, Trigger};

    fn record(seq: u64) -> Record {
        let id = format!("{seq:064x}");
        Record {
            v: 1,
            seq,
            event: Event::Decision,
            time: Timestamp::UNIX_EPOCH,
            host: "host".to_owned(),
            container_id: ContainerId::parse(&id).expect("full id"),
            container_name: Some(format!("c{seq}")),
            image: None,
            image_id: None,
            labels: [("com.docker.compose.project".to_owned(), "x".repeat(500))].into(),
            powers: None,
            image_digests: Vec::new(),
            verdict: "denied".to_owned(),
            rule: None,
            reason: None,
            detail: None,
            trigger: Trigger::Start,
            mode: Mode::Enforce,
            action: None,
            outcome: seq.is_multiple_of(2).then_some(Outcome::Done),
            error: None,
            path: None,
            restart_policy: None,
            lived_ms: None,
            allowlist_hash: String::new(),
        }
    }

    fn numbers(path: &Path, filter: &Filter, limit: usize) -> Vec<u64> {
        let found = search(path, filter, limit).expect("a readable log");
        found.iter().map(|record| record.seq).collect()
    }

    #[test]
    fn a_log_is_searched_from_its_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.jsonl");
        let mut log = AuditLog::open(&path).expect("a new log");
        for seq in 1..=2_000 {
            log.append(&record(seq)).expect("written");
        }
        let all = Filter::default();
        assert_eq!(numbers(&path, &all, 3), [2_000, 1_999, 1_998]);
        assert_eq!(
            numbers(&path, &all, 10_000),
            (1..=2_000).rev().collect::<Vec<_>>()
        );
        let done = Filter {
            outcome: Some(Outcome::Done),
            ..all.clone()
        };
        assert_eq!(numbers(&path, &done, 2), [2_000, 1_998]);
        let after = Filter {
            after: Some(1_998),
            ..all.clone()
        };
        assert_eq!(numbers(&path, &after, 10), [2_000, 1_999]);
        let one = Filter {
            container: Some("c7".to_owned()),
            ..all
        };
        assert_eq!(numbers(&path, &one, 10), [7]);
    }

    #[test]
    fn a_torn_line_costs_itself_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.jsonl");
        AuditLog::open(&path)
            .expect("a log")
            .append(&record(1))
            .expect("written");
        let whole = std::fs::read(&path).expect("bytes");
        for cut in 0..whole.len() {
            std::fs::write(&path, [&whole[..], &whole[..cut]].concat()).expect("written");
            AuditLog::open(&path)
                .expect("a log")
                .append(&record(2))
                .expect("written");
            let found = numbers(&path, &Filter::default(), 10);
            let (newest, oldest) = (found.first(), found.last());
            assert_eq!((newest, oldest), (Some(&2), Some(&1)), "cut at {cut}");
        }
    }

    #[test]
    fn a_second_writer_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.jsonl");
        let first = AuditLog::open(&path).expect("a log");
        assert!(AuditLog::open(&path).is_err());
        drop(first);
        assert!(AuditLog::open(&path).is_ok());
    }
}
