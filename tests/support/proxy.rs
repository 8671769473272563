//! An engine's unix socket as a TCP address, with faults on order.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Listens on a free port of 127.0.0.1 and ends with the value.
pub struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    acceptor: Option<JoinHandle<()>>,
}

/// What it does to what the engine answers.
#[derive(Clone, Default)]
pub enum Fault {
    #[default]
    None,
    /// Every connection ends after so many bytes more.
    CutAfter(usize),
    /// So many bytes at a time, each piece that late.
    Late(usize, Duration),
    /// Requests whose path this function answers never reach the engine.
    Answers(fn(&str) -> Option<Answer>),
}

/// Bytes in the place of an answer.
pub struct Answer {
    pub once: Vec<u8>,
    /// Then these, again and again until the client hangs up.
    pub endlessly: Vec<u8>,
}

#[derive(Default)]
struct Shared {
    connections: HashMap<usize, Connection>,
    refusing: bool,
    closed: bool,
    fault: Fault,
    /// Connections that met the fault.
    met: usize,
}

struct Connection {
    path: String,
    tcp: TcpStream,
    unix: UnixStream,
}

impl TcpProxy {
    pub fn to(socket: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let socket = socket.to_owned();
        let acceptor = std::thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &socket, &shared)
        });
        Self {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// `tcp://127.0.0.1:PORT`, for `--engine`.
    pub fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Closes every connection there is now. New ones are served.
    pub fn cut(&self) {
        lock(&self.shared).cut();
    }

    /// While on, new connections are closed as soon as they are made; turning it on cuts the old ones.
    pub fn refuse(&self, on: bool) {
        let mut shared = lock(&self.shared);
        shared.refusing = on;
        if on {
            shared.cut();
        }
    }

    /// From now on, for connections old and new.
    pub fn fault(&self, fault: Fault) {
        let mut shared = lock(&self.shared);
        (shared.fault, shared.met) = (fault, 0);
    }

    /// How many connections met the present fault.
    pub fn met(&self) -> usize {
        lock(&self.shared).met
    }

    /// Writes a chunk of its own on every event stream, between two of the engine's. How many it were.
    pub fn say(&self, chunk: &[u8]) -> usize {
        let mut shared = lock(&self.shared);
        let streams = shared
            .connections
            .values_mut()
            .filter(|connection| connection.path.starts_with("/events"));
        let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        streams
            .map(|stream| stream.tcp.write_all(&framed))
            .filter(Result::is_ok)
            .count()
    }
}

impl Shared {
    fn cut(&mut self) {
        for (_, connection) in self.connections.drain() {
            let _ = connection.tcp.shutdown(Shutdown::Both);
            let _ = connection.unix.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        {
            let mut shared = lock(&self.shared);
            shared.closed = true;
            shared.cut();
        }
        let _ = TcpStream::connect(self.address); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, socket: &Path, shared: &Arc<Mutex<Shared>>) {
    for (serial, tcp) in listener.incoming().enumerate() {
        let refusing = {
            let shared = lock(shared);
            if shared.closed {
                return;
            }
            shared.refusing
        };
        // With the engine away the connection just ends, as at a load balancer. Connected outside the
        // lock: a stopped engine with a full backlog may take its time.
        if let (Ok(tcp), false, Ok(unix)) = (tcp, refusing, UnixStream::connect(socket)) {
            let _ = tcp.set_nodelay(true);
            let shared = shared.clone();
            std::thread::spawn(move || serve(serial, tcp, unix, &shared));
        }
    }
}

fn serve(
    serial: usize,
    mut tcp: TcpStream,
    mut unix: UnixStream,
    shared: &Arc<Mutex<Shared>>,
) -> std::io::Result<()> {
    // Clients write a request's head at once.
    let mut head = [0; 16 * 1024];
    let read = tcp.read(&mut head)?;
    let head = &head[..read];
    let text = String::from_utf8_lossy(head);
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let answer = {
        let mut shared = lock(shared);
        if shared.refusing {
            // Since it was accepted.
            return Ok(());
        }
        let answer = match shared.fault {
            Fault::Answers(answers) => answers(&path),
            _ => None,
        };
        shared.met += usize::from(answer.is_some());
        let (tcp, unix) = (tcp.try_clone()?, unix.try_clone()?);
        let connection = Connection { path, tcp, unix };
        shared.connections.insert(serial, connection);
        answer
    };
    let served = match answer {
        Some(answer) => say(&mut tcp, &answer),
        None => {
            unix.write_all(head)?;
            let (tcp_in, unix_out) = (tcp.try_clone()?, unix.try_clone()?);
            std::thread::spawn(move || {
                forward(tcp_in, &unix_out);
                // The engine reads an end of input as "the client has gone": pass it on, half-closed.
                let _ = unix_out.shutdown(Shutdown::Write);
            });
            answer_late_or_in_part(&unix, &tcp, shared)
        }
    };
    let _ = tcp.shutdown(Shutdown::Both);
    let _ = unix.shutdown(Shutdown::Both);
    lock(shared).connections.remove(&serial);
    served
}

fn say(tcp: &mut TcpStream, answer: &Answer) -> std::io::Result<()> {
    tcp.write_all(&answer.once)?;
    while !answer.endlessly.is_empty() {
        tcp.write_all(&answer.endlessly)?;
    }
    Ok(())
}

fn answer_late_or_in_part(
    mut from: &UnixStream,
    mut to: &TcpStream,
    shared: &Mutex<Shared>,
) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    let mut under_fault = 0;
    while let read @ 1.. = from.read(&mut buffer)? {
        let fault = {
            let mut shared = lock(shared);
            let is_hit = matches!(shared.fault, Fault::CutAfter(_) | Fault::Late(..));
            shared.met += usize::from(is_hit && under_fault == 0);
            shared.fault.clone()
        };
        let bytes = &buffer[..read];
        match fault {
            Fault::None | Fault::Answers(_) => to.write_all(bytes)?,
            Fault::CutAfter(most) => {
                let left = most.saturating_sub(under_fault).min(read);
                to.write_all(&bytes[..left])?;
                under_fault += read;
                if under_fault >= most {
                    return Ok(());
                }
            }
            Fault::Late(size, delay) => {
                under_fault += read;
                for piece in bytes.chunks(size) {
                    std::thread::sleep(delay);
                    to.write_all(piece)?;
                }
            }
        }
    }
    Ok(())
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forward(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}
