//! What `cargo bench --bench decision` measured just before, as criterion left it.

use std::path::{Path, PathBuf};

use serde_json::Value;

pub(crate) const SIZES: [usize; 3] = [10, 1_000, 10_000];
const KINDS: [&str; 4] = ["exact", "glob", "pinned", "every-key"];
const CASES: [&str; 3] = ["allowed", "denied", "near"];

/// The median of one decision, in nanoseconds, against lists of [`SIZES`].
pub(crate) struct Decision {
    pub(crate) rules: &'static str,
    pub(crate) case: &'static str,
    pub(crate) medians: [f64; 3],
}

/// None where that was not measured.
pub(crate) fn all() -> Option<Vec<Decision>> {
    let mut all = Vec::new();
    for rules in KINDS {
        for case in CASES {
            let median = |size: usize| read(&[rules, case, &size.to_string()]);
            let [few, many, most] = SIZES.map(median);
            all.push(Decision {
                rules,
                case,
                medians: [few?, many?, most?],
            });
        }
    }
    Some(all)
}

/// To read a list of 10,000 rules, in milliseconds, by the kind of rule.
pub(crate) fn parsing() -> Vec<(&'static str, f64)> {
    let kinds = KINDS.into_iter();
    let read = |kind| Some((kind, read(&["parse", kind, "10000"])? / 1e6));
    kinds.filter_map(read).collect()
}

fn read(place: &[&str]) -> Option<f64> {
    let target = Path::new(env!("CARGO_BIN_EXE_dockwarden"))
        .ancestors()
        .nth(2)?;
    let mut path: PathBuf = target.join("criterion");
    path.extend(place);
    let text = std::fs::read(path.join("new/estimates.json")).ok()?;
    let estimates: Value = serde_json::from_slice(&text).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}
