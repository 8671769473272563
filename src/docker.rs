//! Docker, the only room that knows its API.
//!
//! bollard acts. Events, lists and inspections are read over the same connection with our own
//! lenient readers: one unknown word (a port published as `81/foo` suffices) makes bollard's typed
//! list fail for every container. Requests carry no API version, as bollard's do, so that every
//! engine answers in its own.

mod answers;
mod body;
mod elements;
mod make;
mod paths;
mod powers;
mod requests;
mod transport;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::StatusCode;
use bollard::models::{ContainerUpdateBody, RestartPolicy as Policy, RestartPolicyNameEnum};
use bollard::query_parameters::{
    KillContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
    StopContainerOptionsBuilder,
};
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::container::{Container, ContainerId};
use crate::engine::{
    Act, Acted, Engine, EngineError, EngineInfo, Exec, ImageFacts, Inspection, Listing, Messages,
    RestartPolicy,
};
use crate::grant::{Power, normal_path};
use crate::image::Reference;
use crate::processes;
use elements::Elements;
use paths::Paths;
use powers::EngineDefaults;
use requests::{QUICK, unreachable, unreadable, within, within_bollard};
use transport::Transport;

pub use make::ListedImage;
pub use transport::Endpoint;

/// For the first byte of a full list: thousands of containers, and labels of megabytes.
const LIST: Duration = Duration::from_secs(30);
/// For a kill: the engine itself waits up to 12 s for a process that does not die.
const KILL: Duration = Duration::from_secs(20);
/// For a removal, which kills first and then deletes files.
const REMOVE: Duration = Duration::from_secs(60);
/// For a start: a log driver may dial for minutes.
const START: Duration = Duration::from_secs(60);
/// For a stop with the longest `stop-timeout`, of an hour: bollard's own limit, above all of ours.
const CALL_MAX: Duration = Duration::from_secs(4_000);

/// An engine behind Docker's API.
pub struct Docker {
    transport: Arc<Transport>,
    bollard: bollard::Docker,
    /// The path of its socket on its host, where it is reached by one.
    socket: Option<String>,
    /// As told when it was last asked who it is.
    defaults: Mutex<Option<EngineDefaults>>,
    paths: Paths,
}

impl Docker {
    /// Prepares the way to an engine; nothing is sent yet.
    ///
    /// # Errors
    /// [`EngineError::Misconfigured`] when the URL or the certificates can't be right.
    pub fn new(endpoint: &Endpoint) -> Result<Self, EngineError> {
        let transport = Arc::new(Transport::new(endpoint)?);
        let shared = transport.clone();
        let bollard = bollard::Docker::connect_with_custom_transport(
            move |request| {
                let transport = shared.clone();
                async move {
                    let mut response = transport.send(request).await?;
                    // bollard takes "it has stopped already" for a stop of its own.
                    if response.status() == StatusCode::NOT_MODIFIED {
                        *response.status_mut() = StatusCode::CONFLICT;
                    }
                    Ok(response)
                }
            },
            // The transport puts its own in place.
            Some("http://engine"),
            CALL_MAX.as_secs(),
            bollard::API_DEFAULT_VERSION,
        )
        .map_err(|error| EngineError::Misconfigured(error.to_string()))?;
        let socket = endpoint.url.strip_prefix("unix://").map(normal_path);
        Ok(Self {
            transport,
            bollard,
            socket,
            defaults: Mutex::default(),
            paths: Paths::default(),
        })
    }

    /// Whether the process that made its socket has a number here, and the same one.
    async fn has_same_pids(&self) -> bool {
        let Some(socket) = &self.socket else {
            return false;
        };
        let connected = tokio::time::timeout(QUICK, UnixStream::connect(socket)).await;
        let peer = connected.ok().and_then(Result::ok);
        let peer = peer.and_then(|stream| stream.peer_cred().ok()?.pid());
        let peer = peer.and_then(|pid| u32::try_from(pid).ok());
        peer.is_some_and(|pid| pid > 0 && processes::has_same_numbers(pid))
    }

    /// What is ordinary on this engine.
    async fn defaults(&self) -> Result<EngineDefaults, EngineError> {
        if self.known_defaults().is_none() {
            self.info().await?;
        }
        let known = self.known_defaults().clone();
        Ok(known.unwrap_or_default())
    }

