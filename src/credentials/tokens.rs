//! The tokens that let a client in.

use std::path::Path;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::Unusable;

/// The tokens that let a client in, as their hashes.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    /// From a file's text: one a line, `#` begins a comment.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Unusable> {
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
