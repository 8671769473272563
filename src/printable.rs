//! Words as people are shown them: how many there are of something, and foreign text, with one table of what
//! hides in it, or steers what shows it.

use std::fmt::{self, Write};

/// `1 container`, `2 containers`.
pub fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// Control characters (terminal escapes begin with one), line separators, marks that turn the
/// direction of writing, and what has no width.
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// The text on one line, with all that hides escaped: `\u{202e}`.
pub fn line(text: &str) -> String {
    escaped(text, |_| false)
}

/// The same for text of several lines.
pub fn lines(text: &str) -> String {
    escaped(text, |character| character == '\n')
}

fn escaped(text: &str, passes: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) && !passes(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// A JSON text of the same meaning in which nothing hides: it can do so in strings only, where
/// JSON has escapes for it.
pub fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) && character != '\n' {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Writes what it is given on one line, as [`line`].
pub struct Line<W>(pub W);

impl<W: Write> Write for Line<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&line(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_is_shown() {
        let hostile = "a\u{1b}[31m\u{202e}b\u{200b}\u{2028}\u{9b}\u{e0041}\n\u{7f}\u{e4}";
        let shown = "a\\u{1b}[31m\\u{202e}b\\u{200b}\\u{2028}\\u{9b}\\u{e0041}";
        assert_eq!(line(hostile), format!("{shown}\\u{{a}}\\u{{7f}}\u{e4}"));
        assert_eq!(lines(hostile), format!("{shown}\n\\u{{7f}}\u{e4}"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_hides_and_json_keeps_its_meaning(text in proptest::prelude::any::<String>()) {
            proptest::prop_assert!(!line(&text).contains(is_hidden));
            let shown = json(&serde_json::to_string(&text).expect("a text"));
            proptest::prop_assert!(!shown.contains(is_hidden));
            proptest::prop_assert_eq!(serde_json::from_str::<String>(&shown).expect("JSON"), text);
        }
    }
}
