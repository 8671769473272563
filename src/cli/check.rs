//! `dockwarden check`: is this list valid, what is weak about it, and what would it end.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use jiff::Timestamp;
use serde_json::json;

use super::accept::accept;
use super::one_shot::{self, Judged, ListArguments, SourceArguments, note};
use super::table::{self, View};
use super::{Answer, FINE, NO, Output, PrintArguments};
use crate::allowlist::Allowlist;
use crate::image::hash_of_repo_digest;
use crate::printable::counted;

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
        note_pinned_ids(&list.list, &judged);
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

/// Tells of pins that are ids of images here: another engine may know the same content by another one.
fn note_pinned_ids(list: &Allowlist, judged: &[Judged]) {
    let ids = judged.iter().filter_map(|Judged { container, .. }| {
        let id = container.image_id.as_deref()?;
        let mut names = container.image_names.as_ref()?.iter();
        (!names.any(|name| hash_of_repo_digest(name) == Some(id))).then_some(id)
    });
    let ids: BTreeSet<_> = ids.collect();
    for rule in list.rules.iter() {
        let pins = rule.image.iter();
        for pattern in pins.filter(|pattern| pattern.pin().is_some_and(|pin| ids.contains(pin))) {
            note(&format!(
                "rule `{}`: `{pattern}` is an image's id, valid on this engine's store only",
                rule.name
            ));
        }
    }
}
