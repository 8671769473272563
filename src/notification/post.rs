//! One request to a receiver: with a deadline, its certificate checked, and no redirect followed.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::address::Address;
use super::failure::Failure;

/// How long a receiver may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

pub(super) struct Post {
    address: Arc<Address>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Post {
    pub(super) fn new(address: Address) -> Result<Self, rustls::Error> {
        // No connection is kept: notifications are rare.
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_max_idle_per_host(0);
        Ok(Self {
            address: Arc::new(address),
            client: client.build(connector()?),
        })
    }

    /// The status of the answer that took it.
    pub(super) async fn send(
        &self,
        body: String,
        content_type: &'static str,
    ) -> Result<u16, Failure> {
        let sent = tokio::time::timeout(DEADLINE, self.request(body, content_type)).await;
        let response = sent.unwrap_or(Err(Failure::TimedOut(DEADLINE)))?;
        let status = response.status();
        match status.as_u16() {
            200..300 => Ok(status.as_u16()),
            300..400 => Err(Failure::Redirected(status.as_u16())),
            other => Err(Failure::Status {
                status: other,
                wait: wait(&response),
            }),
        }
    }

    async fn request(
        &self,
        body: String,
        content_type: &'static str,
    ) -> Result<Response<Incoming>, Failure> {
        let address = self.address.clone();
        // A file can hang, as on a network's disk.
        let address = tokio::task::spawn_blocking(move || address.now()).await;
        let address = address.map_err(|error| Failure::of_client(&error))?;
        let request = Request::post(address)
            .header(header::CONTENT_TYPE, content_type)
            .header(
                header::USER_AGENT,
                concat!("dockwarden/", env!("CARGO_PKG_VERSION")),
            )
            .body(Full::from(body))
            .map_err(|error| Failure::of_client(&error))?;
        let answer = self.client.request(request).await;
        answer.map_err(|error| Failure::of_client(&error))
    }
}

/// Trusts whom this host trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` say otherwise).
fn connector() -> Result<HttpsConnector<HttpConnector>, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        tracing::warn!("this host trusts no certificate: no https receiver can be told anything");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(config);
    Ok(connector.https_or_http().enable_http1().build())
}

/// What `Retry-After` asks for, where that is a number of seconds.
fn wait(response: &Response<Incoming>) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?;
    value.to_str().ok()?.parse().ok().map(Duration::from_secs)
}
