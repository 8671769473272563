//! The edits of a list's text that pin its patterns.

use std::ops::Range;

use super::{Change, Update};
use crate::allowlist::ImagePlace;
use crate::engine::ImageFacts;
use crate::image::{Reference, hash_of_repo_digest};

/// What an image is made of, as pins can say it.
pub(super) struct Content {
    /// The pin that is written.
    pin: String,
    by_id: bool,
    /// All pins that mean this content.
    all: Vec<String>,
}

impl Content {
    /// A repo digest of the name's own repository before one of another, and that before the id.
    pub(super) fn of(image: &ImageFacts, name: &str) -> Option<Self> {
        let name = Reference::parse(name)?;
        let digests = image.names.iter().filter_map(|text| {
            let repository = Reference::parse(text);
            let is_own = repository.is_some_and(|other| other.repository() == name.repository());
            Some((!is_own, hash_of_repo_digest(text)?))
        });
        let mut digests: Vec<_> = digests.collect();
        digests.sort_by_key(|(is_foreign, _)| *is_foreign);
        let digests: Vec<_> = digests
            .into_iter()
            .map(|(_, hash)| hash.to_owned())
            .collect();
        let all: Vec<_> = digests.iter().chain(&image.id).cloned().collect();
        Some(Self {
            pin: all.first()?.clone(),
            by_id: digests.is_empty(),
            all,
        })
    }

    /// A pattern with its name as it was typed.
    fn pinned(&self, place: &ImagePlace) -> String {
        let name = place.pattern.as_str().split('@').next();
        format!("{}@{}", name.unwrap_or_default(), self.pin)
    }

    /// Whether a pattern is pinned to it.
    fn is(&self, place: &ImagePlace) -> bool {
        let pin = place.pattern.pin();
        pin.is_some_and(|pin| self.all.iter().any(|one| one == pin))
    }
}

/// A text being changed.
pub(super) struct Edit<'a> {
    text: &'a str,
    update: Update,
    edits: Vec<(Range<usize>, String)>,
    changes: Vec<Change>,
}

impl<'a> Edit<'a> {
    pub(super) fn of(text: &'a str, update: Update) -> Self {
        Self {
            text,
            update,
            edits: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// The new text, and what differs from the old one.
    pub(super) fn done(self) -> (String, Vec<Change>) {
        (edited(self.text, self.edits), self.changes)
    }

    /// Makes a rule's patterns of one name speak of today's content, once.
    pub(super) fn pin(&mut self, places: &[&ImagePlace], content: &Content) {
        let mut is_there = places.iter().any(|place| content.is(place));
        let others = places.iter().copied().filter(|place| !content.is(place));
        let (open, old): (Vec<_>, Vec<_>) = others.partition(|place| place.pattern.pin().is_none());
        let replaced = match self.update {
            Update::Replace => [open, old.clone()].concat(),
            Update::No | Update::Add => open,
        };
        for place in replaced {
            if is_there && self.remove(place) {
                continue;
            }
            is_there = true;
            let new = literal(self.text, place, &content.pinned(place));
            self.change(place, content, new);
        }
        if let (Update::Add, false, Some(last)) = (self.update, is_there, old.last()) {
            let old = &self.text[last.span.clone()];
            let new = literal(self.text, last, &content.pinned(last));
            let both = format!("{old}, {new}");
            let new = if last.in_list {
                both
            } else {
                format!("[{both}]")
            };
            self.change(last, content, new);
        }
    }

    fn change(&mut self, place: &ImagePlace, content: &Content, text: String) {
        self.edits.push((place.span.clone(), text));
        self.changes.push(Change {
            rule: place.rule.clone(),
            old: place.pattern.as_str().to_owned(),
            new: Some(content.pinned(place)),
            by_id: content.by_id,
        });
    }

    /// Takes away a pattern beside which another one of its name is pinned to today's content. Not
    /// where that would cost a comment: twice the same does no harm.
    fn remove(&mut self, place: &ImagePlace) -> bool {
        let Some(span) = with_comma(self.text, &place.span) else {
            return false;
        };
        self.edits.push((span, String::new()));
        self.changes.push(Change {
            rule: place.rule.clone(),
            old: place.pattern.as_str().to_owned(),
            new: None,
            by_id: false,
        });
        true
    }
}

/// A literal with the quotes that the old one has; references need no escapes in any of them.
fn literal(text: &str, place: &ImagePlace, new: &str) -> String {
    let old = &text[place.span.clone()];
    let quotes = ["\"\"\"", "'''", "\"", "'"];
    let quotes = quotes.into_iter().find(|quotes| old.starts_with(quotes));
    let quotes = quotes.unwrap_or("\"");
    format!("{quotes}{new}{quotes}")
}

/// What goes with an element of a list, its comma included. `None` where a comment stands between
/// the two.
fn with_comma(text: &str, span: &Range<usize>) -> Option<Range<usize>> {
    let after = text[span.end..].trim_start();
    if let Some(rest) = after.strip_prefix(',') {
        let rest = rest.trim_start_matches([' ', '\t']);
        return Some(span.start..text.len() - rest.len());
    }
    let mut rest = after;
    while rest.starts_with('#') {
        rest = rest
            .split_once('\n')
            .map_or("", |(_, rest)| rest)
            .trim_start();
    }
    // The last one. The comma before it may stay, and must where it may be part of a comment.
    let before = text[..span.start].trim_end_matches([' ', '\t']);
    let line = before.rsplit('\n').next().unwrap_or(before);
    let start = match before.strip_suffix(',') {
        Some(before) if !line.contains('#') => before.len(),
        _ => span.start,
    };
    rest.starts_with(']').then_some(start..span.end)
}

fn edited(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(span, _)| span.start);
    let mut edited = String::with_capacity(text.len());
    let mut done = 0;
    for (span, new) in edits {
        // Neighbours that both go may both claim the comma between them.
        edited.push_str(text.get(done..span.start).unwrap_or_default());
        edited.push_str(&new);
        done = span.end;
    }
    edited.push_str(&text[done..]);
    edited
}
