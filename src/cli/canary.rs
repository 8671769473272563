//! `dockwarden canary`: proves that enforcement works, by starting what is forbidden.

use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::duration;
use super::one_shot::{self, note};
use super::{Answer, BAD_USAGE, EngineArguments, FINE, Failure, INTERNAL, NO, NO_ENGINE};
use super::{Output, PrintArguments, table};
use crate::canary::{self, Error, Flight, LABEL, Outcome, Plan, REPOSITORY, Summary};

/// What a shell adds to a signal's number for an exit code.
const BY_SIGNAL: u8 = 128;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    engine: EngineArguments,
    /// How many canaries, one after the other
    #[arg(
        long,
        env = "DOCKWARDEN_COUNT",
        value_name = "NUMBER",
        default_value = "10",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    count: u32,
    /// How long to wait between two
    #[arg(
        long,
        env = "DOCKWARDEN_INTERVAL",
        value_name = "DURATION",
        default_value = "1s",
        value_parser = duration::within(Duration::ZERO..)
    )]
    interval: Duration,
    /// A canary that still runs so long after its start has escaped
    #[arg(
        long,
        env = "DOCKWARDEN_TIMEOUT",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = duration::within(Duration::from_secs(1)..=Duration::from_secs(3_600))
    )]
    timeout: Duration,
    #[command(flatten)]
    print: PrintArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Answer {
    let plan = Plan {
        count: arguments.count,
        interval: arguments.interval,
        timeout: arguments.timeout,
    };
    let docker = one_shot::engine(&arguments.engine)?;
    let stop = CancellationToken::new();
    let signals = Signals::new().map_err(|error| Failure {
        code: INTERNAL,
        message: format!("signals: {error}"),
    })?;
    let mut interrupted = None;
    let flights = {
        let run = canary::run(&docker, &plan, &stop, |flight| tell(flight, &plan));
        tokio::pin!(run);
        tokio::select! {
            flights = &mut run => flights,
            number = signals.next() => {
                interrupted = Some(number);
                stop.cancel();
                run.await
            }
        }
    };
    let flights = flights.map_err(failure)?;
    let summary = Summary::of(&flights);
    match arguments.print.output {
        Output::Table => say(&summary),
        Output::Json => table::say_json(&summary)?,
    }
    Ok(match interrupted {
        _ if !summary.is_good() => NO,
        Some(number) => BY_SIGNAL + number,
        None => FINE,
    })
}

/// The signals that end the command; what was made is removed first.
struct Signals([(u8, Signal); 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            (1, signal(SignalKind::hangup())?),
            (2, signal(SignalKind::interrupt())?),
            (15, signal(SignalKind::terminate())?),
        ]))
    }

    /// The number of the next one.
    async fn next(self) -> u8 {
        let [(one, mut first), (two, mut second), (three, mut third)] = self.0;
        tokio::select! {
            _ = first.recv() => one,
            _ = second.recv() => two,
            _ = third.recv() => three,
        }
    }
}

/// Says at once what should not be.
fn tell(flight: &Flight, plan: &Plan) {
    let Flight {
        container_name: name,
        outcome,
        ..
    } = flight;
    match outcome {
        Outcome::Ended | Outcome::Paused | Outcome::NeverRan => {}
        Outcome::EndedItself => note(&format!(
            "{name} ended by itself, which proves nothing: can this engine run its program?"
        )),
        Outcome::Escaped => {
            let mark = name.trim_start_matches(REPOSITORY).trim_start_matches('-');
            note(&format!(
                "{name} still ran {} s after its start. Does a dockwarden run for this engine, and is its mode enforce? Does a rule allow it? `dockwarden explain --image {REPOSITORY}:{mark} --name {name} --label {LABEL}={mark}` tells",
                plan.timeout.as_secs()
            ));
        }
    }
}

fn say(summary: &Summary<'_>) {
    let number = |number: usize| number.to_string();
    let time = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.1}"));
    let cells = [
        ("COUNT", number(summary.count)),
        ("ENDED", number(summary.ended)),
        ("PAUSED", number(summary.paused)),
        ("NEVER RAN", number(summary.never_ran)),
        ("ENDED ITSELF", number(summary.ended_itself)),
        ("ESCAPED", number(summary.escaped)),
        ("P50 MS", time(summary.lived_ms.p50)),
        ("P99 MS", time(summary.lived_ms.p99)),
        ("MAX MS", time(summary.lived_ms.max)),
    ];
    let (header, row): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
    table::say_rows(&header, vec![(None, row)]);
}

fn failure(error: Error) -> Failure {
    let code = match &error {
        Error::Engine(error) => return one_shot::failure(error),
        Error::Platform(_) => BAD_USAGE,
        Error::Late | Error::Left { .. } => NO_ENGINE,
        Error::Name(_) | Error::Archive(_) => INTERNAL,
    };
    let why = match &error {
        Error::Left { source, .. } => Some(source.chain()),
        Error::Name(source) | Error::Archive(source) => Some(source.to_string()),
        _ => None,
    };
    Failure {
        code,
        message: match why {
            Some(why) => format!("{error}: {why}"),
            None => error.to_string(),
        },
    }
}
