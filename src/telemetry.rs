//! Logging: to standard error, as text for people or JSON for machines.
//!
//! A thread of its own writes: a reader that stalls (a log driver, a pager, Ctrl-S) costs log
//! lines, never enforcement.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// How many lines may wait to be written before the next ones are dropped.
const WAITING: usize = 16_384;

/// What is logged where nobody says. `notify` tells at info what concerns nobody.
const DEFAULT: &str = "info,notify=error";

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sets logging up for the process; what is logged is written until the guard is dropped. Without a `level`, `RUST_LOG` decides, else `info`.
///
/// # Errors
/// When the level is no filter.
pub fn init(format: LogFormat, level: Option<&str>) -> Result<WorkerGuard, ParseError> {
    let filter = match level {
        Some(level) => EnvFilter::try_new(level)?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT)),
    };
    let stderr = std::io::stderr;
    let colour =
        stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING)
        .finish(stderr());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false)
        .with_ansi(colour);
    // A second set-up in one process keeps the first.
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(guard)
}
