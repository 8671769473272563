//! From TOML text to an [`Allowlist`], finding everything that is wrong in one pass.
//!
//! The text is walked by hand and not by serde, which stops at the first error. Nothing unknown is
//! ever skipped: a key that is misspelt, or that a later version will know, refuses the list.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{Diagnostic, InvalidAllowlist};
use super::{Action, Allowlist, Command, Mode, OnCreate, Rule, STOP_TIMEOUT};
use crate::image::ImagePattern;
use crate::pattern::{Pattern, Reach};

/// The largest list that is read, in bytes. 10,000 long rules take a quarter of it.
pub const SIZE_MAX: usize = 16 * 1024 * 1024;

const TOP_KEYS: &[&str] = &["version", "mode", "action", "allow-nothing", "allow"];
const TOP_KEYS_LATER: &[&str] = &[
    "stop-timeout",
    "keep-dead",
    "on-create",
    "guard",
    "audit-until",
    "defaults",
];
const RULE_KEYS: &[&str] = &["rule", "image", "container", "labels", "expires", "reason"];
const RULE_KEYS_LATER: &[&str] = &[
    "grants",
    "max",
    "exec",
    "command",
    "keep-running",
    "build-steps",
    "audit",
];

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
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    walk.is_cut = !syntax_errors.is_empty();
    let list = walk.list(document.get_ref());
    for error in &syntax_errors {
        let span = error.span().unwrap_or(0..0);
        // What the parser put in the place of a text that it could not read is not the user's.
        walk.diagnostics
            .retain(|other| other.span.start != span.start);
        walk.error(span, error.message(), None);
    }
    if walk.diagnostics.is_empty() {
        Ok(list)
    } else {
        Err(InvalidAllowlist::new(text, walk.diagnostics))
    }
}

#[derive(Default)]
struct Walk {
    diagnostics: Vec<Diagnostic>,
    /// The text has syntax errors: what seems to be missing may only be unreadable.
    is_cut: bool,
}

impl Walk {
    fn error(&mut self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.diagnostics.push(Diagnostic {
            span,
            message: message.into(),
            help,
        });
    }

    fn missing(&mut self, span: Range<usize>, message: &str, help: &str) {
        if !self.is_cut {
            self.error(span, message, Some(help.to_owned()));
        }
    }

