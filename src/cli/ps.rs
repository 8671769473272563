//! `dockwarden ps`: all containers with their verdicts.

use clap::Args;

use super::one_shot::{self, ListArguments};
use super::table::{self, Judged};
use super::{Answer, EngineArguments, FINE, Output};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    list: ListArguments,
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
    let engine = one_shot::engine(&arguments.engine)?;
    let judged = one_shot::judged(&engine, &list).await?;
    match arguments.output {
        Output::Table => table::say_containers(&judged),
        Output::Json => {
            table::say_json(&judged.iter().map(Judged::from).collect::<Vec<_>>())?;
        }
    }
    Ok(FINE)
}
