//! The address of a receiver, from a file: it is a secret, and nothing here shows it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use axum::http::Uri;

/// More than any address has.
const LONGEST: u64 = 8 * 1_024;

/// Why a file has no address.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", file.display())]
pub struct BadAddress {
    file: PathBuf,
    message: String,
}

/// An address that is read again whenever it is used.
pub(super) struct Address {
    file: PathBuf,
    last: Mutex<Uri>,
}

impl Address {
    pub(super) fn read(file: &Path) -> Result<Self, BadAddress> {
        let address = read(file)?;
        if address.scheme_str() == Some("http") && !is_loopback(&address) {
            tracing::warn!(
                "notifications leave this host unencrypted: their address begins with http://"
            );
        }
        Ok(Self {
            file: file.to_owned(),
            last: Mutex::new(address),
        })
    }

    /// What the file says now; where that is no address, what it said before. Blocks.
    pub(super) fn now(&self) -> Uri {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.file) {
            Ok(address) => *last = address,
            Err(error) => tracing::error!(%error, "the last good address of notifications is used"),
        }
        last.clone()
    }
}

fn is_loopback(address: &Uri) -> bool {
    matches!(address.host(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

fn read(file: &Path) -> Result<Uri, BadAddress> {
    let wrong = |message: String| BadAddress {
        file: file.to_owned(),
        message,
    };
    let mut text = String::new();
    File::open(file)
        .and_then(|file| file.take(LONGEST).read_to_string(&mut text))
        .map_err(|error| wrong(error.to_string()))?;
    parse(&text).ok_or_else(|| {
        wrong("expected one line, https://host/path, or http:// where nobody listens".to_owned())
    })
}

/// An error of the parser would quote what it could not parse.
fn parse(text: &str) -> Option<Uri> {
    let address: Uri = text.trim().parse().ok()?;
    let is_web = matches!(address.scheme_str(), Some("https" | "http"));
    let has_user = address.authority()?.as_str().contains('@');
    (is_web && !has_user && !address.host()?.is_empty()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_url_of_the_web() {
        for (text, valid) in [
            ("https://hooks.example/T0/secret\n", true),
            ("  http://127.0.0.1:9/x?token=1\r\n", true),
            ("https://hooks.example", true),
            ("", false),
            ("hooks.example/T0", false),
            ("https:///T0", false),
            ("ftp://hooks.example/", false),
            ("https://user:word@hooks.example/", false),
            ("https://a/\nhttps://b/", false),
        ] {
            assert_eq!(parse(text).is_some(), valid, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_any_more_leaves_the_last_one_and_is_never_quoted() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("url");
        let write = |text: &str| std::fs::write(&file, text).expect("the file");
        write("https://one.example/");
        let address = Address::read(&file).expect("an address");
        write("https://two.example/");
        assert_eq!(address.now(), "https://two.example/");
        write("two secrets");
        assert_eq!(address.now(), "https://two.example/");
        let error = read(&file).expect_err("no address").to_string();
        assert!(!error.contains("secrets"), "{error}");
        std::fs::remove_file(&file).expect("the file");
        assert_eq!(address.now(), "https://two.example/");
    }
}
