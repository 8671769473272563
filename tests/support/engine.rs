//! A dockerd of the test's own, in network, mount and pid namespaces of its own.
//!
//! `engine.sh` keeps it and cleans up; this end holds the pipe whose end is the engine's end. The
//! socket is reachable from outside; the engine's own network, mounts and pids are not.

use super::eventually::poll;
use super::http::{self, Response, Stream};
use super::{require, tail, without_inherited_settings};
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const SCRIPT: &str = include_str!("engine.sh");

/// A restart after SIGKILL with running containers takes dockerd about 10 s.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);
const REQUEST: Duration = Duration::from_secs(30);

/// What an engine is started with.
#[derive(Clone, Debug)]
pub struct EngineBuilder {
    flags: Vec<String>,
    bridge: bool,
    cgroup_v2: bool,
}

impl EngineBuilder {
    /// One more flag of dockerd. A flag of a single value given twice: the last one counts.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// A real bridge and iptables, for networks and published ports: see [`Engine::net_exec`].
    pub fn bridge(mut self) -> Self {
        self.bridge = true;
        self
    }

    /// cgroup v2, whatever the machine itself has.
    pub fn cgroup_v2(mut self) -> Self {
        self.cgroup_v2 = true;
        self
    }

    #[track_caller]
    pub fn start(self) -> Engine {
        Engine::launch(self)
    }
}

/// A running private engine. Dropped, or its process gone, it leaves nothing behind.
pub struct Engine {
    dir: PathBuf,
    /// PID 1 of its namespaces, as seen from outside.
    init: u32,
    flags: Vec<String>,
    guard: Mutex<Guard>,
}

struct Guard {
    process: Child,
    /// `None` only while dropped.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Engine {
    /// An engine without any network but `none` and `host`: starts in well under a second.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// The same with more flags, such as `--live-restore`.
    #[track_caller]
    pub fn start_with(flags: &[&str]) -> Self {
        flags
            .iter()
            .fold(Self::builder(), |builder, flag| builder.flag(flag))
            .start()
    }

    pub fn builder() -> EngineBuilder {
        EngineBuilder {
            flags: Vec::new(),
            bridge: false,
            cgroup_v2: false,
        }
    }

    #[track_caller]
    fn launch(builder: EngineBuilder) -> Self {
        let root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
        assert!(root, "tests with a private engine need root");
        require("dockerd", "docker.io");
        require("docker", "docker.io");
        require("unshare", "util-linux");
        require("nsenter", "util-linux");
        require("setsid", "util-linux");
        require("ip", "iproute2");
        require("bash", "bash");

        let hierarchy = if builder.cgroup_v2 {
            "cgroup2"
        } else {
            "the machine's"
        };
        // In a session of its own. Ctrl-C is for the tests; the guard cleans up after them. And when a
        // process dies, the kernel sends SIGHUP to the groups it orphans in its session if they hold a
        // stopped process: a paused dockerd would cost the guard its life.
        let mut process = Command::new("setsid")
            .args(["bash", "-c", SCRIPT, "guard", SCRIPT, hierarchy])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash runs");
        let commands = process.stdin.take();
        let mut answers = BufReader::new(process.stdout.take().expect("piped"));
        let mut hello = String::new();
        answers.read_line(&mut hello).expect("the guard answers");
        let (init, dir) = hello
            .trim_end()
            .split_once(' ')
            .expect("namespaces could not be made: what bash said stands above");
        let dir = PathBuf::from(dir);

        let path = |name: &str| dir.join(name).display().to_string();
        let mut flags = vec![
            format!("--config-file={}", path("daemon.json")),
            format!("--data-root={}", path("data")),
            format!("--exec-root={}", path("exec")),
            format!("--pidfile={}", path("d.pid")),
            format!("--host=unix://{}", path("d.sock")),
            "--storage-driver=overlay2".to_owned(),
            // The guard removes what is under a name that nobody else uses.
            "--exec-opt=native.cgroupdriver=cgroupfs".to_owned(),
            format!(
                "--cgroup-parent=/{}",
                dir.file_name().expect("a name").display()
            ),
        ];
        if !builder.bridge {
            flags.extend(["--bridge=none".to_owned(), "--iptables=false".to_owned()]);
        }
        flags.extend(builder.flags);

        let engine = Self {
            init: init.parse().expect("a pid"),
            dir,
            flags,
            guard: Mutex::new(Guard {
                process,
                commands,
                answers,
            }),
        };
        engine.start_dockerd();
        engine
    }

