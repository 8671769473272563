//! What came of each dodge: asserted where it happens, and told of in one table at the end.

use crate::support::{Engine, SOON, Warden};
use crate::{ELSEWHERE, ROWS, wait_until_shown};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

static TABLE: Mutex<BTreeMap<&'static str, Told>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
struct Told {
    dodges: Vec<Dodge>,
    is_done: bool,
    failed: bool,
}

struct Dodge {
    what: String,
    fate: &'static str,
    reason: String,
    lived: String,
}

/// One row's test. Dropped, the row is done.
pub(crate) struct Row(&'static str);

impl Row {
    pub(crate) fn begin(row: &'static str) -> Self {
        assert!(ROWS.iter().any(|(known, _)| *known == row), "{row}");
        table().entry(row).or_default();
        Self(row)
    }

    /// A container that dodges is dead, and on record for this reason. Returns the record.
    #[track_caller]
    pub(crate) fn ended(
        &self,
        (engine, warden): (&Engine, &Warden),
        what: &str,
        id: &str,
        reason: &str,
    ) -> Value {
        let state = engine.wait_until_dead(id, SOON);
        let record = warden.wait_for_verdict(id, "denied");
        assert_eq!(record["reason"], reason, "{what}: {record:#}");
        let fate = match record["outcome"].as_str() {
            Some("done") => "ended",
            Some("never-ran") => "prevented",
            Some("ended-itself") => "ended by itself",
            Some("gone") => "gone",
            _ => panic!("{what}: {state:?} {record:#}"),
        };
        let lived = record["lived_ms"].as_f64();
        let lived = lived.map_or_else(|| "?".to_owned(), |ms| format!("{ms:.0} ms"));
        self.tell(what, fate, reason, &lived);
        record
    }

    /// The same for one that this machine can't start, or that nothing has started yet: what it is
    /// shown as.
    #[track_caller]
    pub(crate) fn denied_as_created(
        &self,
        warden: &Warden,
        what: &str,
        id: &str,
        reason: &str,
    ) -> Value {
        let shown = wait_until_shown(warden, id, "denied");
        assert_eq!(shown["reason"], reason, "{what}: {shown:#}");
        self.tell(what, "denied, never started", reason, "");
        shown
    }

    pub(crate) fn tell(&self, what: &str, fate: &'static str, reason: &str, lived: &str) {
        let dodge = Dodge {
            what: what.to_owned(),
            fate,
            reason: reason.to_owned(),
            lived: lived.to_owned(),
        };
        table().entry(self.0).or_default().dodges.push(dodge);
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        let mut table = table();
        let told = table.entry(self.0).or_default();
        told.is_done = true;
        told.failed = std::thread::panicking();
        let done = table.values().filter(|told| told.is_done).count();
        if done == ROWS.len() {
            // Not `eprint!`, which the test runner captures.
            let _ = std::io::stderr().write_all(print(&table).as_bytes());
        }
    }
}

fn table() -> MutexGuard<'static, BTreeMap<&'static str, Told>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shortened(what: &str) -> String {
    match what.char_indices().nth(61) {
        Some((end, _)) => format!("{}…", &what[..end]),
        None => what.to_owned(),
    }
}

fn print(table: &BTreeMap<&'static str, Told>) -> String {
    let mut text = String::from("\n");
    for (row, about) in ROWS {
        let told = &table[row];
        let failed = if told.failed { "   FAILED" } else { "" };
        let _ = writeln!(text, "{row}  {about}{failed}");
        for dodge in &told.dodges {
            let Dodge {
                what,
                fate,
                reason,
                lived,
            } = dodge;
            let what = shortened(what);
            let _ = writeln!(text, "    {what:<62} {fate:<21} {reason:<13} {lived:>9}");
        }
    }
    for (row, about) in ELSEWHERE {
        let _ = writeln!(text, "{row}  {about}");
    }
    text
}
