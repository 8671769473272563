//! What parses as a reference prints as one that parses to the same, and is matched by itself.
#![no_main]

use dockwarden::image::{ImagePattern, Reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = ImagePattern::parse(text);
    if let Some(reference) = Reference::parse(text) {
        let printed = reference.to_string();
        assert_eq!(Reference::parse(&printed).as_ref(), Some(&reference));
        if reference.digest().is_none() {
            assert!(ImagePattern::parse(&printed).unwrap().matches(&reference));
        }
    }
});
