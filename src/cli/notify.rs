//! Who is told, as options; and `dockwarden notify-test`, which tells them something now.

use std::path::PathBuf;

use clap::Args;

use super::{Answer, FINE, Failure, INTERNAL, NO, table};
use crate::metrics::Metrics;
use crate::notification::{Notifier, Settings};

#[derive(Debug, Args)]
pub(super) struct NotifyArguments {
    /// Tell an address what is ended and what is wrong: the file has its URL in it, and is read
    /// again whenever it is used. (The api tells nobody)
    #[arg(long, env = "DOCKWARDEN_NOTIFY_URL_FILE", value_name = "FILE")]
    notify_url_file: Option<PathBuf>,
    /// What is sent there: json, slack, discord, teams, text, or a file with a template
    #[arg(
        long,
        env = "DOCKWARDEN_NOTIFY_TEMPLATE",
        value_name = "TEMPLATE",
        default_value = "json"
    )]
    notify_template: String,
}

impl NotifyArguments {
    /// None where nobody is to be told.
    pub(super) fn settings(&self) -> Option<Settings> {
        Some(Settings {
            url_file: self.notify_url_file.clone()?,
            template: self.notify_template.clone(),
        })
    }
}

pub(super) async fn run(arguments: &NotifyArguments) -> Answer {
    let Some(settings) = arguments.settings() else {
        return Err(Failure::bad_usage("--notify-url-file says who is told"));
    };
    let metrics = Metrics::new().map_err(|error| Failure {
        code: INTERNAL,
        message: error.to_string(),
    })?;
    let notifier = Notifier::new(&settings, metrics);
    let notifier = notifier.map_err(|error| Failure::bad_usage(error.to_string()))?;
    let system = rustix::system::uname();
    match notifier.test(&system.nodename().to_string_lossy()).await {
        Ok(status) => {
            table::say(&format!("sent: the receiver answered {status}"));
            Ok(FINE)
        }
        Err(failure) => Err(Failure {
            code: NO,
            message: format!("not sent: {failure}"),
        }),
    }
}
