//! `dockwarden schema`: what editors complete and check an allowlist by.

use super::{Answer, FINE, table};

/// JSON Schema, draft 2020-12, of `allowlist.toml`.
const SCHEMA: &str = include_str!("../../allowlist.schema.json");

pub(super) fn run() -> Answer {
    table::say(SCHEMA.trim_end());
    Ok(FINE)
}
