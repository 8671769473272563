//! The log's lines: text and JSON, on a terminal and not, about containers whose names and images
//! would steer whoever reads them. Docker refuses such names, so a scripted engine has them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use dockwarden::printable::is_hidden;
use serde_json::{Value, json};
use support::scripted::{Scripted, listed, numbered};
use support::{SOON, eventually};

const HOSTILE: &str = "evil\u{1b}[31m\u{202e}\u{200b}\u{2028}\r\nINFO forged";
const LIST: &str = "version = 1\nallow-nothing = true\n";

#[test]
fn json_lines_hide_nothing_and_lose_nothing() {
    let fake = hostile();
    let warden = fake.warden(LIST, "1h");
    fake.wait_for_kill(&numbered(1));
    let ended = warden.wait_for_log(|line| line.contains("container was ended"), SOON);
    let ended: Value = serde_json::from_str(&ended).unwrap();
    assert_eq!(ended["name"], HOSTILE);
    warden.sigterm();
    let lines = warden.logs();
    let about = lines.iter().filter(|line| line.contains("forged"));
    assert_eq!(about.count(), 1, "{lines:?}");
    for line in &lines {
        assert!(!line.contains(is_hidden), "{line:?}");
        serde_json::from_str::<Value>(line).unwrap();
    }
}

#[test]
fn text_lines_hide_nothing_and_have_colour_on_a_terminal_alone() {
    for (terminal, no_colour, coloured) in [
        (false, false, false),
        (true, false, true),
        (true, true, false),
    ] {
        let lines = text_lines(terminal, no_colour);
        let what = format!("terminal {terminal}, NO_COLOR {no_colour}: {lines:?}");
        assert_eq!(lines.concat().contains('\u{1b}'), coloured, "{what}");
        let about = lines.iter().filter(|line| line.contains("forged"));
        assert_eq!(about.count(), 1, "{what}");
        for line in &lines {
            let line = without_colour(line.trim_end_matches(['\r', '\n']));
            assert!(!line.contains(is_hidden), "{line:?}");
        }
    }
}

#[test]
fn what_is_made_anew_and_anew_fills_no_log() {
    let fake = Scripted::start();
    let warden = fake.warden(LIST, "1h");
    for number in 1..=100 {
        fake.begin(&numbered(number), "evil:1");
    }
    eventually("all are on record", SOON, || {
        warden.metric("dockwarden_decisions_total") == 100.0
    });
    warden.sigterm();
    let lines = warden.logs();
    let about = lines.iter().filter(|line| line.contains("evil:1"));
    let about = about.count();
    // 20, the 32nd and the 64th, and before those what was left out.
    assert!((20..40).contains(&about), "{about}: {lines:#?}");
    let left_out = lines.iter().filter_map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["left_out"].as_u64()
    });
    assert_eq!(left_out.sum::<u64>(), 42);
}

/// An engine on which one container with a hostile name and image runs.
fn hostile() -> Scripted {
    let fake = Scripted::start();
    let id = numbered(1);
    let mut container = listed(&id, HOSTILE);
    container["Names"] = json!([format!("/{HOSTILE}")]);
    container["Labels"] = json!({"com.docker.compose.project": HOSTILE});
    fake.world().containers.insert(id, container);
    fake
}

/// What a process logs as text until the container's end is told.
fn text_lines(terminal: bool, no_colour: bool) -> Vec<String> {
    let fake = hostile();
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("allowlist.toml");
    std::fs::write(&list, LIST).unwrap();
    let run = format!(
        "exec setpriv --pdeathsig KILL {} run --engine {} --allowlist {} --listen 127.0.0.1:0 --log-format text 2>&1",
        env!("CARGO_BIN_EXE_dockwarden"),
        fake.url(),
        list.display(),
    );
    let mut command = if terminal {
        let mut script = Command::new("script");
        script.args(["--quiet", "--command", &run, "/dev/null"]);
        script
    } else {
        let mut shell = Command::new("sh");
        shell.args(["-c", &run]);
        shell
    };
    command
        .env_remove("NO_COLOR")
        .env_remove("RUST_LOG")
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if no_colour {
        command.env("NO_COLOR", "1");
    }
    let mut child = Ended(command.spawn().expect("apt-get install bsdutils"));
    let output = child.0.stdout.take().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut lines = Vec::new();
    eventually("the end is told", SOON, || {
        lines.extend(receiver.try_iter());
        lines
            .iter()
            .any(|line| line.contains("container was ended"))
    });
    lines
}

/// The line without what the formatter colours it with.
fn without_colour(line: &str) -> String {
    let colour = regex::Regex::new("\u{1b}\\[(0|2|3|31|32|33|34|35)m").unwrap();
    colour.replace_all(line, "").into_owned()
}

/// A process that ends with its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
