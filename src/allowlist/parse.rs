//! From TOML text to an [`Allowlist`], finding everything that is wrong in one pass.
//!
//! The text is walked by hand and not by serde, which stops at the first error. Nothing unknown is
//! ever skipped: a key that is misspelt, or that a later version will know, refuses the list.

mod guard;
mod rule;
mod values;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{Diagnostic, InvalidAllowlist};
use super::{Action, Allowlist, Defaults, Mode, OnCreate, Rule, Rules, STOP_TIMEOUT};
use crate::grant::Grant;

/// The largest list that is read, in bytes. 10,000 long rules take half of it.
pub const SIZE_MAX: usize = 8 * 1024 * 1024;

/// The largest list of which all syntax errors are told, and not the first one alone.
const RECOVERED_MAX: usize = 256 * 1024;
/// How many errors are kept at most.
const ERRORS_MAX: usize = 1_000;

const TOP_KEYS: &[&str] = &[
    "version",
    "mode",
    "audit-until",
    "action",
    "stop-timeout",
    "on-create",
    "keep-dead",
    "guard",
    "allow-nothing",
    "defaults",
    "allow",
];
const DEFAULTS_KEYS: &[&str] = &["grants"];

type Value<'a> = Spanned<DeValue<'a>>;

pub(super) fn parse(bytes: &[u8]) -> Result<Allowlist, InvalidAllowlist> {
    let mut walk = Walk::default();
    if bytes.len() > SIZE_MAX {
        walk.error(
            0..0,
            format!("the list is larger than {SIZE_MAX} bytes"),
            None,
        );
        return Err(InvalidAllowlist::new("", walk.diagnostics));
    }
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let place = error.valid_up_to();
            let readable = String::from_utf8_lossy(bytes);
            walk.error(place..place + 1, "the list is not UTF-8 text", None);
            return Err(InvalidAllowlist::new(&readable, walk.diagnostics));
        }
    };
    let (document, syntax_errors) = read(text);
    walk.is_cut = !syntax_errors.is_empty();
    let list = walk.list(document.get_ref());
    let unreadable: BTreeSet<usize> = syntax_errors
        .iter()
        .map(|error| error.span().unwrap_or(0..0).start)
        .collect();
    // What the parser put in the place of a text that it could not read is not the user's.
    walk.diagnostics.retain(|other| {
        let (start, end) = (other.span.start, other.span.end);
        unreadable.range(start..=end).next().is_none()
    });
    for error in syntax_errors.iter().take(ERRORS_MAX) {
        walk.error(error.span().unwrap_or(0..0), error.message(), None);
    }
    if walk.diagnostics.is_empty() {
        Ok(list)
    } else {
        Err(InvalidAllowlist::new(text, walk.diagnostics))
    }
}

/// Reads on behind a syntax error, unless the text is so long that its errors could fill the memory.
fn read(text: &str) -> (Spanned<DeTable<'_>>, Vec<toml::de::Error>) {
    if text.len() <= RECOVERED_MAX {
        return DeTable::parse_recoverable(text);
    }
    match DeTable::parse(text) {
        Ok(document) => (document, Vec::new()),
        Err(error) => (Spanned::new(0..0, DeTable::new()), vec![error]),
    }
}

#[derive(Default)]
struct Walk {
    diagnostics: Vec<Diagnostic>,
    /// The text has syntax errors: what seems to be missing may only be unreadable.
    is_cut: bool,
}