    /// `unix://…/d.sock`, for `--engine` and `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket_path().display())
    }

    pub fn socket_path(&self) -> PathBuf {
        self.dir.join("d.sock")
    }

    /// Its directory. Outside only the sockets, `exec` and the log are seen: `data` is a private mount.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// PID 1 of its namespaces, as seen from outside: what `nsenter -t` takes.
    pub fn init_pid(&self) -> u32 {
        self.init
    }

    /// The end of dockerd's log.
    pub fn log(&self) -> String {
        tail(&self.dir.join("dockerd.log"), 40)
    }

    // ---- Asking

    /// The docker CLI against this engine, ended after a minute.
    pub fn docker(&self, args: &[&str]) -> Output {
        self.cli(args)
            .stdin(Stdio::null())
            .output()
            .expect("docker runs")
    }

    pub(super) fn cli(&self, args: &[&str]) -> Command {
        self.cli_at(&self.host(), args)
    }

    fn cli_at(&self, host: &str, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        without_inherited_settings(&mut command)
            .args(["-k", "1", "60", "docker", "--host", host])
            .args(args)
            .env("DOCKER_CONFIG", self.dir.join("cli"));
        command
    }

    /// The same; panics with what docker said when it failed, returns what it printed otherwise.
    #[track_caller]
    pub fn docker_ok(&self, args: &[&str]) -> String {
        let output = self.docker(args);
        assert!(
            output.status.success(),
            "docker {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// `docker run -d OPTIONS IMAGE COMMAND`; returns the full id.
    #[track_caller]
    pub fn run(&self, options: &[&str], image: &str, command: &[&str]) -> String {
        self.docker_ok(&[&["run", "-d"], options, &[image], command].concat())
    }

    /// `docker create OPTIONS IMAGE COMMAND`; returns the full id.
    #[track_caller]
    pub fn create(&self, options: &[&str], image: &str, command: &[&str]) -> String {
        self.docker_ok(&[&["create"], options, &[image], command].concat())
    }

    /// The raw API, for what the CLI refuses to send. The path may be versioned or not.
    #[track_caller]
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let answer = self
            .request(
                method,
                path,
                &[("Content-Type", "application/json")],
                bytes.as_bytes(),
            )
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()));
        let value = serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body));
        (answer.status, value)
    }

    /// One request, whatever comes of it; waits at most 30 s for each piece of the answer.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        http::exchange(self.connect(REQUEST)?, method, path, headers, body)
    }

    /// An answer that goes on, such as `/events`.
    pub fn stream(&self, path: &str) -> io::Result<Stream> {
        http::follow(self.connect(Duration::MAX)?, path, &[])
    }

    fn connect(&self, timeout: Duration) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(self.socket_path())?;
        if timeout < Duration::MAX {
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
        }
        Ok(stream)
    }

    // ---- Containers

    /// All containers as the engine lists them. A list never waits for a container's lock, unlike an
    /// inspect, but may trail an event by some milliseconds.
    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        match self.api("GET", "/containers/json?all=1", None) {
            (200, Value::Array(all)) => all,
            other => panic!("list: {other:?}"),
        }
    }

    /// `running`, `exited`, …; `None` when there is no such container.
    #[track_caller]
    pub fn state(&self, id_or_name: &str) -> Option<String> {
        let name = format!("/{id_or_name}");
        self.list().into_iter().find_map(|container| {
            let named = container["Names"]
                .as_array()
                .is_some_and(|names| names.iter().any(|other| *other == name));
            (container["Id"] == id_or_name || named)
                .then(|| container["State"].as_str().unwrap_or_default().to_owned())
        })
    }

    #[track_caller]
    pub fn running_ids(&self) -> Vec<String> {
        self.list()
            .into_iter()
            .filter(|container| container["State"] == "running")
            .filter_map(|container| Some(container["Id"].as_str()?.to_owned()))
            .collect()
    }

    /// Waits until it neither runs nor will by itself: not running, paused or restarting. Returns the
    /// state it is in then, `None` for gone.
    #[track_caller]
    pub fn wait_until_dead(&self, id_or_name: &str, timeout: Duration) -> Option<String> {
        let mut last = None;
        poll(timeout, || {
            last = self.state(id_or_name);
            !matches!(last.as_deref(), Some("running" | "paused" | "restarting"))
        })
        .unwrap_or_else(|| panic!("{id_or_name} is still {last:?} after {timeout:?}"));
        last
    }

    // ---- Faults

    /// SIGKILL. Containers live on until dockerd comes back; with `--live-restore` beyond that.
    #[track_caller]
    pub fn sigkill_dockerd(&self) {
        self.signal_dockerd("KILL");
        self.wait_for_end();
    }

    /// SIGTERM, and waits for the end. Without `--live-restore` it takes its containers with it.
    #[track_caller]
    pub fn stop_dockerd(&self) {
        self.signal_dockerd("TERM");
        self.wait_for_end();
    }

    /// SIGSTOP: connections are still accepted by the kernel, and nothing answers.
    #[track_caller]
    pub fn pause_dockerd(&self) {
        self.signal_dockerd("STOP");
    }

    /// SIGCONT.
    #[track_caller]
    pub fn resume_dockerd(&self) {
        self.signal_dockerd("CONT");
    }

    /// Whether containers outlive dockerd from now on; for engines that were not started with
    /// `--live-restore`.
    #[track_caller]
    pub fn set_live_restore(&self, on: bool) {
        let settings = serde_json::json!({ "live-restore": on }).to_string();
        std::fs::write(self.dir.join("daemon.json"), settings).expect("daemon.json");
        self.signal_dockerd("HUP");
        poll(START, || {
            self.api("GET", "/info", None).1["LiveRestoreEnabled"] == on
        })
        .unwrap_or_else(|| panic!("live-restore is not {on}:\n{}", self.log()));
    }

    #[track_caller]
    pub fn restart_dockerd(&self) {
        self.stop_dockerd();
        self.start_dockerd();
    }

    /// Starts it again after a stop or a kill, and waits until it answers.
    #[track_caller]
    pub fn start_dockerd(&self) {
        self.start_dockerd_in_background();
        self.wait_until_it_answers();
    }

    /// Starts it and returns at once.
    #[track_caller]
    pub fn start_dockerd_in_background(&self) {
        let quoted: Vec<String> = self
            .flags
            .iter()
            .map(|flag| format!("'{}'", flag.replace('\'', r"'\''")))
            .collect();
        assert_eq!(self.tell(&format!("start {}", quoted.join(" "))), "started");
    }

    #[track_caller]
    pub fn wait_until_it_answers(&self) {
        let started = Instant::now();
        poll(START, || {
            let answer = self
                .connect(Duration::from_secs(1))
                .and_then(|stream| http::exchange(stream, "GET", "/_ping", &[], b""));
            let up = answer.is_ok_and(|answer| answer.status == 200);
            assert!(
                up || self.dockerd_lives(),
                "dockerd ended after {:?}:\n{}",
                started.elapsed(),
                self.log()
            );
            up
        })
        .unwrap_or_else(|| panic!("dockerd doesn't answer:\n{}", self.log()));
    }

    pub fn dockerd_lives(&self) -> bool {
        self.tell("alive") == "yes"
    }

    #[track_caller]
    fn signal_dockerd(&self, name: &str) {
        assert_eq!(
            self.tell(&format!("signal {name}")),
            "sent",
            "dockerd is not there"
        );
    }

    #[track_caller]
    fn wait_for_end(&self) {
        poll(STOP, || !self.dockerd_lives())
            .unwrap_or_else(|| panic!("dockerd doesn't end:\n{}", self.log()));
    }

    /// One command to PID 1, one line back: see `engine.sh`.
    #[track_caller]
    fn tell(&self, command: &str) -> String {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer = String::new();
        writeln!(guard.commands.as_ref().expect("not dropped"), "{command}")
            .and_then(|()| guard.answers.read_line(&mut answer))
            .expect("the engine's PID 1 lives");
        answer.trim_end().to_owned()
    }

    /// Takes the socket away, as `rm` does, from under a dockerd that goes on. Who is connected stays so.
    #[track_caller]
    pub fn hide_socket(&self) -> HiddenSocket<'_> {
        let path = self.dir.join("hidden.sock");
        std::fs::rename(self.socket_path(), &path).expect("a socket");
        HiddenSocket { engine: self, path }
    }

    // ---- Its namespaces

    /// Runs a command in its network namespace, where published ports and the bridge are.
    #[track_caller]
    pub fn net_exec(&self, command: &[&str]) -> Output {
        self.enter(&["--net"], command)
    }

    /// Listens on a port of 127.0.0.1 in its network namespace.
    #[track_caller]
    pub fn listen(&self, port: u16) -> TcpListener {
        let network = std::fs::File::open(format!("/proc/{}/ns/net", self.init));
        let network = network.expect("its network namespace");
        // A socket stays where it was made; only this thread goes there.
        let made = std::thread::spawn(move || {
            rustix::thread::move_into_link_name_space(network.as_fd(), None).expect("root");
            TcpListener::bind(("127.0.0.1", port)).expect("a free port")
        });
        made.join().expect("a listener")
    }

    /// Runs a command in all its namespaces: there the pids that the engine tells mean something.
    #[track_caller]
    pub fn inside(&self, command: &[&str]) -> Output {
        self.enter(&["--net", "--mount", "--pid"], command)
    }

    #[track_caller]
    fn enter(&self, namespaces: &[&str], command: &[&str]) -> Output {
        without_inherited_settings(&mut Command::new("nsenter"))
            .arg(format!("--target={}", self.init))
            .args(namespaces)
            .arg("--")
            .args(command)
            .stdin(Stdio::null())
            .output()
            .expect("nsenter runs")
    }
}

/// An engine's socket under another name: the test's own way in.
pub struct HiddenSocket<'a> {
    engine: &'a Engine,
    path: PathBuf,
}

impl HiddenSocket<'_> {
    /// `docker run -d OPTIONS IMAGE`; returns the full id.
    #[track_caller]
    pub fn run(&self, options: &[&str], image: &str) -> String {
        let host = format!("unix://{}", self.path.display());
        let args = [&["run", "-d"], options, &[image]].concat();
        let output = self.engine.cli_at(&host, &args).output();
        let output = output.expect("docker runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Puts it back.
    #[track_caller]
    pub fn show(self) {
        std::fs::rename(self.path, self.engine.socket_path()).expect("its place");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- dockerd's log\n{}", self.log());
        }
        let guard = self.guard.get_mut().unwrap_or_else(PoisonError::into_inner);
        guard.commands = None;
        let _ = guard.process.wait();
    }
}
