//! A volume driver that the engine finds in its own `/run`. Its only volume is the machine's `/tmp`.

use crate::support::Engine;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

/// What it calls itself, and its only volume.
pub(crate) const DRIVER: &str = "odd";
pub(crate) const VOLUME: &str = "odd-volume";

/// The answer to every question of the plugin protocol that is not about another volume.
const ANSWER: &str = r#"{"Implements": ["VolumeDriver"], "Capabilities": {"Scope": "local"}, "Err": "",
    "Mountpoint": "/tmp", "Volume": {"Name": "odd-volume"}, "Volumes": []}"#;

/// Serves until the test process ends.
pub(crate) fn serve(engine: &Engine) {
    let run = format!("/proc/{}/root/run/docker/plugins", engine.init_pid());
    std::fs::create_dir_all(&run).expect("the engine's /run");
    let listener = UnixListener::bind(format!("{run}/{DRIVER}.sock")).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
}

/// One request a connection; the engine opens another one then.
fn answer(mut stream: UnixStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    let mut question = String::new();
    reader.take(length).read_to_string(&mut question)?;
    let answer = if question.contains("\"Name\"") && !question.contains(VOLUME) {
        r#"{"Err": "no such volume"}"#
    } else {
        ANSWER
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    )
}
