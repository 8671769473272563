//! `check --accept`: the hash of a list written into its own guard, everything else of it kept.

use std::path::Path;

use toml_edit::{DocumentMut, InlineTable, Item, value};

use super::{Failure, INTERNAL};
use crate::allowlist::Allowlist;
use crate::pin::save;
use crate::status::LoadedList;

/// Has a list accept itself, whatever it ends.
pub(super) fn accept(path: &Path, list: &LoadedList) -> Result<(), Failure> {
    let new = accepting(&list.text, &list.hash).ok_or_else(|| Failure {
        code: INTERNAL,
        message: format!("{} could not be changed", path.display()),
    })?;
    save(path, &list.text, &new)
        .map_err(|error| Failure::bad_usage(format!("{}: {error}", path.display())))
}

/// The text of the same list with its hash in its guard.
fn accepting(text: &str, hash: &str) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    let guard = document
        .entry("guard")
        .or_insert_with(|| Item::Value(InlineTable::new().into()));
    guard.as_table_like_mut()?.insert("accept", value(hash));
    if let Some(inline) = guard.as_inline_table_mut() {
        inline.fmt();
    }
    let new = document.to_string();
    let list = Allowlist::parse(new.as_bytes()).ok()?;
    (list.hash() == hash && list.guard.accepts(hash)).then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_list_stays_as_it_is() {
        let rule = "\n# the shop\n[[allow]]\nimage = 'a' # pinned later\n";
        let table = [
            (
                "version = 1 # one\n",
                "version = 1 # one\nguard = { accept = \"HASH\" }\n",
            ),
            (
                "version = 1\nguard = { share = 0.3 } # less\n",
                "version = 1\nguard = { share = 0.3, accept = \"HASH\" } # less\n",
            ),
            (
                "version = 1\nguard = { accept = \"0000000000000000000000000000000000000000000000000000000000000000\", min = 2 }\n",
                "version = 1\nguard = { accept = \"HASH\", min = 2 }\n",
            ),
            (
                "version = 1\n\n[guard] # ours\nmin = 2\n",
                "version = 1\n\n[guard] # ours\nmin = 2\naccept = \"HASH\"\n",
            ),
        ];
        for (before, after) in table {
            let text = format!("{before}{rule}");
            let hash = Allowlist::parse(text.as_bytes()).expect("a list").hash();
            let expected = format!("{}{rule}", after.replace("HASH", &hash));
            assert_eq!(accepting(&text, &hash).expect("a list"), expected);
        }
    }
}
