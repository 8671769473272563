//! Values of one type, whatever key they belong to, and what is said of those that aren't.

use std::ops::Range;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use toml::de::{DeInteger, DeTable, DeValue};

use super::{Diagnostic, ERRORS_MAX, Value, Walk};
use crate::grant::Grant;

/// The longest `stop-timeout`. A denied container that may run on for longer is as good as allowed.
const SECONDS_MAX: i64 = 3600;

impl Walk {
    pub(super) fn error(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        if self.diagnostics.len() < ERRORS_MAX {
            self.diagnostics.push(Diagnostic {
                span,
                message: message.into(),
                help,
            });
        }
    }

    pub(super) fn missing(&mut self, span: Range<usize>, message: &str, help: &str) {
        if !self.is_cut {
            self.error(span, message, Some(help.to_owned()));
        }
    }

    pub(super) fn wrong_type(&mut self, key: &str, value: &Value<'_>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.error(
            value.span(),
            format!("`{key}` can't be of type {found}"),
            Some(format!("allowed here: {wanted}")),
        );
    }

    /// Refuses every key that is not in `known`.
    pub(super) fn unknown_keys(&mut self, table: &DeTable<'_>, known: &[&str]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let message = format!("unknown key `{name}`");
            let help = format!("allowed here: {}", known.join(", "));
            self.error(key.span(), message, Some(help));
        }
    }

    pub(super) fn word<T: Copy>(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        all: &[T],
        as_str: fn(T) -> &'static str,
    ) -> Option<T> {
        let value = table.get(key)?;
        let words: Vec<_> = all.iter().map(|one| as_str(*one)).collect();
        let Some(word) = value.get_ref().as_str() else {
            self.wrong_type(key, value, &format!("one of {}", words.join(", ")));
            return None;
        };
        let found = all.iter().copied().find(|one| as_str(*one) == word);
        if found.is_none() {
            self.error(
                value.span(),
                format!("unknown {key} `{word}`"),
                Some(format!("allowed here: {}", words.join(", "))),
            );
        }
        found
    }

    pub(super) fn boolean(&mut self, table: &DeTable<'_>, key: &str, default: bool) -> bool {
        let Some(value) = table.get(key) else {
            return default;
        };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(key, value, "true or false");
            default
        })
    }

    /// A whole number from 1.
    pub(super) fn count(&mut self, table: &DeTable<'_>, key: &str) -> Option<u32> {
        let value = table.get(key)?;
        let wanted = format!("a whole number from 1 to {}", u32::MAX);
        let Some(number) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, &wanted);
            return None;
        };
        let count = small(number).filter(|count| *count >= 1);
        if count.is_none() {
            self.error(
                value.span(),
                format!("`{key}` can't be {number}"),
                Some(format!("allowed here: {wanted}")),
            );
        }
        count
    }

    pub(super) fn text(&mut self, table: &DeTable<'_>, key: &str) -> Option<String> {
        let value = table.get(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, "a text");
        }
        text.map(str::to_owned)
    }

    /// The texts of a key that takes one or a list of them, with their places.
    pub(super) fn texts(&mut self, table: &DeTable<'_>, key: &str) -> Vec<(String, Range<usize>)> {
        const WANTED: &str = "a text or a list of texts";
        let Some(value) = table.get(key) else {
            return Vec::new();
        };
        match value.get_ref() {
            DeValue::String(text) => vec![(text.clone().into_owned(), value.span())],
            DeValue::Array(array) => {
                if array.is_empty() {
                    self.error(
                        value.span(),
                        format!("`{key}` is an empty list and would match nothing"),
                        Some("leave the key out to match anything".to_owned()),
                    );
                }
                self.elements(key, array.iter(), WANTED)
            }
            _ => {
                self.wrong_type(key, value, WANTED);
                Vec::new()
            }
        }
    }

    fn elements<'a>(
        &mut self,
        key: &str,
        array: impl Iterator<Item = &'a Value<'a>>,
        wanted: &str,
    ) -> Vec<(String, Range<usize>)> {
        let mut texts = Vec::new();
        for element in array {
            match element.get_ref().as_str() {
                Some(text) => texts.push((text.to_owned(), element.span())),
                None => self.wrong_type(key, element, wanted),
            }
        }
        texts
    }

    /// The key `grants`. An empty list grants nothing; no list does not look at powers.
    pub(super) fn grants(&mut self, table: &DeTable<'_>) -> Option<Vec<Grant>> {
        const WANTED: &str = "a list of grants, such as [\"host-network\"], or [] for none";
        let value = table.get("grants")?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type("grants", value, WANTED);
            return None;
        };
        let mut grants = Vec::new();
        for (text, span) in self.elements("grants", array.iter(), WANTED) {
            match Grant::parse(&text) {
                Ok(grant) => grants.push(grant),
                Err(error) => self.error(span, error.to_string(), Some(error.help())),
            }
        }
        Some(grants)
    }

    pub(super) fn instant(&mut self, table: &DeTable<'_>, key: &str) -> Option<Timestamp> {
        const WANTED: &str = "a time with its offset, such as 2027-01-31T00:00:00Z";
        let value = table.get(key)?;
        let Some(datetime) = value.get_ref().as_datetime() else {
            self.wrong_type(key, value, &format!("{WANTED}, without quotes"));
            return None;
        };
        let parsed = datetime.to_string().parse().ok();
        if parsed.is_none() {
            self.error(
                value.span(),
                format!("`{key}` names no instant"),
                Some(format!("allowed here: {WANTED}")),
            );
        }
        parsed
    }

    pub(super) fn seconds(&mut self, table: &DeTable<'_>, key: &str) -> Option<Duration> {
        const WANTED: &str = "whole seconds up to an hour as a text, such as \"10s\" or \"1m30s\"";
        let value = table.get(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(key, value, WANTED);
            return None;
        };
        let parsed = text.parse().ok().and_then(whole_seconds);
        if parsed.is_none() {
            self.error(
                value.span(),
                format!("`{key}` can't be `{text}`"),
                Some(format!("allowed here: {WANTED}")),
            );
        }
        parsed
    }
}

pub(super) fn small(number: &DeInteger<'_>) -> Option<u32> {
    u32::from_str_radix(number.as_str(), number.radix()).ok()
}

fn whole_seconds(duration: SignedDuration) -> Option<Duration> {
    let is_whole = duration.subsec_nanos() == 0;
    let is_in_range = (0..=SECONDS_MAX).contains(&duration.as_secs());
    let duration = Duration::try_from(duration).ok()?;
    (is_whole && is_in_range).then_some(duration)
}
