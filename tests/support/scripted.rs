//! An engine that is a script: what it lists, says on its event stream and answers is the test's. What
//! counts is who got a kill.

use super::{Builder, SOON, Warden, eventually};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// An engine on a socket of its own. Its threads end with the test process.
pub struct Scripted {
    dir: TempDir,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    world: Mutex<World>,
    said: Condvar,
}

#[derive(Default)]
pub struct World {
    pub containers: BTreeMap<String, Value>,
    /// Elements of every full list beside them.
    pub noise: Vec<Value>,
    /// How long full lists pause in their middle.
    pub list_pause: Duration,
    /// Full lists repeat this for ever.
    pub endless_list: Option<&'static str>,
    /// Status and body of every list in place of the true one.
    pub lists: Option<(u16, String)>,
    pub listed: usize,
    /// How many lists that paused were told to their end.
    pub listed_slowly: usize,
    /// How inspections of these are answered.
    pub broken_inspections: BTreeMap<String, u16>,
    /// Inspections of these are never answered.
    pub hanging_inspections: BTreeSet<String>,
    /// Removals of these are never answered, and do nothing.
    pub hanging_removals: BTreeSet<String>,
    pub removals_asked: usize,
    /// How far its clock is ahead; without it nothing is told of that.
    pub clock_ahead: Option<SignedDuration>,
    /// What it tells of itself, and how it answers where it does not.
    pub default_runtime: Option<&'static str>,
    pub info_refused: Option<u16>,
    pub inspected: BTreeMap<String, usize>,
    /// Those for which a list was asked alone.
    pub looked_at: BTreeSet<String>,
    pub streams: Streams,
    /// What was said to subscribers, and how often their streams were ended.
    pub chunks: Vec<Vec<u8>>,
    pub ends: usize,
    pub end: End,
    /// How kills and stops are answered, one by one; then they do what they say.
    pub kills: HashMap<String, Vec<Kill>>,
    /// Everyone who got a kill or a stop, in order.
    pub killed: Vec<String>,
    /// Nothing is said of deaths.
    pub hides_deaths: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub enum Streams {
    #[default]
    Open,
    EndAtOnce,
    Refused,
    NoHeaders,
}

#[derive(Clone, Copy, Debug, Default)]
pub enum End {
    #[default]
    Clean,
    /// In the middle of a chunk.
    Torn,
}

#[derive(Clone, Copy, Debug)]
pub enum Kill {
    Answer(u16, Fate),
    Cut,
    Hangs,
}

#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Dies,
    Vanishes,
    Lives,
}

impl Kill {
    pub fn answer(status: u16, fate: Fate) -> Self {
        Self::Answer(status, fate)
    }
}

impl Scripted {
    pub fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("dw-scripted.")
            .tempdir()
            .unwrap();
        let listener = UnixListener::bind(dir.path().join("d.sock")).unwrap();
        let shared = Arc::new(Shared::default());
        std::thread::spawn({
            let shared = shared.clone();
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let shared = shared.clone();
                    std::thread::spawn(move || serve(stream, &shared));
                }
            }
        });
        Self { dir, shared }
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.dir.path().join("d.sock").display())
    }

    pub fn builder(&self, list: &str, resync: &str) -> Builder {
        Warden::at(&self.url())
            .allowlist(list)
            .args(["--resync", resync])
    }

    pub fn warden(&self, list: &str, resync: &str) -> Warden {
        let warden = self.builder(list, resync).start();
        warden.wait_ready();
        warden
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap()
    }

    /// Writes to every subscriber, as one chunk.
    pub fn say(&self, chunk: &[u8]) {
        self.world().chunks.push(chunk.to_vec());
        self.shared.said.notify_all();
    }

    /// Frees the memory of what was said; subscribers have it all by now.
    pub fn forget_what_was_said(&self) {
        self.world()
            .chunks
            .iter_mut()
            .for_each(|chunk| *chunk = Vec::new());
    }

    pub fn end_streams(&self, end: End) {
        let mut world = self.world();
        (world.ends, world.end) = (world.ends + 1, end);
        drop(world);
        self.shared.said.notify_all();
    }

    /// A container begins to run, and the stream says so.
    pub fn begin(&self, id: &str, image: &str) {
        let mut world = self.world();
        world.containers.insert(id.to_owned(), listed(id, image));
        drop(world);
        self.say(event("start", id).as_bytes());
    }

    pub fn killed(&self) -> BTreeSet<String> {
        self.world().killed.iter().cloned().collect()
    }

    #[track_caller]
    pub fn wait_for_kill(&self, id: &str) {
        self.wait_for_kill_within(id, SOON, "a kill");
    }

    #[track_caller]
    pub fn wait_for_kill_within(&self, id: &str, timeout: Duration, what: &str) {
        eventually(&format!("{what} of {id}"), timeout, || {
            self.killed().contains(id)
        });
    }
}

