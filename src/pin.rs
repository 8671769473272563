//! Content pins written into a list's text, where everything else stays as it is.
//!
//! What is asked of an engine comes as an argument, and the text goes back as a value: only
//! [`save`] touches a file.

mod edit;
mod save;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::allowlist::{ImagePlace, image_places};
use crate::engine::ImageFacts;
use crate::image::Reference;
use edit::{Content, Edit};

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
    let mut edit = Edit::of(text, update);
    let mut left = Vec::new();
    for rule in image_places(text) {
        let mut by_name: BTreeMap<String, Vec<&ImagePlace>> = BTreeMap::new();
        for place in &rule {
            match single(place) {
                Some(name) => by_name.entry(name.to_string()).or_default().push(place),
                None => left.extend(nameless(place, update)),
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
                    left.extend(places.map(|place| leave(place, why, true)));
                }
            }
        }
    }
    let (text, changes) = edit.done();
    Pinned {
        text,
        changes,
        left,
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

#[cfg(test)]
mod tests;
