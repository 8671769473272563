//! `dockwarden completions`: for the shells that clap knows.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, FINE, table};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Cli::command(),
        "dockwarden",
        &mut script,
    );
    table::say_all(&script);
    FINE
}
