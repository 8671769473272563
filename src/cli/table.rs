//! Tables and JSON on standard output. Foreign names are stripped of what steers a terminal.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::{Failure, INTERNAL};
use crate::allowlist::Verdict;
use crate::container::Container;

/// Prints a line.
#[allow(clippy::print_stdout)] // The answer of a command goes here.
pub(super) fn say(text: &str) {
    println!("{}", printable(text));
}

/// Prints a value as JSON.
pub(super) fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure {
        code: INTERNAL,
        message: error.to_string(),
    })?;
    say(&text);
    Ok(())
}

/// Prints containers with their verdicts.
pub(super) fn say_containers<'a>(judged: impl IntoIterator<Item = &'a (Container, Verdict)>) {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(["CONTAINER ID", "NAME", "IMAGE", "STATUS", "VERDICT", "WHY"]);
    for (container, verdict) in judged {
        let why = match verdict {
            Verdict::Allowed {
                rule,
                would_deny: false,
            } => format!("rule {rule}"),
            Verdict::Allowed { rule, .. } => format!("rule {rule}, audit: would deny"),
            Verdict::Denied { reason, detail, .. } => format!("{reason}: {detail}"),
            Verdict::Unknown | Verdict::Own => String::new(),
        };
        table.add_row(
            [
                container.id.short(),
                container.name.as_deref().unwrap_or_default(),
                container.image.as_deref().unwrap_or_default(),
                container.state.as_str(),
                verdict.as_str(),
                &why,
            ]
            .map(printable),
        );
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
        column.set_cell_alignment(CellAlignment::Left);
    }
    for line in table.lines() {
        say(line.trim_end());
    }
}

/// The same text without control characters, line ends aside.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' => '\n',
            character if character.is_control() => '\u{fffd}',
            // Marks that turn the direction of writing make one name look like another.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                '\u{fffd}'
            }
            character => character,
        })
        .collect()
}

/// A judged container as JSON.
#[derive(Serialize)]
pub(super) struct Judged<'a> {
    container_id: &'a str,
    container_name: Option<&'a str>,
    image: Option<&'a str>,
    image_id: Option<&'a str>,
    status: &'a str,
    verdict: &'a str,
    rule: Option<&'a str>,
    reason: Option<&'a str>,
    detail: Option<&'a str>,
}

impl<'a> From<&'a (Container, Verdict)> for Judged<'a> {
    fn from((container, verdict): &'a (Container, Verdict)) -> Self {
        Self {
            container_id: container.id.as_str(),
            container_name: container.name.as_deref(),
            image: container.image.as_deref(),
            image_id: container.image_id.as_deref(),
            status: container.state.as_str(),
            verdict: verdict.as_str(),
            rule: verdict.rule(),
            reason: verdict.reason().map(|reason| reason.as_str()),
            detail: verdict.detail(),
        }
    }
}
