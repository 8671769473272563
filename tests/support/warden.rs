//! dockwarden's own binary, run as users run it: options, signals, logs and HTTP, nothing from inside.
//!
//! A warden dies with its value, and with the test process whatever that one dies of: it is started
//! with a parent-death signal (`setpriv --pdeathsig`), from a thread that lives as long as it does.

use super::Engine;
use super::eventually::poll;
use super::http::{self, Response, Stream};
use super::{require, without_inherited_settings};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_dockwarden");
const LISTENING: Duration = Duration::from_secs(10);
const READY: Duration = Duration::from_secs(15);
const EXIT: Duration = Duration::from_secs(30);
const REQUEST: Duration = Duration::from_secs(20);

/// What a warden is started with. Always passed: `--engine`, `--allowlist`, `--listen`, `--log-format json`.
pub struct Builder {
    dir: TempDir,
    engine: String,
    subcommand: String,
    list: Option<String>,
    listen: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// The soft and the hard limit on open files.
    descriptors: Option<(u32, u32)>,
}

impl Builder {
    fn new(engine: &str, parent: &Path) -> Self {
        Self {
            dir: tempfile::Builder::new()
                .prefix("dw-warden.")
                .tempdir_in(parent)
                .expect("a directory"),
            engine: engine.to_owned(),
            subcommand: "run".to_owned(),
            list: None,
            listen: "127.0.0.1:0".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            descriptors: None,
        }
    }

    /// The text of `allowlist.toml`. Without it there is no such file.
    pub fn allowlist(mut self, text: &str) -> Self {
        self.list = Some(text.to_owned());
        self
    }

    /// `run` when not given; else `controller` or `api`.
    pub fn subcommand(mut self, name: &str) -> Self {
        name.clone_into(&mut self.subcommand);
        self
    }

    /// 127.0.0.1, and any port, when not given.
    pub fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    pub fn args<T: AsRef<str>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its soft and its hard limit on open files.
    pub fn descriptors(mut self, soft: u32, hard: u32) -> Self {
        self.descriptors = Some((soft, hard));
        self
    }

    /// A directory that ends with the warden: the list is in `list/`, the rest is the test's.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it and waits for its address; panics with its log when there is none.
    #[track_caller]
    pub fn start(self) -> Warden {
        let warden = self.spawn();
        warden.address();
        warden
    }

    /// Starts it and looks no further: for those that are meant to fail.
    #[track_caller]
    pub fn spawn(self) -> Warden {
        let list = self.dir.path().join("list");
        std::fs::create_dir(&list).expect("a directory for the list");
        if let Some(text) = &self.list {
            std::fs::write(list.join("allowlist.toml"), text).expect("the list");
        }
        let process = Process::spawn(&self);
        Warden {
            settings: self,
            process,
        }
    }
}

/// A dockwarden that runs, or did.
pub struct Warden {
    settings: Builder,
    process: Process,
}

impl Warden {
    /// Against an engine's socket. Its directory is in the engine's, whose guard removes both.
    pub fn on(engine: &Engine) -> Builder {
        Builder::new(&engine.host(), engine.dir())
    }

    /// Against any engine URL, such as a [`super::TcpProxy`]'s.
    pub fn at(engine: &str) -> Builder {
        Builder::new(engine, &std::env::temp_dir())
    }

    pub fn dir(&self) -> &Path {
        self.settings.dir()
    }

    pub fn pid(&self) -> u32 {
        lock(&self.process.child).id()
    }

    // ---- HTTP