/// One request on one connection.
fn serve(mut stream: UnixStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;

    let mut words = line.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && !part.starts_with("v1."))
        .collect();
    let (status, body) = match (method, parts.as_slice()) {
        ("GET", ["info"]) => {
            let world = shared.world.lock().unwrap();
            let ahead = world.clock_ahead;
            let time = ahead.map(|ahead| (Timestamp::now() + ahead).to_string());
            let info = json!({
                "ServerVersion": "99.1", "Name": "fake", "SystemTime": time,
                "DefaultRuntime": world.default_runtime,
            });
            match world.info_refused {
                Some(status) => (status, json!({"message": "not now"}).to_string()),
                None => (200, info.to_string()),
            }
        }
        ("GET", ["version"]) => (200, json!({"Version": "99.1"}).to_string()),
        ("GET", ["events"]) => return events(stream, shared),
        ("GET", ["containers", "json"]) => {
            let (pause, endless) = {
                let world = shared.world.lock().unwrap();
                (world.list_pause, world.endless_list)
            };
            let (status, body) = list(query, shared);
            if query.contains("filters") || (pause.is_zero() && endless.is_none()) {
                (status, body)
            } else {
                return long_list(stream, &body, pause, endless, shared);
            }
        }
        ("GET", ["containers", id, "json"]) => {
            let answer = inspect(id, shared);
            let world = shared.world.lock().unwrap();
            if world.hanging_inspections.contains(*id) {
                drop(world);
                stream.read_to_end(&mut Vec::new()).ok()?;
                return None;
            }
            answer
        }
        ("GET", ["images", ..]) => (200, json!({"RepoTags": ["evil:1"]}).to_string()),
        ("DELETE", ["containers", id]) => {
            let mut world = shared.world.lock().ok()?;
            world.removals_asked += 1;
            if world.hanging_removals.contains(*id) {
                drop(world);
                stream.read_to_end(&mut Vec::new()).ok()?;
                return None;
            }
            world.containers.remove(*id);
            (204, String::new())
        }
        ("POST", ["containers", id, "kill" | "stop"]) => match kill(id, shared)? {
            Kill::Answer(status, _) => (status, String::new()),
            Kill::Cut => return None,
            Kill::Hangs => {
                // Until the other side gives up.
                stream.read_to_end(&mut Vec::new()).ok()?;
                return None;
            }
        },
        _ => (404, json!({"message": "page not found"}).to_string()),
    };
    // Neither body nor its length where HTTP knows none.
    let head = format!(
        "HTTP/1.1 {status} As Told\r\nContent-Type: application/json\r\nConnection: close\r\n"
    );
    let answer = match status {
        204 | 304 => format!("{head}\r\n"),
        _ => format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
    };
    stream.write_all(answer.as_bytes()).ok()
}

fn list(query: &str, shared: &Shared) -> (u16, String) {
    let mut world = shared.world.lock().unwrap();
    let is_full = !query.contains("filters");
    if let Some(answer) = world.lists.clone() {
        world.listed += usize::from(is_full);
        return answer;
    }
    // One is asked for by its whole id, between quotes.
    let mut asked_for = query.split("%22").filter(|word| word.len() == 64);
    let mut found: Vec<Value> = match asked_for.next() {
        Some(id) => {
            world.looked_at.insert(id.to_owned());
            world.containers.get(id).cloned().into_iter().collect()
        }
        None => world.containers.values().cloned().collect(),
    };
    if is_full {
        found.extend(world.noise.clone());
        world.listed += 1;
    }
    drop(world);
    (200, json!(found).to_string())
}

/// The first half, a pause, the second half; or the same for ever.
fn long_list(
    mut stream: UnixStream,
    body: &str,
    pause: Duration,
    endless: Option<&str>,
    shared: &Shared,
) -> Option<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        .ok()?;
    if let Some(text) = endless {
        let text = text.repeat(65_536 / text.len() + 1);
        stream.write_all(b"[").ok()?;
        loop {
            stream.write_all(text.as_bytes()).ok()?;
        }
    }
    let (first, second) = body.as_bytes().split_at(body.len() / 2);
    stream.write_all(first).ok()?;
    std::thread::sleep(pause);
    stream.write_all(second).ok()?;
    shared.world.lock().ok()?.listed_slowly += 1;
    Some(())
}

