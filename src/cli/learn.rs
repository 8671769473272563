//! `dockwarden learn`: a list for what runs now, or for what audit logs saw. The list alone goes to
//! standard output.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::one_shot::{SourceArguments, note, unreadable};
use super::{Answer, FINE, Failure, INTERNAL, table};
use crate::allowlist::Allowlist;
use crate::canary;
use crate::journal::{self, Filter};
use crate::learn::{PinBy, Sighting, learn};
use crate::look;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,
    /// Audit logs to learn from in place of an engine: all that was seen, allowed or not
    #[arg(long, env = "DOCKWARDEN_FROM", value_name = "FILE", num_args = 1..)]
    from: Vec<PathBuf>,
    /// What pins the images' content
    #[arg(
        long,
        env = "DOCKWARDEN_PIN",
        value_name = "BY",
        default_value = "digest"
    )]
    pin: Pin,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Pin {
    /// A repo digest, and the image's id where there is none
    Digest,
    /// The image's id
    Id,
    /// Nothing
    None,
}

pub(super) async fn run(arguments: &Arguments) -> Answer {
    let mut sightings = from_logs(&arguments.from)?;
    if arguments.from.is_empty() || arguments.source.is_saved() {
        sightings.extend(from_source(&arguments.source).await?);
    }
    sightings.retain(|sighting| !canary::is_one(&sighting.container));
    let pin = match arguments.pin {
        Pin::Digest => PinBy::Digest,
        Pin::Id => PinBy::Id,
        Pin::None => PinBy::Nothing,
    };
    let learned = learn(sightings, pin);
    Allowlist::parse(learned.text.as_bytes()).map_err(|error| Failure {
        code: INTERNAL,
        message: format!("what was learned is no valid list: {error}"),
    })?;
    for text in &learned.notes {
        note(text);
    }
    table::say(learned.text.trim_end());
    Ok(FINE)
}

/// What runs. dockwarden's own container is learned like any other: where it can't prove itself, or
/// looks from outside, it is judged like any other.
async fn from_source(source: &SourceArguments) -> Result<Vec<Sighting>, Failure> {
    let (seen, engine_host) = source.see_with_host(&look::everything).await?;
    let sightings = seen.into_iter().flat_map(|seen| {
        let host = seen.host.or(engine_host.clone()).unwrap_or_default();
        let source: Arc<str> = format!("what runs on {host}").into();
        let live = seen.containers.into_iter();
        let live = live.filter(|container| container.state.is_live());
        live.map(move |container| Sighting {
            source: source.clone(),
            container,
        })
    });
    Ok(sightings.collect())
}

fn from_logs(files: &[PathBuf]) -> Result<Vec<Sighting>, Failure> {
    let mut sightings = Vec::new();
    for file in files {
        let records = journal::search(file, &Filter::default(), usize::MAX)
            .map_err(|error| unreadable(file, &error))?;
        if records.is_empty() {
            note(&format!("{}: no record of a container", file.display()));
        }
        sightings.extend(records.into_iter().map(Sighting::of_record));
    }
    Ok(sightings)
}
