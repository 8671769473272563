//! Why a receiver did not take a notification, in words that don't give its address away.

use std::error::Error;
use std::time::Duration;

use rustls::CertificateError;

/// Why a receiver did not take one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Failure {
    /// It did not answer in time.
    #[error("the receiver did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// It can't be reached, or did not prove who it is.
    #[error("the receiver can't be reached: {0}")]
    Unreachable(String),
    /// It names another address. Whoever is there was not chosen by the operator.
    #[error("the receiver answered {0}, a redirect, and redirects are not followed")]
    Redirected(u16),
    /// It does not want it.
    #[error("the receiver answered {status}")]
    Status {
        /// Its answer.
        status: u16,
        /// How long it asks to be left alone.
        wait: Option<Duration>,
    },
    /// The template does not fit what was to be told.
    #[error("the template can't be rendered: {0}")]
    Template(String),
}

impl Failure {
    /// Whether another try may succeed.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::Unreachable(_) => true,
            Self::Redirected(_) | Self::Template(_) => false,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..),
        }
    }

    /// How long the receiver asks to be left alone.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } => *wait,
            _ => None,
        }
    }

    /// From an error of the client, whose own words may name the address.
    pub(super) fn of_client(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(words) = words(error) {
                return Self::Unreachable(words);
            }
            next = error.source();
        }
        Self::Unreachable("the connection broke".to_owned())
    }
}

fn words(error: &(dyn Error + 'static)) -> Option<String> {
    match tls(error) {
        Some(error) => Some(of_tls(error).to_owned()),
        None => error.downcast_ref().map(std::io::Error::to_string),
    }
}

/// The TLS error inside, however often it was made an I/O error.
fn tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = error.downcast_ref() {
        return Some(error);
    }
    tls(error.downcast_ref::<std::io::Error>()?.get_ref()?)
}

fn of_tls(error: &rustls::Error) -> &'static str {
    let rustls::Error::InvalidCertificate(error) = error else {
        return "it does not speak TLS as we do";
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired"
        }
        CertificateError::UnknownIssuer => "nobody whom this host trusts signed its certificate",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name"
        }
        _ => "its certificate is not valid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_receiver_may_do_better_is_tried_again() {
        let status = |status| Failure::Status { status, wait: None };
        for (failure, may_pass) in [
            (Failure::TimedOut(Duration::from_secs(1)), true),
            (Failure::Unreachable(String::new()), true),
            (status(500), true),
            (status(503), true),
            (status(429), true),
            (status(408), true),
            (status(400), false),
            (status(404), false),
            (Failure::Redirected(302), false),
        ] {
            assert_eq!(failure.may_pass(), may_pass, "{failure}");
        }
    }

    #[test]
    fn a_certificate_for_another_name_does_not_tell_the_name() {
        let error = rustls::Error::InvalidCertificate(CertificateError::NotValidForName);
        let error = std::io::Error::other(std::io::Error::other(error));
        assert_eq!(
            Failure::of_client(&error).to_string(),
            "the receiver can't be reached: its certificate is for another name"
        );
    }
}
