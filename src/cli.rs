//! The command line: arguments, one-shot commands, exit codes.

mod accept;
mod access;
mod canary;
mod check;
mod completions;
mod daemon;
mod diff;
mod duration;
mod explain;
mod healthcheck;
mod learn;
mod manual;
mod notify;
mod one_shot;
mod pin;
mod ps;
mod restore;
mod saved;
mod schema;
mod table;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::docker::Endpoint;
use crate::printable;
use crate::status::Role;

/// Fine.
const FINE: u8 = 0;
/// The answer is no.
const NO: u8 = 1;
/// Bad usage, or a bad allowlist.
const BAD_USAGE: u8 = 2;
/// The engine can't be reached.
const NO_ENGINE: u8 = 3;
/// A defect, or something that should never happen.
const INTERNAL: u8 = 70;

/// A Docker host runs what is on its allowlist, and nothing else.
#[derive(Debug, Parser)]
#[command(name = "dockwarden", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enforce the allowlist and serve the status API, in one process
    Run(daemon::Arguments),
    /// Enforce the allowlist
    Controller(daemon::Arguments),
    /// Serve the status API and its page; never changes a container
    Api(daemon::Arguments),
    /// Check an allowlist, and what it would end among what runs
    Check(check::Arguments),
    /// Explain the verdict on a container, rule by rule
    Explain(explain::Arguments),
    /// Show which running containers change verdict between two allowlists
    Diff(diff::Arguments),
    /// Print an allowlist for what runs now, or for what audit logs saw
    Learn(learn::Arguments),
    /// Pin the content of the images that an allowlist names, in place
    Pin(pin::Arguments),
    /// Start again what was ended and is allowed now
    Restore(restore::Arguments),
    /// Show all containers with their verdicts
    Ps(ps::Arguments),
    /// Prove that enforcement works: start a forbidden container again and again
    Canary(canary::Arguments),
    /// Print the JSON Schema of allowlists, for editors
    Schema,
    /// Ask a dockwarden on this host whether it is ready
    Healthcheck(healthcheck::Arguments),
    /// Send a test notification
    NotifyTest(notify::NotifyArguments),
    /// Print what completes commands and options in a shell
    Completions(completions::Arguments),
    /// Write manual pages into a directory
    #[command(hide = true)]
    Manual(manual::Arguments),
}

/// The engine that a command speaks to.
#[derive(Debug, Args)]
struct EngineArguments {
    /// The engine: unix:///path or tcp://host:port [default: DOCKER_HOST, else
    /// unix:///var/run/docker.sock]
    #[arg(long, env = "DOCKWARDEN_ENGINE", value_name = "URL")]
    engine: Option<String>,
}

impl EngineArguments {
    fn endpoint(&self) -> Endpoint {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = self
            .engine
            .clone()
            .or_else(|| variable("DOCKER_HOST"))
            .unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
        let is_tls = url.starts_with("tcp://") && variable("DOCKER_TLS_VERIFY").is_some();
        let directory = || {
            variable("DOCKER_CERT_PATH").unwrap_or_else(|| {
                format!(
                    "{}/.docker",
                    variable("HOME").unwrap_or_else(|| "/root".to_owned())
                )
            })
        };
        Endpoint {
            url,
            tls: is_tls.then(|| directory().into()),
        }
    }
}

/// How a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// The option of every command that prints.
#[derive(Debug, Args)]
struct PrintArguments {
    /// How to print
    #[arg(
        long,
        env = "DOCKWARDEN_OUTPUT",
        value_name = "FORM",
        default_value = "table"
    )]
    output: Output,
}

/// A command's end other than by its own answer.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn bad_usage(message: impl Into<String>) -> Self {
        Self {
            code: BAD_USAGE,
            message: message.into(),
        }
    }
}

type Answer = Result<u8, Failure>;

/// Parses the process's arguments, does as told, and returns the exit code.
pub fn main() -> ExitCode {
    let command = without_empty_variables(Cli::command());
    let parsed = Cli::from_arg_matches_mut(&mut command.get_matches());
    let command = match parsed {
        Ok(cli) => cli.command,
        Err(error) => error.exit(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return end(Err(Failure {
                code: INTERNAL,
                message: error.to_string(),
            }));
        }
    };
    let answer = guarded(|| runtime.block_on(run(command)));
    // Nothing that still hangs may keep the process.
    runtime.shutdown_background();
    end(answer)
}

async fn run(command: Command) -> Answer {
    match command {
        Command::Run(arguments) => daemon::run(Role::Run, arguments).await,
        Command::Controller(arguments) => daemon::run(Role::Controller, arguments).await,
        Command::Api(arguments) => daemon::run(Role::Api, arguments).await,
        Command::Check(arguments) => check::run(&arguments).await,
        Command::Explain(arguments) => explain::run(&arguments).await,
        Command::Diff(arguments) => diff::run(&arguments).await,
        Command::Learn(arguments) => learn::run(&arguments).await,
        Command::Pin(arguments) => pin::run(&arguments).await,
        Command::Restore(arguments) => restore::run(&arguments).await,
        Command::Ps(arguments) => ps::run(&arguments).await,
        Command::Canary(arguments) => canary::run(&arguments).await,
        Command::Schema => schema::run(),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments).await,
        Command::NotifyTest(arguments) => notify::run(&arguments).await,
        Command::Completions(arguments) => Ok(completions::run(&arguments)),
        Command::Manual(arguments) => manual::run(&arguments),
    }
}

/// A panic is an internal error like any other: what it says is told by Rust's own hook.
fn guarded(run: impl FnOnce() -> Answer) -> Answer {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(Failure {
            code: INTERNAL,
            message: "that was a defect: please report it".to_owned(),
        })
    })
}

fn end(answer: Answer) -> ExitCode {
    ExitCode::from(answer.unwrap_or_else(|failure| {
        // Whether or not it is read. An engine's words may be in it.
        let message = printable::lines(failure.message.trim_end());
        let _ = writeln!(std::io::stderr(), "dockwarden: {message}");
        failure.code
    }))
}

/// Compose passes variables that are not set as empty ones; both mean the same here.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|subcommand| {
        subcommand.mut_args(|argument| {
            let is_empty = argument
                .get_env()
                .and_then(std::env::var_os)
                .is_some_and(|value| value.is_empty());
            if is_empty {
                argument.env(Resettable::Reset)
            } else {
                argument
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_panic_is_an_internal_error() {
        let code = |answer: Answer| answer.map_err(|failure| failure.code);
        assert_eq!(code(guarded(|| panic!("a defect"))), Err(70));
        assert_eq!(code(guarded(|| Ok(NO))), Ok(NO));
    }
}
