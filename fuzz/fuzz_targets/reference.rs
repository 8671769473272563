//! A reference prints as one that parses to the same; patterns agree with the references they name.
#![no_main]

use dockwarden::image::{ImagePattern, Reference, hash_of_repo_digest, is_id, is_id_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = (is_id(text), is_id_of(text, text));
    // Two patterns of one text, so that one can be held against the other.
    let (first, second) = text.split_once('\n').unwrap_or((text, text));
    if let Some(reference) = Reference::parse(first) {
        holds_of_reference(&reference);
    }
    if let Ok(pattern) = ImagePattern::parse(first) {
        holds_of_pattern(&pattern);
        if let (Ok(other), Some(reference)) =
            (ImagePattern::parse(second), Reference::parse(second))
            && pattern.covers(&other)
            && pattern.pin().is_none()
            && other.name_matches(&reference)
        {
            assert!(pattern.name_matches(&reference));
        }
    }
});

fn holds_of_reference(reference: &Reference) {
    let printed = reference.to_string();
    assert_eq!(Reference::parse(&printed).as_ref(), Some(reference));
    match (reference.digest(), ImagePattern::parse(&printed)) {
        (None, pattern) => {
            let pattern = pattern.unwrap();
            assert!(pattern.names_one() && pattern.name_matches(reference));
            assert_eq!(pattern.reference().as_ref(), Some(reference));
        }
        (Some(digest), Ok(pattern)) => {
            assert_eq!(pattern.pin(), Some(digest));
            assert_eq!(hash_of_repo_digest(&printed), Some(digest));
            assert!(pattern.name_matches(reference));
        }
        (Some(digest), Err(_)) => assert!(!digest.starts_with("sha256:")),
    }
}

fn holds_of_pattern(pattern: &ImagePattern) {
    assert_eq!(
        ImagePattern::parse(&pattern.to_string()).as_ref(),
        Ok(pattern)
    );
    assert!(pattern.covers(pattern));
    let everything = ImagePattern::parse("**").unwrap();
    assert_eq!(everything.covers(pattern), pattern.pin().is_none());
    let reference = pattern.reference();
    assert!(reference.is_some() || !pattern.names_one());
    if let Some(reference) = reference {
        assert!(pattern.name_matches(&reference));
        assert_eq!(reference.digest(), None);
    }
}
