//! An engine's unix socket as a TCP address, with connections that can be cut.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Listens on a free port of 127.0.0.1 and ends with the value.
pub struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    connections: HashMap<usize, (TcpStream, UnixStream)>,
    refusing: bool,
    closed: bool,
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
}

impl Shared {
    fn cut(&mut self) {
        for (_, (tcp, unix)) in self.connections.drain() {
            let _ = tcp.shutdown(Shutdown::Both);
            let _ = unix.shutdown(Shutdown::Both);
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
            let _ = serve(serial, tcp, unix, shared);
        }
    }
}

fn serve(
    serial: usize,
    tcp: TcpStream,
    unix: UnixStream,
    shared: &Arc<Mutex<Shared>>,
) -> std::io::Result<()> {
    let (tcp_in, unix_out) = (tcp.try_clone()?, unix.try_clone()?);
    let ends = (tcp.try_clone()?, unix.try_clone()?);
    lock(shared).connections.insert(serial, ends);
    std::thread::spawn(move || {
        forward(tcp_in, &unix_out);
        // The engine reads an end of input as "the client has gone": pass it on, half-closed.
        let _ = unix_out.shutdown(Shutdown::Write);
    });
    let shared = shared.clone();
    std::thread::spawn(move || {
        forward(unix, &tcp);
        let _ = tcp.shutdown(Shutdown::Both);
        lock(&shared).connections.remove(&serial);
    });
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
