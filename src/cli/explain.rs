//! `dockwarden explain`: the verdict on one container, real, gone or imagined, rule by rule.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::one_shot::{self, Judged, ListArguments, SourceArguments, unreadable};
use super::table::{self, View};
use super::{Answer, FINE, Failure, NO, NO_ENGINE, Output, PrintArguments};
use crate::allowlist::Verdict;
use crate::container::{Container, ContainerId, LookUp, Who};
use crate::grant::Power;
use crate::image::Reference;
use crate::journal::{self, Filter};
use crate::record::Record;
use crate::status::LoadedList;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A container: its full id, else its name, else the beginning of its id
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
    /// ... with this power, such as host-network or bind:/srv/www:ro
    #[arg(long = "power", value_name = "POWER", requires = "image")]
    powers: Vec<String>,
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    list: ListArguments,
    /// Where to look for a container that is gone
    #[arg(long, env = "DOCKWARDEN_AUDIT_LOG", value_name = "FILE")]
    audit_log: Option<PathBuf>,
    #[command(flatten)]
    print: PrintArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Answer {
    let list = one_shot::load(&arguments.list.path()).await?;
    if let Some(image) = &arguments.image {
        let container = imagined(image, arguments)?;
        let verdict = list.list.judge(&container, Timestamp::now());
        return say(
            &Judged::alone(container, verdict),
            &list,
            arguments.print.output,
        );
    }
    let wanted = arguments.container.as_deref().unwrap_or_default();
    let judged = match arguments.source.judged(&list).await {
        Ok(judged) => judged,
        // What is on record can be told without an engine.
        Err(failure) if failure.code == NO_ENGINE && arguments.audit_log.is_some() => {
            one_shot::note(&format!("{}; looking in the audit log", failure.message));
            return match who(wanted, &[], arguments)? {
                None => Err(failure),
                Some(who) => say_records(&records(who, arguments)?, arguments.print.output),
            };
        }
        Err(failure) => return Err(failure),
    };
    let Some(who) = who(wanted, &judged, arguments)? else {
        let message = format!("no container is called `{wanted}`");
        return Err(Failure::bad_usage(message));
    };
    let here = judged.iter().filter(|one| who.is(one.container.calls()));
    match here.collect::<Vec<_>>().as_slice() {
        [] => say_records(&records(who, arguments)?, arguments.print.output),
        [found] => say(found, &list, arguments.print.output),
        several => Err(Failure::bad_usage(format!(
            "{} containers can be meant by `{wanted}`",
            several.len()
        ))),
    }
}

/// Who is meant, of those that are here and those on record.
fn who(wanted: &str, here: &[Judged], arguments: &Arguments) -> Result<Option<Who>, Failure> {
    let here = here.iter().map(|one| one.container.calls());
    let mut look_up = LookUp::among(wanted, here);
    if let Some(log) = &arguments.audit_log
        && !look_up.is_certain()
    {
        let seen = journal::look_up(log, &mut look_up);
        seen.map_err(|error| unreadable(log, &error))?;
    }
    let found = look_up.found();
    found.map_err(|several| Failure::bad_usage(several.to_string()))
}

fn say(judged: &Judged, list: &LoadedList, output: Output) -> Answer {
    let (container, verdict) = (&judged.container, &judged.verdict);
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
            "container": View::from(judged),
            "image_normalized": normalized(container),
            "rules": rules,
        }))?,
    }
    Ok(if verdict.is_denied() { NO } else { FINE })
}

/// Its image's name in fully expanded form.
fn normalized(container: &Container) -> Option<String> {
    let mut names = container.names_of_image().filter_map(Reference::parse);
    names.next().map(|name| name.to_string())
}

/// What was put on record of a container that the engine no longer knows, newest first.
fn records(who: Who, arguments: &Arguments) -> Result<Vec<Record>, Failure> {
    let Some(log) = &arguments.audit_log else {
        return Ok(Vec::new());
    };
    let filter = Filter {
        container: Some(who),
        ..Filter::default()
    };
    journal::search(log, &filter, 100).map_err(|error| unreadable(log, &error))
}

fn say_records(records: &[Record], output: Output) -> Answer {
    match output {
        Output::Json => table::say_json(&records)?,
        Output::Table => {
            for record in records {
                let name = record.container_name.as_deref();
                let name = name.unwrap_or(record.container_id.short());
                let became = record.became().map(|became| format!(", {became}"));
                let became = became.unwrap_or_default();
                let mut line = format!("{} {name}: {}{became}", record.time, record.verdict);
                let rule = record.rule.as_deref().filter(|_| record.reason.is_none());
                let rule = rule.map(|rule| format!("rule `{rule}`"));
                let reason = record.reason.map(|reason| reason.as_str());
                let detail = record.detail.as_deref();
                for part in [rule.as_deref(), reason, detail].into_iter().flatten() {
                    line.push_str(": ");
                    line.push_str(part);
                }
                table::say(&line);
            }
        }
    }
    let is_denied = records
        .first()
        .is_some_and(|newest| newest.verdict == "denied");
    Ok(if is_denied { NO } else { FINE })
}

fn imagined(image: &str, arguments: &Arguments) -> Result<Container, Failure> {
    if Reference::parse(image).is_none() {
        return Err(Failure::bad_usage(format!(
            "`{image}` is no image reference"
        )));
    }
    let id = ContainerId::parse(&"0".repeat(64))
        .ok_or_else(|| Failure::bad_usage("an imagined container has no id"))?;
    let labels: Option<BTreeMap<_, _>> = arguments
        .labels
        .iter()
        .map(|label| {
            let (key, value) = label.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        })
        .collect();
    let labels = labels.ok_or_else(|| Failure::bad_usage("--label takes KEY=VALUE"))?;
    let powers: Result<_, _> = arguments
        .powers
        .iter()
        .map(|text| Power::parse(text).ok_or_else(|| no_power(text)))
        .collect();
    Ok(Container {
        name: Some(
            arguments
                .name
                .clone()
                .unwrap_or_else(|| "imagined".to_owned()),
        ),
        image: Some(image.to_owned()),
        // A digest that is typed is the content that is imagined.
        image_names: Some(vec![image.to_owned()]),
        powers: Some(powers?),
        runs_image_command: Some(true),
        ancestors: Some(Vec::new()),
        labels: Some(labels.into()),
        ..Container::new(id)
    })
}

fn no_power(text: &str) -> Failure {
    Failure::bad_usage(format!(
        "`{text}` is no power: a container has what a grant names, such as host-network"
    ))
}
