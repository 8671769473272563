//! `dockwarden explain`: the verdict on one container, real, gone or imagined, rule by rule.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::one_shot::{self, ListArguments};
use super::table::{self, Judged};
use super::{Answer, EngineArguments, FINE, Failure, NO, Output};
use crate::allowlist::Verdict;
use crate::container::{Container, ContainerId};
use crate::image::Reference;
use crate::journal::{self, Filter};
use crate::status::LoadedList;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A container's name, id, or the beginning of its id
    #[arg(required_unless_present = "image", conflicts_with = "image")]
    container: Option<String>,
    /// Imagine a container from this image
    #[arg(long, value_name = "REF")]
    image: Option<String>,
    /// ... with this name
    #[arg(long, value_name = "NAME", requires = "image")]
    name: Option<String>,
    /// ... with this label
    #[arg(long = "label", value_name = "KEY=VALUE", requires = "image")]
    labels: Vec<String>,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    list: ListArguments,
    /// Where to look for a container that is gone
    #[arg(long, env = "DOCKWARDEN_AUDIT_LOG", value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// How to print
    #[arg(
        long,
        env = "DOCKWARDEN_OUTPUT",
        value_name = "FORM",
        default_value = "table"
    )]
    output: Output,
}

pub(super) async fn run(arguments: &Arguments) -> Answer {
    let list = one_shot::load(&arguments.list.path()).await?;
    if let Some(image) = &arguments.image {
        let container = imagined(image, arguments.name.as_deref(), &arguments.labels)?;
        let verdict = list.list.judge(&container, Timestamp::now());
        return say(&(container, verdict), &list, arguments.output);
    }
    let wanted = arguments.container.as_deref().unwrap_or_default();
    let engine = one_shot::engine(&arguments.engine)?;
    let judged = one_shot::judged(&engine, &list).await?;
    let by_name = judged
        .iter()
        .find(|(container, _)| container.name.as_deref() == Some(wanted));
    let by_id: Vec<_> = judged
        .iter()
        .filter(|(container, _)| container.id.begins_with(wanted))
        .collect();
    match (by_name, by_id.as_slice()) {
        (Some(found), _) => say(found, &list, arguments.output),
        (None, [found]) => say(found, &list, arguments.output),
        (None, []) => gone(wanted, arguments),
        (None, several) => Err(Failure::bad_usage(format!(
            "{} containers' ids begin with `{wanted}`",
            several.len()
        ))),
    }
}

fn say(judged: &(Container, Verdict), list: &LoadedList, output: Output) -> Answer {
    let (container, verdict) = judged;
    let rules = list.list.explain(container, Timestamp::now());
    match output {
        Output::Table => {
            let name = container.display_name();
            table::say(&match verdict {
                Verdict::Denied { reason, detail, .. } => {
                    format!("{name}: denied, {reason}: {detail}")
                }
                Verdict::Allowed {
                    rule,
                    would_deny: false,
                } => {
                    format!("{name}: allowed by rule `{rule}`")
                }
                Verdict::Allowed { rule, .. } => {
                    format!(
                        "{name}: allowed by rule `{rule}`, which only audits: it would be denied"
                    )
                }
                Verdict::Unknown | Verdict::Own => format!("{name}: {}", verdict.as_str()),
            });
            for rule in &rules {
                let matches = if rule.matches {
                    "matches"
                } else {
                    "does not match"
                };
                table::say(&format!("  rule `{}` {matches}", rule.rule));
                for key in &rule.keys {
                    table::say(&format!(
                        "    {} {key}",
                        if key.matches { "+" } else { "-" }
                    ));
                }
            }
        }
        Output::Json => table::say_json(&json!({
            "container": Judged::from(judged),
            "rules": rules,
        }))?,
    }
    Ok(if verdict.is_denied() { NO } else { FINE })
}

/// A container that the engine no longer knows, by what was put on record.
fn gone(wanted: &str, arguments: &Arguments) -> Answer {
    let unknown = || Failure::bad_usage(format!("no container is called `{wanted}`"));
    let path = arguments.audit_log.as_deref().ok_or_else(unknown)?;
    let filter = Filter {
        container: Some(wanted.to_owned()),
        ..Filter::default()
    };
    let records = journal::search(path, &filter, 100)
        .map_err(|error| Failure::bad_usage(format!("{}: {error}", path.display())))?;
    let newest = records.first().ok_or_else(unknown)?;
    match arguments.output {
        Output::Json => table::say_json(&records)?,
        Output::Table => {
            for record in &records {
                let mut line = format!("{} {wanted}: {}", record.time, record.verdict);
                let reason = record.reason.map(|reason| reason.as_str());
                let outcome = record.outcome.map(|outcome| outcome.as_str());
                for part in [reason, record.detail.as_deref(), outcome]
                    .into_iter()
                    .flatten()
                {
                    line.push_str(": ");
                    line.push_str(part);
                }
                table::say(&line);
            }
        }
    }
    Ok(if newest.verdict == "denied" { NO } else { FINE })
}

fn imagined(image: &str, name: Option<&str>, labels: &[String]) -> Result<Container, Failure> {
    if Reference::parse(image).is_none() {
        return Err(Failure::bad_usage(format!(
            "`{image}` is no image reference"
        )));
    }
    let id = ContainerId::parse(&"0".repeat(64))
        .ok_or_else(|| Failure::bad_usage("an imagined container has no id"))?;
    let labels: Option<_> = labels
        .iter()
        .map(|label| {
            let (key, value) = label.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        })
        .collect();
    let labels = labels.ok_or_else(|| Failure::bad_usage("--label takes KEY=VALUE"))?;
    Ok(Container {
        name: Some(name.unwrap_or("imagined").to_owned()),
        image: Some(image.to_owned()),
        // A digest that is typed is the content that is imagined.
        image_names: Some(vec![image.to_owned()]),
        powers: Some(BTreeSet::new()),
        runs_image_command: Some(true),
        ancestors: Some(Vec::new()),
        labels: Some(labels),
        ..Container::new(id)
    })
}
