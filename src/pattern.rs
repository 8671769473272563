//! Anchored patterns with `*` and `**`: the only wildcard language of an allowlist.
//!
//! A pattern always speaks of the whole text. Matching walks text and pattern once, piece by piece or with
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// Any run of characters without `/`.
    WithinComponent,
    /// Any run of characters.
    Across,
}

/// A compiled pattern. It remembers what was typed and is shown as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
}

impl Pattern {
    /// Compiles `text`. Every text is a pattern; without a `*` it matches itself alone.
    pub fn new(text: &str, reach: Reach) -> Self {
        let mut tokens = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            if character != '*' {
                tokens.push(Token::Literal(character));
                continue;
            }
            let mut across = reach == Reach::Everything;
            while characters.next_if_eq(&'*').is_some() {
                across = true;
            }
            tokens.push(if across {
                Token::Across
            } else {
                Token::WithinComponent
            });
        }
        Self {
            text: text.to_owned(),
            tokens,
        }
    }

    /// What was typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What all that it matches begin with: the text up to its first wildcard.
    pub fn beginning(&self) -> &str {
        self.text.split('*').next().unwrap_or_default()
    }

    /// Whether the pattern matches every text there is.
    pub fn is_everything(&self) -> bool {
        self.tokens == [Token::Across]
    }

    /// Whether this surely matches all that the other does. Some true cases are not seen: for
    /// those the answer is no.
    pub fn covers(&self, other: &Self) -> bool {
        let others_one_text = || other.is_literal() && self.matches(&other.text);
        self.is_everything() || self.tokens == other.tokens || others_one_text()
    }

    fn is_literal(&self) -> bool {
        self.tokens
            .iter()
            .all(|token| matches!(token, Token::Literal(_)))
    }

    /// Whether the whole of `text` is matched.
    pub fn matches(&self, text: &str) -> bool {
        match self.tokens.contains(&Token::WithinComponent) {
            true => self.matches_step_by_step(text),
            false => self.matches_piece_by_piece(text),
        }
    }

    /// Where each wildcard crosses everything: what stands between two of them is best found at its first
    /// place, as that leaves most to the rest.
    fn matches_piece_by_piece(&self, text: &str) -> bool {
        let Some((first, rest)) = self.text.split_once('*') else {
            return self.text == text;
        };
        let (between, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle = text.strip_prefix(first);
        let Some(mut middle) = middle.and_then(|text| text.strip_suffix(last)) else {
            return false;
        };
        between.split('*').all(|piece| {
            let found = middle.split_once(piece);
            middle = found.map_or(middle, |(_, after)| after);
            found.is_some()
        })
    }

    fn matches_step_by_step(&self, text: &str) -> bool {
        // `reached[i]`: the first `i` tokens can match what was read so far.
        let mut reached = vec![false; self.tokens.len() + 1];
        let mut next = reached.clone();
        reached[0] = true;
        self.skip_empty_wildcards(&mut reached);
        for character in text.chars() {
            next.fill(false);
            for (index, token) in self.tokens.iter().enumerate() {
                if !reached[index] {
                    continue;
                }
                match token {
                    Token::Literal(literal) if *literal == character => next[index + 1] = true,
                    Token::WithinComponent if character != '/' => next[index] = true,
                    Token::Across => next[index] = true,
                    _ => {}
                }
            }
            self.skip_empty_wildcards(&mut next);
            if !next.contains(&true) {
                return false;
            }
            std::mem::swap(&mut reached, &mut next);
        }
        reached[self.tokens.len()]
    }

    /// A wildcard may match nothing, so a position before one is also a position after it.
    fn skip_empty_wildcards(&self, reached: &mut [bool]) {
        for (index, token) in self.tokens.iter().enumerate() {
            if reached[index] && !matches!(token, Token::Literal(_)) {
                reached[index + 1] = true;
            }
        }
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

    proptest::proptest! {
        #[test]
        fn piece_by_piece_is_step_by_step(pattern in "[ab*é]{0,7}", text in "[abé]{0,9}") {
            let pattern = Pattern::new(&pattern, Reach::Everything);
            proptest::prop_assert_eq!(pattern.matches(&text), pattern.matches_step_by_step(&text));
        }

        #[test]
        fn a_text_without_stars_matches_itself_alone(text in "[^*]{0,20}", other in "[^*]{0,20}") {
            let pattern = Pattern::new(&text, Reach::Component);
            proptest::prop_assert!(pattern.matches(&text));
            proptest::prop_assert_eq!(pattern.matches(&other), text == other);
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