    fn known_defaults(&self) -> MutexGuard<'_, Option<EngineDefaults>> {
        self.defaults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Engine for Docker {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        let (answer, is_whole) = match self.object("/info").await {
            // A filtering proxy may hide this; what it tells beyond the version can be missed. A bad moment is another
            // matter, as long as it is not known what is ordinary here.
            Err(EngineError::Refused { status, .. })
                if is_for_good(status) || self.known_defaults().is_some() =>
            {
                (self.object("/version").await?, false)
            }
            Err(EngineError::NotFound) => (self.object("/version").await?, false),
            answer => (answer?, true),
        };
        {
            let mut known = self.known_defaults();
            if is_whole || known.is_none() {
                *known = Some(answers::defaults(&answer, self.socket.clone()));
            }
        }
        Ok(EngineInfo {
            has_same_pids: self.has_same_pids().await,
            ..answers::info(&answer)
        })
    }

    async fn changes(&self, since: Option<Timestamp>) -> Result<Messages, EngineError> {
        // {"type":["container","image"]}: other filters look at what a container's maker can choose.
        const FILTERS: &str = "%7B%22type%22%3A%5B%22container%22%2C%22image%22%5D%7D";
        let mut path = format!("/events?filters={FILTERS}");
        if let Some(since) = since {
            // The engine pads a fraction on its right: it must have all nine digits.
            let (second, fraction) = (since.as_second(), since.subsec_nanosecond());
            path.push_str(&format!("&since={second}.{fraction:09}"));
        }
        let body = self.open(&path, QUICK).await?;
        let messages =
            futures_util::stream::unfold(Some((body, Elements::of_lines())), async |reading| {
                let (mut body, mut elements) = reading?;
                // Half a line that nothing follows would swallow the next one's beginning.
                let piece = if elements.is_complete() {
                    body.piece_of_next_line().await
                } else {
                    body.piece().await
                };
                let mut messages = Vec::new();
                let is_fit = match piece {
                    Ok(None) => return None,
                    Ok(Some(bytes)) => elements.feed(&bytes, &mut |element| {
                        let event = serde_json::from_slice(element).unwrap_or(Value::Null);
                        messages.extend(answers::message(&event).map(Ok));
                    }),
                    Err(error) => {
                        messages.push(Err(error));
                        false
                    }
                };
                if !is_fit && messages.last().is_none_or(Result::is_ok) {
                    messages.push(Err(unreadable("an event has no end")));
                }
                let reading = is_fit.then_some((body, elements));
                Some((futures_util::stream::iter(messages), reading))
            });
        Ok(messages.flatten().boxed())
    }

    async fn list(&self) -> Result<Listing, EngineError> {
        self.containers("/containers/json?all=1", LIST).await
    }

