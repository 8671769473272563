//! What a person has to know before anything else, in red: where enforcement is not happening, or not by
//! the list that was written last.

use std::path::Path;

use crate::api::listing::Listing;
use crate::status::{Enforcement, HeldList};
use crate::weigh::hold;

pub(super) fn banners(listing: &Listing, enforcement: &Enforcement, file: &Path) -> Vec<String> {
    let mut banners = Vec::new();
    let in_force = &enforcement.in_force.hash;
    let held = enforcement
        .held
        .as_deref()
        .map(|one| held(one, in_force, file));
    banners.extend(held);
    if !listing.engine.connected {
        banners.push(match listing.age {
            None => "The engine is out of reach and was never read.".to_owned(),
            Some(age) => format!(
                "The engine is out of reach: what follows is the last good reading, {:.0} s old.",
                age.as_secs_f64()
            ),
        });
    }
    if !enforcement.enforcing {
        let why = enforcement.hindrance.clone();
        let why = why.unwrap_or_else(|| format!("{} mode", enforcement.mode.as_str()));
        banners.push(format!("Denied containers are not being ended: {why}."));
    }
    if let Some(rejected) = &enforcement.rejected {
        banners.push(format!(
            "A newer list is not in force: {} (read {})",
            rejected.message,
            rejected.at.strftime("%F %T UTC")
        ));
    }
    banners
}

fn held(held: &HeldList, in_force: &str, file: &Path) -> String {
    let HeldList { hash, running, .. } = held;
    let names = held.names();
    let weighed = match &held.error {
        Some(error) => Err(error.as_str()),
        None => Ok((names.len(), *running, &*names)),
    };
    let why = hold(hash, in_force, weighed);
    let (first, rest) = why.split_at(1);
    let why = first.to_ascii_uppercase() + rest;
    match held.error {
        Some(_) => format!("{why}."),
        None => format!(
            "{why}. To accept it, run `dockwarden check --accept {}`, or write `guard = {{ accept = \"{hash}\" }}` into it.",
            file.display()
        ),
    }
}
