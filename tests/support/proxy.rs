//! An engine's unix socket as a TCP address, with connections that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Listens on a free port of 127.0.0.1 and ends with the value.
pub struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    connections: Vec<(TcpStream, UnixStream)>,
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
        self.lock().cut();
    }

    /// While on, new connections are closed as soon as they are made; turning it on cuts the old ones.
    pub fn refuse(&self, on: bool) {
        let mut shared = self.lock();
        shared.refusing = on;
        if on {
            shared.cut();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(|error| error.into_inner())
    }
}

impl Shared {
    fn cut(&mut self) {
        for (tcp, unix) in self.connections.drain(..) {
            let _ = tcp.shutdown(Shutdown::Both);
            let _ = unix.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        {
            let mut shared = self.lock();
            shared.closed = true;
            shared.cut();
        }
        let _ = TcpStream::connect(self.address); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, socket: &PathBuf, shared: &Mutex<Shared>) {
    for tcp in listener.incoming() {
        let mut shared = shared.lock().unwrap_or_else(|error| error.into_inner());
        if shared.closed {
            return;
        }
        let (Ok(tcp), false) = (tcp, shared.refusing) else {
            continue;
        };
        // With the engine away the connection just ends, as at a load balancer.
        let Ok(unix) = UnixStream::connect(socket) else {
            continue;
        };
        let _ = tcp.set_nodelay(true);
        let (Ok(tcp_too), Ok(unix_too)) = (tcp.try_clone(), unix.try_clone()) else {
            continue;
        };
        let (Ok(tcp_in), Ok(unix_in)) = (tcp.try_clone(), unix.try_clone()) else {
            continue;
        };
        shared.connections.push((tcp_too, unix_too));
        let end = unix.try_clone();
        std::thread::spawn(move || {
            forward(tcp_in, unix);
            // The engine reads an end of input as "the client has gone": pass it on, half-closed.
            if let Ok(end) = end {
                let _ = end.shutdown(Shutdown::Write);
            }
        });
        std::thread::spawn(move || {
            let end = tcp.try_clone();
            forward(unix_in, tcp);
            if let Ok(end) = end {
                let _ = end.shutdown(Shutdown::Both);
            }
        });
    }
}

fn forward(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}
