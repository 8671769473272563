//! `dockwarden restore`: starts again what was ended and is allowed now.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use jiff::Timestamp;
use serde_json::json;

use super::daemon::state_beside;
use super::duration;
use super::one_shot::{self, ListArguments, note, unreadable};
use super::table;
use super::{Answer, EngineArguments, FINE, Failure, NO, Output, PrintArguments};
use crate::container::{ContainerId, LookUp};
use crate::journal::{self, Filter};
use crate::printable::counted;
use crate::record::Outcome as RecordOutcome;
use crate::restore::{Ended, Outcome, Restorer, ended};
use crate::state::{self, Remembered};
use crate::status::LoadedList;

type Remembrance = BTreeMap<ContainerId, Remembered>;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Containers that were ended: full ids, else names, else beginnings of ids [default: all that were]
    containers: Vec<String>,
    /// Only those that were ended so long ago at most, such as 1h
    #[arg(
        long,
        env = "DOCKWARDEN_SINCE",
        value_name = "DURATION",
        value_parser = duration::within(Duration::from_secs(1)..)
    )]
    since: Option<Duration>,
    /// The log that says what was ended
    #[arg(long, env = "DOCKWARDEN_AUDIT_LOG", value_name = "FILE")]
    audit_log: PathBuf,
    /// The controller's state, which says what list is in force [default: dockwarden-state beside the
    /// audit log]
    #[arg(long, env = "DOCKWARDEN_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    list: ListArguments,
    #[command(flatten)]
    engine: EngineArguments,
    /// Show what would be started, and start nothing
    #[arg(long, env = "DOCKWARDEN_DRY_RUN", value_parser = BoolishValueParser::new())]
    dry_run: bool,
    #[command(flatten)]
    print: PrintArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Answer {
    let since = arguments
        .since
        .map(|since| Timestamp::now().checked_sub(since));
    let since = since
        .transpose()
        .map_err(|error| Failure::bad_usage(error.to_string()))?;
    let filter = Filter {
        verdict: Some("denied".to_owned()),
        since,
        ..Filter::default()
    };
    let records = journal::search(&arguments.audit_log, &filter, usize::MAX);
    let mut records = records.map_err(|error| unreadable(&arguments.audit_log, &error))?;
    // What is `gone` may have been ended by a process that did not live to put it on record.
    records.retain(|record| {
        matches!(
            record.outcome,
            Some(RecordOutcome::Done | RecordOutcome::Gone)
        )
    });
    let (list, remembered) = known(arguments).await?;
    let ended = ended(records, &remembered);
    let (found, is_whole) = asked_for(ended, arguments)?;
    let engine = one_shot::engine(&arguments.engine)?;
    let surroundings = one_shot::surroundings(&engine).await?;
    let restorer = Restorer {
        engine: &engine,
        list: &list.list,
        surroundings: &surroundings,
        remembered: &remembered,
        is_dry: arguments.dry_run,
    };
    let mut all = Vec::new();
    for ended in found {
        let outcome = restorer.restore(&ended).await;
        all.push((ended, outcome));
    }
    say(arguments.print.output, &all)?;
    let is_asked_for = !arguments.containers.is_empty();
    let has_failed = all.iter().any(|(_, outcome)| match outcome {
        Outcome::Failed(_) => true,
        Outcome::Denied(_) | Outcome::Removed => is_asked_for,
        _ => false,
    });
    Ok(if has_failed || !is_whole { NO } else { FINE })
}

/// Those of them that are asked for, and whether that is everyone who is.
fn asked_for(all: Vec<Ended>, arguments: &Arguments) -> Result<(Vec<Ended>, bool), Failure> {
    if arguments.containers.is_empty() {
        return Ok((all, true));
    }
    let mut meant = Vec::new();
    for word in &arguments.containers {
        let mut look_up = LookUp::among(word, all.iter().map(Ended::calls));
        // Who was never ended, or not lately, is meant by its name all the same, and not whose id begins so.
        if !look_up.is_certain() {
            let seen = journal::look_up(&arguments.audit_log, &mut look_up);
            seen.map_err(|error| unreadable(&arguments.audit_log, &error))?;
        }
        match look_up.found() {
            Ok(Some(who)) if all.iter().any(|ended| who.is(ended.calls())) => meant.push(who),
            Ok(_) => note(&format!("{word}: no record says that it was ended")),
            Err(several) => note(&several.to_string()),
        }
    }
    let is_whole = meant.len() == arguments.containers.len();
    let is_meant = |ended: &Ended| meant.iter().any(|who| who.is(ended.calls()));
    Ok((all.into_iter().filter(is_meant).collect(), is_whole))
}

/// The list in force and what is known of containers, as the controller wrote it down; else the file,
/// and nothing.
async fn known(arguments: &Arguments) -> Result<(LoadedList, Remembrance), Failure> {
    let directory = arguments.state_dir.clone();
    let directory = directory.or_else(|| state_beside(&arguments.audit_log));
    if let Some(directory) = directory {
        let unreadable = |error| unreadable(&directory, &error);
        let accepted = state::accepted(&directory).map_err(unreadable)?;
        if let Some(accepted) = accepted {
            let remembered = state::remembered(&directory).map_err(unreadable)?;
            return Ok((accepted.list, remembered));
        }
    }
    let list = one_shot::load(&arguments.list.path()).await?;
    Ok((list, Remembrance::new()))
}

fn say(output: Output, all: &[(Ended, Outcome)]) -> Result<(), Failure> {
    if output == Output::Json {
        let views = all.iter().map(|(ended, outcome)| {
            let mut view = json!(ended);
            if let (Some(view), Some(outcome)) = (view.as_object_mut(), json!(outcome).as_object())
            {
                view.extend(outcome.clone());
            }
            view
        });
        return table::say_json(&views.collect::<Vec<_>>());
    }
    if all.is_empty() {
        table::say("nothing on record was ended");
        return Ok(());
    }
    let rows = all.iter().map(|(ended, outcome)| {
        let cells = [
            ended.container_id.short().to_owned(),
            ended.container_name.clone().unwrap_or_default(),
            ended.image.clone().unwrap_or_default(),
            ended.ended_at.strftime("%F %T").to_string(),
            sentence(outcome),
        ];
        (None, cells.to_vec())
    });
    table::say_rows(
        &["CONTAINER ID", "NAME", "IMAGE", "ENDED", "NOW"],
        rows.collect(),
    );
    let started = all
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Started | Outcome::Resumed));
    note(&format!(
        "{} started again",
        counted(started.count(), "container")
    ));
    Ok(())
}

fn sentence(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Started => "started".to_owned(),
        Outcome::Resumed => "resumed".to_owned(),
        Outcome::WouldStart => "would be started".to_owned(),
        Outcome::RanSince => "left alone: it runs, or has run since".to_owned(),
        Outcome::Removed => "gone: it was removed".to_owned(),
        Outcome::Denied(detail) => format!("left alone, it is denied: {detail}"),
        Outcome::Failed(error) => format!("failed: {error}"),
    }
}
