//! `dockwarden ps`: all containers with their verdicts.

use clap::Args;

use super::one_shot::{self, ListArguments, SourceArguments};
use super::table::{self, View};
use super::{Answer, FINE, Output, PrintArguments};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    list: ListArguments,
    #[command(flatten)]
    print: PrintArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Answer {
    let list = one_shot::load(&arguments.list.path()).await?;
    let judged = arguments.source.judged(&list).await?;
    match arguments.print.output {
        Output::Table => table::say_containers(&judged),
        Output::Json => {
            table::say_json(&judged.iter().map(View::from).collect::<Vec<_>>())?;
        }
    }
    Ok(FINE)
}
