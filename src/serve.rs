//! The way in: a bounded number of clients at once, over TLS where there is a certificate; one more, and
//! another makes room (`room.rs`). Who says nothing, or takes longer for a request than that takes, is given up.

mod client;
mod room;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use client::Client;
use room::{Guest, Room};

/// How long a client may take to send a request's head, and to agree on TLS.
const HEAD: Duration = Duration::from_secs(10);
/// How large that head may be, in bytes.
const HEAD_SIZE: usize = 16 * 1024;
/// How many may wait to be accepted: who connects beyond that tries again after a second only.
const WAITING: i32 = 4_096;
/// How soon a listener that failed is asked again: there may be descriptors again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long clients may take to finish what they ask at the shutdown. A request that was sent in half
/// must not keep the daemon.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// Listens on `host:port`.
///
/// # Errors
/// When that can't be.
pub async fn listen(on: &str) -> io::Result<std::net::TcpListener> {
    let listener = TcpListener::bind(on).await?;
    // Said anew: the standard library lets 128 wait.
    rustix::net::listen(&listener, WAITING)?;
    listener.into_std()
}

/// Who is served, and with what.
pub struct Server {
    /// Where clients come in.
    pub listener: std::net::TcpListener,
    /// Who answers them.
    pub router: Router,
    /// How many at once.
    pub at_once: usize,
    /// How TLS is spoken, where it is.
    pub tls: watch::Receiver<Option<Arc<ServerConfig>>>,
}

impl Server {
    /// Serves until the shutdown.
    ///
    /// # Errors
    /// When the listener can't be used.
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let (mut room, mut clients) = (Room::default(), JoinSet::new());
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = clients.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    // An answer goes out in pieces, whose ends would else wait for the client's word of what came
                    // before. Who can't be told so waits.
                    let _ = stream.set_nodelay(true);
                    while clients.try_join_next().is_some() {}
                    if clients.len() >= self.at_once {
                        room.make_room();
                        clients.join_next().await;
                    }
                    let (guest, tls) = (room.enter(), self.tls.borrow().clone());
                    let (router, stop) = (self.router.clone(), shutdown.clone());
                    clients.spawn(async move {
                        tokio::select! {
                            () = serve(stream, tls, router, &guest, stop) => {}
                            () = guest.has_to_leave() => {}
                        }
                    });
                }
                // The client's own trouble.
                Err(error) if is_of_client(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no client can be accepted now");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        let last = async { while clients.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_REQUESTS, last).await.is_err() {
            clients.shutdown().await;
        }
        Ok(())
    }
}

fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// One client, to its end.
async fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    guest: &Arc<Guest>,
    shutdown: CancellationToken,
) {
    let Some(config) = tls else {
        return answer(stream, router, guest, shutdown).await;
    };
    let handshake = TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(HEAD, handshake).await {
        Ok(Ok(stream)) => answer(stream, router, guest, shutdown).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client did not agree on TLS"),
        Err(_) => tracing::debug!("a client took too long to agree on TLS"),
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    guest: &Arc<Guest>,
    shutdown: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        guest.asks();
        let answer = router.call(request);
        async { answer.await as Result<_, Infallible> }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(Client::new(stream, guest.clone())), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a client's connection ended");
    }
}
