//! The keys of one `[[allow]]`.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::DeTable;

use super::Walk;
use crate::allowlist::{Command, Rule};
use crate::grant::is_container_pattern;
use crate::image::ImagePattern;
use crate::pattern::{Pattern, Reach};

const KEYS: &[&str] = &[
    "rule",
    "image",
    "container",
    "labels",
    "grants",
    "max",
    "expires",
    "exec",
    "command",
    "keep-running",
    "build-steps",
    "audit",
    "reason",
];
/// What a rule knows a container by.
const IDENTITY: &[&str] = &["image", "container", "labels"];

impl Walk {
    /// The rule, `[defaults]` aside.
    pub(super) fn rule(&mut self, number: usize, table: &DeTable<'_>, span: Range<usize>) -> Rule {
        self.unknown_keys(table, KEYS);
        if !IDENTITY.iter().any(|key| table.contains_key(*key)) {
            self.missing(
                span,
                "a rule names at least one of `image`, `container` and `labels`",
                "`image = \"**\"` matches every image",
            );
        }
        let command = self.word(table, "command", &Command::ALL, Command::as_str);
        Rule {
            name: self
                .name(table)
                .unwrap_or_else(|| format!("allow-{number}"))
                .into(),
            image: self.images(table),
            container: self.containers(table),
            labels: self.labels(table),
            grants: self.grants(table),
            default_grants: None,
            max: self.count(table, "max"),
            expires: self.instant(table, "expires"),
            exec: self.boolean(table, "exec", true),
            command: command.unwrap_or(Command::Any),
            keep_running: self.boolean(table, "keep-running", false),
            build_steps: self.boolean(table, "build-steps", false),
            audit: self.boolean(table, "audit", false),
            reason: self.text(table, "reason"),
        }
    }

    fn name(&mut self, table: &DeTable<'_>) -> Option<String> {
        let name = self.text(table, "rule")?;
        if name.is_empty() {
            let span = table.get("rule").map_or(0..0, toml::Spanned::span);
            self.error(
                span,
                "`rule` is empty",
                Some("leave the key out for `allow-<n>`".to_owned()),
            );
            return None;
        }
        Some(name)
    }

    fn images(&mut self, table: &DeTable<'_>) -> Vec<ImagePattern> {
        let mut patterns = Vec::new();
        for (text, span) in self.texts(table, "image") {
            match ImagePattern::parse(&text) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.error(
                    span,
                    error.to_string(),
                    Some(
                        "allowed here: a reference such as nginx:1.27, with `*` and `**`"
                            .to_owned(),
                    ),
                ),
            }
        }
        patterns
    }

    fn containers(&mut self, table: &DeTable<'_>) -> Vec<Pattern> {
        let mut patterns = Vec::new();
        for (text, span) in self.texts(table, "container") {
            if is_container_pattern(&text) {
                patterns.push(Pattern::new(&text, Reach::Everything));
            } else {
                self.error(
                    span,
                    format!("no container can be called `{text}`"),
                    Some("allowed here: letters, digits, `_`, `.`, `-` and `*`".to_owned()),
                );
            }
        }
        patterns
    }

    fn labels(&mut self, table: &DeTable<'_>) -> BTreeMap<String, Pattern> {
        const WANTED: &str = "a table of texts, such as { \"com.example.team\" = \"web-*\" }";
        let Some(value) = table.get("labels") else {
            return BTreeMap::new();
        };
        let Some(labels) = value.get_ref().as_table() else {
            self.wrong_type("labels", value, WANTED);
            return BTreeMap::new();
        };
        if labels.is_empty() {
            self.error(
                value.span(),
                "`labels` is an empty table and says nothing",
                Some("leave the key out to match anything".to_owned()),
            );
        }
        let mut patterns = BTreeMap::new();
        for (key, value) in labels.iter() {
            if key.get_ref().is_empty() {
                self.error(
                    key.span(),
                    "a label's key can't be empty",
                    Some(format!("allowed here: {WANTED}")),
                );
            }
            match value.get_ref().as_str() {
                Some(text) => {
                    let pattern = Pattern::new(text, Reach::Everything);
                    patterns.insert(key.get_ref().clone().into_owned(), pattern);
                }
                // `labels.com.example = "x"` makes tables; Docker's keys have dots and want quotes.
                None => self.wrong_type(key.get_ref(), value, WANTED),
            }
        }
        patterns
    }
}
