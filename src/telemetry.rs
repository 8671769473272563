//! Logging: to standard error, as text for people or JSON for machines.
//!
//! A thread of its own writes: a reader that stalls (a log driver, a pager, Ctrl-S) costs log
//! lines, never enforcement.

use std::fmt::{self, Debug, Write};
use std::io::IsTerminal;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::printable::{self, Line};

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
        LogFormat::Text => lines.fmt_fields(TextFields).try_init(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .map_event_format(JsonLine)
            .try_init(),
    };
    Ok(guard)
}

/// The fields of a text line, escaped here, so that nobody who logs can forget it.
struct TextFields;

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = Text {
            writer,
            begun: false,
            result: Ok(()),
        };
        fields.record(&mut text);
        text.result
    }
}

struct Text<'writer> {
    writer: Writer<'writer>,
    begun: bool,
    result: fmt::Result,
}

impl Text<'_> {
    fn write(&mut self, name: &str, value: &dyn Debug) -> fmt::Result {
        if std::mem::replace(&mut self.begun, true) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            if self.writer.has_ansi_escapes() {
                write!(self.writer, "\u{1b}[2m{name}=\u{1b}[0m")?;
            } else {
                write!(self.writer, "{name}=")?;
            }
        }
        write!(Line(&mut self.writer), "{value:?}")
    }
}

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Where a library's own line comes from.
        let is_origin = field.name().starts_with("log.");
        if self.result.is_ok() && !is_origin {
            self.result = self.write(field.name(), value);
        }
    }
}

/// A JSON line, escaped here for the same reason.
struct JsonLine(Format<Json>);

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&printable::json(&line))
    }
}
