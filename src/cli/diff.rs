//! `dockwarden diff`: which running containers change verdict between two lists.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::one_shot::{self, Judged, SourceArguments};
use super::table::{self, VerdictView};
use super::{Answer, FINE, NO, Output, PrintArguments};
use crate::allowlist::Verdict;
use crate::printable::counted;
use crate::status::LoadedList;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The one list
    old: PathBuf,
    /// The other
    new: PathBuf,
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    print: PrintArguments,
}

/// A container under both lists.
type Pair = (Judged, Judged);

pub(super) async fn run(arguments: &Arguments) -> Answer {
    let old = one_shot::load(&arguments.old).await?;
    let new = one_shot::load(&arguments.new).await?;
    let seen = arguments
        .source
        .see(&|container| {
            let now = Timestamp::now();
            let question = old.list.question(container, now);
            question.or_else(|| new.list.question(container, now))
        })
        .await?;
    let judged = |list: &LoadedList| -> Vec<Judged> {
        let all = seen.iter().flat_map(|seen| seen.judged(&list.list));
        all.filter(|one| one.container.state.is_live()).collect()
    };
    let (before, after) = (judged(&old), judged(&new));
    // Both are in the same order: that of the containers' names.
    let pairs: Vec<Pair> = before.into_iter().zip(after).collect();
    one_shot::warn_of_unknown(pairs.iter().map(less_known));
    let (changed, same): (Vec<Pair>, Vec<Pair>) = pairs
        .into_iter()
        .partition(|(old, new)| old.verdict.as_str() != new.verdict.as_str());
    match arguments.print.output {
        Output::Table => say(&changed),
        Output::Json => {
            let is_otherwise_changed = |(old, new): &&Pair| {
                VerdictView::from(&old.verdict) != VerdictView::from(&new.verdict)
            };
            let otherwise = same.iter().filter(is_otherwise_changed);
            table::say_json(&json!({
                "old": { "file": arguments.old, "hash": old.hash },
                "new": { "file": arguments.new, "hash": new.hash },
                "changed": changed.iter().map(View::from).collect::<Vec<_>>(),
                "same_verdict": otherwise.map(View::from).collect::<Vec<_>>(),
            }))?;
        }
    }
    Ok(if changed.is_empty() { FINE } else { NO })
}

fn less_known((old, new): &Pair) -> &Judged {
    match old.verdict {
        Verdict::Unknown => old,
        _ => new,
    }
}

fn say(changed: &[Pair]) {
    if changed.is_empty() {
        table::say("no running container changes verdict");
        return;
    }
    let change = if changed.len() == 1 {
        "changes"
    } else {
        "change"
    };
    table::say(&format!(
        "{} {change} verdict:",
        counted(changed.len(), "container")
    ));
    let rows = changed.iter().map(|(old, new)| {
        let container = &old.container;
        let cells = [
            container.id.short(),
            container.name.as_deref().unwrap_or_default(),
            container.image.as_deref().unwrap_or_default(),
            &in_short(&old.verdict),
            &in_short(&new.verdict),
            new.verdict.detail().unwrap_or_default(),
        ];
        (old.host.clone(), cells.map(str::to_owned).to_vec())
    });
    let header = ["CONTAINER ID", "NAME", "IMAGE", "OLD", "NEW", "WHY"];
    table::say_rows(&header, rows.collect());
}

fn in_short(verdict: &Verdict) -> String {
    let word = verdict.as_str();
    match (verdict.reason(), verdict.rule()) {
        (Some(reason), _) => format!("{word}, {reason}"),
        (None, Some(rule)) => format!("{word}, rule {rule}"),
        (None, None) => word.to_owned(),
    }
}

/// A container under both lists, as JSON.
#[derive(Serialize)]
struct View<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    container_id: &'a str,
    container_name: Option<&'a str>,
    image: Option<&'a str>,
    status: &'a str,
    old: VerdictView<'a>,
    new: VerdictView<'a>,
}

impl<'a> From<&'a Pair> for View<'a> {
    fn from((old, new): &'a Pair) -> Self {
        let container = &old.container;
        Self {
            host: old.host.as_deref(),
            container_id: container.id.as_str(),
            container_name: container.name.as_deref(),
            image: container.image.as_deref(),
            status: container.state.as_str(),
            old: VerdictView::from(&old.verdict),
            new: VerdictView::from(&new.verdict),
        }
    }
}
