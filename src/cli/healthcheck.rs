//! `dockwarden healthcheck`: for container health checks, with no other program in the image.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use clap::Args;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::{Answer, FINE, Failure, NO};
use crate::credentials::certificates;

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
    /// The certificate that it has to show, where it speaks TLS
    #[arg(long, env = "DOCKWARDEN_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
}

pub(super) async fn run(arguments: &Arguments) -> Answer {
    // Who listens on every address is asked on this host's own.
    let address = match arguments.listen.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => arguments.listen.clone(),
    };
    let certificate = arguments.tls_cert.as_deref();
    let scheme = certificate.map_or("http", |_| "https");
    let uri = format!("{scheme}://{address}/readyz")
        .parse()
        .map_err(|error| Failure::bad_usage(format!("--listen {address}: {error}")))?;
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(trusting(certificate)?)
        .https_or_http()
        .enable_http1()
        .build();
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
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

/// Trusts this very certificate, by whatever name it is asked: its own are of no use on the loopback.
fn trusting(certificate: Option<&Path>) -> Result<ClientConfig, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::bad_usage(format!("--tls-cert {error}"));
    let certificate = match certificate {
        None => None,
        Some(path) => {
            let pem = std::fs::read(path)
                .map_err(|error| bad(&format!("{}: {error}", path.display())))?;
            let chain = certificates(path, &pem).map_err(|error| bad(&error))?;
            chain.into_iter().next()
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = OnlyThis {
        certificate,
        provider: provider.clone(),
    };
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&error))?;
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(builder.with_no_client_auth())
}

#[derive(Debug)]
struct OnlyThis {
    certificate: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OnlyThis {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.certificate.as_ref() == Some(end_entity) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
