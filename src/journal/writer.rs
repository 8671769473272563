//! The thread that numbers records and writes them.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::log::AuditLog;
use crate::record::{Happening, Record};

/// How many records are kept in memory.
pub(super) const RECENT: usize = 1_000;

pub(super) type Recent = Arc<Mutex<VecDeque<Arc<Record>>>>;

/// What the thread is asked for.
pub(super) enum Request {
    /// A decision, and who waits until it is written.
    Decision {
        record: Box<Record>,
        written: oneshot::Sender<()>,
    },
    /// Nobody waits for it.
    Happening(Box<Happening>),
    Close,
}

/// The thread that writes.
pub struct Writer {
    thread: thread::JoinHandle<()>,
    requests: mpsc::SyncSender<Request>,
}

impl Writer {
    pub(super) fn start(
        writing: Writing,
        requests: mpsc::SyncSender<Request>,
        received: mpsc::Receiver<Request>,
    ) -> io::Result<Self> {
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writing.run(&received))?;
        Ok(Self { thread, requests })
    }

    /// Ends the thread when everything is written. Blocks.
    pub fn close(self) {
        // The thread may have ended abnormally, which the next line tells.
        let _ = self.requests.send(Request::Close);
        if self.thread.join().is_err() {
            tracing::error!("the journal's thread panicked");
        }
    }
}

/// What the thread owns.
pub(super) struct Writing {
    pub(super) log: AuditLog,
    /// The number of the last record.
    pub(super) seq: u64,
    pub(super) recent: Recent,
}

impl Writing {
    fn run(mut self, requests: &mpsc::Receiver<Request>) {
        loop {
            match requests.recv_timeout(Duration::from_secs(1)) {
                Ok(Request::Decision {
                    mut record,
                    written,
                }) => {
                    (record.seq, record.time) = self.next();
                    self.log.append(&record);
                    self.remember(record);
                    // The asker may be gone at shutdown; the record stands all the same.
                    let _ = written.send(());
                }
                Ok(Request::Happening(mut happening)) => {
                    (happening.seq, happening.time) = self.next();
                    self.log.append(&happening);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Ok(Request::Close) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            self.log.tend();
        }
        self.log.finish();
    }

    fn next(&mut self) -> (u64, Timestamp) {
        self.seq += 1;
        (self.seq, Timestamp::now())
    }

    fn remember(&self, record: Box<Record>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back(Arc::from(record));
        if recent.len() > RECENT {
            recent.pop_front();
        }
    }
}
