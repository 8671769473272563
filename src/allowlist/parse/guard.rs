//! The key `guard`.

use toml::de::{DeTable, DeValue};

use super::{Value, Walk};
use crate::allowlist::Guard;

const KEYS: &[&str] = &["share", "min", "accept"];

impl Walk {
    pub(super) fn guard(&mut self, document: &DeTable<'_>) -> Guard {
        let default = Guard::default();
        let Some(value) = document.get("guard") else {
            return default;
        };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type("guard", value, "a table, such as { share = 0.5, min = 5 }");
            return default;
        };
        self.unknown_keys(table, KEYS);
        Guard {
            share: self.share(table).unwrap_or(default.share),
            min: self.count(table, "min").unwrap_or(default.min),
            accept: self.accepted_hash(table).map(Into::into),
        }
    }

    fn share(&mut self, table: &DeTable<'_>) -> Option<f64> {
        const WANTED: &str = "a number from 0 to 1";
        let value = table.get("share")?;
        let Some(number) = number(value) else {
            self.wrong_type("share", value, WANTED);
            return None;
        };
        if (0.0..=1.0).contains(&number) {
            return Some(number);
        }
        self.error(
            value.span(),
            format!("`share` can't be {number}"),
            Some(format!("allowed here: {WANTED}")),
        );
        None
    }

    fn accepted_hash(&mut self, table: &DeTable<'_>) -> Option<String> {
        let value = table.get("accept")?;
        let hash = self.text(table, "accept")?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hash.len() == 64 && hash.bytes().all(is_digit) {
            return Some(hash);
        }
        self.error(
            value.span(),
            "`accept` is not the hash of a list",
            Some("allowed here: the 64 hex digits that a held list is told with".to_owned()),
        );
        None
    }
}

/// A number with or without a fraction.
fn number(value: &Value<'_>) -> Option<f64> {
    match value.get_ref() {
        DeValue::Float(float) => float.as_str().replace('_', "").parse().ok(),
        DeValue::Integer(integer) => integer.to_string().parse().ok(),
        _ => None,
    }
}