    /// Where it listens, by its own log.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        let found = poll(LISTENING, || {
            let address = self.logs().iter().find_map(|line| address_in(line));
            (address.is_some() || !self.lives()).then_some(address)
        });
        found
            .flatten()
            .unwrap_or_else(|| panic!("dockwarden never said where it listens\n{}", self.report()))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.get_with(path, &[])
    }

    #[track_caller]
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.request("GET", path, headers)
            .unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.report()))
    }

    /// The body of a 200 as JSON.
    #[track_caller]
    pub fn get_json(&self, path: &str) -> Value {
        let answer = self.get_with(path, &[("Accept", "application/json")]);
        assert_eq!(answer.status, 200, "GET {path}: {answer:?}");
        answer.json()
    }

    /// Any method, and whatever comes of it; waits at most 20 s for each piece of the answer.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> io::Result<Response> {
        let stream = TcpStream::connect_timeout(&self.address(), REQUEST)?;
        stream.set_read_timeout(Some(REQUEST))?;
        stream.set_write_timeout(Some(REQUEST))?;
        http::exchange(stream, method, path, headers, b"")
    }

    /// An answer that goes on, such as `/decisions/stream`.
    #[track_caller]
    pub fn stream(&self, path: &str, headers: &[(&str, &str)]) -> Stream {
        TcpStream::connect_timeout(&self.address(), REQUEST)
            .and_then(|stream| http::follow(stream, path, headers))
            .unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.report()))
    }

    /// Waits for a 200 from `/readyz`.
    #[track_caller]
    pub fn wait_ready(&self) {
        let mut last = None;
        poll(READY, || {
            assert!(self.lives(), "dockwarden has ended\n{}", self.report());
            let answer = self.request("GET", "/readyz", &[]);
            let ready = answer.as_ref().is_ok_and(|answer| answer.status == 200);
            last = Some(answer);
            ready
        })
        .unwrap_or_else(|| panic!("not ready: {last:?}\n{}", self.report()));
    }

    // ---- The list

    pub fn list_path(&self) -> PathBuf {
        self.dir().join("list/allowlist.toml")
    }

    /// As `echo >` does: truncated, then written.
    #[track_caller]
    pub fn write_list_in_place(&self, text: &str) {
        std::fs::write(self.list_path(), text).expect("the list");
    }

    /// As editors and configuration tools do: a new file renamed over the old.
    #[track_caller]
    pub fn write_list_by_rename(&self, text: &str) {
        let draft = self.dir().join("list/.allowlist.toml.new");
        std::fs::write(&draft, text).expect("the draft");
        std::fs::rename(&draft, self.list_path()).expect("the list");
    }

    // ---- Life and death

    pub fn lives(&self) -> bool {
        matches!(lock(&self.process.child).try_wait(), Ok(None))
    }

    /// SIGTERM; how it ended, and how long that took.
    #[track_caller]
    pub fn sigterm(&self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        self.signal("TERM");
        (self.wait_exit(EXIT), begun.elapsed())
    }

    #[track_caller]
    pub fn sigkill(&self) {
        lock(&self.process.child).kill().expect("SIGKILL");
        self.wait_exit(EXIT);
    }

    /// Any signal by name: `HUP`, `STOP`, `CONT`.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let mut child = lock(&self.process.child);
        // Not waited for yet, so the pid can be nobody else's.
        assert!(
            matches!(child.try_wait(), Ok(None)),
            "SIG{name}: dockwarden has ended already\n{}",
            self.report()
        );
        send_signal(&child, name);
    }

    #[track_caller]
    pub fn wait_exit(&self, timeout: Duration) -> ExitStatus {
        let status = poll(timeout, || {
            lock(&self.process.child).try_wait().expect("our own child")
        })
        .unwrap_or_else(|| panic!("still there after {timeout:?}\n{}", self.report()));
        // What it wrote last may still be on its way to us.
        poll(Duration::from_secs(1), || self.process.all_read());
        status
    }

    /// Once ended, starts it again with the same settings, list and directory; logs begin anew.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(!self.lives(), "end it first");
        self.process = Process::spawn(&self.settings);
        self.address();
    }

    // ---- What it says

    /// Its log: the lines of stderr so far.
    pub fn logs(&self) -> Vec<String> {
        lock(&self.process.stderr).clone()
    }

    /// The lines of stdout so far.
    pub fn stdout(&self) -> Vec<String> {
        lock(&self.process.stdout).clone()
    }

    /// Waits for a line of the log; returns it.
    #[track_caller]
    pub fn wait_for_log(&self, wanted: impl Fn(&str) -> bool, timeout: Duration) -> String {
        poll(timeout, || {
            self.logs().into_iter().find(|line| wanted(line))
        })
        .unwrap_or_else(|| panic!("no such line within {timeout:?}\n{}", self.report()))
    }

    fn report(&self) -> String {
        format!("---- dockwarden's log\n{}", self.logs().join("\n"))
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}

