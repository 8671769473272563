//! Telling people: what was ended and what is wrong, posted to an address of theirs.
//!
//! Whoever receives it may be slow, gone or wrong: that is counted and logged, and costs nobody
//! anything else. The address is a secret, and stands in no log line, answer or metric (its host does,
//! where the HTTP library's own lines are asked for, at level debug).

mod address;
mod failure;
mod message;
mod post;
mod queue;
mod sentence;
mod template;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::metrics::Metrics;
use crate::record::Entry;
use address::Address;
pub use failure::Failure;
use message::{Listener, Message};
use post::Post;
use queue::{Next, Queue};
use template::Template;

/// How long one that can't be delivered is tried again.
const GIVE_UP: Duration = Duration::from_secs(600);
/// The delays between tries.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// How long a shutdown waits for what is being sent.
const LAST: Duration = Duration::from_secs(1);

/// Whom to tell, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file that has the address in it.
    pub url_file: PathBuf,
    /// The name of a built-in template, or a file.
    pub template: String,
}

/// Why nobody could be told.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The file of the address, or what is in it.
    #[error("--notify-url-file {0}")]
    Address(#[from] address::BadAddress),
    /// The template.
    #[error("--notify-template {0}")]
    Template(#[from] template::BadTemplate),
    /// The library's own set-up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Tells one receiver.
pub struct Notifier {
    post: Post,
    template: Template,
    metrics: Metrics,
    queue: Mutex<Queue>,
    changed: Notify,
}

impl Notifier {
    /// Reads address and template; nothing is sent yet.
    ///
    /// # Errors
    /// When either can't be used.
    pub fn new(settings: &Settings, metrics: Metrics) -> Result<Self, Unusable> {
        let address = Address::read(&settings.url_file)?;
        Ok(Self {
            post: Post::new(address)?,
            template: Template::load(&settings.template)?,
            metrics,
            queue: Mutex::new(Queue::new(Instant::now())),
            changed: Notify::new(),
        })
    }

    /// Sends one from this host that says it is a test, once.
    ///
    /// # Errors
    /// When the receiver did not take it.
    pub async fn test(&self, host: &str) -> Result<u16, Failure> {
        self.try_once(&Message::test(host)).await
    }

    /// Tells what is put on record until the shutdown.
    pub async fn run(self, entries: broadcast::Receiver<Entry>, shutdown: CancellationToken) {
        let late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(LAST).await;
        };
        let in_hand = tokio::select! {
            () = self.listen(entries) => 0,
            () = self.send(&shutdown) => 0,
            () = late => 1,
        };
        let left = self.queue().len() + in_hand;
        if left > 0 {
            tracing::warn!(left, "notifications were not sent before the end");
        }
    }

    async fn listen(&self, mut entries: broadcast::Receiver<Entry>) {
        let mut listener = Listener::default();
        loop {
            let message = match entries.recv().await {
                Ok(entry) => listener.hear(&entry),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "records came faster than they could be told");
                    None
                }
                // The journal is gone only when all else is.
                Err(RecvError::Closed) => return std::future::pending().await,
            };
            if let Some(message) = message {
                if !self.queue().push(message, Instant::now()) {
                    self.count("summarised");
                }
                self.changed.notify_one();
            }
        }
    }

    /// Sends one after the other, until the shutdown finds nothing that could be sent at once.
    async fn send(&self, shutdown: &CancellationToken) {
        loop {
            let next = self.queue().next(Instant::now());
            let room = match next {
                Next::Message(message) => {
                    self.deliver(*message).await;
                    continue;
                }
                Next::Nothing => None,
                Next::At(instant) => Some(instant),
            };
            let until_room = async {
                match room {
                    Some(instant) => tokio::time::sleep_until(instant).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = until_room => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Tries until it is taken or refused, or has been tried for long enough.
    async fn deliver(&self, message: Message) {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        let begun = Instant::now();
        let mut tries = 0_u32;
        loop {
            tries += 1;
            let error = match self.try_once(&message).await {
                Ok(status) => {
                    self.count("sent");
                    return tracing::debug!(tries, status, "a notification was sent");
                }
                Err(error) => error,
            };
            if !error.may_pass() {
                self.count("refused");
                return tracing::error!(%error, "a notification was refused");
            }
            if begun.elapsed() >= GIVE_UP {
                self.count("failed");
                tracing::error!(tries, %error, "a notification could not be sent; the next summary counts it");
                return self.queue().put_back(message);
            }
            if tries == 1 {
                tracing::warn!(%error, "a notification could not be sent; it is tried again");
            }
            let delay = backoff.delay().max(error.wait().unwrap_or_default());
            tokio::time::sleep(delay.min(LONGEST_DELAY)).await;
        }
    }

    async fn try_once(&self, message: &Message) -> Result<u16, Failure> {
        let body = self.template.render(message)?;
        self.post.send(body, self.template.content_type()).await
    }

    fn count(&self, outcome: &str) {
        let notifications = &self.metrics.notifications;
        notifications.with_label_values(&[outcome]).inc();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_can_not_be_sent_for_long_is_counted_and_goes_into_the_next_summary() {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = Settings {
            url_file: directory.path().join("url"),
            template: "json".to_owned(),
        };
        std::fs::write(&settings.url_file, "http://127.0.0.1:1/").expect("the file");
        let metrics = Metrics::new().expect("metrics");
        let notifier = Notifier::new(&settings, metrics.clone()).expect("a notifier");
        let begun = Instant::now();
        notifier.deliver(Message::test("")).await;
        assert!(begun.elapsed() >= GIVE_UP);
        let failed = metrics.notifications.with_label_values(&["failed"]);
        assert_eq!(failed.get(), 1);
        assert_eq!(notifier.queue().len(), 1);
    }
}
