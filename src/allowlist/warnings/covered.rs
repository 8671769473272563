//! Rules that another one covers: every container that such a rule allows, the other allows as well.
//!
//! Sound and not complete: what is called covered is, and some that are stay unseen.

use std::collections::HashMap;
use std::iter;

use jiff::Timestamp;

use crate::allowlist::{Command, Rule};
use crate::pattern::Pattern;

/// With how many others a rule is compared at most. In lists that people write it is a few.
const CANDIDATES: usize = 100;

/// For each rule the first one that covers it. Of two that cover each other, the later is covered.
pub(super) fn covered(rules: &[Rule], now: Timestamp) -> Vec<Option<&Rule>> {
    let index = Index::new(rules);
    let find = |(number, rule): (usize, &Rule)| {
        if rule.is_expired(now) {
            return None;
        }
        let candidates = index.candidates(rule).into_iter();
        candidates
            .filter(|other| *other != number)
            .filter_map(|other| Some((other, rules.get(other)?)))
            .find(|(other, covering)| {
                !covering.is_expired(now)
                    && covers(covering, rule)
                    && (*other < number || !covers(rule, covering))
            })
            .map(|(_, covering)| covering)
    };
    rules.iter().enumerate().map(find).collect()
}

/// Whether `rule` allows everything that `other` allows.
fn covers(rule: &Rule, other: &Rule) -> bool {
    let expires_later = match (rule.expires, other.expires) {
        (None, _) => true,
        (Some(expires), Some(others)) => expires >= others,
        (Some(_), None) => false,
    };
    expires_later
        && rule.max.is_none()
        && (rule.exec || !other.exec)
        && (rule.command == Command::Any || other.command == Command::Image)
        && (!rule.audit || other.audit)
        && (rule.keep_running || !other.keep_running)
        && (rule.build_steps || !other.build_steps || rule.image.is_empty())
        && any_covers(&rule.image, &other.image, |one, another| {
            one.covers(another)
        })
        && any_covers(&rule.container, &other.container, Pattern::covers)
        && rule.labels.iter().all(|(key, pattern)| {
            let others = other.labels.get(key);
            others.is_some_and(|others| pattern.covers(others))
        })
        && grants_cover(rule, other)
}

/// Whether each of `others` is covered by one of `patterns`; none at all cover everything.
fn any_covers<T>(patterns: &[T], others: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    let is_covered = |other| patterns.iter().any(|pattern| covers(pattern, other));
    patterns.is_empty() || (!others.is_empty() && others.iter().all(is_covered))
}

fn grants_cover(rule: &Rule, other: &Rule) -> bool {
    let Some(granted) = rule.granted() else {
        return true;
    };
    let granted: Vec<_> = granted.collect();
    let has = |text: &str| granted.iter().any(|grant| grant.as_str() == text);
    let mut others = other.granted().into_iter().flatten();
    has("all") || (other.granted().is_some() && others.all(|grant| has(grant.as_str())))
}

/// The beginning of what a key says, up to its first wildcard. A pattern can only cover those that
/// begin as it does.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Beginning<'a> {
    Image(&'a str),
    Container(&'a str),
    Label(&'a str, &'a str),
}

impl<'a> Beginning<'a> {
    /// Itself and all that are shorter.
    fn shortened(self) -> impl Iterator<Item = Self> {
        let text = match self {
            Self::Image(text) | Self::Container(text) | Self::Label(_, text) => text,
        };
        let ends = text.char_indices().map(|(end, _)| end);
        ends.chain(iter::once(text.len()))
            .filter_map(|end| text.get(..end))
            .map(move |text| match self {
                Self::Image(_) => Self::Image(text),
                Self::Container(_) => Self::Container(text),
                Self::Label(key, _) => Self::Label(key, text),
            })
    }
}

/// Every rule under the key of it that tells it best from others, so that a list of thousands is
/// not compared each with each.
struct Index<'a> {
    rules: HashMap<Beginning<'a>, Vec<usize>>,
}

impl<'a> Index<'a> {
    fn new(rules: &'a [Rule]) -> Self {
        let mut frequency: HashMap<Beginning<'a>, usize> = HashMap::new();
        for beginning in rules.iter().flat_map(keys).flatten() {
            *frequency.entry(beginning).or_default() += 1;
        }
        let most = |key: &Vec<Beginning<'a>>| {
            let frequencies = key.iter().filter_map(|one| frequency.get(one));
            frequencies.max().copied()
        };
        let mut index: HashMap<_, Vec<_>> = HashMap::new();
        for (number, rule) in rules.iter().enumerate() {
            for beginning in keys(rule).min_by_key(most).into_iter().flatten() {
                index.entry(beginning).or_default().push(number);
            }
        }
        Self { rules: index }
    }

    /// The rules that may cover this one, in file order.
    fn candidates(&self, rule: &'a Rule) -> Vec<usize> {
        // All patterns of a key must be covered, so those that may cover the first are enough.
        let firsts = keys(rule).filter_map(|key| key.into_iter().next());
        let found = firsts.flat_map(Beginning::shortened);
        let mut candidates: Vec<_> = found
            .filter_map(|beginning| self.rules.get(&beginning))
            .flatten()
            .copied()
            .take(CANDIDATES)
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        candidates
    }
}

