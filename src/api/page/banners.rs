//! What a person has to know before anything else, in red: where enforcement is not happening, or not by
//! the list that was written last.

use crate::api::listing::Listing;
use crate::status::{Enforcement, HeldList};

/// How many containers a banner names.
const NAMES: usize = 10;

pub(super) fn banners(listing: &Listing, enforcement: &Enforcement) -> Vec<String> {
    let mut banners = Vec::new();
    banners.extend(enforcement.held.as_deref().map(held));
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
            "A newer list is not in force: {} (read at {})",
            rejected.message, rejected.at
        ));
    }
    banners
}

fn held(held: &HeldList) -> String {
    let HeldList { hash, running, .. } = held;
    let accept = format!("`guard = {{ accept = \"{hash}\" }}` in it lets it come into force.");
    match &held.error {
        Some(error) => format!(
            "A newer list is held back, as nobody can tell what it would end: {error}. {accept}"
        ),
        None => {
            let mut names = held.names();
            names.truncate(NAMES);
            let more = held.would_end.len() - names.len();
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!(
                "A newer list is held back: it would end {} of the {running} containers that run: {}{more}. {accept}",
                held.would_end.len(),
                names.join(", "),
            )
        }
    }
}