impl Walk {
    fn list(&mut self, document: &DeTable<'_>) -> Allowlist {
        self.unknown_keys(document, TOP_KEYS);
        self.version(document.get("version"));
        let mode = self.word(document, "mode", &Mode::ALL, Mode::as_str);
        let action = self.word(document, "action", &Action::ALL, Action::as_str);
        let on_create = self.word(document, "on-create", &OnCreate::ALL, OnCreate::as_str);
        let allow_nothing = self.boolean(document, "allow-nothing", false);
        let defaults = self.defaults(document);
        let default_grants = defaults
            .as_ref()
            .and_then(|defaults| defaults.grants.clone());
        let rules = document
            .get("allow")
            .map(|allow| self.rules(allow, default_grants.as_ref()))
            .unwrap_or_default();
        match (allow_nothing, rules.is_empty()) {
            (false, true) => self.missing(
                0..0,
                "the list has no `[[allow]]` rule and would end every container",
                "write a rule, or `allow-nothing = true` if that is meant",
            ),
            (true, false) => self.error(
                document.get("allow").map_or(0..0, Spanned::span),
                "`allow-nothing = true` excludes rules",
                None,
            ),
            _ => {}
        }
        Allowlist {
            version: 1,
            mode: mode.unwrap_or(Mode::Enforce),
            audit_until: self.instant(document, "audit-until"),
            action: action.unwrap_or(Action::Kill),
            stop_timeout: self
                .seconds(document, "stop-timeout")
                .unwrap_or(STOP_TIMEOUT),
            on_create: on_create.unwrap_or(OnCreate::Wait),
            keep_dead: self.boolean(document, "keep-dead", true),
            guard: self.guard(document),
            allow_nothing,
            defaults,
            rules: Rules::new(rules),
        }
    }

    fn version(&mut self, value: Option<&Value<'_>>) {
        let help = "allowed here: 1";
        match value {
            None => self.missing(
                0..0,
                "`version` is missing",
                "a list begins with `version = 1`",
            ),
            Some(value) => match value.get_ref() {
                DeValue::Integer(number) if values::small(number) == Some(1) => {}
                DeValue::Integer(number) => self.error(
                    value.span(),
                    format!("version {number} is not known"),
                    Some(help.to_owned()),
                ),
                _ => self.wrong_type("version", value, "1"),
            },
        }
    }

    /// `None` also for a table that says nothing: it means the same as no table.
    fn defaults(&mut self, document: &DeTable<'_>) -> Option<Defaults> {
        let value = document.get("defaults")?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type("defaults", value, "a table, such as { grants = [] }");
            return None;
        };
        self.unknown_keys(table, DEFAULTS_KEYS);
        let grants = self.grants(table)?;
        Some(Defaults {
            grants: Some(grants.into()),
        })
    }

    fn rules(&mut self, value: &Value<'_>, default_grants: Option<&Arc<[Grant]>>) -> Vec<Rule> {
        const WANTED: &str = "`[[allow]]` tables";
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type("allow", value, WANTED);
            return Vec::new();
        };
        let mut rules = Vec::new();
        let mut named: HashMap<Arc<str>, Place> = HashMap::new();
        for (index, value) in array.iter().enumerate() {
            let Some(table) = value.get_ref().as_table() else {
                self.wrong_type("allow", value, WANTED);
                continue;
            };
            let number = index + 1;
            let rule = self.rule(number, table, value.span());
            let place = Place {
                number,
                typed: table.get("rule").map(Spanned::span),
            };
            if let Some(first) = named.get(&rule.name) {
                self.same_name(&rule.name, first, &place);
            } else {
                named.insert(rule.name.clone(), place);
            }
            rules.push(Rule {
                default_grants: default_grants.cloned(),
                ..rule
            });
        }
        rules
    }

    /// Two rules of one name: at least one was typed, and it is the one to change.
    fn same_name(&mut self, name: &str, first: &Place, second: &Place) {
        let (span, other) = match (&first.typed, &second.typed) {
            (_, Some(span)) => (span.clone(), first.number),
            (Some(span), None) => (span.clone(), second.number),
            (None, None) => return,
        };
        self.error(
            span,
            format!("rule {other} is already called `{name}`"),
            Some("a rule's name is unique".to_owned()),
        );
    }
}

/// Where a rule has its name from.
struct Place {
    /// The rule's, from 1.
    number: usize,
    /// `rule`, where that is given; else the name is made of the number.
    typed: Option<Range<usize>>,
}
