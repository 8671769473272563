//! What a service proves itself by: a certificate chain and its key, in PEM.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Unusable;

/// A PEM text's certificates.
///
/// # Errors
/// When there is none, or one that is none.
pub fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let bad = |message: String| Unusable::BadPem {
        path: path.to_owned(),
        message,
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(bad("there is no certificate in it".to_owned())),
        Ok(chain) => Ok(chain),
        Err(error) => Err(bad(format!("no certificate: {error}"))),
    }
}

/// How TLS is spoken with them.
pub(super) fn server_config(
    (certificate, chain): (&Path, &[u8]),
    (key, key_text): (&Path, &[u8]),
) -> Result<ServerConfig, Unusable> {
    let chain = certificates(certificate, chain)?;
    let secret = PrivateKeyDer::from_pem_slice(key_text).map_err(|error| Unusable::BadPem {
        path: key.to_owned(),
        message: format!("no private key: {error}"),
    })?;
    let bad = |error| Unusable::BadPair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        error,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(bad)?;
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(bad)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
