//! What `GET /containers` serves, beside the engine's own list and a handler that has the same bytes in memory.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use crate::enforcers::{Enforcer, Kind};
use crate::support::{Engine, eventually};
use crate::usage;

const SIZES: [usize; 3] = [10, 1_000, 5_000];
const PATIENCE: Duration = Duration::from_secs(30);
/// wrk: two connections, for so long.
const LOAD: [&str; 4] = ["-t1", "-c2", "-d5s", "--timeout=10s"];

/// Requests a second, at so many containers.
pub(crate) struct Served {
    pub(crate) containers: usize,
    pub(crate) engine: f64,
    pub(crate) memory: f64,
    pub(crate) dockwarden: f64,
    /// What dockwarden takes in quiet, in MiB.
    pub(crate) resident: f64,
    /// Hundredths of one processor, with nobody asking.
    pub(crate) quiet: f64,
    /// What one start more takes, in milliseconds of one processor.
    pub(crate) start: f64,
}

pub(crate) fn measure() -> Vec<Served> {
    let engine = Engine::start_with(&["--host=tcp://127.0.0.1:2375"]);
    engine.image("good:1");
    let warden = Enforcer::start(&engine, Kind::Api);
    let mut made = 0;
    let mut all = Vec::new();
    for containers in SIZES {
        println!("{containers} containers are made");
        create(&engine, containers - made);
        made = containers;
        eventually("dockwarden knows them", PATIENCE, || {
            let answer = warden.answer("/containers");
            answer["data"].as_array().map(Vec::len) == Some(containers)
        });
        // Threads that did what was asked for have ended by then, and their time with them.
        std::thread::sleep(Duration::from_secs(12));
        let quiet = usage::processor(warden.pid(), Duration::from_secs(20));
        let resident = usage::resident(warden.pid());
        let start = usage::of_one_start(&engine, warden.pid());
        let bytes = engine.net_exec(&["curl", "-s", "http://127.0.0.1:8080/containers"]);
        let path = engine.dir().join("answer.json");
        std::fs::write(&path, bytes.stdout).expect("written");
        let handler = Handler::start(&engine, &path);
        let (mut engines, mut memories, mut wardens) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            engines.push(rate(&engine, "http://127.0.0.1:2375/containers/json?all=1"));
            memories.push(rate(&engine, "http://127.0.0.1:8079/containers"));
            wardens.push(rate(&engine, "http://127.0.0.1:8080/containers"));
        }
        drop(handler);
        all.push(Served {
            containers,
            engine: median(engines),
            memory: median(memories),
            dockwarden: median(wardens),
            resident,
            quiet,
            start,
        });
    }
    all
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn create(engine: &Engine, count: usize) {
    let body = serde_json::json!({"Image": "good:1", "HostConfig": {"NetworkMode": "none"}});
    let (one, two) = (count / 2, count - count / 2);
    std::thread::scope(|scope| {
        for count in [one, two] {
            let body = &body;
            scope.spawn(move || {
                for _ in 0..count {
                    let made = engine.api("POST", "/containers/create", Some(body));
                    assert_eq!(made.0, 201, "{}", made.1);
                }
            });
        }
    });
}

/// By wrk, in the engine's network.
fn rate(engine: &Engine, url: &str) -> f64 {
    let output = engine.net_exec(&[&["wrk"], &LOAD[..], &[url]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"));
    let rate = rate.and_then(|rate| rate.trim().parse().ok());
    rate.unwrap_or_else(|| panic!("wrk said {output:?}"))
}

/// The handler, in a process of its own as dockwarden is.
struct Handler(Child);

impl Handler {
    fn start(engine: &Engine, answer: &Path) -> Self {
        let program = std::env::current_exe().expect("this program");
        let child = Command::new("nsenter")
            .arg(format!("--target={}", engine.init_pid()))
            .arg("--net")
            .arg("--")
            .arg(program)
            .args(["serve".as_ref(), answer.as_os_str()])
            .arg("127.0.0.1:8079")
            .stdin(Stdio::null())
            .spawn()
            .expect("nsenter runs");
        eventually("the handler answers", PATIENCE, || {
            let asked = [
                "curl",
                "-sf",
                "-o",
                "/dev/null",
                "http://127.0.0.1:8079/containers",
            ];
            engine.net_exec(&asked).status.success()
        });
        Self(child)
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // nsenter has become it: it changes no pid namespace.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves a file from memory, until its process is ended.
pub(crate) fn serve(answer: &Path, address: &str) {
    let bytes = Bytes::from(std::fs::read(answer).expect("the answer"));
    let listener = TcpListener::bind(address).expect("a free port");
    listener.set_nonblocking(true).expect("for tokio");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let answer = move || {
            let bytes = bytes.clone();
            async move { ([(CONTENT_TYPE, "application/json")], bytes) }
        };
        let router = Router::new().route("/containers", get(answer));
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        axum::serve(listener, router).await.expect("serves");
    });
}