/// The keys that a rule gives, each with the beginnings of its patterns.
fn keys(rule: &Rule) -> impl Iterator<Item = Vec<Beginning<'_>>> {
    let images = rule
        .image
        .iter()
        .map(|one| Beginning::Image(one.beginning()));
    let containers = rule
        .container
        .iter()
        .map(|one| Beginning::Container(one.beginning()));
    let labels = rule.labels.iter();
    let labels = labels.map(|(key, one)| vec![Beginning::Label(key, one.beginning())]);
    [images.collect(), containers.collect()]
        .into_iter()
        .filter(|key: &Vec<_>| !key.is_empty())
        .chain(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowlist::Allowlist;

    fn covering(rules: &str) -> Vec<Option<String>> {
        let list = Allowlist::parse(format!("version = 1\n{rules}").as_bytes()).expect("valid");
        covered(&list.rules, "2027-01-20T00:00:00Z".parse().expect("a time"))
            .into_iter()
            .map(|rule| rule.map(|rule| rule.name.to_string()))
            .collect()
    }

    #[test]
    fn a_rule_covers_what_says_the_same_or_less() {
        const PIN: &str =
            "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let pinned = |name: &str| format!("image = \"{name}{PIN}\"");
        let table = [
            // a rule, another, does the first cover the second
            (
                "image = \"nginx\"",
                "image = \"docker.io/library/nginx:1.27\"",
                true,
            ),
            ("image = \"nginx:1.27\"", "image = \"nginx\"", false),
            ("image = \"**\"", "image = [\"a\", \"b/c:1\"]", true),
            ("image = [\"a\", \"b\"]", "image = \"b:1\"", true),
            ("image = \"a\"", "image = [\"a\", \"b\"]", false),
            ("image = \"a\"", "container = \"aa\"", false),
            (
                "container = \"web-*\"",
                "image = \"a\"\ncontainer = \"web-1\"",
                true,
            ),
            (
                "image = \"a\"\ncontainer = \"web-1\"",
                "image = \"a\"",
                false,
            ),
            (
                "labels = { a = \"*\" }",
                "image = \"x\"\nlabels = { a = \"1\", b = \"2\" }",
                true,
            ),
            (
                "labels = { a = \"*\", b = \"*\" }",
                "labels = { a = \"1\" }",
                false,
            ),
            (
                &pinned("nginx"),
                &format!("{}\ncontainer = \"a\"", pinned("caddy:1")),
                true,
            ),
            ("image = \"**\"", &pinned("nginx"), false),
            (&pinned("nginx"), "image = \"nginx\"", false),
            ("image = \"a\"", "image = \"a\"\ngrants = []", true),
            ("image = \"a\"\ngrants = []", "image = \"a\"", false),
            (
                "image = \"a\"\ngrants = [\"gpus\"]",
                "image = \"a\"\ngrants = []",
                true,
            ),
            (
                "image = \"a\"\ngrants = []",
                "image = \"a\"\ngrants = [\"gpus\"]",
                false,
            ),
            (
                "image = \"a\"\ngrants = [\"all\"]",
                "image = \"a\"\ngrants = [\"gpus\"]",
                true,
            ),
            ("image = \"a\"\nmax = 5", "image = \"a\"\nmax = 1", false),
            ("image = \"a\"", "image = \"a\"\nmax = 1", true),
            (
                "image = \"a\"\nexpires = 2028-01-01T00:00:00Z",
                "image = \"a\"",
                false,
            ),
            (
                "image = \"a\"\nexpires = 2028-01-02T00:00:00Z",
                "image = \"a\"\nexpires = 2028-01-01T00:00:00Z",
                true,
            ),
            (
                "image = \"a\"\nexpires = 2026-01-02T00:00:00Z",
                "image = \"a\"\nexpires = 2026-01-01T00:00:00Z",
                false,
            ),
            ("image = \"a\"\nexec = false", "image = \"a\"", false),
            ("image = \"a\"", "image = \"a\"\nexec = false", true),
            ("image = \"a\"\ncommand = \"image\"", "image = \"a\"", false),
            ("image = \"a\"", "image = \"a\"\ncommand = \"image\"", true),
            ("image = \"a\"\naudit = true", "image = \"a\"", false),
            ("image = \"a\"", "image = \"a\"\naudit = true", true),
            ("image = \"a\"", "image = \"a\"\nkeep-running = true", false),
            ("image = \"a\"", "image = \"a\"\nbuild-steps = true", false),
            ("image = \"a\"\nbuild-steps = true", "image = \"a\"", true),
        ];
        for (one, other, expected) in table {
            let before = covering(&format!("[[allow]]\n{one}\n[[allow]]\n{other}\n"));
            assert_eq!(before[1].is_some(), expected, "{one} before {other}");
            let after = covering(&format!("[[allow]]\n{other}\n[[allow]]\n{one}\n"));
            assert_eq!(after[0].is_some(), expected, "{one} after {other}");
        }
    }

    #[test]
    fn of_two_that_are_equal_the_later_is_covered() {
        let rules = "[[allow]]\nimage = \"a\"\n[[allow]]\nimage = \"a\"\n";
        assert_eq!(covering(rules), [None, Some("allow-1".to_owned())]);
    }

    #[test]
    fn thousands_that_look_alike_take_no_time() {
        // Alike in their image, in their container, in both.
        for rule in [
            "image = \"**\"\ncontainer = \"web-{}\"",
            "image = \"team-{}/**\"\ncontainer = \"*\"",
            "image = \"team/*:{}\"\ncontainer = \"*a*\"",
        ] {
            let rules = (0..2_000).map(|number| {
                let number = format!("n{number}x");
                format!("[[allow]]\n{}\n", rule.replace("{}", &number))
            });
            let found = covering(&rules.collect::<String>());
            assert!(found.iter().all(Option::is_none), "{rule}");
        }
    }
}
