//! Who may ask, and what this service proves itself by: tokens, and a certificate with its key. The files
//! are read again each second, which costs less than to be told of every way in which they can be
//! replaced; what can't be used changes nothing, and is told once.

mod certificate;
mod tokens;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use certificate::server_config;

pub use certificate::certificates;
pub use tokens::Tokens;

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

/// What there is now, kept up to date by [`Credentials::follow`].
pub struct Credentials {
    files: Files,
    tokens: watch::Sender<Option<Tokens>>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    token_file: Watched<Vec<u8>>,
    /// Chain and key.
    pair: Watched<(Vec<u8>, Vec<u8>)>,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them can't be used: nobody is let in by mistake.
    pub fn read(files: Files) -> Result<Self, Unusable> {
        let mut credentials = Self {
            files,
            tokens: watch::Sender::new(None),
            tls: watch::Sender::new(None),
            token_file: Watched::default(),
            pair: Watched::default(),
        };
        credentials.read_tokens()?;
        credentials.read_certificate()?;
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
        let Some(text) = self.token_file.news(read(path))? else {
            return Ok(false);
        };
        let tokens = Tokens::parse(path, &String::from_utf8_lossy(&text))?;
        self.tokens.send_replace(Some(tokens));
        Ok(true)
    }

    fn read_certificate(&mut self) -> Result<bool, Unusable> {
        let Some((certificate, key)) = &self.files.certificate else {
            return Ok(false);
        };
        let both = read(certificate).and_then(|chain| Ok((chain, read(key)?)));
        let Some((chain, secret)) = self.pair.news(both)? else {
            return Ok(false);
        };
        let config = server_config((certificate, &chain), (key, &secret))?;
        self.tls.send_replace(Some(Arc::new(config)));
        Ok(true)
    }
}

/// Tells what is news of what is read again and again.
struct Watched<T> {
    /// What was tried last, good or bad.
    tried: Option<Tried<T>>,
    /// What the last look showed.
    seen: Option<T>,
}

#[derive(PartialEq)]
enum Tried<T> {
    Content(T),
    Unreadable,
}

impl<T> Default for Watched<T> {
    fn default() -> Self {
        Self {
            tried: None,
            seen: None,
        }
    }
}

impl<T: Clone + PartialEq> Watched<T> {
    /// What is to be tried now. After the first time only what stays for two looks is: half a token might be one.
    ///
    /// # Errors
    /// When it can't be read, once.
    fn news(&mut self, read: Result<T, Unusable>) -> Result<Option<T>, Unusable> {
        let is_first = self.tried.is_none();
        let content = match read {
            Ok(content) => content,
            Err(_) if self.tried == Some(Tried::Unreadable) => return Ok(None),
            Err(error) => {
                self.tried = Some(Tried::Unreadable);
                return Err(error);
            }
        };
        let stays = self.seen.replace(content.clone()).as_ref() == Some(&content);
        let tried = Some(Tried::Content(content.clone()));
        if !(stays || is_first) || self.tried == tried {
            return Ok(None);
        }
        self.tried = tried;
        Ok(Some(content))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_is_what_stays_and_was_not_tried() {
        let mut watched = Watched::default();
        // (what is read, what is news; trouble where it can't be read)
        for (step, (read, expected)) in [
            (Some("a"), Ok(Some("a"))),
            (Some("a"), Ok(None)),
            (Some("b"), Ok(None)),
            (Some("bc"), Ok(None)),
            (Some("bc"), Ok(Some("bc"))),
            (Some("bc"), Ok(None)),
            (Some("a"), Ok(None)),
            (Some("bc"), Ok(None)),
            (None, Err(())),
            (None, Ok(None)),
            (Some("bc"), Ok(Some("bc"))),
            (None, Err(())),
            (Some("d"), Ok(None)),
            (Some("d"), Ok(Some("d"))),
        ]
        .into_iter()
        .enumerate()
        {
            let read = read.ok_or_else(|| Unusable::NoToken(PathBuf::new()));
            let news = watched.news(read).map_err(|_| ());
            assert_eq!(news, expected, "step {step}");
        }
    }
}