type Lines = Arc<Mutex<Vec<String>>>;

/// One life of the binary, ended with the value.
struct Process {
    child: Mutex<Child>,
    stdout: Lines,
    stderr: Lines,
    /// Dropped by the readers when they are done.
    reading: mpsc::Receiver<()>,
}

impl Process {
    #[track_caller]
    fn spawn(settings: &Builder) -> Self {
        require("setpriv", "util-linux");
        let mut command = Command::new("setpriv");
        without_inherited_settings(&mut command)
            .args(["--pdeathsig", "KILL"])
            .args(settings.descriptors.map_or(vec![], |(soft, hard)| {
                vec!["prlimit".to_owned(), format!("--nofile={soft}:{hard}")]
            }))
            .args([BINARY, &settings.subcommand])
            .args(["--engine", &settings.engine, "--allowlist"])
            .arg(settings.dir.path().join("list/allowlist.toml"))
            .args(["--listen", &settings.listen, "--log-format", "json"])
            .args(&settings.args)
            .envs(settings.env.iter().map(|(name, value)| (name, value)))
            .current_dir(settings.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());

        let (stdout, stderr) = (Lines::default(), Lines::default());
        let (done, reading) = mpsc::channel();
        let (sender, spawned) = mpsc::channel();
        std::thread::spawn({
            let (stdout, stderr) = (stdout.clone(), stderr.clone());
            // The parent-death signal goes by the *thread* that forked: this one, which stays.
            move || {
                let mut child = command.spawn().expect("setpriv runs");
                let (out, err) = (child.stdout.take(), child.stderr.take());
                let _ = sender.send(child);
                let other = done.clone();
                let out = std::thread::spawn(move || collect(out, &stdout, other));
                collect(err, &stderr, done);
                let _ = out.join();
            }
        });
        let child = spawned.recv().expect("dockwarden starts");
        Self {
            child: Mutex::new(child),
            stdout,
            stderr,
            reading,
        }
    }

    fn all_read(&self) -> bool {
        self.reading.try_recv() == Err(mpsc::TryRecvError::Disconnected)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Reads lines until the end, which is when `_done` is dropped.
fn collect(from: Option<impl Read>, lines: &Lines, _done: mpsc::Sender<()>) {
    let Some(from) = from else { return };
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        lock(lines).push(String::from_utf8_lossy(&line).into_owned());
    }
}

/// The address in a line of tracing's JSON, with fields flattened or not.
fn address_in(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    [&line["fields"], &line]
        .into_iter()
        .filter(|fields| fields["message"] == "listening")
        .find_map(|fields| fields["address"].as_str()?.parse().ok())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Any signal by name, to a child that nobody has waited for yet.
#[track_caller]
pub fn send_signal(child: &Child, name: &str) {
    let signal = match name {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "TERM" => Signal::TERM,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        other => panic!("SIG{other} is not known here"),
    };
    let sent = kill_process(Pid::from_child(child), signal);
    sent.unwrap_or_else(|error| panic!("SIG{name} was not sent: {error}"));
}

/// A one-shot command, with no engine but the one that `args` name; ended after a minute.
pub fn dockwarden<T: AsRef<str>>(args: impl IntoIterator<Item = T>) -> Output {
    without_inherited_settings(&mut Command::new("timeout"))
        .args(["-k", "1", "60", BINARY])
        .args(args.into_iter().map(|arg| arg.as_ref().to_owned()))
        .stdin(Stdio::null())
        .output()
        .expect("dockwarden runs")
}
