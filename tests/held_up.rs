//! What tries to hold dockwarden up, or to make it act on what is no longer so, does not succeed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use support::scripted::{Scripted, event, listed, numbered};
use support::{Engine, SOON, Warden, eventually};

const LIST: &str = r#"
version = 1
[[allow]]
rule = "good"
image = "good:1"
"#;

fn engine() -> Engine {
    let engine = Engine::start();
    engine.image("good:1");
    engine.image("bad:1");
    engine
}

fn is_ended(engine: &Engine, id: &str) -> bool {
    engine
        .wait_until_dead(id, SOON)
        .is_none_or(|state| state == "exited")
}

/// An engine's own mounts for a container show that container's id on the host.
#[test]
fn a_container_with_shareable_memory_is_not_taken_for_our_own() {
    let engine = engine();
    let shareable = engine.run(&["--ipc", "shareable"], "bad:1", &[]);
    let warden = Warden::on(&engine).allowlist(LIST).start();
    warden.wait_ready();
    assert!(is_ended(&engine, &shareable));
    drop(warden);
}

#[test]
fn half_sent_requests_by_the_hundred_leave_enforcement_alone() {
    let engine = engine();
    let warden = Warden::on(&engine).allowlist(LIST).start();
    warden.wait_ready();
    let clients: Vec<_> = (0..350)
        .map(|_| {
            let mut client = TcpStream::connect(warden.address()).expect("a connection");
            client
                .write_all(b"GET /livez HTTP/1.1\r\nHost:")
                .expect("half a request");
            client
        })
        .collect();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", warden.pid()))
        .expect("its descriptors")
        .count();
    assert!(descriptors < 300, "{descriptors} descriptors are open");
    for _ in 0..5 {
        let id = engine.run(&[], "bad:1", &[]);
        assert!(is_ended(&engine, &id));
    }
    let (status, _) = warden.sigterm();
    assert!(status.success(), "{status}");
    drop(clients);
}

/// A dockwarden whose output nobody reads; ended with the value.
struct Unread(Child);

