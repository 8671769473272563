//! A way to an engine on which kills wait until they are let go, or never arrive.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Listens on a free port of 127.0.0.1. Its threads end with the test's process.
pub struct HoldingProxy {
    url: String,
    shared: Arc<(Mutex<Held>, Condvar)>,
}

#[derive(Default)]
struct Held {
    is_holding: bool,
    count: usize,
    /// Counts how often what was held was lost.
    lost: u32,
}

impl HoldingProxy {
    /// Holds nothing yet.
    pub fn to(socket: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("tcp://{}", listener.local_addr().expect("its address"));
        let shared = Arc::new((Mutex::new(Held::default()), Condvar::new()));
        let (socket, of_thread) = (socket.to_owned(), shared.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let _ = serve(client, &socket, &of_thread);
            }
        });
        Self { url, shared }
    }

    /// For `--engine`.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// From now on kills wait.
    pub fn hold(&self) {
        lock(&self.shared.0).is_holding = true;
    }

    /// How many kills wait.
    pub fn held(&self) -> usize {
        lock(&self.shared.0).count
    }

    /// Those that wait go on to the engine, and so do all others.
    pub fn release(&self) {
        lock(&self.shared.0).is_holding = false;
        self.shared.1.notify_all();
    }

    /// Those that wait never arrive; all others do.
    pub fn lose(&self) {
        let mut held = lock(&self.shared.0);
        held.is_holding = false;
        held.lost += 1;
        drop(held);
        self.shared.1.notify_all();
    }
}

fn serve(
    client: TcpStream,
    socket: &PathBuf,
    shared: &Arc<(Mutex<Held>, Condvar)>,
) -> std::io::Result<()> {
    let engine = UnixStream::connect(socket)?;
    client.set_nodelay(true)?;
    let (mut from_client, mut to_engine) = (client.try_clone()?, engine.try_clone()?);
    let shared = shared.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer) {
            // A client sends a request at a time, and this one in one piece.
            let is_kill = buffer.starts_with(b"POST ")
                && buffer[..read].windows(5).any(|window| window == b"/kill");
            if is_kill && !pass(&shared) || to_engine.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to_engine.shutdown(Shutdown::Write);
    });
    let (mut from_engine, mut to_client) = (engine, client);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_engine, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// Waits as long as kills are held; false: it was lost.
fn pass((held, changed): &(Mutex<Held>, Condvar)) -> bool {
    let mut held = lock(held);
    let lost = held.lost;
    held.count += 1;
    held = changed
        .wait_while(held, |held| held.is_holding)
        .unwrap_or_else(PoisonError::into_inner);
    held.count -= 1;
    held.lost == lost
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
