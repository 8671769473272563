//! containerd, the engine's own runtime, where its socket can be reached: tells of containers whose first
//! process was made and whose program has not begun. Nothing is asked of it but that.
//!
//! Its stream has no history and is told of nobody else's doing: while it is lost, the other paths carry on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_client::Client;
use containerd_client::events::TaskCreate;
use containerd_client::services::v1::SubscribeRequest;
use containerd_client::types::Envelope;
use jiff::Timestamp;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::container::ContainerId;
use crate::metrics::Metrics;
use crate::processes::TaskCreated;

/// The namespace in which Docker keeps its containers, and the events that are wanted of it.
const FILTER: &str = "namespace==moby,topic==\"/tasks/create\"";
/// For an answer of containerd's.
const ANSWER: Duration = Duration::from_secs(5);
/// How often it is asked whether it still answers: a stream that is silent may be dead.
const ASK: Duration = Duration::from_secs(10);

/// Where containerd's socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Socket {
    /// In the usual places, as far as there is one.
    Auto,
    /// Not to be used.
    Off,
    /// There.
    At(PathBuf),
}

impl std::str::FromStr for Socket {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "off" => Self::Off,
            path => Self::At(path.strip_prefix("unix://").unwrap_or(path).into()),
        })
    }
}

impl Socket {
    /// The paths to try, for an engine whose own socket is at `engine`.
    fn candidates(&self, engine: Option<&Path>) -> Vec<PathBuf> {
        match self {
            Self::Off => Vec::new(),
            Self::At(path) => vec![path.clone()],
            Self::Auto => {
                // The host's /run is where the engine's socket is, wherever that is mounted.
                let run = engine.and_then(Path::parent).unwrap_or(Path::new("/run"));
                let names = [
                    "containerd/containerd.sock",
                    "docker/containerd/containerd.sock",
                ];
                names.iter().map(|name| run.join(name)).collect()
            }
        }
    }
}

/// Tells `tasks` what is created, from every containerd that there is, until `shutdown`; `watching` says
/// how many are being listened to. `engine` is the path of the engine's own socket.
pub async fn follow(
    socket: Socket,
    engine: Option<PathBuf>,
    tasks: mpsc::Sender<TaskCreated>,
    watching: watch::Sender<usize>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let is_asked_for = matches!(socket, Socket::At(_));
    let mut followed = JoinSet::new();
    for path in socket.candidates(engine.as_deref()) {
        let follower = Follower {
            path,
            is_asked_for,
            tasks: tasks.clone(),
            watching: watching.clone(),
            metrics: metrics.clone(),
        };
        followed.spawn(follower.run());
    }
    // They end with this task; none ends by itself.
    shutdown.cancelled().await;
    followed.shutdown().await;
}

struct Follower {
    path: PathBuf,
    /// The operator counts on it.
    is_asked_for: bool,
    tasks: mpsc::Sender<TaskCreated>,
    watching: watch::Sender<usize>,
    metrics: Metrics,
}

impl Follower {
    async fn run(self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut told = false;
        loop {
            let socket = self.path.display();
            if self.is_asked_for || self.path.exists() {
                let listened = Instant::now();
                let error = self.listen().await;
                let was_long = listened.elapsed() > ANSWER;
                if was_long {
                    backoff.reset();
                }
                if was_long || !std::mem::replace(&mut told, true) {
                    tracing::warn!(%socket, error, "containerd is not listened to; the other paths carry on");
                }
            }
            tokio::time::sleep(backoff.delay()).await;
        }
    }

    /// Listens until something is wrong, and says what.
    async fn listen(&self) -> String {
        let client = match tokio::time::timeout(ANSWER, self.connect()).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return error,
            Err(_) => return "it does not answer".to_owned(),
        };
        let _watching = Watching::begin(&self.watching);
        tracing::info!(socket = %self.path.display(), "listening to containerd");
        tokio::select! {
            error = self.read(&client) => error,
            why = until_silent(&client) => why,
        }
    }

    async fn connect(&self) -> Result<Client, String> {
        let client = Client::from_path(&self.path).await;
        let client = client.map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
        let asked = client.version().version(()).await;
        asked.map_err(|error| error.to_string())?;
        Ok(client)
    }

    /// Reads until the stream ends, and says why it did. Not even its head comes before the first event.
    async fn read(&self, client: &Client) -> String {
        let request = SubscribeRequest {
            filters: vec![FILTER.to_owned()],
        };
        let mut events = match client.events().subscribe(request).await {
            Ok(events) => events.into_inner(),
            Err(error) => return error.to_string(),
        };
        loop {
            match events.message().await {
                Ok(Some(event)) => self.tell(&event),
                Ok(None) => return "its stream has ended".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    }

    fn tell(&self, event: &Envelope) {
        let arrived = Instant::now();
        let created = event.event.as_ref().and_then(|event| {
            let task = TaskCreate::decode(event.value.as_slice()).ok()?;
            Some((ContainerId::parse(&task.container_id)?, task.pid))
        });
        let Some((id, pid)) = created else {
            self.metrics.unreadable.with_label_values(&["task"]).inc();
            return;
        };
        let time = event.timestamp.as_ref();
        let time = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
        let task = TaskCreated {
            id,
            pid,
            at: time.unwrap_or_else(Timestamp::now),
            arrived,
        };
        // Who can't keep up has the other paths; containerd itself must never be kept waiting.
        if self.tasks.try_send(task).is_err() {
            self.metrics.unreadable.with_label_values(&["task"]).inc();
        }
    }
}

/// Asks again and again for what is quickly answered, until it is not.
async fn until_silent(client: &Client) -> String {
    loop {
        tokio::time::sleep(ASK).await;
        let asked = tokio::time::timeout(ANSWER, client.version().version(())).await;
        match asked {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "it no longer answers".to_owned(),
        }
    }
}

/// Counts one that is listened to, for as long as it is.
struct Watching<'a>(&'a watch::Sender<usize>);

impl<'a> Watching<'a> {
    fn begin(watching: &'a watch::Sender<usize>) -> Self {
        watching.send_modify(|count| *count += 1);
        Self(watching)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_socket_is_beside_the_engines() {
        let at = |text: &str, engine: Option<&str>| {
            let socket: Socket = text.parse().expect("never fails");
            socket.candidates(engine.map(Path::new))
        };
        assert!(at("off", Some("/run/docker.sock")).is_empty());
        assert_eq!(at("/x/c.sock", None), [Path::new("/x/c.sock")]);
        assert_eq!(at("unix:///x/c.sock", None), [Path::new("/x/c.sock")]);
        let beside = at("auto", Some("/host/run/docker.sock"));
        assert!(beside.contains(&"/host/run/containerd/containerd.sock".into()));
        assert!(beside.contains(&"/host/run/docker/containerd/containerd.sock".into()));
    }
}