fn inspect(id: &str, shared: &Shared) -> (u16, String) {
    let mut world = shared.world.lock().unwrap();
    *world.inspected.entry(id.to_owned()).or_default() += 1;
    let broken = world.broken_inspections.get(id).copied();
    match (world.containers.get(id), broken) {
        (None, _) => (404, json!({"message": "No such container"}).to_string()),
        (_, Some(status)) => (status, json!({"message": "layer not found"}).to_string()),
        (Some(container), None) => (
            200,
            json!({
                "Id": id,
                "Config": {"Image": container["Image"]},
                "State": {"StartedAt": container["StartedAt"].as_str().unwrap_or("2026-01-01T00:00:00Z")},
                "Name": container["Name"], "HostConfig": container["Configured"], "Mounts": [],
            })
            .to_string(),
        ),
    }
}

/// Does what is scripted for it, and says how to answer.
fn kill(id: &str, shared: &Shared) -> Option<Kill> {
    let mut world = shared.world.lock().ok()?;
    world.killed.push(id.to_owned());
    let answer = match world.kills.get_mut(id) {
        Some(script) if !script.is_empty() => script.remove(0),
        _ => Kill::Answer(204, Fate::Dies),
    };
    if let Kill::Answer(_, fate) = answer {
        match fate {
            Fate::Dies => world.containers.get_mut(id)?["State"] = json!("exited"),
            Fate::Vanishes => drop(world.containers.remove(id)),
            Fate::Lives => {}
        }
        if !matches!(fate, Fate::Lives) && !world.hides_deaths {
            world.chunks.push(event("die", id).into_bytes());
            shared.said.notify_all();
        }
    }
    Some(answer)
}

/// Chunks as they are said; what was said before is not repeated.
fn events(mut stream: UnixStream, shared: &Shared) -> Option<()> {
    let mut world = shared.world.lock().ok()?;
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    match world.streams {
        Streams::Open => {}
        Streams::EndAtOnce => return write!(stream, "{head}0\r\n\r\n").ok(),
        Streams::Refused => {
            return write!(stream, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").ok();
        }
        Streams::NoHeaders => {
            drop(world);
            stream.read_to_end(&mut Vec::new()).ok()?;
            return None;
        }
    }
    stream.write_all(head.as_bytes()).ok()?;
    let (mut next, ends) = (world.chunks.len(), world.ends);
    loop {
        if world.ends > ends {
            return match world.end {
                End::Clean => stream.write_all(b"0\r\n\r\n").ok(),
                End::Torn => stream.write_all(b"ff\r\n{\"Type\":\"con").ok(),
            };
        }
        while let Some(chunk) = world.chunks.get(next).cloned() {
            next += 1;
            if !chunk.is_empty() {
                write!(stream, "{:x}\r\n", chunk.len()).ok()?;
                stream.write_all(&chunk).ok()?;
                stream.write_all(b"\r\n").ok()?;
            }
        }
        world = shared.said.wait(world).ok()?;
    }
}

pub fn numbered(number: usize) -> String {
    format!("{number:064x}")
}

pub fn image_id() -> String {
    format!("sha256:{}", "1a".repeat(32))
}

/// An element of a list: it runs.
pub fn listed(id: &str, image: &str) -> Value {
    json!({
        "Id": id, "Names": [format!("/n{}", id.trim_start_matches('0'))], "Image": image,
        "ImageID": image_id(), "Command": "/victim", "Created": 1_700_000_000, "Ports": [],
        "Labels": {}, "State": "running", "Status": "Up", "HostConfig": {"NetworkMode": "none"},
    })
}

pub fn event(action: &str, id: &str) -> String {
    event_at(action, id, Timestamp::now(), json!({}))
}

/// What happened then, by the engine's clock.
pub fn event_at(action: &str, id: &str, time: Timestamp, attributes: Value) -> String {
    let time = u64::try_from(time.as_nanosecond()).unwrap();
    let event = json!({"Type": "container", "Action": action, "timeNano": time,
                       "Actor": {"ID": id, "Attributes": attributes}});
    format!("{event}\n")
}

pub fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

/// The value of a sample.
#[track_caller]
pub fn number(metrics: &str, sample: &str) -> f64 {
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value
        .unwrap_or_else(|| panic!("no {sample} in\n{metrics}"))
        .parse()
        .unwrap()
}