impl Unread {
    fn start(engine: &Engine, arguments: &[&str]) -> Self {
        let list = engine.dir().join("unread.toml");
        std::fs::write(&list, LIST).expect("a list");
        let child = Command::new(env!("CARGO_BIN_EXE_dockwarden"))
            .args(["run", "--listen", "127.0.0.1:0", "--engine", &engine.host()])
            .arg("--allowlist")
            .arg(&list)
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("dockwarden");
        Self(child)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// 64 KiB fill a pipe: at this level that is a few containers' worth of lines.
#[test]
fn a_log_that_nobody_reads_leaves_enforcement_alone() {
    let engine = engine();
    let unread = Unread::start(&engine, &["--log-level", "trace"]);
    for _ in 0..12 {
        let id = engine.run(&[], "bad:1", &[]);
        assert!(is_ended(&engine, &id));
    }
    drop(unread);
}

/// Each record is close to a kilobyte, and each start writes one.
#[test]
fn an_audit_log_that_nobody_reads_leaves_enforcement_alone() {
    let engine = engine();
    let unread = Unread::start(&engine, &["--audit-log", "-", "--log-level", "error"]);
    for number in 0..90 {
        let id = engine.run(&[], "bad:1", &[]);
        assert!(is_ended(&engine, &id), "start {number}");
    }
    // One container again and again: its own task must not be caught in the journal.
    let again = engine.run(&[], "bad:1", &[]);
    for _ in 0..3 {
        assert!(is_ended(&engine, &again));
        engine.docker_ok(&["start", &again]);
    }
    assert!(is_ended(&engine, &again));
    drop(unread);
}

/// The rest of a list that is being written may allow what its beginning does not.
#[test]
fn a_sighup_in_the_middle_of_a_save_takes_no_half_list() {
    let engine = engine();
    let whole = format!("{LIST}\n[[allow]]\nrule = \"other\"\nimage = \"bad:1\"\n");
    let warden = Warden::on(&engine).allowlist(&whole).start();
    warden.wait_ready();
    let life = engine.run_life(&[], "bad:1");
    for _ in 0..5 {
        let mut file = std::fs::File::create(warden.list_path()).expect("the list");
        file.write_all(LIST.as_bytes()).expect("its beginning");
        warden.signal("HUP");
        // Longer than a reload of a closed file takes, shorter than one of a still file.
        std::thread::sleep(Duration::from_millis(200));
        file.write_all(&whole.as_bytes()[LIST.len()..])
            .expect("its rest");
        drop(file);
        let hash = |warden: &Warden| {
            warden.get_json("/allowlist")["list"]["allow"]
                .as_array()
                .unwrap()
                .len()
        };
        eventually("the whole list is in force", SOON, || hash(&warden) == 2);
    }
    engine.assert_same(&[life]);
}

/// All time that the threads of a process have run, in ticks: of those that yield to others, and of the rest.
fn ticks(warden: &Warden) -> (u64, u64) {
    let threads = std::fs::read_dir(format!("/proc/{}/task", warden.pid()));
    let (mut yielding, mut others) = (0, 0);
    for thread in threads.expect("its threads").map_while(Result::ok) {
        // One may have ended meanwhile.
        let Ok(text) = std::fs::read_to_string(thread.path().join("stat")) else {
            continue;
        };
        let fields: Vec<_> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
        let number = |field: usize| fields[field - 3].parse::<i64>().unwrap();
        let ran = u64::try_from(number(14) + number(15)).unwrap();
        match number(19) > 0 {
            true => yielding += ran,
            false => others += ran,
        }
    }
    (yielding, others)
}

/// Many containers, with what is shown of each as large as that.
fn crowd(count: usize, size: usize) -> Scripted {
    let fake = Scripted::start();
    let mut world = fake.world();
    for number in 1..=count {
        let id = numbered(number);
        let mut container = listed(&id, "good:1");
        container["Labels"] = json!({"com.docker.compose.project": "x".repeat(size)});
        world.containers.insert(id, container);
    }
    drop(world);
    fake
}

/// So many are shown, and nothing about them is going to change any more.
fn wait_until_known(warden: &Warden, count: usize) {
    eventually("all are looked at", SOON * 4, || {
        let shown = warden.get_json("/containers");
        let mut all = shown["data"].as_array().unwrap().iter();
        all.len() == count && all.all(|one| !one["started_at"].is_null())
    });
    eventually("all are on record", SOON * 4, || {
        warden.metric("dockwarden_decisions_total") as usize >= count
    });
}

#[test]
fn what_clients_ask_for_takes_nothing_of_the_time_of_enforcement() {
    let fake = crowd(500, 100);
    let warden = fake.warden(LIST, "1h");
    wait_until_known(&warden, 500);
    let before = ticks(&warden);
    for path in ["/containers", "/metrics", "/", "/containers/n1"] {
        for _ in 0..25 {
            assert_eq!(warden.get(path).status, 200, "{path}");
        }
    }
    let after = ticks(&warden);
    let (yielding, others) = (after.0 - before.0, after.1 - before.1);
    assert!(yielding > 10 * others, "{yielding} and {others} ticks");
}

#[test]
fn who_takes_an_answer_drop_by_drop_makes_room() {
    let fake = crowd(500, 10_000);
    let warden = fake.warden(LIST, "1h");
    eventually("all are shown", SOON, || {
        let shown = warden.get_json("/containers");
        shown["data"].as_array().is_some_and(|all| all.len() == 500)
    });
    let mut client = TcpStream::connect(warden.address()).expect("a connection");
    rustix::net::sockopt::set_socket_recv_buffer_size(&client, 4_096).expect("a small window");
    client
        .write_all(b"GET /containers HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("a request");
    // What the kernel has taken over goes on coming, and whoever says something hears that nobody listens.
    eventually("it is given up", SOON * 3, || {
        let mut drop = [0; 16]; // 1.6 kB a second
        client.read(&mut drop).is_err() || client.write_all(b"\r\n").is_err()
    });
}

/// A list that no other client asks for.
const MADE_FOR_EACH: &str = "/containers?status=running";

#[test]
fn clients_that_ask_for_everything_and_read_nothing_take_neither_memory_nor_enforcement() {
    let fake = crowd(1_000, 10_000);
    let warden = fake.warden(LIST, "1h");
    wait_until_known(&warden, 1_000);
    let ask = |path: &str| {
        let mut client = TcpStream::connect(warden.address()).expect("a connection");
        write!(client, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
        client
    };
    let mut clients: Vec<_> = (0..100).map(|_| ask("/containers")).collect();
    // One answer is ready for all of those; what is made for each waits for its turn.
    assert_eq!(warden.get("/containers").status, 200);
    clients.extend((0..100).map(|_| ask(MADE_FOR_EACH)));
    eventually("others are told to come again", SOON * 2, || {
        let answer = warden.get(MADE_FOR_EACH);
        let is_told = answer.status == 503;
        assert_eq!(answer.header("retry-after").is_some(), is_told);
        is_told
    });
    for path in ["/metrics", "/livez", "/readyz", "/containers"] {
        assert_eq!(warden.get(path).status, 200, "{path}");
    }
    let evil = numbered(2_000);
    fake.begin(&evil, "evil:1");
    fake.wait_for_kill(&evil);
    let peak = warden.peak_memory();
    assert!(peak < 400, "{peak} MiB");
    drop(clients);
    eventually("there are turns again", SOON, || {
        warden.get(MADE_FOR_EACH).status == 200
    });
}

/// Listeners that read nothing: they delay neither ends nor who reads, and make room in the end.
fn deaf_listeners_delay_nobody(fake: &Scripted, listened: &Warden) {
    const ENDS: usize = 250;
    let deaf: Vec<_> = (0..31)
        .map(|_| {
            let mut client = TcpStream::connect(listened.address()).expect("a connection");
            rustix::net::sockopt::set_socket_recv_buffer_size(&client, 4_096)
                .expect("a small window");
            client
                .write_all(b"GET /decisions/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .expect("a request");
            let mut status = [0; 12];
            client.read_exact(&mut status).expect("an answer");
            assert_eq!(&status, b"HTTP/1.1 200");
            client
        })
        .collect();
    let mut stream = listened.stream("/decisions/stream", &[]);
    assert_eq!(stream.status, 200);
    assert_eq!(
        listened.get("/decisions/stream").status,
        503,
        "all places are taken"
    );
    // More than kernels keep for who reads nothing.
    let labels: BTreeMap<_, _> = (0..15)
        .map(|number| (format!("com.docker.compose.{number}"), "x".repeat(1_000)))
        .collect();
    for number in 1..=ENDS {
        let id = numbered(number);
        let mut container = listed(&id, "evil:1");
        container["Labels"] = json!(labels);
        fake.world().containers.insert(id.clone(), container);
        fake.say(event("start", &id).as_bytes());
    }
    (1..=ENDS).for_each(|number| fake.wait_for_kill(&numbered(number)));
    // Who reads is told of all, once it has come back where a busy machine kept it from reading.
    let mut heard = BTreeSet::new();
    for _ in 0..3 {
        while heard.len() < ENDS
            && let Some(line) = stream.next_line(SOON)
        {
            let id = line
                .strip_prefix("id: ")
                .map(|id| id.parse::<u64>().unwrap());
            heard.extend(id);
        }
        if heard.len() == ENDS {
            break;
        }
        let last = heard.last().map(u64::to_string).unwrap_or_default();
        stream = listened.stream("/decisions/stream", &[("Last-Event-ID", &last)]);
    }
    assert_eq!(heard.len(), ENDS);
    eventually("there is room again", SOON * 3, || {
        listened
            .request("HEAD", "/decisions/stream", &[])
            .is_ok_and(|answer| answer.status == 200)
    });
    drop(deaf);
}

#[test]
fn who_listens_and_reads_nothing_delays_nobody() {
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1h");
    deaf_listeners_delay_nobody(&fake, &warden);
}

#[test]
fn who_listens_to_the_api_alone_and_reads_nothing_delays_nobody() {
    let fake = Scripted::start();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.jsonl").display().to_string();
    let state = directory.path().join("state").display().to_string();
    let start = |command| {
        let builder = fake.builder(LIST, "1h").subcommand(command);
        let warden = builder
            .args(["--audit-log", &log, "--state-dir", &state])
            .start();
        warden.wait_ready();
        warden
    };
    let _controller = start("controller");
    let api = start("api");
    deaf_listeners_delay_nobody(&fake, &api);
}