    async fn look(&self, id: &ContainerId) -> Result<Option<Container>, EngineError> {
        // {"id":["…"]}
        let path = format!("/containers/json?all=1&filters=%7B%22id%22%3A%5B%22{id}%22%5D%7D");
        let listing = self.containers(&path, QUICK).await?;
        match listing.containers.into_iter().find(|one| one.id == *id) {
            Some(container) => Ok(Some(container)),
            None if listing.unreadable > 0 => Err(unreadable("a container without its id")),
            None => Ok(None),
        }
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Inspection, EngineError> {
        let defaults = self.defaults().await?;
        let answer = self.object(&format!("/containers/{id}/json")).await?;
        Ok(answers::inspected(&answer, &defaults))
    }

    async fn image(&self, image_id: &str) -> Result<ImageFacts, EngineError> {
        if !crate::image::is_id(image_id) {
            return Ok(ImageFacts::default());
        }
        match self.object(&format!("/images/{image_id}/json")).await {
            Ok(answer) => Ok(answers::image(&answer)),
            Err(EngineError::NotFound) => Ok(ImageFacts::default()),
            Err(error) => Err(error),
        }
    }

    async fn image_by_name(&self, name: &Reference) -> Result<Option<ImageFacts>, EngineError> {
        // Of what may stand in a reference only an IPv6 host's brackets may not stand in a path.
        let name = name.to_string().replace('[', "%5B").replace(']', "%5D");
        match self.object(&format!("/images/{name}/json")).await {
            Ok(answer) => Ok(Some(answers::image(&answer))),
            Err(EngineError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn volume_powers(&self, name: &str) -> Result<BTreeSet<Power>, EngineError> {
        let defaults = self.defaults().await?;
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        {
            return Ok([Power::Volume("unknown".to_owned())].into());
        }
        match self.object(&format!("/volumes/{name}")).await {
            Ok(answer) => Ok(powers::read_volume(&answer, &defaults)),
            Err(EngineError::NotFound) => Ok([Power::Volume("unknown".to_owned())].into()),
            Err(error) => Err(error),
        }
    }

    async fn exec(&self, id: &str) -> Result<Exec, EngineError> {
        if !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(EngineError::NotFound);
        }
        let answer = self.object(&format!("/exec/{id}/json")).await?;
        Ok(answers::exec(&answer))
    }

    fn is_local(&self) -> bool {
        self.socket.is_some()
    }

    async fn follow_links(&self, powers: &BTreeSet<Power>) -> Result<BTreeSet<Power>, EngineError> {
        let defaults = self.defaults().await?;
        let mut found = BTreeSet::new();
        for power in powers {
            match power {
                Power::Bind { path, read_only } => {
                    let real = self.paths.real(path).await?;
                    found.extend(powers::bind_powers(&real, *read_only, &defaults));
                }
                Power::Device(path) if path.starts_with('/') => {
                    found.insert(Power::Device(self.paths.real(path).await?));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    async fn command_names(&self, id: &ContainerId) -> Result<Vec<String>, EngineError> {
        let path = format!("/containers/{id}/top?ps_args=-eo%20pid,comm");
        let answer = self.object(&path).await?;
        Ok(answers::command_names(&answer))
    }

    async fn act(&self, id: &ContainerId, act: Act) -> Result<Acted, EngineError> {
        let id = id.as_str();
        let answer = match act {
            Act::Kill => {
                let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
                within_bollard(KILL, self.bollard.kill_container(id, Some(options))).await
            }
            Act::Stop(timeout) => {
                let seconds = i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX);
                let options = StopContainerOptionsBuilder::new().t(seconds).build();
                let call = self.bollard.stop_container(id, Some(options));
                within_bollard(timeout + KILL, call).await
            }
            Act::Pause => within_bollard(KILL, self.bollard.pause_container(id)).await,
            Act::Remove => {
                let options = RemoveContainerOptionsBuilder::new().force(true).build();
                within_bollard(REMOVE, self.bollard.remove_container(id, Some(options))).await
            }
            Act::Start => {
                let options = None::<StartContainerOptions>;
                within_bollard(START, self.bollard.start_container(id, options)).await
            }
            Act::Unpause => within_bollard(KILL, self.bollard.unpause_container(id)).await,
            Act::SetRestartPolicy(policy) => {
                let update = update_of(policy);
                within_bollard(KILL, self.bollard.update_container(id, update)).await
            }
        };
        match answer {
            Ok(()) => Ok(Acted::Done),
            Err(EngineError::NotFound) => Ok(Acted::Gone),
            // Not running, already frozen, or being removed; texts differ by version.
            Err(EngineError::Refused { status: 409, .. }) => Ok(Acted::NotNeeded),
            Err(error) => Err(error),
        }
    }
}

fn update_of(policy: RestartPolicy) -> ContainerUpdateBody {
    let (name, most) = match policy {
        RestartPolicy::No => (RestartPolicyNameEnum::NO, 0),
        RestartPolicy::Always => (RestartPolicyNameEnum::ALWAYS, 0),
        RestartPolicy::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, 0),
        RestartPolicy::OnFailure(most) => (RestartPolicyNameEnum::ON_FAILURE, most),
    };
    ContainerUpdateBody {
        restart_policy: Some(Policy {
            name: Some(name),
            maximum_retry_count: Some(most.into()),
        }),
        ..ContainerUpdateBody::default()
    }
}

/// Whether a refusal is a rule of who refuses.
fn is_for_good(status: u16) -> bool {
    matches!(status, 400..500) && !matches!(status, 408 | 429)
}
