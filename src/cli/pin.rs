//! `dockwarden pin`: content digests for the images that a list names, in place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::BoolishValueParser;
use serde_json::json;

use super::one_shot::{self, ListArguments, note};
use super::{Answer, EngineArguments, FINE, Failure, INTERNAL, NO, Output, PrintArguments, table};
use crate::allowlist::Allowlist;
use crate::engine::Engine;
use crate::pin::{self, Change, Left, Pinned, Update};
use crate::status::ListError;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The list to change [default: that of --allowlist]
    file: Option<PathBuf>,
    #[command(flatten)]
    list: ListArguments,
    #[command(flatten)]
    engine: EngineArguments,
    /// Bring the pins that are there up to date: to what their names stand for on this engine now
    #[arg(long, env = "DOCKWARDEN_UPDATE", value_parser = BoolishValueParser::new())]
    update: bool,
    /// Keep the old pins beside the new ones, until what they allow is gone
    #[arg(
        long,
        env = "DOCKWARDEN_KEEP_OLD",
        requires = "update",
        value_parser = BoolishValueParser::new()
    )]
    keep_old: bool,
    /// Show what would change, and write nothing
    #[arg(long, env = "DOCKWARDEN_DRY_RUN", value_parser = BoolishValueParser::new())]
    dry_run: bool,
    #[command(flatten)]
    print: PrintArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Answer {
    let path = arguments
        .file
        .clone()
        .unwrap_or_else(|| arguments.list.path());
    let text = read(&path)?;
    let update = match (arguments.update, arguments.keep_old) {
        (false, _) => Update::No,
        (true, false) => Update::Replace,
        (true, true) => Update::Add,
    };
    let engine = one_shot::engine(&arguments.engine)?;
    let mut images = BTreeMap::new();
    for name in pin::wanted(&text, update) {
        let image = engine.image_by_name(&name).await;
        if let Some(image) = image.map_err(|error| one_shot::failure(&error))? {
            images.insert(name.to_string(), image);
        }
    }
    let pinned = pin::pin(&text, update, &images);
    let list = Allowlist::parse(pinned.text.as_bytes()).map_err(|error| Failure {
        code: INTERNAL,
        message: format!("with its pins {} is no valid list: {error}", path.display()),
    })?;
    if pinned.text != text && !arguments.dry_run {
        pin::save(&path, &text, &pinned.text)
            .map_err(|error| Failure::bad_usage(format!("{}: {error}", path.display())))?;
    }
    for left in &pinned.left {
        note(&format!(
            "rule `{}`: `{}` is left alone: {}",
            left.rule, left.pattern, left.why
        ));
    }
    for change in pinned.changes.iter().filter(|change| change.by_id) {
        note(&format!(
            "rule `{}`: `{}` has no repo digest, and the image's id holds on this engine's store only",
            change.rule, change.old
        ));
    }
    match arguments.print.output {
        Output::Table => say(&path, &pinned),
        Output::Json => table::say_json(&json!({
            "file": path,
            "hash": list.hash(),
            "changes": pinned.changes,
            "left": pinned.left,
        }))?,
    }
    let has_failed = pinned.left.iter().any(|left: &Left| left.is_failure);
    Ok(if has_failed { NO } else { FINE })
}

/// The text of a valid list.
fn read(path: &Path) -> Result<String, Failure> {
    let file = path.display().to_string();
    let refused = |error: ListError| Failure::bad_usage(error.report());
    let unreadable = |message: String| {
        refused(ListError::Unreadable {
            file: file.clone(),
            message,
        })
    };
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    Allowlist::parse(&bytes).map_err(|invalid| {
        refused(ListError::Invalid {
            file: file.clone(),
            invalid,
        })
    })?;
    String::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))
}

fn say(path: &Path, pinned: &Pinned) {
    if pinned.changes.is_empty() {
        table::say(&format!("{}: nothing to change", path.display()));
    }
    for Change { rule, old, new, .. } in &pinned.changes {
        let new = new.as_deref().unwrap_or("removed");
        table::say(&format!("rule `{rule}`: {old} → {new}"));
    }
}
