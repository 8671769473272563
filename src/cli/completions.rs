//! `dockwarden completions`: for the shells that clap knows.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Answer, Cli, FINE, Failure, INTERNAL};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Cli::command(),
        "dockwarden",
        &mut script,
    );
    let written = std::io::stdout().write_all(&script);
    written.map(|()| FINE).map_err(|error| Failure {
        code: INTERNAL,
        message: error.to_string(),
    })
}
