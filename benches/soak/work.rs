//! What the soak does: it starts containers of many kinds, ends those that are allowed, clears dead ones
//! away, and restarts the engine.

use crate::books::{Books, Container, OWN_EXIT, Outage};
use crate::support::{Engine, Random, eventually};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How many starts there are a second, at most.
const RATE: f64 = 6.5;
/// How many containers may be there, so that the engine's list stays short.
const CROWD: usize = 60;
/// How long a dead container stays: who keeps records may want to look at it.
const REST: Duration = Duration::from_secs(2);
/// How long an allowed one runs before the soak ends it.
const STAY: Duration = Duration::from_secs(4);
/// How often the engine restarts.
const RESTART_EACH: Duration = Duration::from_secs(75);

#[derive(Clone, Copy)]
enum Kind {
    Lasting,
    Brief,
    EndsItself,
    Stubborn,
    ComesBack,
    Loops,
    Paused,
}

/// One worker: a container after the other.
pub(crate) fn start_containers(engine: &Engine, books: &Books, worker: u64) {
    let _guard = books.ends_with_me();
    let mut random = Random::new(worker);
    while !books.is_closed() {
        let number = books.number();
        let due = Duration::from_secs_f64(number as f64 / RATE);
        while !books.is_closed() && (books.elapsed() < due || is_crowded(books)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let is_allowed = random.chance(22);
        let kind = random.weighted(&[
            (30, Kind::Lasting),
            (15, Kind::Brief),
            (if is_allowed { 0 } else { 15 }, Kind::EndsItself),
            (10, Kind::Stubborn),
            (10, Kind::ComesBack),
            (if is_allowed { 0 } else { 5 }, Kind::Loops),
            (10, Kind::Paused),
        ]);
        start(engine, books, number, is_allowed, kind);
    }
}

fn is_crowded(books: &Books) -> bool {
    let kept = books.kept();
    let here = kept.containers.values();
    here.filter(|container| container.cleared_at.is_none())
        .count()
        >= CROWD
}

fn start(engine: &Engine, books: &Books, number: u64, is_allowed: bool, kind: Kind) {
    let policy = match kind {
        Kind::ComesBack => "always",
        Kind::Loops => "on-failure",
        _ => "no",
    };
    let command = match kind {
        Kind::EndsItself | Kind::Loops => vec!["exit".to_owned(), OWN_EXIT.to_string()],
        Kind::Stubborn => vec!["stubborn".to_owned()],
        _ => vec!["run".to_owned()],
    };
    let name = format!("{}-{number}", if is_allowed { "good" } else { "bad" });
    let mut body = json!({
        "Image": if is_allowed { "good:1" } else { "bad:1" },
        "Cmd": command,
        "HostConfig": {
            "NetworkMode": "none",
            "AutoRemove": matches!(kind, Kind::Brief),
            "RestartPolicy": { "Name": policy },
        },
    });
    if matches!(kind, Kind::Stubborn) {
        body["StopSignal"] = "SIGWINCH".into();
        body["StopTimeout"] = 5.into();
    }
    // One name, one attempt: where the engine went away amid a call, nobody knows what came of it.
    let created = post(engine, &format!("/containers/create?name={name}"), &body);
    let Some((201, answer)) = created else {
        return trouble(books, "create", created);
    };
    let id = answer["Id"].as_str().expect("an id").to_owned();
    let called_at = Instant::now();
    let container = Container {
        name,
        is_allowed,
        called_at,
        is_sure: false,
        is_looping: matches!(kind, Kind::Loops),
        is_brief: matches!(kind, Kind::Brief),
        is_being_removed: false,
        lives_since: None,
        has_escaped: false,
        dead_since: None,
        cleared_at: None,
        lived_ms: None,
    };
    books.kept().containers.insert(id.clone(), container);
    let started = post(engine, &format!("/containers/{id}/start"), &Value::Null);
    if let Some((204, _)) = started {
        if let Some(container) = books.kept().containers.get_mut(&id) {
            container.is_sure = true;
        }
    } else {
        trouble(books, "start", started);
    }
    if matches!(kind, Kind::Paused) {
        // Mostly too late for one that is forbidden.
        let _ = post(engine, &format!("/containers/{id}/pause"), &Value::Null);
    }
}

fn post(engine: &Engine, path: &str, body: &Value) -> Option<(u16, Value)> {
    call(engine, "POST", path, body)
}

pub(crate) fn call(
    engine: &Engine,
    method: &str,
    path: &str,
    body: &Value,
) -> Option<(u16, Value)> {
    let bytes = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let json = [("Content-Type", "application/json")];
    let answer = engine.request(method, path, &json, bytes.as_bytes()).ok()?;
    let value = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    Some((answer.status, value))
}

/// A call that failed: counted, where the engine answered at all, and tried no more.
fn trouble(books: &Books, what: &str, answer: Option<(u16, Value)>) {
    match answer {
        None => std::thread::sleep(Duration::from_millis(100)),
        Some((status, body)) => {
            // Without ids, so that the like is counted together.
            let message = body["message"].as_str().unwrap_or_default();
            let words = message.split(' ').filter(|word| word.len() < 40);
            let message = words.take(12).collect::<Vec<_>>().join(" ");
            books.refused(&format!("{what}: {status} {message}"));
        }
    }
}

/// Ends allowed containers after a while, having seen that they live, and removes dead ones.
pub(crate) fn clear_away(engine: &Engine, books: &Books) {
    let _guard = books.ends_with_me();
    while !books.is_over() {
        std::thread::sleep(Duration::from_millis(50));
        let now = Instant::now();
        let due: Vec<(String, Container)> = books
            .kept()
            .containers
            .iter()
            .filter(|(_, container)| container.cleared_at.is_none())
            .filter(|(_, container)| match container.dead_since {
                Some(dead) => now.duration_since(dead) >= REST,
                None => container.is_allowed && now.duration_since(container.called_at) >= STAY,
            })
            .map(|(id, container)| (id.clone(), container.clone()))
            .collect();
        for (id, container) in due {
            clear(engine, books, &id, &container);
        }
    }
}

fn clear(engine: &Engine, books: &Books, id: &str, container: &Container) {
    let before = Instant::now();
    let Some((status, answer)) = call(
        engine,
        "GET",
        &format!("/containers/{id}/json"),
        &Value::Null,
    ) else {
        return;
    };
    let state = &answer["State"];
    if status == 200 && container.is_allowed && !container.is_being_removed {
        check_life(books, id, container, &answer, before);
    }
    if status == 200 && !container.is_allowed {
        if state["Running"] == true {
            // Revived by an engine's boot since it was seen dead.
            return;
        }
        let time = |key: &str| state[key].as_str()?.parse::<jiff::Timestamp>().ok();
        if let (Some(from), Some(to)) = (time("StartedAt"), time("FinishedAt"))
            && to > from
        {
            let lived = to.duration_since(from).as_secs_f64() * 1e3;
            let mut kept = books.kept();
            kept.containers.get_mut(id).expect("in the books").lived_ms = Some(lived);
        }
    }
    if status == 200 {
        let mut kept = books.kept();
        let noted = kept.containers.get_mut(id).expect("in the books");
        noted.is_being_removed = true;
        drop(kept);
        // Forced only where that ends what is the soak's to end.
        let path = format!("/containers/{id}?force={}", container.is_allowed);
        let removed = call(engine, "DELETE", &path, &Value::Null);
        let is_gone = matches!(removed, Some((204 | 404 | 409, _)));
        if !is_gone {
            return;
        }
    } else if status == 404
        && container.is_allowed
        && container.is_sure
        && !container.is_being_removed
    {
        let mut kept = books.kept();
        let (from, to) = (container.called_at, Instant::now());
        if kept.lost_containers(from, to) {
            // It went with the engine, as was to be.
        } else if container.is_brief && kept.is_near_outage(from, to) {
            kept.taken_along += 1;
        } else {
            let events = kept.events.get(id).cloned();
            let signals = kept.signals.get(id).cloned();
            let misfire = format!(
                "{} ({id}) is gone, events {events:?}, signals {signals:?}, brief {}, {:?} after it was made",
                container.name,
                container.is_brief,
                container.called_at.elapsed()
            );
            kept.misfires.push(misfire);
        }
    }
    let mut kept = books.kept();
    let container = kept.containers.get_mut(id).expect("in the books");
    container.cleared_at = Some(Instant::now());
}

/// What is allowed lives until the soak ends it, unless its engine took it along.
fn check_life(books: &Books, id: &str, container: &Container, answer: &Value, before: Instant) {
    let mut kept = books.kept();
    let state = &answer["State"];
    let is_first_life = state["Running"] == true && answer["RestartCount"] == 0;
    // An engine that went away amid its start may have left it anywhere.
    let is_excused = !container.is_sure || kept.lost_containers(container.called_at, before);
    if !is_first_life && !is_excused {
        let restarts = &answer["RestartCount"];
        let misfire = format!("{} ({id}): {state}, restarts {restarts}", container.name);
        kept.misfires.push(misfire);
    }
}

/// The engine restarts in every way, at even distances, until the time is up.
pub(crate) fn restart_engine(engine: &Engine, books: &Books) {
    let _guard = books.ends_with_me();
    let ways = [(false, true), (true, false), (true, true), (false, false)];
    let count = (books.length().as_secs_f64() / RESTART_EACH.as_secs_f64()).max(2.0) as u32;
    for round in 1..=count {
        let due = books.length() * round / (count + 1);
        while books.elapsed() < due && !books.is_over() {
            std::thread::sleep(Duration::from_millis(50));
        }
        if books.is_over() {
            return;
        }
        let (is_killed, keeps_containers) = ways[(round as usize - 1) % ways.len()];
        engine.set_live_restore(keeps_containers);
        println!(
            "{:>4} s  the engine is {}, {} live-restore",
            books.elapsed().as_secs(),
            if is_killed { "killed" } else { "stopped" },
            if keeps_containers { "with" } else { "without" },
        );
        books.kept().outages.push(Outage {
            from: Instant::now(),
            to: None,
            keeps_containers,
        });
        if is_killed {
            engine.sigkill_dockerd();
        } else {
            engine.stop_dockerd();
        }
        engine.start_dockerd();
        let mut kept = books.kept();
        kept.outages.last_mut().expect("just pushed").to = Some(Instant::now());
    }
    while books.elapsed() < books.length() && !books.is_over() {
        std::thread::sleep(Duration::from_millis(50));
    }
    eventually("the engine answers", Duration::from_secs(30), || {
        call(engine, "GET", "/_ping", &Value::Null).is_some()
    });
}
