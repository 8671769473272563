//! `dockwarden manual`: one page for each command, for packages to install.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::{Answer, Cli, FINE, Failure, INTERNAL};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where to write them
    directory: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let written = clap_mangen::generate_to(Cli::command(), &arguments.directory);
    written.map(|()| FINE).map_err(|error| Failure {
        code: INTERNAL,
        message: format!("{}: {error}", arguments.directory.display()),
    })
}
