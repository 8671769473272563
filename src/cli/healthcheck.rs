//! `dockwarden healthcheck`: for container health checks, with no other program in the image.

use std::time::Duration;

use axum::body::Body;
use clap::Args;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::{Answer, FINE, Failure, NO};

/// Shorter than the time-out of the health checks that we ship.
const DEADLINE: Duration = Duration::from_secs(4);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where the dockwarden to be asked listens
    #[arg(
        long,
        env = "DOCKWARDEN_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8080"
    )]
    listen: String,
}

pub(super) async fn run(arguments: &Arguments) -> Answer {
    // Who listens on every address is asked on this host's own.
    let address = match arguments.listen.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => arguments.listen.clone(),
    };
    let uri = format!("http://{address}/readyz")
        .parse()
        .map_err(|error| Failure::bad_usage(format!("--listen {address}: {error}")))?;
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
    let unready = |message: String| Failure { code: NO, message };
    match tokio::time::timeout(DEADLINE, client.get(uri)).await {
        Err(_) => Err(unready(format!("{address} does not answer"))),
        Ok(Err(error)) => Err(unready(format!("{address}: {error}"))),
        Ok(Ok(response)) if response.status().is_success() => Ok(FINE),
        Ok(Ok(response)) => {
            let body = axum::body::to_bytes(Body::new(response.into_body()), 64 * 1024).await;
            let body = body.unwrap_or_default();
            Err(unready(format!(
                "not ready: {}",
                String::from_utf8_lossy(&body)
            )))
        }
    }
}
