//! Who may ask, and what this service proves itself by: tokens, and a certificate with its key. The files
//! are read again each second, which costs less than to be told of every way in which they can be
//! replaced; what can't be used changes nothing, and is told once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the files are read.
const EVERY: Duration = Duration::from_secs(1);
/// No token file or certificate is larger.
const LARGEST: u64 = 1024 * 1024;

/// The files.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// One token a line; several, so that one can take the place of another.
    pub tokens: Option<PathBuf>,
    /// A certificate chain and its key, in PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Why they can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A file can't be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A token file in which there is none.
    #[error("{}: there is no token in it", .0.display())]
    NoToken(PathBuf),
    /// A token that no client could send.
    #[error("{}:{line}: a token is one word of printable ASCII", path.display())]
    BadToken {
        /// In which file.
        path: PathBuf,
        /// In which line, from 1.
        line: usize,
    },
    /// What is no certificate, or no key.
    #[error("{}: {message}", path.display())]
    BadPem {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A certificate and a key that don't belong together, or are none that can be used.
    #[error("{} with {}: {error}", certificate.display(), key.display())]
    BadPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        error: rustls::Error,
    },
}

/// The tokens that let a client in, as their hashes.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    /// From a file's text: one a line, `#` begins a comment.
    fn parse(path: &Path, text: &str) -> Result<Self, Unusable> {
        let mut tokens = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let token = line.trim();
            if token.is_empty() || token.starts_with('#') {
                continue;
            }
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                let (path, line) = (path.to_owned(), number + 1);
                return Err(Unusable::BadToken { path, line });
            }
            tokens.push(Sha256::digest(token).into());
        }
        match tokens.is_empty() {
            true => Err(Unusable::NoToken(path.to_owned())),
            false => Ok(Self(tokens)),
        }
    }

    /// Whether this is one of them. Takes as long for one that nearly is as for any other.
    pub fn include(&self, token: &[u8]) -> bool {
        let asked: [u8; 32] = Sha256::digest(token).into();
        let none = Choice::from(0);
        let found = self
            .0
            .iter()
            .fold(none, |found, one| found | one.ct_eq(&asked));
        found.into()
    }
}

/// What there is now, kept up to date by [`Credentials::follow`].
pub struct Credentials {
    files: Files,
    tokens: watch::Sender<Option<Tokens>>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    /// What was last tried, good or bad.
    tried: (Vec<u8>, Vec<u8>),
    /// What the last look showed. Only what stays for two of them is tried: half a token might be one.
    seen: (Vec<u8>, Vec<u8>),
    /// Nothing is in force yet.
    is_first: bool,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them can't be used: nobody is let in by mistake.
    pub fn read(files: Files) -> Result<Self, Unusable> {
        let (tokens, tls) = (watch::Sender::new(None), watch::Sender::new(None));
        let mut credentials = Self {
            files,
            tokens,
            tls,
            tried: Default::default(),
            seen: Default::default(),
            is_first: true,
        };
        credentials.read_tokens()?;
        credentials.read_certificate()?;
        credentials.is_first = false;
        Ok(credentials)
    }

    /// The tokens of now; none where everybody may ask.
    pub fn tokens(&self) -> watch::Receiver<Option<Tokens>> {
        self.tokens.subscribe()
    }

    /// How TLS is spoken now; none where it is not.
    pub fn tls(&self) -> watch::Receiver<Option<Arc<ServerConfig>>> {
        self.tls.subscribe()
    }

    /// Reads the files again and again until the shutdown.
    pub async fn follow(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = shutdown.cancelled() => return,
            }
            // On a disk that hangs, this alone waits.
            let read = tokio::task::spawn_blocking(move || {
                let tokens = self.read_tokens();
                let certificate = self.read_certificate();
                (self, tokens, certificate)
            });
            let Ok((credentials, tokens, certificate)) = read.await else {
                return;
            };
            self = credentials;
            match tokens {
                Ok(true) => tracing::info!("the tokens were read again"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the tokens stay as they were"),
            }
            match certificate {
                Ok(true) => tracing::info!("the certificate was read again"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the certificate stays as it was"),
            }
        }
    }

    /// Whether there was anything new in it.
    fn read_tokens(&mut self) -> Result<bool, Unusable> {
        let Some(path) = &self.files.tokens else {
            return Ok(false);
        };
        let bytes = match read(path) {
            Err(_) if self.tried.0 == UNREADABLE => return Ok(false),
            Err(error) => {
                self.tried.0 = UNREADABLE.to_vec();
                return Err(error);
            }
            Ok(bytes) => bytes,
        };
        let was_seen = std::mem::replace(&mut self.seen.0, bytes.clone()) == bytes;
        if self.tried.0 == bytes || !(was_seen || self.is_first) {
            return Ok(false);
        }
        self.tried.0.clone_from(&bytes);
        let tokens = Tokens::parse(path, &String::from_utf8_lossy(&bytes))?;
        self.tokens.send_replace(Some(tokens));
        Ok(true)
    }

    fn read_certificate(&mut self) -> Result<bool, Unusable> {
        let Some((certificate, key)) = &self.files.certificate else {
            return Ok(false);
        };
        let both = read(certificate).and_then(|chain| Ok((chain, read(key)?)));
        let (chain, key_text) = match both {
            Err(_) if self.tried.1 == UNREADABLE => return Ok(false),
            Err(error) => {
                self.tried.1 = UNREADABLE.to_vec();
                return Err(error);
            }
            Ok(both) => both,
        };
        let both = [&chain[..], &key_text].join(&0);
        let was_seen = std::mem::replace(&mut self.seen.1, both.clone()) == both;
        if self.tried.1 == both || !(was_seen || self.is_first) {
            return Ok(false);
        }
        self.tried.1 = both;
        let config = server_config((certificate, &chain), (key, &key_text))?;
        self.tls.send_replace(Some(Arc::new(config)));
        Ok(true)
    }
}

/// What stands for the content of a file that can't be read; no token file or certificate is that.
const UNREADABLE: &[u8] = b"\0";

fn read(path: &Path) -> Result<Vec<u8>, Unusable> {
    use std::io::Read;
    let unreadable = |error| Unusable::Unreadable {
        path: path.to_owned(),
        error,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(bytes)
}

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

fn server_config(
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Tokens, Unusable> {
        Tokens::parse(Path::new("tokens"), text)
    }

    #[test]
    fn a_token_is_a_line() {
        let tokens = parse("# of this year\nfirst-token\r\n\n  second \n").ok();
        let tokens = tokens.expect("tokens");
        for (token, is_one) in [
            ("first-token", true),
            ("second", true),
            ("first-toke", false),
            ("first-token ", false),
            ("# of this year", false),
            ("", false),
        ] {
            assert_eq!(tokens.include(token.as_bytes()), is_one, "{token:?}");
        }
    }

    #[test]
    fn a_file_that_lets_nobody_in_or_anybody_is_refused() {
        for (text, message) in [
            ("", "tokens: there is no token in it"),
            ("\n# none\n", "tokens: there is no token in it"),
            (
                "good\ntwo words\n",
                "tokens:2: a token is one word of printable ASCII",
            ),
            (
                "t\u{f6}ken",
                "tokens:1: a token is one word of printable ASCII",
            ),
        ] {
            let error = parse(text).err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), Some(message), "{text:?}");
        }
    }
}
