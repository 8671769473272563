//! The writing end: an audit log is JSON lines, appended by one writer.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

/// How often what was written is forced onto the disk.
const SYNC_EACH: Duration = Duration::from_secs(1);

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
    pub(super) fn append(&mut self, record: &impl Serialize) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::allowlist::Mode;
    use crate::container::ContainerId;
    use crate::journal::{Filter, search};
    use crate::record::{Event, Outcome, Record, Trigger};

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
