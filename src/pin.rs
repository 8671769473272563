//! Content pins written into a list's text, where everything else stays as it is.
//!
//! What is asked of an engine comes as an argument, and the text goes back as a value: only
//! [`save`] touches a file.

mod save;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use crate::allowlist::{ImagePlace, image_places};
use crate::engine::ImageFacts;
use crate::image::{Reference, hash_of_repo_digest};

pub use save::save;

/// What is done about the pins that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// They stay.
    No,
    /// Today's content replaces them.
    Replace,
    /// Today's content is allowed as well.
    Add,
}

/// A change of the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The rule.
    pub rule: String,
    /// The pattern that was there.
    pub old: String,
    /// What is there now; none where another pattern says it already.
    pub new: Option<String>,
    /// The pin is the image's id, for it has no repo digest: it holds on this engine's store only.
    pub by_id: bool,
}

/// A pattern that was left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// The rule.
    pub rule: String,
    /// The pattern.
    pub pattern: String,
    /// Why.
    pub why: &'static str,
    /// It should have been pinned.
    pub is_failure: bool,
}

/// What becomes of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The new text.
    pub text: String,
    /// What differs from the old one.
    pub changes: Vec<Change>,
    /// What could not be pinned.
    pub left: Vec<Left>,
}

/// The images whose content must be known, by their names.
pub fn wanted(text: &str, update: Update) -> Vec<Reference> {
    let places = image_places(text).into_iter().flatten();
    let mut names: Vec<_> = places.filter_map(|place| subject(&place, update)).collect();
    names.sort_by_key(ToString::to_string);
    names.dedup();
    names
}

/// The name whose content a pattern is to be pinned to.
fn subject(place: &ImagePlace, update: Update) -> Option<Reference> {
    let is_due = update != Update::No || place.pattern.pin().is_none();
    single(place).filter(|_| is_due)
}

/// The name that a pattern is about, pinned or not, where that is one with a tag.
fn single(place: &ImagePlace) -> Option<Reference> {
    let pattern = &place.pattern;
    pattern.reference().filter(|_| pattern.has_tag())
}

/// Pins a valid list's text to these images, by the full form of their names.
pub fn pin(text: &str, update: Update, images: &BTreeMap<String, ImageFacts>) -> Pinned {
    let mut edit = Edit {
        text,
        update,
        edits: Vec::new(),
        changes: Vec::new(),
        left: Vec::new(),
    };
    for rule in image_places(text) {
        let mut by_name: BTreeMap<String, Vec<&ImagePlace>> = BTreeMap::new();
        for place in &rule {
            match single(place) {
                Some(name) => by_name.entry(name.to_string()).or_default().push(place),
                None => edit.left.extend(nameless(place, update)),
            }
        }
        for (name, places) in by_name {
            let is_due = |place: &&&ImagePlace| subject(place, update).is_some();
            let due: Vec<_> = places.iter().filter(is_due).collect();
            if due.is_empty() {
                continue;
            }
            match images.get(&name).map(|image| Content::of(image, &name)) {
                Some(Some(content)) => edit.pin(&places, &content),
                none => {
                    let why = match none {
                        Some(_) => "the engine tells no content of it",
                        None => "this engine has no such image",
                    };
                    let places = places.iter();
                    edit.left
                        .extend(places.map(|place| leave(place, why, true)));
                }
            }
        }
    }
    Pinned {
        text: edited(text, edit.edits),
        changes: edit.changes,
        left: edit.left,
    }
}

fn leave(place: &ImagePlace, why: &'static str, is_failure: bool) -> Left {
    Left {
        rule: place.rule.clone(),
        pattern: place.pattern.as_str().to_owned(),
        why,
        is_failure,
    }
}

/// Why a pattern is none that can be pinned; nothing where it is pinned and may stay so.
fn nameless(place: &ImagePlace, update: Update) -> Option<Left> {
    let pattern = &place.pattern;
    let why = match (pattern.pin(), update) {
        (Some(_), Update::No) => return None,
        (Some(_), _) if pattern.has_tag() => "it names no single image",
        (Some(_), _) => "it names no tag whose content could be looked up",
        (None, _) if pattern.has_tag() || pattern.as_str().contains('*') => {
            "it names no single image"
        }
        (None, _) => "it names no single image, for it has no tag",
    };
    Some(leave(place, why, false))
}

/// What an image is made of, as pins can say it.
struct Content {
    /// The pin that is written.
    pin: String,
    by_id: bool,
    /// All pins that mean this content.
    all: Vec<String>,
}

impl Content {
    /// A repo digest of the name's own repository before one of another, and that before the id.
    fn of(image: &ImageFacts, name: &str) -> Option<Self> {
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
struct Edit<'a> {
    text: &'a str,
    update: Update,
    edits: Vec<(Range<usize>, String)>,
    changes: Vec<Change>,
    left: Vec<Left>,
}

impl Edit<'_> {
    /// Makes a rule's patterns of one name speak of today's content, once.
    fn pin(&mut self, places: &[&ImagePlace], content: &Content) {
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

#[cfg(test)]
mod tests;
