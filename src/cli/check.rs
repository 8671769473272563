//! `dockwarden check`: is this list valid, what is weak about it, and what would it end.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use jiff::Timestamp;
use serde_json::json;

use super::accept::accept;
use super::one_shot::{self, Judged, ListArguments, SourceArguments, counted};
use super::table::{self, View};
use super::{Answer, FINE, NO, Output, PrintArguments};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The list to check, `-` for standard input [default: that of --allowlist]
    file: Option<PathBuf>,
    #[command(flatten)]
    list: ListArguments,
    #[command(flatten)]
    source: SourceArguments,
    /// Warnings are failures
    #[arg(long, env = "DOCKWARDEN_STRICT", value_parser = BoolishValueParser::new())]
    strict: bool,
    /// Show what the list would end among what runs; exit 1 if there is anything
    #[arg(long, env = "DOCKWARDEN_RUNNING", value_parser = BoolishValueParser::new())]
    running: bool,
    /// Write the list's hash into its own `guard`: a list that is held back comes into force, whatever
    /// it ends
    #[arg(long, env = "DOCKWARDEN_ACCEPT", value_parser = BoolishValueParser::new())]
    accept: bool,
    #[command(flatten)]
    print: PrintArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Answer {
    let path = arguments
        .file
        .clone()
        .unwrap_or_else(|| arguments.list.path());
    let list = one_shot::load(&path).await?;
    if arguments.accept {
        accept(&path, &list)?;
    }
    let warnings = list.list.warnings(Timestamp::now());
    // Whoever names what was saved wants it judged.
    let ended = if arguments.running || arguments.source.is_saved() {
        let judged = arguments.source.judged(&list).await?;
        Some(
            judged
                .into_iter()
                .filter(Judged::would_end)
                .collect::<Vec<_>>(),
        )
    } else {
        None
    };
    match arguments.print.output {
        Output::Table => {
            table::say(&format!(
                "{}: valid, {}, mode {}, action {}, hash {}",
                path.display(),
                counted(list.list.rules.len(), "rule"),
                list.list.mode.as_str(),
                list.list.action.as_str(),
                list.hash,
            ));
            if arguments.accept {
                table::say("accepted: on every host it comes into force whatever it ends");
            }
            for warning in &warnings {
                table::say(&format!("warning: {warning}"));
            }
            match &ended {
                None => {}
                Some(ended) if ended.is_empty() => table::say("nothing that runs would be ended"),
                Some(ended) => {
                    table::say(&format!(
                        "{} would be ended:",
                        counted(ended.len(), "container")
                    ));
                    table::say_containers(ended);
                }
            }
        }
        Output::Json => table::say_json(&json!({
            "file": path,
            "hash": list.hash,
            "list": list.list,
            "warnings": warnings,
            "would_end": ended.as_ref().map(|ended| ended.iter().map(View::from).collect::<Vec<_>>()),
        }))?,
    }
    let is_weak = arguments.strict && !warnings.is_empty();
    let would_end = ended.is_some_and(|ended| !ended.is_empty());
    Ok(if is_weak || would_end { NO } else { FINE })
}
