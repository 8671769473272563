//! The floor: what any program that follows the engine's events can reach. It kills every container that
//! starts, without a list, a look or a record, over connections that are open before.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

/// As many calls at once as dockwarden makes.
const CALLS: usize = 16;

/// Until its process is ended.
pub(crate) fn enforce(socket: &Path) {
    let (ids, waiting) = mpsc::channel::<String>();
    let waiting = Arc::new(Mutex::new(waiting));
    for _ in 0..CALLS {
        let waiting = waiting.clone();
        let mut connection = BufReader::new(UnixStream::connect(socket).expect("the engine"));
        std::thread::spawn(move || {
            loop {
                let next = waiting.lock().expect("no panic").recv();
                let Ok(id) = next else { return };
                kill(&mut connection, &id);
            }
        });
    }
    let mut events = UnixStream::connect(socket).expect("the engine");
    let path = "/events?filters=%7B%22event%22%3A%5B%22start%22%5D%7D";
    write!(events, "GET {path} HTTP/1.1\r\nHost: engine\r\n\r\n").expect("sent");
    for line in BufReader::new(events).lines().map_while(Result::ok) {
        // An event is a line of its own within the chunks.
        let Some((_, rest)) = line.split_once("\"id\":\"") else {
            continue;
        };
        if let Some(id) = rest.get(..64) {
            ids.send(id.to_owned()).expect("workers");
        }
    }
}

fn kill(connection: &mut BufReader<UnixStream>, id: &str) {
    let request =
        format!("POST /containers/{id}/kill HTTP/1.1\r\nHost: engine\r\nContent-Length: 0\r\n\r\n");
    connection
        .get_mut()
        .write_all(request.as_bytes())
        .expect("sent");
    let mut length = 0;
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).expect("an answer");
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).expect("its body");
}
