//! The state list: all containers as last seen, kept by events and full lists, so that a request
//! to the API costs the engine nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::allowlist::Question;
use crate::container::{Container, ContainerId};
use crate::engine::{ChangeKind, Engine, EngineError, Listing};
use crate::follow::Update;
use crate::journal;
use crate::look::{self, Memory};
use crate::record::{Connection, What};
use crate::status::{Enforcement, Snapshot, Surroundings};
use crate::uptime::uptime;

/// How many containers are looked at at once.
const LOOKS: usize = 8;
/// After a death the engine's list may still say "running" for a while: when to look again.
const AFTER_DEATH: [Duration; 5] = [
    Duration::from_millis(30),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// A look takes the container's lock in the engine: whether what has just started is to be ended comes first.
const AFTER_START: Duration = Duration::from_millis(50);

/// Keeps the list.
pub struct Inventory {
    engine: Arc<dyn Engine>,
    snapshot: watch::Sender<Snapshot>,
    /// Whose list says what there is to know of a container.
    enforcement: watch::Receiver<Enforcement>,
    /// The list and the surroundings by which all were last looked at.
    looked_by: (Arc<str>, Arc<Surroundings>),
    /// The host's name, where the engine's own is not to be shown.
    host_name: Option<String>,
    /// No controller in this process tells the log of the engine.
    is_alone: bool,
    /// What was last heard of the way to the engine.
    told: Option<Connection>,
    known: HashMap<ContainerId, Known>,
    /// To be looked at.
    dirty: HashSet<ContainerId>,
    looking: HashSet<ContainerId>,
    looks: JoinSet<Looked>,
    /// Those that will be dirty in a moment.
    pauses: JoinSet<ContainerId>,
}

/// What no list tells.
#[derive(Default, Clone)]
struct Known {
    memory: Memory,
    started_at: Option<Timestamp>,
    looked_at: Option<Instant>,
    /// How it was configured must be asked for again.
    is_reconfigured: bool,
    /// Its image may have more repo digests by now.
    has_new_digests: bool,
    /// It died and the list has not shown it yet: how often that was looked for.
    death_not_shown: Option<usize>,
}

struct Looked {
    id: ContainerId,
    known: Known,
    container: Result<Option<Container>, EngineError>,
}

impl Inventory {
    /// An empty list, published through `snapshot`. Where it `is_alone`, without a controller in the same
    /// process, the log hears of the engine from here.
    pub fn new(
        engine: Arc<dyn Engine>,
        snapshot: watch::Sender<Snapshot>,
        enforcement: watch::Receiver<Enforcement>,
        host_name: Option<String>,
        is_alone: bool,
    ) -> Self {
        let looked_by = {
            let enforcement = enforcement.borrow();
            let hash = enforcement.in_force.hash.clone();
            (hash, enforcement.surroundings.clone())
        };
        Self {
            engine,
            snapshot,
            enforcement,
            looked_by,
            host_name,
            is_alone,
            told: None,
            known: HashMap::new(),
            dirty: HashSet::new(),
            looking: HashSet::new(),
            looks: JoinSet::new(),
            pauses: JoinSet::new(),
        }
    }

    /// Keeps the list until the updates end.
    pub async fn run(mut self, mut updates: mpsc::Receiver<Update>) {
        loop {
            tokio::select! {
                update = updates.recv() => match update {
                    Some(update) => self.update(update),
                    None => return,
                },
                Ok(()) = self.enforcement.changed() => self.enforcement_changed(),
                Some(paused) = self.pauses.join_next() => self.dirty.extend(paused),
                Some(looked) = self.looks.join_next() => match looked {
                    Ok(looked) => self.looked(looked),
                    Err(error) => {
                        tracing::error!(%error, "a look at a container ended abnormally");
                        self.looking.clear();
                    }
                },
            }
            self.look_at_some();
        }
    }

    fn update(&mut self, update: Update) {
        match update {
            Update::Connected(info) => {
                self.tell_of_engine(Connection::Connected, Some(&info.version), None);
                self.snapshot.send_modify(|snapshot| {
                    snapshot.version = Some(info.version);
                    snapshot.host = self.host_name.clone().or(Some(info.host));
                });
            }
            Update::Changed(change) => {
                match change.kind {
                    // Most of what containers do changes nothing that is shown.
                    ChangeKind::Other | ChangeKind::Kill => return,
                    ChangeKind::Start => {
                        let known = self.known.entry(change.id.clone()).or_default();
                        known.started_at = known.started_at.max(Some(change.time));
                        known.death_not_shown = None;
                        known.is_reconfigured = true;
                        return self.look_after(AFTER_START, change.id);
                    }
                    ChangeKind::Die => {
                        let known = self.known.entry(change.id.clone()).or_default();
                        known.death_not_shown = Some(0);
                    }
                    _ => {}
                }
                self.dirty.insert(change.id);
            }
            Update::Images => self.images_changed(),
            Update::Unreadable => {}
            Update::Listed { listing, took, .. } => self.listed(listing, took),
            Update::Disconnected(reason) => {
                self.tell_of_engine(Connection::Disconnected, None, Some(&reason));
                self.snapshot
                    .send_modify(|snapshot| snapshot.connected = false);
            }
        }
    }

    /// Once for each change, where no controller in this process tells of it.
    fn tell_of_engine(&mut self, change: Connection, version: Option<&str>, error: Option<&str>) {
        if self.told.replace(change) != Some(change) && self.is_alone {
            journal::tell_happening(&What::Engine {
                change,
                version: version.map(str::to_owned),
                error: error.map(str::to_owned),
            });
        }
    }

    fn look_after(&mut self, pause: Duration, id: ContainerId) {
        self.pauses.spawn(async move {
            tokio::time::sleep(pause).await;
            id
        });
    }

    /// Another list may look at more, and where this process stands makes powers of paths.
    fn enforcement_changed(&mut self) {
        let looked_by = {
            let enforcement = self.enforcement.borrow_and_update();
            let hash = enforcement.in_force.hash.clone();
            (hash, enforcement.surroundings.clone())
        };
        let (hash, surroundings) = std::mem::replace(&mut self.looked_by, looked_by);
        if surroundings != self.looked_by.1 {
            for (id, known) in &mut self.known {
                known.is_reconfigured = true;
                self.dirty.insert(id.clone());
            }
        }
        if hash != self.looked_by.0 {
            self.images_changed();
        }
        self.list_may_ask_more();
    }

    fn list_may_ask_more(&mut self) {
        // One lock at a time: whoever waits to write either would else wait for ever.
        let enforcement = self.enforcement.borrow().clone();
        let snapshot = self.snapshot.borrow();
        let containers = snapshot.containers.values();
        let open = containers.filter(|container| ask(&enforcement, container).is_some());
        self.dirty
            .extend(open.map(|container| container.id.clone()));
    }

    /// What is denied may have content that is known by another digest now.
    fn images_changed(&mut self) {
        // One lock at a time: whoever waits to write either would else wait for ever.
        let enforcement = self.enforcement.borrow().clone();
        let snapshot = self.snapshot.borrow();
        let now = Timestamp::now();
        let live = snapshot.containers.values();
        let live = live.filter(|container| container.state.is_live());
        for container in live.filter(|one| enforcement.judge(one, now).is_denied()) {
            if let Some(known) = self.known.get_mut(&container.id) {
                known.has_new_digests = true;
                self.dirty.insert(container.id.clone());
            }
        }
    }

    /// Takes over a full list, but for what was looked at since it was begun.
    fn listed(&mut self, listing: Listing, took: Duration) {
        let now = Instant::now();
        let begun = now.checked_sub(took).unwrap_or(now);
        let is_newer = |known: &HashMap<ContainerId, Known>, id: &ContainerId| {
            known
                .get(id)
                .and_then(|known| known.looked_at)
                .is_some_and(|looked_at| looked_at >= begun)
        };
        let enforcement = self.enforcement.borrow().clone();
        let dead: HashSet<_> = {
            let snapshot = self.snapshot.borrow();
            let all = snapshot.containers.values();
            let dead = all.filter(|container| !container.state.is_live());
            dead.map(|container| container.id.clone()).collect()
        };
        let mut containers = std::collections::BTreeMap::new();
        for mut container in listing.containers {
            if is_newer(&self.known, &container.id) {
                continue;
            }
            let known = self.known.entry(container.id.clone()).or_default();
            known.memory.recall(&mut container);
            let is_complete = ask(&enforcement, &container).is_none();
            container.started_at = known.started_at;
            let was_dead = dead.contains(&container.id);
            known.is_reconfigured |= was_dead && container.state.is_live();
            let is_open = !is_complete || known.is_reconfigured;
            if is_open || (container.state.is_live() && known.started_at.is_none()) {
                self.dirty.insert(container.id.clone());
            }
            containers.insert(container.id.clone(), Arc::new(container));
        }
        let known = &mut self.known;
        self.snapshot.send_modify(|snapshot| {
            for (id, container) in snapshot.containers.iter() {
                if is_newer(known, id) {
                    containers.insert(id.clone(), container.clone());
                }
            }
            snapshot.containers = Arc::new(containers);
            snapshot.connected = true;
            snapshot.as_of = Some(Timestamp::now());
            snapshot.read = Some(uptime());
            snapshot.listed = snapshot.read;
            known.retain(|id, known| {
                snapshot.containers.contains_key(id)
                    || known.looked_at.is_some_and(|looked_at| looked_at >= begun)
            });
        });
    }

    fn look_at_some(&mut self) {
        while self.looks.len() < LOOKS {
            let next = self.dirty.iter().find(|id| !self.looking.contains(*id));
            let Some(id) = next.cloned() else {
                return;
            };
            self.dirty.remove(&id);
            self.looking.insert(id.clone());
            let known = self.known.get(&id).cloned().unwrap_or_default();
            if let Some(known) = self.known.get_mut(&id) {
                (known.is_reconfigured, known.has_new_digests) = (false, false);
            }
            let enforcement = self.enforcement.borrow().clone();
            let engine = self.engine.clone();
            self.looks.spawn(look_at(engine, enforcement, id, known));
        }
    }

    fn looked(&mut self, looked: Looked) {
        let Looked {
            id,
            mut known,
            container,
        } = looked;
        self.looking.remove(&id);
        if let Some(heard) = self.known.get(&id) {
            known.started_at = known.started_at.max(heard.started_at);
            known.death_not_shown = heard.death_not_shown;
        }
        known.looked_at = Some(Instant::now());
        let container = match container {
            Ok(container) => container,
            Err(error) => {
                if let Some(heard) = self.known.get_mut(&id) {
                    heard.is_reconfigured |= known.is_reconfigured;
                    heard.has_new_digests |= known.has_new_digests;
                }
                // The next full list shows it again.
                tracing::debug!(
                    id = id.short(),
                    error = error.chain(),
                    "container can't be looked at"
                );
                return;
            }
        };
        let heard = self.known.get(&id);
        known.is_reconfigured = heard.is_some_and(|heard| heard.is_reconfigured);
        known.has_new_digests = heard.is_some_and(|heard| heard.has_new_digests);
        let is_live = container
            .as_ref()
            .is_some_and(|container| container.state.is_live());
        known.death_not_shown = known.death_not_shown.filter(|_| is_live);
        if let Some(times) = &mut known.death_not_shown
            && let Some(pause) = AFTER_DEATH.get(*times)
        {
            *times += 1;
            self.look_after(*pause, id.clone());
        }
        self.snapshot.send_modify(|snapshot| {
            snapshot.as_of = Some(Timestamp::now());
            snapshot.read = Some(uptime());
            let containers = Arc::make_mut(&mut snapshot.containers);
            match container {
                Some(mut container) => {
                    container.started_at = known.started_at;
                    containers.insert(id.clone(), Arc::new(container));
                }
                None => {
                    containers.remove(&id);
                }
            }
        });
        self.known.insert(id, known);
    }
}

/// All that is shown, and what the list wants to know beyond that.
fn ask(enforcement: &Enforcement, container: &Container) -> Option<Question> {
    let list = &enforcement.in_force.list;
    look::everything(container).or_else(|| list.question(container, Timestamp::now()))
}

async fn look_at(
    engine: Arc<dyn Engine>,
    enforcement: Enforcement,
    id: ContainerId,
    mut known: Known,
) -> Looked {
    if known.is_reconfigured {
        known.memory.begin_life();
    }
    let has_new_digests = known.has_new_digests;
    let (engine, memory) = (engine.as_ref(), &mut known.memory);
    let surroundings = &enforcement.surroundings;
    let asker = |container: &Container| ask(&enforcement, container);
    let container = async {
        let looked = look::look(engine, &id, memory, surroundings, &asker).await?;
        let Some(mut container) = looked else {
            return Ok(None);
        };
        look::refresh(engine, &mut container, memory, surroundings, &asker).await?;
        if has_new_digests {
            memory.learn_digests(engine, &container).await?;
        }
        look::complete(engine, container, memory, surroundings, &asker).await
    };
    let container = container.await;
    let inspection = known.memory.inspection();
    known.started_at = known
        .started_at
        .or(inspection.and_then(|inspection| inspection.started_at));
    let runs_since_unknown = known.started_at.is_none()
        && matches!(&container, Ok(Some(container)) if container.state.is_live());
    if runs_since_unknown && let Ok(inspection) = engine.inspect(&id).await {
        known.started_at = inspection.started_at;
    }
    Looked {
        id,
        known,
        container,
    }
}
