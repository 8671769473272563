//! Anchored patterns with `*` and `**`: the only wildcard language of an allowlist.
//!
//! A pattern always speaks of the whole text. Matching walks the text once, or once for each wildcard with
//! a set of positions, and never goes back, so that no pattern can be made slow by a hostile name.

use std::fmt;

use serde::{Serialize, Serializer};

/// How far a single `*` reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Up to the next `/`; only `**` crosses it. For image repositories and tags.
    Component,
    /// Across everything. For container names and label values.
    Everything,
}

/// One `*`, or several in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wildcard {
    reach: Reach,
    /// Where its stars stand in the pattern's text.
    start: usize,
    end: usize,
}

impl Wildcard {
    /// The first position from which it reaches the end of `text`.
    fn reaches_end_from(self, text: &[u8]) -> usize {
        let slash = text.iter().rposition(|byte| *byte == b'/');
        match self.reach {
            Reach::Everything => 0,
            Reach::Component => slash.map_or(0, |slash| slash + 1),
        }
    }

    fn passes(self, byte: u8) -> bool {
        self.reach == Reach::Everything || byte != b'/'
    }
}

/// A compiled pattern. It remembers what was typed and is shown as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// What lies between them is literal.
    wildcards: Vec<Wildcard>,
}

impl Pattern {
    /// Compiles `text`. Every text is a pattern; without a `*` it matches itself alone.
    pub fn new(text: &str, reach: Reach) -> Self {
        let mut wildcards: Vec<Wildcard> = Vec::new();
        for (start, _) in text.match_indices('*') {
            let end = start + 1;
            match wildcards.last_mut() {
                Some(last) if last.end == start => {
                    last.end = end;
                    last.reach = Reach::Everything;
                }
                _ => wildcards.push(Wildcard { reach, start, end }),
            }
        }
        Self {
            text: text.to_owned(),
            wildcards,
        }
    }

    /// What was typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What all that it matches begin with: the text up to its first wildcard.
    pub fn beginning(&self) -> &str {
        let end = self.wildcards.first().map(|wildcard| wildcard.start);
        &self.text[..end.unwrap_or(self.text.len())]
    }

    /// Whether it has no wildcard and so matches one text alone.
    pub fn is_literal(&self) -> bool {
        self.wildcards.is_empty()
    }

    /// Whether the pattern matches every text there is.
    pub fn is_everything(&self) -> bool {
        self.beginning().is_empty() && self.behind().eq([(Reach::Everything, "")])
    }

    /// Whether this surely matches all that the other does. Some true cases are not seen: for
    /// those the answer is no.
    pub fn covers(&self, other: &Self) -> bool {
        let is_same = || self.beginning() == other.beginning() && self.behind().eq(other.behind());
        let others_one_text = || other.is_literal() && self.matches(&other.text);
        self.is_everything() || is_same() || others_one_text()
    }

    /// Each wildcard's reach, and the literal behind it.
    fn behind(&self) -> impl Iterator<Item = (Reach, &str)> {
        let starts = self.wildcards.iter().map(|wildcard| wildcard.start);
        let ends = starts.skip(1).chain([self.text.len()]);
        self.wildcards
            .iter()
            .zip(ends)
            .map(|(wildcard, end)| (wildcard.reach, &self.text[wildcard.end..end]))
    }

