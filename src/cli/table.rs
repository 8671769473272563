//! Tables and JSON on standard output. What hides in foreign names is shown escaped.

use std::io::{ErrorKind, Write};
use std::sync::Arc;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::one_shot::{Judged, note};
use super::{Failure, INTERNAL};
use crate::allowlist::Verdict;
use crate::printable;

/// The exit code of a process that SIGPIPE ended, as shells tell it.
const UNREAD: i32 = 128 + 13;

/// Prints a line.
pub(super) fn say(text: &str) {
    say_all(format!("{}\n", printable::lines(text)).as_bytes());
}

/// Prints a text as it is. Where nobody reads any more, the process ends as one that heeds SIGPIPE does.
pub(super) fn say_all(text: &[u8]) {
    let Err(error) = std::io::stdout().write_all(text) else {
        return;
    };
    if error.kind() != ErrorKind::BrokenPipe {
        note(&format!("dockwarden: standard output: {error}"));
        std::process::exit(INTERNAL.into());
    }
    std::process::exit(UNREAD);
}

/// Prints a value as JSON.
pub(super) fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure {
        code: INTERNAL,
        message: error.to_string(),
    })?;
    say(&printable::json(&text));
    Ok(())
}

/// Prints containers with their verdicts.
pub(super) fn say_containers<'a>(judged: impl IntoIterator<Item = &'a Judged>) {
    let rows = judged.into_iter().map(|one| {
        let container = &one.container;
        let cells = [
            container.id.short(),
            container.name.as_deref().unwrap_or_default(),
            container.image.as_deref().unwrap_or_default(),
            container.state.as_str(),
            one.verdict.as_str(),
            &why(&one.verdict),
        ];
        (one.host.clone(), cells.map(str::to_owned).to_vec())
    });
    let header = ["CONTAINER ID", "NAME", "IMAGE", "STATUS", "VERDICT", "WHY"];
    say_rows(&header, rows.collect());
}

/// What decided, in a sentence.
fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allowed {
            rule,
            would_deny: false,
        } => format!("rule {rule}"),
        Verdict::Allowed { rule, .. } => format!("rule {rule}, audit: would deny"),
        Verdict::Denied { detail, .. } => detail.clone(),
        Verdict::Unknown | Verdict::Own => String::new(),
    }
}

/// Prints a table, with a column for hosts where there are any.
pub(super) fn say_rows(header: &[&str], rows: Vec<(Option<Arc<str>>, Vec<String>)>) {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    let has_hosts = rows.iter().any(|(host, _)| host.is_some());
    let of_host = |text: &str| has_hosts.then(|| text.to_owned()).into_iter();
    table.set_header(of_host("HOST").chain(header.iter().map(|&title| title.to_owned())));
    for (host, cells) in &rows {
        let cells = cells.iter().map(|cell| printable::line(cell));
        table.add_row(of_host(&printable::line(host.as_deref().unwrap_or_default())).chain(cells));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
        column.set_cell_alignment(CellAlignment::Left);
    }
    for line in table.lines() {
        say(line.trim_end());
    }
}

/// A judged container as JSON.
#[derive(Serialize)]
pub(super) struct View<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    container_id: &'a str,
    container_name: Option<&'a str>,
    image: Option<&'a str>,
    image_id: Option<&'a str>,
    status: &'a str,
    #[serde(flatten)]
    verdict: VerdictView<'a>,
}

impl<'a> From<&'a Judged> for View<'a> {
    fn from(judged: &'a Judged) -> Self {
        let container = &judged.container;
        Self {
            host: judged.host.as_deref(),
            container_id: container.id.as_str(),
            container_name: container.name.as_deref(),
            image: container.image.as_deref(),
            image_id: container.image_id.as_deref(),
            status: container.state.as_str(),
            verdict: VerdictView::from(&judged.verdict),
        }
    }
}

/// A verdict as JSON.
#[derive(PartialEq, Eq, Serialize)]
pub(super) struct VerdictView<'a> {
    verdict: &'a str,
    rule: Option<&'a str>,
    reason: Option<&'a str>,
    detail: Option<&'a str>,
    /// Only rules that audit allow it.
    would_deny: bool,
}

impl<'a> From<&'a Verdict> for VerdictView<'a> {
    fn from(verdict: &'a Verdict) -> Self {
        Self {
            verdict: verdict.as_str(),
            rule: verdict.rule(),
            reason: verdict.reason().map(|reason| reason.as_str()),
            detail: verdict.detail(),
            would_deny: matches!(
                verdict,
                Verdict::Allowed {
                    would_deny: true,
                    ..
                }
            ),
        }
    }
}
