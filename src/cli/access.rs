//! Who may ask a daemon, and what it proves itself by: arguments.

use std::path::PathBuf;

use clap::Args;

use crate::credentials::Files;

#[derive(Debug, Args)]
pub(super) struct AccessArguments {
    /// Answer only those who send one of the tokens in this file, one a line, as bearer or as the password
    /// of HTTP Basic. /livez needs none, and /readyz none for its status alone. Read again when it changes
    #[arg(long, env = "DOCKWARDEN_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Speak TLS, with this certificate chain in PEM. Read again when it is renewed
    #[arg(
        long,
        env = "DOCKWARDEN_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate
    #[arg(
        long,
        env = "DOCKWARDEN_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
    /// A name by which this service is called; others are refused where there is one, and where it listens
    /// on the loopback. Addresses and localhost always pass. Comma-separated or given again
    #[arg(
        long = "allowed-host",
        env = "DOCKWARDEN_ALLOWED_HOST",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub(super) allowed_hosts: Vec<String>,
}

impl AccessArguments {
    pub(super) fn files(&self) -> Files {
        Files {
            tokens: self.token_file.clone(),
            certificate: self.tls_cert.clone().zip(self.tls_key.clone()),
        }
    }
}
