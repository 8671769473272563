//! Where things stand in a list's text, for those who change the text and keep everything else of it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::image::ImagePattern;
use crate::printable::is_hidden;

/// An image pattern in a list's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlace {
    /// The name of its rule.
    pub rule: String,
    /// The bytes of its literal, quotes included.
    pub span: Range<usize>,
    /// Whether it is an element of a list and not the only value.
    pub in_list: bool,
    /// What it says.
    pub pattern: ImagePattern,
}

/// All image patterns of a valid list, rule by rule.
pub fn image_places(text: &str) -> Vec<Vec<ImagePlace>> {
    let Ok(document) = DeTable::parse(text) else {
        return Vec::new();
    };
    let rules = document
        .get_ref()
        .get("allow")
        .and_then(|allow| allow.get_ref().as_array());
    let rules = rules.into_iter().flat_map(|rules| rules.iter()).enumerate();
    rules
        .filter_map(|(index, rule)| Some(of_rule(index + 1, rule.get_ref().as_table()?)))
        .collect()
}

fn of_rule(number: usize, table: &DeTable<'_>) -> Vec<ImagePlace> {
    let name = table.get("rule").and_then(|name| name.get_ref().as_str());
    let name = name.map_or_else(|| format!("allow-{number}"), str::to_owned);
    let Some(image) = table.get("image") else {
        return Vec::new();
    };
    let place = |value: &Spanned<DeValue<'_>>, in_list| {
        Some(ImagePlace {
            rule: name.clone(),
            span: value.span(),
            in_list,
            pattern: ImagePattern::parse(value.get_ref().as_str()?).ok()?,
        })
    };
    match image.get_ref().as_array() {
        Some(list) => list.iter().filter_map(|one| place(one, true)).collect(),
        None => place(image, false).into_iter().collect(),
    }
}

/// A text as a TOML literal. Whatever steers a terminal or hides in an editor is escaped.
pub fn quoted(text: &str) -> String {
    let mut literal = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => literal.push_str("\\\""),
            '\\' => literal.push_str("\\\\"),
            '\n' => literal.push_str("\\n"),
            '\t' => literal.push_str("\\t"),
            character if is_hidden(character) => {
                literal.push_str(&format!("\\U{:08X}", u32::from(character)));
            }
            character => literal.push(character),
        }
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowlist::Allowlist;

    #[test]
    fn every_image_pattern_is_found_where_it_stands() {
        let text = "version = 1 # a\n[[allow]]\nrule = \"w\"\nimage = 'a:1' # b\n\
                    [[allow]]\ncontainer = \"x\"\n\
                    [[allow]]\nimage = [\"b:1\", # c\n \"\"\"\nc\"\"\"]\n";
        let found: Vec<_> = image_places(text)
            .into_iter()
            .flatten()
            .map(|place| (place.rule, text[place.span].to_owned(), place.in_list))
            .collect();
        let expected = [
            ("w", "'a:1'", false),
            ("allow-3", "\"b:1\"", true),
            ("allow-3", "\"\"\"\nc\"\"\"", true),
        ];
        let expected =
            expected.map(|(rule, literal, list)| (rule.to_owned(), literal.to_owned(), list));
        assert_eq!(found, expected);
        let inline = "version = 1\nallow = [{ image = \"a:1\" }]\n";
        assert_eq!(&inline[image_places(inline)[0][0].span.clone()], "\"a:1\"");
    }

    proptest::proptest! {
        #[test]
        fn any_text_survives_a_list(text in proptest::prelude::any::<String>()) {
            let literal = quoted(&text);
            proptest::prop_assert!(!literal.contains(is_hidden));
            let list = format!("version = 1\n[[allow]]\nlabels = {{ \"a\" = {literal} }}\nreason = {literal}\n");
            let list = Allowlist::parse(list.as_bytes()).expect("a valid list");
            proptest::prop_assert_eq!(list.rules[0].labels["a"].as_str(), &text);
            proptest::prop_assert!(list.rules[0].labels["a"].matches(&text));
            proptest::prop_assert_eq!(list.rules[0].reason.as_deref(), Some(&*text));
        }
    }
}