    /// Whether the whole of `text` is matched.
    pub fn matches(&self, text: &str) -> bool {
        let Some((last, others)) = self.wildcards.split_last() else {
            return text == self.text;
        };
        let between = text
            .strip_prefix(self.beginning())
            .and_then(|rest| rest.strip_suffix(&self.text[last.end..]));
        let Some(mut between) = between else {
            return false;
        };
        let mut crossing = self.wildcards.iter().map(|wildcard| wildcard.reach);
        if crossing.all(|reach| reach == Reach::Everything) {
            // What stands between two wildcards is best found at its first place, as that leaves most to the
            // rest.
            let mut literals = self.behind().take(others.len());
            return literals.all(|(_, literal)| {
                let found = between.split_once(literal);
                between = found.map_or(between, |(_, after)| after);
                found.is_some()
            });
        }
        let between = between.as_bytes();
        if others.is_empty() {
            return last.reaches_end_from(between) == 0;
        }
        // `reached[i]`: the wildcards so far, with the literals behind them, can match the first `i` bytes.
        let mut reached = vec![false; between.len() + 1];
        reached[0] = true;
        for (wildcard, (_, literal)) in others.iter().zip(self.behind()) {
            let mut next = vec![false; reached.len()];
            let mut is_inside = false;
            for start in 0..=between.len() {
                is_inside |= reached[start];
                let rest = &between[start..];
                if is_inside && rest.starts_with(literal.as_bytes()) {
                    next[start + literal.len()] = true;
                }
                is_inside &= rest.first().is_some_and(|byte| wildcard.passes(*byte));
            }
            if !next.contains(&true) {
                return false;
            }
            reached = next;
        }
        reached[last.reaches_end_from(between)..].contains(&true)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_anchored_and_know_components() {
        let table = [
            // pattern, text, within components, across everything
            ("nginx", "nginx", true, true),
            ("nginx", "nginx-evil", false, false),
            ("nginx", "evil-nginx", false, false),
            ("nginx*", "nginx-evil", true, true),
            ("*", "", true, true),
            ("*", "a/b", false, true),
            ("**", "a/b", true, true),
            ("a/*", "a/b", true, true),
            ("a/*", "a/b/c", false, true),
            ("a/**", "a/b/c", true, true),
            ("a/**/c", "a/b/c", true, true),
            ("a/**/c", "a/c", false, false),
            ("a*b*c", "axxbyyc", true, true),
            ("a*b*c", "axxbyy", false, false),
            ("", "", true, true),
            ("", "a", false, false),
            ("1.27*", "1.27-alpine", true, true),
            ("1.27*", "1.26", false, false),
            ("übung-*", "übung-1", true, true),
            ("ab*ba", "aba", false, false),
            ("*/*/c", "a/b/c", true, true),
            ("*/c", "a/b/c", false, true),
            ("**/b*", "a/b/c", false, true),
            ("**/b*", "a/b/bc", true, true),
            ("*ü*", "aüb", true, true),
        ];
        for (pattern, text, component, everything) in table {
            let within = Pattern::new(pattern, Reach::Component);
            let across = Pattern::new(pattern, Reach::Everything);
            assert_eq!(within.matches(text), component, "{pattern} on {text}");
            assert_eq!(across.matches(text), everything, "{pattern} on {text}");
        }
    }

    #[test]
    fn covering_is_sound() {
        let table = [
            // pattern, other, does it cover the other
            ("a", "a", true),
            ("a*", "a*", true),
            ("**", "a/*", true),
            ("a*", "ab", true),
            ("a/**", "a/b/c", true),
            ("*", "a/b", false),
            ("a", "a*", false),
            ("a", "b", false),
            ("ab*", "a*", false),
            // True, and not seen.
            ("a*", "ab*", false),
        ];
        for (pattern, other, covers) in table {
            let compiled = Pattern::new(pattern, Reach::Component);
            let others = Pattern::new(other, Reach::Component);
            assert_eq!(compiled.covers(&others), covers, "{pattern} over {other}");
        }
        let within = Pattern::new("a*", Reach::Component);
        let across = Pattern::new("a*", Reach::Everything);
        assert!(!within.covers(&across), "the same text reaches further");
    }

    #[test]
    fn many_stars_stay_quick() {
        let pattern = Pattern::new(&format!("{}b", "a*".repeat(60)), Reach::Everything);
        assert!(!pattern.matches(&"a".repeat(5_000)));
    }

    /// The same, by trying everything.
    fn is_matched(pattern: &str, reach: Reach, text: &str) -> bool {
        let Some(start) = pattern.find('*') else {
            return pattern == text;
        };
        let behind = pattern[start..].trim_start_matches('*');
        let is_single = pattern.len() - start - behind.len() == 1;
        let stops = is_single && reach == Reach::Component;
        let Some(rest) = text.strip_prefix(&pattern[..start]) else {
            return false;
        };
        let mut ends = rest.char_indices().map(|(end, _)| end).chain([rest.len()]);
        ends.any(|end| {
            !(stops && rest[..end].contains('/')) && is_matched(behind, reach, &rest[end..])
        })
    }

    proptest::proptest! {
        #[test]
        fn a_text_without_stars_matches_itself_alone(text in "[^*]{0,20}", other in "[^*]{0,20}") {
            let pattern = Pattern::new(&text, Reach::Component);
            proptest::prop_assert!(pattern.matches(&text));
            proptest::prop_assert_eq!(pattern.matches(&other), text == other);
        }

        #[test]
        fn matching_is_what_the_words_say(pattern in "[abü/*]{0,7}", text in "[abü/]{0,7}") {
            for reach in [Reach::Component, Reach::Everything] {
                let expected = is_matched(&pattern, reach, &text);
                proptest::prop_assert_eq!(Pattern::new(&pattern, reach).matches(&text), expected);
            }
        }

        #[test]
        fn what_is_covered_is_matched(pattern in "[ab/*]{0,4}", other in "[ab/*]{0,4}", text in "[ab/]{0,5}") {
            let pattern = Pattern::new(&pattern, Reach::Component);
            let other = Pattern::new(&other, Reach::Component);
            if pattern.covers(&other) && other.matches(&text) {
                proptest::prop_assert!(pattern.matches(&text));
            }
        }

        #[test]
        fn a_star_stands_for_any_run(before in "[a-z/]{0,8}", run in "[a-z]{0,8}", after in "[a-z/]{0,8}") {
            let pattern = Pattern::new(&format!("{before}*{after}"), Reach::Component);
            let matched = pattern.matches(&format!("{before}{run}{after}"));
            proptest::prop_assert!(matched);
        }
    }
}
