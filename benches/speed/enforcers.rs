//! What ends forbidden containers here, each as its own process beside the engine, started the same way.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Engine, eventually};

/// Beyond this something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Shell,
    Python,
    Floor,
    Api,
    Pid,
    Gate,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Shell,
        Self::Python,
        Self::Floor,
        Self::Api,
        Self::Pid,
        Self::Gate,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell loop",
            Self::Python => "Python loop",
            Self::Floor => "bare floor",
            Self::Api => "dockwarden, api",
            Self::Pid => "dockwarden, pid",
            Self::Gate => "dockwarden, gate",
        }
    }

    /// The path that dockwarden takes.
    fn path(self) -> Option<&'static str> {
        match self {
            Self::Shell | Self::Python | Self::Floor => None,
            Self::Api => Some("api"),
            Self::Pid => Some("pid"),
            Self::Gate => Some("gate"),
        }
    }
}

/// The three lines of the loops' allowlist.
const THREE_LINES: &str = "good:1\ndb:1\nshop:1\n";
/// The same for dockwarden.
pub(crate) const LIST: &str =
    "version = 1\n[[allow]]\nimage = [\"good:1\", \"db:1\", \"shop:1\"]\n";

const SHELL: &str = r#"
docker events --filter type=container --filter event=start --format '{{.ID}} {{.From}}' |
while read -r id image; do
    grep -qxF "$image" "$LINES" || docker kill "$id" >/dev/null 2>&1
done
"#;

const PYTHON: &str = r#"
import docker, os
client = docker.DockerClient(base_url=os.environ["DOCKER_HOST"])
allowed = set(open(os.environ["LINES"]).read().split())
for event in client.events(decode=True, filters={"type": "container", "event": "start"}):
    if event["Actor"]["Attributes"].get("image") not in allowed:
        try:
            client.api.kill(event["id"])
        except docker.errors.APIError:
            pass
"#;

/// A process in the engine's namespaces, or outside its pid namespace where nothing is signalled. It ends when
/// this is dropped.
pub(crate) struct Enforcer<'a> {
    engine: &'a Engine,
    nsenter: Child,
}

impl<'a> Enforcer<'a> {
    pub(crate) fn start(engine: &'a Engine, kind: Kind) -> Self {
        let dir = engine.dir();
        let lines = dir.join("lines");
        std::fs::write(&lines, THREE_LINES).expect("written");
        let list = dir.join("bench.toml");
        std::fs::write(&list, LIST).expect("written");
        let program = std::env::current_exe().expect("this program");
        let socket = dir.join("d.sock");
        let containerd = dir.join("exec/containerd/containerd.sock");
        let text = |path: &Path| path.display().to_string();
        let (command, namespaces): (Vec<String>, &[&str]) = match kind {
            Kind::Shell => (vec!["sh".into(), "-c".into(), SHELL.into()], EVERY),
            Kind::Python => (vec![text(&python()), "-c".into(), PYTHON.into()], EVERY),
            Kind::Floor => (vec![text(&program), "floor".into(), text(&socket)], EVERY),
            Kind::Api => (dockwarden(engine, &list, "off"), &["--net"]),
            Kind::Pid => (dockwarden(engine, &list, "off"), EVERY),
            Kind::Gate => (dockwarden(engine, &list, &text(&containerd)), EVERY),
        };
        let nsenter = Command::new("nsenter")
            .arg(format!("--target={}", engine.init_pid()))
            .args(namespaces)
            .arg("--")
            .args(command)
            .env("DOCKER_HOST", engine.host())
            .env("LINES", lines)
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nsenter runs");
        let enforcer = Self { engine, nsenter };
        if let Some(path) = kind.path() {
            eventually("dockwarden is ready", PATIENCE, || {
                let paths = enforcer.answer("/readyz")["paths"].clone();
                paths.as_array().and_then(|paths| paths.last().cloned()) == Some(path.into())
            });
        }
        enforcer
    }

    /// What dockwarden's API says.
    pub(crate) fn answer(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:8080{path}");
        let answer = self.engine.net_exec(&["curl", "-s", &url]);
        serde_json::from_slice(&answer.stdout).unwrap_or_default()
    }

    /// Its process, without the one that brought it into the namespaces.
    pub(crate) fn pid(&self) -> u32 {
        let own = self.nsenter.id();
        children(own).first().copied().unwrap_or(own)
    }

    pub(crate) fn pause(&self) {
        self.signal_all("STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal_all("CONT");
    }

    /// To it and what it started: a loop of the shell's is several processes.
    fn signal_all(&self, name: &str) {
        let mut all = vec![self.nsenter.id()];
        let mut next = 0;
        while let Some(pid) = all.get(next) {
            all.extend(children(*pid));
            next += 1;
        }
        let pids = all.iter().map(u32::to_string);
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .args(pids)
            .output();
        sent.expect("kill runs");
    }
}

impl Drop for Enforcer<'_> {
    fn drop(&mut self) {
        self.signal_all("KILL");
        let _ = self.nsenter.wait();
    }
}

const EVERY: &[&str] = &["--net", "--mount", "--pid"];

fn dockwarden(engine: &Engine, list: &Path, containerd: &str) -> Vec<String> {
    let log = engine.dir().join("bench.jsonl");
    let words = [
        env!("CARGO_BIN_EXE_dockwarden"),
        "run",
        "--listen=127.0.0.1:8080",
        "--log-level=warn",
    ];
    let mut command: Vec<String> = words.map(str::to_owned).into();
    command.push(format!("--engine={}", engine.host()));
    command.push(format!("--allowlist={}", list.display()));
    command.push(format!("--audit-log={}", log.display()));
    command.push(format!("--containerd={containerd}"));
    command
}

/// An interpreter with the Docker SDK.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_dockwarden"));
    let target = target.ancestors().nth(2).expect("the target directory");
    let python = target.join("tmp/python/bin/python");
    assert!(
        python.exists(),
        "no {}: make bench makes it",
        python.display()
    );
    python
}

fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}
