//! The thread that numbers records and writes them.

use std::collections::VecDeque;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{broadcast, oneshot};

use super::log::AuditLog;
use crate::record::{Entry, Happening, Record};

/// The last records by number, as they stand in a log: that takes a third of the memory.
#[derive(Clone)]
pub(super) struct Recent {
    most: usize,
    lines: Arc<Mutex<Lines>>,
}

type Lines = VecDeque<(u64, Box<[u8]>)>;

impl Recent {
    /// Keeps that many.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            lines: Arc::default(),
        }
    }

    pub(super) fn push(&self, seq: u64, line: Vec<u8>) {
        let mut lines = self.lines();
        lines.push_back((seq, line.into()));
        if lines.len() > self.most {
            lines.pop_front();
        }
    }

    /// All of them, oldest first.
    pub(super) fn records(&self) -> Vec<Arc<Record>> {
        let lines = self.lines();
        let records = lines
            .iter()
            .filter_map(|(_, line)| serde_json::from_slice(line).ok());
        records.map(Arc::new).collect()
    }

    /// The number of the last one.
    pub(super) fn newest(&self) -> Option<u64> {
        self.lines().back().map(|(seq, _)| *seq)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
    ended: Option<oneshot::Receiver<String>>,
}

impl Writer {
    pub(super) fn start(
        writing: Writing,
        requests: mpsc::SyncSender<Request>,
        received: mpsc::Receiver<Request>,
    ) -> io::Result<Self> {
        let (thread, ended) = watched(move || writing.run(&received))?;
        Ok(Self {
            thread,
            requests,
            ended: Some(ended),
        })
    }

    /// Resolves when the thread has ended, with the reason: none of it is good before
    /// [`Writer::close`]. The second watch of one thread never resolves.
    pub fn ended(&mut self) -> impl Future<Output = String> + use<> {
        let ended = self.ended.take();
        async move {
            match ended {
                Some(ended) => ended.await.unwrap_or_else(|gone| gone.to_string()),
                None => std::future::pending().await,
            }
        }
    }

    /// Ends the thread when everything is written. Blocks.
    pub fn close(self) {
        // A thread that is gone already has said why.
        let _ = self.requests.send(Request::Close);
        let _ = self.thread.join();
    }
}

/// A thread that says why it ended, also where it panicked.
fn watched(
    work: impl FnOnce() + Send + 'static,
) -> io::Result<(thread::JoinHandle<()>, oneshot::Receiver<String>)> {
    let (say, ended) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("journal".to_owned())
        .spawn(move || {
            // What it owns is dropped with it, and nobody sees it in between.
            let why = match panic::catch_unwind(AssertUnwindSafe(work)) {
                Ok(()) => "its thread ended by itself".to_owned(),
                Err(payload) => {
                    let text = payload.downcast_ref::<&str>().copied();
                    let text = text.or(payload.downcast_ref::<String>().map(String::as_str));
                    format!("its thread panicked: {}", text.unwrap_or("without a text"))
                }
            };
            // Nobody watches any more where this was asked for.
            let _ = say.send(why);
        })?;
    Ok((thread, ended))
}

/// What the thread owns.
pub(super) struct Writing {
    pub(super) log: AuditLog,
    /// The number of the last record.
    pub(super) seq: u64,
    pub(super) recent: Recent,
    pub(super) entries: broadcast::Sender<Entry>,
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
                    if let Some(line) = self.append(&record) {
                        self.recent.push(record.seq, line);
                    }
                    // The asker may be gone at shutdown; the record stands all the same.
                    let _ = written.send(());
                    self.publish(Entry::Decision(record.into()));
                }
                Ok(Request::Happening(mut happening)) => {
                    (happening.seq, happening.time) = self.next();
                    self.append(&happening);
                    self.publish(Entry::Happening(happening.into()));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Ok(Request::Close) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            self.log.tend();
        }
        self.log.finish();
    }

    /// Writes a record; gives its line, which every record has: it is made of texts, numbers and maps by texts.
    fn append(&mut self, record: &impl Serialize) -> Option<Vec<u8>> {
        match serde_json::to_vec(record) {
            Ok(line) => {
                self.log.append(&line);
                Some(line)
            }
            Err(error) => {
                self.log.failed("a record has no text", &error.into());
                None
            }
        }
    }

    fn publish(&self, entry: Entry) {
        // Mostly nobody listens.
        let _ = self.entries.send(entry);
    }

    fn next(&mut self) -> (u64, Timestamp) {
        self.seq += 1;
        (self.seq, Timestamp::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_ends_says_why() {
        let ways: [(fn(), &str); 3] = [
            (|| {}, "its thread ended by itself"),
            (
                || std::panic::panic_any("no disk"),
                "its thread panicked: no disk",
            ),
            (
                || std::panic::panic_any(format!("no {}", "disk")),
                "its thread panicked: no disk",
            ),
        ];
        for (work, why) in ways {
            let (thread, ended) = watched(work).expect("a thread");
            assert_eq!(ended.await.as_deref(), Ok(why));
            assert!(thread.join().is_ok());
        }
    }
}
