//! The way to an engine: a unix socket, TCP, or TCP with TLS. bollard and our own readers share it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{Request, Response, Uri, uri};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use hyperlocal::UnixConnector;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::engine::EngineError;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Where an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `unix://…` or `tcp://…`.
    pub url: String,
    /// The directory of `ca.pem`, `cert.pem` and `key.pem`, where TLS is asked for.
    pub tls: Option<PathBuf>,
}

pub(super) enum Transport {
    Unix(Client<UnixConnector, Body>, PathBuf),
    Tcp(Client<HttpConnector, Body>, uri::Authority),
    Tls(Client<HttpsConnector<HttpConnector>, Body>, uri::Authority),
}

impl Transport {
    /// Nothing is sent yet.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, EngineError> {
        let url = &endpoint.url;
        let wrong = |what: &str| EngineError::Misconfigured(format!("engine `{url}`: {what}"));
        // No connection is kept: one that outlived a restart of the engine would fail once.
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_max_idle_per_host(0);
        if let Some(path) = url.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(wrong("the path of a socket is absolute"));
            }
            return Ok(Self::Unix(client.build(UnixConnector), path.into()));
        }
        let Some(address) = url.strip_prefix("tcp://") else {
            return Err(wrong("expected unix:///path or tcp://host:port"));
        };
        let authority: uri::Authority = address
            .trim_end_matches('/')
            .parse()
            .map_err(|_| wrong("expected tcp://host:port"))?;
        if authority.port_u16().is_none() {
            return Err(wrong("the port is missing, as in tcp://host:2376"));
        }
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_keepalive(Some(std::time::Duration::from_secs(15)));
        match &endpoint.tls {
            None => Ok(Self::Tcp(client.build(connector), authority)),
            Some(directory) => {
                let config = tls(directory)
                    .map_err(|error| wrong(&format!("{}: {error}", directory.display())))?;
                let connector = HttpsConnectorBuilder::new()
                    .with_tls_config(config)
                    .https_only()
                    .enable_http1()
                    .wrap_connector(connector);
                Ok(Self::Tls(client.build(connector), authority))
            }
        }
    }

    /// Sends a request whose URI names only path and query.
    pub(super) async fn send(
        self: Arc<Self>,
        mut request: bollard::BollardRequest,
    ) -> Result<Response<hyper::body::Incoming>, hyper_util::client::legacy::Error> {
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned();
        *request.uri_mut() = self.uri(&path);
        let request: Request<Body> = request.map(|body| body.map_err(Into::into).boxed_unsync());
        match &*self {
            Self::Unix(client, _) => client.request(request).await,
            Self::Tcp(client, _) => client.request(request).await,
            Self::Tls(client, _) => client.request(request).await,
        }
    }

    fn uri(&self, path: &str) -> Uri {
        let (scheme, authority) = match self {
            Self::Unix(_, socket) => return hyperlocal::Uri::new(socket, path).into(),
            Self::Tcp(_, authority) => ("http", authority),
            Self::Tls(_, authority) => ("https", authority),
        };
        Uri::builder()
            .scheme(scheme)
            .authority(authority.clone())
            .path_and_query(path)
            .build()
            .unwrap_or_default()
    }
}

/// The client's side of Docker's mutual TLS.
fn tls(directory: &Path) -> Result<rustls::ClientConfig, BoxError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(directory.join("ca.pem"))? {
        roots.add(certificate?)?;
    }
    let certificates = CertificateDer::pem_file_iter(directory.join("cert.pem"))?
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates, key)?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_unix_and_tcp_urls_are_engines() {
        for (url, valid) in [
            ("unix:///var/run/docker.sock", true),
            ("tcp://127.0.0.1:2375", true),
            ("tcp://[::1]:2375/", true),
            ("tcp://engine:2375", true),
            ("unix://docker.sock", false),
            ("tcp://engine", false),
            ("ssh://engine", false),
            ("", false),
        ] {
            let endpoint = Endpoint {
                url: url.to_owned(),
                tls: None,
            };
            assert_eq!(Transport::new(&endpoint).is_ok(), valid, "{url}");
        }
    }
}