    fn wrong_type(&mut self, key: &str, value: &Value<'_>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.error(
            value.span(),
            format!("`{key}` can't be of type {found}"),
            Some(format!("allowed here: {wanted}")),
        );
    }

    /// Refuses every key that is not in `known`.
    fn unknown_keys(&mut self, table: &DeTable<'_>, known: &[&str], later: &[&str]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let message = if later.contains(&name) {
                format!("`{name}` is not supported yet")
            } else {
                format!("unknown key `{name}`")
            };
            let help = format!("allowed here: {}", known.join(", "));
            self.error(key.span(), message, Some(help));
        }
    }

    fn list(&mut self, document: &DeTable<'_>) -> Allowlist {
        self.unknown_keys(document, TOP_KEYS, TOP_KEYS_LATER);
        self.version(document.get("version"));
        let mode = self.word(document, "mode", &Mode::ALL, Mode::as_str);
        let action = self.word(document, "action", &Action::ALL, Action::as_str);
        let allow_nothing = self.boolean(document, "allow-nothing");
        let rules = document
            .get("allow")
            .map(|allow| self.rules(allow))
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
            audit_until: None,
            action: action.unwrap_or(Action::Kill),
            stop_timeout: STOP_TIMEOUT,
            on_create: OnCreate::Wait,
            allow_nothing,
            defaults: None,
            rules,
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
                DeValue::Integer(number) if number.as_str() == "1" => {}
                DeValue::Integer(number) => self.error(
                    value.span(),
                    format!("version {} is not known", number.as_str()),
                    Some(help.to_owned()),
                ),
                _ => self.wrong_type("version", value, "1"),
            },
        }
    }

    fn word<T: Copy>(
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

    fn boolean(&mut self, table: &DeTable<'_>, key: &str) -> bool {
        let Some(value) = table.get(key) else {
            return false;
        };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(key, value, "true or false");
            false
        })
    }

    fn rules(&mut self, value: &Value<'_>) -> Vec<Rule> {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type("allow", value, "`[[allow]]` tables");
            return Vec::new();
        };
        let mut rules = Vec::new();
        let mut names: HashMap<Arc<str>, usize> = HashMap::new();
        for (index, value) in array.iter().enumerate() {
            let Some(table) = value.get_ref().as_table() else {
                self.wrong_type("allow", value, "`[[allow]]` tables");
                continue;
            };
            let number = index + 1;
            let rule = self.rule(number, table, value.span());
            if let Some(first) = names.insert(rule.name.clone(), number) {
                let span = table.get("rule").map_or(value.span(), Spanned::span);
                self.error(
                    span,
                    format!("rule {first} is already called `{}`", rule.name),
                    Some("a rule's name is unique".to_owned()),
                );
            }
            rules.push(rule);
        }
        rules
    }

    fn rule(&mut self, number: usize, table: &DeTable<'_>, span: Range<usize>) -> Rule {
        self.unknown_keys(table, RULE_KEYS, RULE_KEYS_LATER);
        if !["image", "container", "labels"]
            .iter()
            .any(|key| table.contains_key(*key))
        {
            self.missing(
                span,
                "a rule names at least one of `image`, `container` and `labels`",
                "`image = \"**\"` matches every image",
            );
        }
        let name = self.text(table, "rule").filter(|name| !name.is_empty());
        if let Some(value) = table
            .get("rule")
            .filter(|value| value.get_ref().as_str() == Some(""))
        {
            self.error(value.span(), "`rule` is empty", None);
        }
        Rule {
            name: name.unwrap_or_else(|| format!("allow-{number}")).into(),
            image: self.images(table),
            container: self.containers(table),
            labels: self.labels(table),
            grants: None,
            default_grants: None,
            max: None,
            expires: self.expires(table),
            exec: true,
            command: Command::Any,
            keep_running: false,
            build_steps: false,
            audit: false,
            reason: self.text(table, "reason"),
        }
    }

    fn text(&mut self, table: &DeTable<'_>, key: &str) -> Option<String> {
        let value = table.get(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, "a text");
        }
        text.map(str::to_owned)
    }

    /// The texts of a key that takes one or a list of them, with their places.
    fn texts(&mut self, table: &DeTable<'_>, key: &str) -> Vec<(String, Range<usize>)> {
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
                let mut texts = Vec::new();
                for element in array.iter() {
                    match element.get_ref().as_str() {
                        Some(text) => texts.push((text.to_owned(), element.span())),
                        None => self.wrong_type(key, element, WANTED),
                    }
                }
                texts
            }
            _ => {
                self.wrong_type(key, value, WANTED);
                Vec::new()
            }
        }
    }

    fn images(&mut self, table: &DeTable<'_>) -> Vec<ImagePattern> {
        let mut patterns = Vec::new();
        for (text, span) in self.texts(table, "image") {
            match ImagePattern::parse(&text) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.error(span, error.to_string(), None),
            }
        }
        patterns
    }

    fn containers(&mut self, table: &DeTable<'_>) -> Vec<Pattern> {
        let mut patterns = Vec::new();
        for (text, span) in self.texts(table, "container") {
            let is_possible = !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_.-*".contains(&byte));
            if is_possible {
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

    fn expires(&mut self, table: &DeTable<'_>) -> Option<Timestamp> {
        const WANTED: &str = "a time with its offset, such as 2027-01-31T00:00:00Z";
        let value = table.get("expires")?;
        let Some(datetime) = value.get_ref().as_datetime() else {
            self.wrong_type("expires", value, WANTED);
            return None;
        };
        let parsed = datetime.to_string().parse().ok();
        if parsed.is_none() {
            self.error(
                value.span(),
                "`expires` names no instant",
                Some(format!("allowed here: {WANTED}")),
            );
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with `text`, an error a line.
    fn errors(text: &str) -> Vec<String> {
        match parse(text.as_bytes()) {
            Ok(_) => Vec::new(),
            Err(invalid) => invalid.to_string().split("; ").map(str::to_owned).collect(),
        }
    }

    #[test]
    fn bad_lists_are_refused_with_their_place() {
        let rule = "version = 1\n[[allow]]\n";
        let table = [
            ("", "line 1, column 1: `version` is missing"),
            (
                "version = 1\n",
                "line 1, column 1: the list has no `[[allow]]` rule",
            ),
            (
                "allow-nothing = true\n",
                "line 1, column 1: `version` is missing",
            ),
            (
                "version = 2\nallow-nothing = true\n",
                "line 1, column 11: version 2 is not known",
            ),
            (
                "version = \"1\"\nallow-nothing = true\n",
                "line 1, column 11: `version` can't be of type string",
            ),
            (
                "version = 1\nallow-nothing = true\nmode = \"Enforce\"\n",
                "line 3, column 8: unknown mode `Enforce`",
            ),
            (
                "version = 1\nallow-nothing = true\naction = \"destroy\"\n",
                "line 3, column 10: unknown action `destroy`",
            ),
            (
                "version = 1\nallow-nothing = true\nmode = true\n",
                "line 3, column 8: `mode` can't be of type boolean",
            ),
            (
                "version = 1\nallow-nothing = \"yes\"\n",
                "line 2, column 17: `allow-nothing` can't be of type string",
            ),
            (
                "version = 1\nallow-nothing = true\n[[allow]]\nimage = \"a\"\n",
                "`allow-nothing = true` excludes rules",
            ),
            (
                "version = 1\nallow = \"nginx\"\n",
                "line 2, column 9: `allow` can't be of type string",
            ),
            (
                "version = 1\nallow = [1]\n",
                "line 2, column 10: `allow` can't be of type integer",
            ),
            (
                "version = 1\nallwo = 1\nallow-nothing = true\n",
                "line 2, column 1: unknown key `allwo`",
            ),
            (
                "version = 1\nguard = { share = 0.5 }\nallow-nothing = true\n",
                "line 2, column 1: `guard` is not supported yet",
            ),
            (&format!("{rule}imge = \"a\"\n"), "unknown key `imge`"),
            (
                &format!("{rule}image = \"a\"\ngrants = []\n"),
                "line 4, column 1: `grants` is not supported yet",
            ),
            (
                &format!("{rule}image = []\n"),
                "line 3, column 9: `image` is an empty list",
            ),
            (
                &format!("{rule}labels = {{}}\n"),
                "line 3, column 10: `labels` is an empty table",
            ),
            (
                &format!("{rule}image = 5\n"),
                "line 3, column 9: `image` can't be of type integer",
            ),
            (
                &format!("{rule}image = [\"a\", 5]\n"),
                "line 3, column 15: `image` can't be of type integer",
            ),
            (
                &format!("{rule}image = \"Nginx\"\n"),
                "line 3, column 9: image names are lower-case",
            ),
            (
                &format!("{rule}image = \"\"\n"),
                "an image pattern can't be empty",
            ),
            (
                &format!("{rule}image = \"a@sha256:00\"\n"),
                "pins no content",
            ),
            (
                &format!("{rule}container = \"a b\"\n"),
                "line 3, column 13: no container can be called `a b`",
            ),
            (
                &format!("{rule}container = \"/web\"\n"),
                "no container can be called `/web`",
            ),
            (
                &format!("{rule}labels = \"a=b\"\n"),
                "`labels` can't be of type string",
            ),
            (
                &format!("{rule}labels.com.example = \"a\"\n"),
                "`com` can't be of type table",
            ),
            (
                &format!("{rule}reason = \"because\"\n"),
                "a rule names at least one of",
            ),
            (
                &format!("{rule}image = \"a\"\nrule = \"\"\n"),
                "`rule` is empty",
            ),
            (
                &format!("{rule}image = \"a\"\nexpires = \"2027-01-31\"\n"),
                "`expires` can't be of type string",
            ),
            (
                &format!("{rule}image = \"a\"\nexpires = 2027-01-31\n"),
                "`expires` names no instant",
            ),
            (
                &format!("{rule}image = \"a\"\nexpires = 2027-01-31T00:00:00\n"),
                "`expires` names no instant",
            ),
            (
                &format!("{rule}image = \"a\"\nimage = \"b\"\n"),
                "line 4, column 1: duplicate key",
            ),
            (&format!("{rule}image = \"a\n"), "line 3, column"),
            (
                &format!(
                    "{rule}rule = \"x\"\nimage = \"a\"\n[[allow]]\nrule = \"x\"\nimage = \"b\"\n"
                ),
                "line 6, column 8: rule 1 is already called `x`",
            ),
        ];
        for (text, expected) in table {
            let found = errors(text);
            assert!(
                found.iter().any(|error| error.contains(expected)),
                "{text}\n{found:#?}"
            );
        }
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let found = errors(
            "version = 3\nmode = \"x\"\n[[allow]]\nimage = \"A\"\nfoo = 1\n[[allow]]\ncontainer = [\"?\"]\n",
        );
        assert_eq!(found.len(), 5, "{found:#?}");
    }

    #[test]
    fn nothing_is_called_missing_where_the_text_is_cut() {
        let found = errors("version = \n[[allow]]\n");
        assert_eq!(found.len(), 1, "{found:#?}");
    }

    #[test]
    fn binary_large_and_deep_texts_are_refused() {
        assert!(parse(&[0xff, 0xfe, 0x00]).is_err());
        assert!(parse(&vec![b'#'; SIZE_MAX + 1]).is_err());
        let deep = format!(
            "version = 1\nallow = {}{}\n",
            "[".repeat(5_000),
            "]".repeat(5_000)
        );
        assert!(parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn ten_thousand_rules_load() {
        let rules: String = (0..10_000)
            .map(|number| {
                format!("[[allow]]\nrule = \"r{number}\"\nimage = \"team/app-{number}:*\"\n")
            })
            .collect();
        let list = parse(format!("version = 1\n{rules}").as_bytes()).expect("valid");
        assert_eq!(list.rules.len(), 10_000);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            if let Err(invalid) = parse(text.as_bytes()) {
                proptest::prop_assert!(!invalid.report("f").is_empty());
            }
        }

        #[test]
        fn no_cut_of_a_list_panics(cut in 0_usize..200) {
            let text = "version = 1\nmode = \"audit\"\n[[allow]]\nimage = [\"nginx:1*\", \"caddy\"]\nlabels = { \"a.b\" = \"c\" }\nexpires = 2027-01-31T00:00:00Z\n";
            let _ = parse(&text.as_bytes()[..cut.min(text.len())]);
        }
    }
}
