//! Names for rules: what a person would call it, and each once.

use std::collections::HashSet;

use super::group::{Image, Key};

/// How long a part of a name may be.
const PART_MAX: usize = 40;

/// The names that are taken.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// A name for a rule that no other rule has.
    pub(super) fn unique(&mut self, key: &Key) -> String {
        let service: Vec<_> = key
            .service
            .iter()
            .map(|(_, value)| readable(value))
            .collect();
        let (image, tag) = match &key.image {
            Image::Named(name) => {
                let last = name.rsplit('/').next().unwrap_or(name);
                let (image, tag) = last.split_once(':').unwrap_or((last, ""));
                (readable(image), readable(tag))
            }
            Image::Nameless(id) => {
                let hex = id.trim_start_matches("sha256:");
                (
                    format!("image-{}", hex.get(..12).unwrap_or(hex)),
                    String::new(),
                )
            }
        };
        let parts: Vec<String> = service.into_iter().chain([image, tag]).collect();
        // The service alone says it, else its image as well, else the tag, else a number.
        let shortest = if key.service.is_empty() {
            1
        } else {
            key.service.len()
        };
        let longer = (shortest..=parts.len()).map(|count| joined(&parts[..count]));
        let numbered = (2..).map(|number| format!("{}-{number}", joined(&parts)));
        let mut candidates = longer.chain(numbered);
        let free = candidates.find(|name| !name.is_empty() && !self.0.contains(name));
        let name = free.unwrap_or_default();
        self.0.insert(name.clone());
        name
    }
}

fn joined(parts: &[String]) -> String {
    let parts = parts.iter().filter(|part| !part.is_empty());
    parts.map(String::as_str).collect::<Vec<_>>().join("-")
}

fn readable(text: &str) -> String {
    let plain: String = text
        .chars()
        .take(PART_MAX)
        .map(|character| match character {
            '.' | '_' | '-' => character,
            character if character.is_ascii_alphanumeric() => character,
            _ => '-',
        })
        .collect();
    plain.trim_matches(['-', '.', '_']).to_owned()
}
