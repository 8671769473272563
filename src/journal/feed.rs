//! Decisions as they are put on record, for one listener, from where it left off. It reads at its own
//! pace: what it is late for it finds in the log, and nobody waits for it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};

use super::tail::Tail;
use super::{Decisions, Filter, Journal};
use crate::record::{Entry, Record};

/// How many records are handed on at once.
const AT_ONCE: usize = 100;
/// How often a log that another process writes is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// One listener's place.
pub struct Feed {
    source: Source,
    after: u64,
    path: Option<PathBuf>,
    /// The place in the file at `path`.
    log: Option<Tail>,
    is_behind: bool,
}

enum Source {
    Own(Box<Journal>, broadcast::Receiver<Entry>),
    Foreign,
    None,
}

impl Feed {
    /// Begins behind the record of that number, or with what comes from now on. A number that the
    /// records here have not reached is another log's: then it begins with the first.
    ///
    /// # Errors
    /// When the audit log can't be read.
    pub async fn open(decisions: Decisions, after: Option<u64>) -> io::Result<Self> {
        // Listens first, so that none falls between what is read and what is heard.
        let source = match &decisions {
            Decisions::Own(journal, _) => Source::Own(journal.clone(), journal.listen()),
            Decisions::Foreign(_) => Source::Foreign,
            Decisions::None => Source::None,
        };
        let path = decisions.path().map(ToOwned::to_owned);
        let newest = blocking(move || decisions.search(&Filter::default(), 1)).await?;
        let newest = newest.first().map_or(0, |record| record.seq);
        let after = match after {
            None => newest,
            Some(after) if after > newest => 0,
            Some(after) => after,
        };
        Ok(Self {
            source,
            after,
            path,
            log: None,
            is_behind: true,
        })
    }

    /// The next records, oldest first: waits until there are some.
    ///
    /// # Errors
    /// When the audit log can't be read.
    pub async fn next(&mut self) -> io::Result<Vec<Arc<Record>>> {
        loop {
            if self.is_behind {
                let found = self.read().await?;
                if let Some(last) = found.last() {
                    self.after = last.seq;
                    return Ok(found);
                }
                self.is_behind = false;
            }
            match &mut self.source {
                Source::Own(_, entries) => match entries.recv().await {
                    Ok(Entry::Decision(record)) if record.seq > self.after => {
                        self.after = record.seq;
                        return Ok(vec![record]);
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => {
                        self.log = None;
                        self.is_behind = true;
                    }
                    Err(RecvError::Closed) => std::future::pending().await,
                },
                Source::Foreign => {
                    tokio::time::sleep(LOOK).await;
                    self.is_behind = true;
                }
                Source::None => std::future::pending().await,
            }
        }
    }

    /// What is on record behind the listener's place.
    async fn read(&mut self) -> io::Result<Vec<Arc<Record>>> {
        let mut recent = Vec::new();
        if let Source::Own(journal, _) = &self.source {
            recent = journal.recent();
            let is_enough = recent
                .first()
                .is_none_or(|oldest| oldest.seq <= self.after.saturating_add(1));
            if is_enough {
                return Ok(self.newer(recent));
            }
        }
        if let Some(path) = &self.path {
            let log = self.log.take();
            let mut log = log.unwrap_or_else(|| Tail::new(path.clone(), self.after));
            let (log, found) = blocking(move || {
                let found = log.read(AT_ONCE)?;
                Ok((log, found))
            })
            .await?;
            self.log = Some(log);
            if !found.is_empty() {
                return Ok(found.into_iter().map(Arc::new).collect());
            }
        }
        // What waits for a disk that is full is in memory alone.
        Ok(self.newer(recent))
    }

    fn newer(&self, mut records: Vec<Arc<Record>>) -> Vec<Arc<Record>> {
        records.retain(|record| record.seq > self.after);
        records
    }
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{LARGE, Place, decision};
    use crate::journal::{BEHIND, Destination, RECENT_BESIDE_FILE};
    use crate::metrics::Metrics;
    use crate::record::Outcome;

    /// More than is kept for a listener, and than is kept in memory.
    const MANY: usize = BEHIND + 2 * RECENT_BESIDE_FILE;

    #[tokio::test]
    async fn who_is_too_late_for_what_is_kept_reads_the_log_and_misses_none() {
        let place = Place::new();
        let destination = Destination::File(place.path.clone(), LARGE);
        let metrics = Metrics::new().expect("metrics");
        let (journal, writer) = Journal::open(&destination, None, metrics).expect("a journal");
        let decisions = Decisions::Own(Box::new(journal.clone()), Some(place.path.clone()));
        let mut feed = Feed::open(decisions, None).await.expect("a feed");
        // It waits before there is anything, and so hears the first one.
        let record = || journal.record(decision("evil:1", Outcome::Done));
        let (first, ()) = tokio::join!(feed.next(), record());
        assert_eq!(first.expect("the first one").len(), 1);
        for _ in 1..MANY {
            record().await;
        }
        let mut heard = vec![1];
        while heard.len() < MANY {
            let some = tokio::time::timeout(LOOK * 100, feed.next()).await;
            let some = some.expect("all of it").expect("readable");
            assert!(some.len() <= AT_ONCE);
            heard.extend(some.iter().map(|record| record.seq));
        }
        // And is told of what comes next as it comes.
        let (last, ()) = tokio::join!(feed.next(), record());
        heard.extend(last.expect("one more").iter().map(|record| record.seq));
        let numbers: Vec<u64> = (1..).take(MANY + 1).collect();
        assert_eq!(heard, numbers);
        writer.close();
    }
}
