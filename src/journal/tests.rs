//! An audit log as its readers find it: whole, in order and each record once, whatever was cut short.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::Timestamp;
use tempfile::TempDir;

use super::appender::Appender;
use super::search::{Stamp, last};
use super::{Decision, Filter, Rotation, files, search};
use crate::allowlist::{Mode, Reason, Verdict};
use crate::container::{Container, ContainerId, Who};
use crate::record::{self, Connection, Event, Happening, Outcome, Record, Trigger, What};

/// Room for some records of `record`.
pub(super) const SMALL: Rotation = Rotation {
    max_size: 4_096,
    keep: 5,
};
pub(super) const LARGE: Rotation = Rotation {
    max_size: u64::MAX,
    keep: 5,
};

fn record(seq: u64) -> Record {
    let id = format!("{seq:064x}");
    Record {
        v: 1,
        seq,
        event: Event::Decision,
        time: Timestamp::UNIX_EPOCH,
        host: "host".to_owned(),
        container_id: ContainerId::parse(&id).expect("full id"),
        container_name: Some(format!("c{seq}")),
        image: None,
        image_id: None,
        labels: [("com.docker.compose.project".to_owned(), "x".repeat(500))].into(),
        powers: None,
        may_do_more: false,
        image_digests: Vec::new(),
        verdict: "denied".to_owned(),
        rule: None,
        reason: None,
        detail: None,
        trigger: Trigger::Start,
        mode: Mode::Enforce,
        action: None,
        outcome: seq.is_multiple_of(2).then_some(Outcome::Done),
        error: None,
        path: None,
        restart_policy: None,
        started_at: None,
        lived_ms: None,
        allowlist_hash: String::new(),
    }
}

/// What became of a container of that image.
pub(super) fn decision(image: &str, outcome: Outcome) -> Decision {
    let id = ContainerId::parse(&"ab".repeat(32)).expect("full id");
    let mut container = Container::new(id);
    container.image = Some(image.to_owned());
    Decision {
        container,
        verdict: Verdict::Denied {
            reason: Reason::NoRule,
            rule: None,
            detail: String::new(),
        },
        trigger: Trigger::Start,
        mode: Mode::Enforce,
        action: None,
        outcome: Some(outcome),
        error: None,
        path: record::Path::Api,
        restart_policy: None,
        started_at: None,
        lived: None,
        reaction: None,
        allowlist_hash: "".into(),
    }
}

fn line(seq: u64) -> Vec<u8> {
    let mut line = serde_json::to_vec(&record(seq)).expect("JSON");
    line.push(b'\n');
    line
}

fn happening(seq: u64) -> Vec<u8> {
    let happening = Happening {
        v: 1,
        seq,
        time: Timestamp::UNIX_EPOCH,
        host: "host".to_owned(),
        what: What::Engine {
            change: Connection::Connected,
            version: None,
            error: None,
        },
    };
    let mut line = serde_json::to_vec(&happening).expect("JSON");
    line.push(b'\n');
    line
}

/// A log in a directory that ends with it.
pub(super) struct Place {
    directory: TempDir,
    pub(super) path: PathBuf,
}

impl Place {
    pub(super) fn new() -> Self {
        // In memory where that can be: what is tested here is not the disk.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let directory = directory.expect("a directory");
        let path = directory.path().join("audit.jsonl");
        Self { directory, path }
    }

    fn open(&self, rotation: Rotation) -> Appender {
        Appender::open(&self.path, rotation).expect("a log")
    }

    pub(super) fn append(&self, rotation: Rotation, numbers: RangeInclusive<u64>) {
        let mut log = self.open(rotation);
        for seq in numbers {
            append(&mut log, seq);
        }
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        numbers(&self.path, &Filter::default(), usize::MAX)
    }

    fn last(&self) -> u64 {
        let last = last(&self.path).expect("a readable log");
        last.map_or(0, |Stamp { seq, .. }| seq)
    }

    /// The files that there are, by number.
    pub(super) fn files(&self) -> Vec<u32> {
        (0..=files::MOST_KEPT)
            .filter(|number| files::numbered(&self.path, *number).exists())
            .collect()
    }

    pub(super) fn bytes(&self, number: u32) -> Vec<u8> {
        std::fs::read(files::numbered(&self.path, number)).expect("bytes")
    }
}

fn append(log: &mut Appender, seq: u64) {
    log.wait(line(seq)).expect("room");
    log.write().expect("written");
    assert!(log.not_rotated().is_none());
}

fn numbers(path: &Path, filter: &Filter, limit: usize) -> Vec<u64> {
    let found = search(path, filter, limit).expect("a readable log");
    found.iter().map(|record| record.seq).collect()
}

fn down(from: u64, to: u64) -> Vec<u64> {
    (to..=from).rev().collect()
}

#[test]
fn a_log_is_searched_from_its_end_through_all_its_files() {
    // All in one file, and some hundred in each.
    for max_size in [u64::MAX, 500_000] {
        let place = Place::new();
        place.append(Rotation { max_size, keep: 5 }, 1..=2_000);
        assert_eq!(place.files().len() > 1, max_size != u64::MAX);
        let all = Filter::default();
        let find = |filter: &Filter, limit| numbers(&place.path, filter, limit);
        assert_eq!(find(&all, 3), [2_000, 1_999, 1_998]);
        assert_eq!(find(&all, 10_000), down(2_000, 1));
        let done = Filter {
            outcome: Some(Outcome::Done),
            ..all.clone()
        };
        assert_eq!(find(&done, 2), [2_000, 1_998]);
        let between = Filter {
            after: Some(7),
            before: Some(10),
            ..all.clone()
        };
        assert_eq!(find(&between, 10), [9, 8]);
        let one = Filter {
            container: Some(Who::Name("c7".to_owned())),
            ..all
        };
        assert_eq!(find(&one, 10), [7]);
    }
}

#[test]
fn files_are_rotated_between_records_and_so_many_are_kept() {
    let place = Place::new();
    place.append(SMALL, 1..=100);
    assert_eq!(place.files(), [0, 1, 2, 3, 4, 5]);
    for number in place.files() {
        let bytes = place.bytes(number);
        assert!(bytes.len() as u64 <= SMALL.max_size && bytes.ends_with(b"\n"));
        let lines: Vec<_> = bytes
            .trim_ascii_end()
            .split(|byte| *byte == b'\n')
            .collect();
        assert!(lines.len() > 1 || number == 0);
        for line in lines {
            serde_json::from_slice::<Record>(line).expect("a whole record");
        }
    }
    let kept = place.numbers();
    assert!(kept.len() > 15, "{kept:?}");
    assert_eq!(kept, down(100, 101 - kept.len() as u64));
    // Fewer are to be kept from now on.
    let fewer = Rotation { keep: 2, ..SMALL };
    place.append(fewer, 101..=110);
    assert_eq!(place.files(), [0, 1, 2]);
    // A record that is larger than a file has one of its own.
    let tiny = Rotation {
        max_size: 10,
        keep: 5,
    };
    place.append(tiny, 111..=113);
    assert_eq!(place.bytes(0), line(113));
    assert_eq!(place.bytes(1), line(112));
    assert_eq!(place.numbers()[..3], [113, 112, 111]);
}

#[test]
fn a_torn_line_costs_itself_alone() {
    let whole = [line(1), happening(2), line(3)].concat();
    for torn in [line(4), happening(4)] {
        for cut in 0..torn.len() {
            for rotation in [
                LARGE,
                Rotation {
                    max_size: whole.len() as u64,
                    keep: 5,
                },
            ] {
                let place = Place::new();
                std::fs::write(&place.path, [&whole, &torn[..cut]].concat()).expect("written");
                // Without its end it is whole for a reader.
                let last = place.last();
                let is_whole = cut == torn.len() - 1;
                assert_eq!(last, if is_whole { 4 } else { 3 }, "cut at {cut}");
                place.append(rotation, last + 1..=last + 2);
                let mut found = place.numbers();
                found.retain(|seq| *seq != 4 || last == 3);
                assert_eq!(found, [last + 2, last + 1, 3, 1], "cut at {cut}");
            }
        }
    }
}

#[test]
fn a_line_of_garbage_costs_itself_alone() {
    let nul = vec![0; 4_096];
    let long = vec![0; 3 * 256 * 1_024 + 7];
    let garbage: [&[u8]; 6] = [b"", b"{", b"{}", b"\xff\xfe\n\n\0", &nul, &long];
    for garbage in garbage {
        let place = Place::new();
        let bytes = [&line(1), garbage, b"\n", &line(2), garbage];
        std::fs::write(&place.path, bytes.concat()).expect("written");
        assert_eq!(place.last(), 2);
        place.append(LARGE, 3..=3);
        assert_eq!(place.numbers(), [3, 2, 1]);
        // A file without one readable line: the one before it tells the last number.
        std::fs::rename(&place.path, files::numbered(&place.path, 1)).expect("renamed");
        std::fs::write(&place.path, garbage).expect("written");
        assert_eq!(place.last(), 3);
        assert_eq!(place.numbers(), [3, 2, 1]);
    }
}

#[test]
fn a_rotation_that_is_cut_short_at_any_rename_loses_and_doubles_nothing() {
    let mut rotations = 0;
    for before in [1..=10, 1..=16, 1..=40] {
        let newest = *before.end();
        for renamed in 0.. {
            let place = Place::new();
            place.append(SMALL, before.clone());
            let had = place.numbers();
            let renames = files::renames(&place.path, SMALL.keep);
            if renamed > renames.len() {
                break;
            }
            rotations += 1;
            for (from, to) in renames.iter().take(renamed) {
                std::fs::rename(from, to).expect("renamed");
            }
            let overwritten = had.len() - place.numbers().len();
            let left = &had[..had.len() - overwritten];
            assert!(overwritten == 0 || renames.len() == 5 && renamed > 0);
            assert_eq!(place.numbers(), left, "after {renamed} of {renames:?}");
            assert_eq!(place.last(), newest);
            // The next writer goes on, and heals the numbers within its next rotations.
            place.append(SMALL, newest + 1..=newest + 40);
            let found = place.numbers();
            assert_eq!(found, down(newest + 40, newest + 41 - found.len() as u64));
            assert_eq!(place.files(), [0, 1, 2, 3, 4, 5]);
        }
    }
    assert!(rotations > 8, "{rotations}");
}

/// Says that it is over, also where the writer failed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn readers_miss_and_double_nothing_while_files_are_rotated() {
    const RECORDS: u64 = 3_000;
    let place = Place::new();
    let rotation = Rotation {
        max_size: 2_048,
        keep: 20,
    };
    let mut log = place.open(rotation);
    append(&mut log, 1);
    let written = AtomicU64::new(1);
    let is_over = AtomicBool::new(false);
    let searches = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let before = written.load(Ordering::SeqCst);
                    let found = place.numbers();
                    let newest = found.first().copied().unwrap_or_default();
                    assert!(newest >= before, "{newest} of {before}");
                    assert_eq!(found, down(newest, newest + 1 - found.len() as u64));
                    // Those that are kept for sure, even where the files went on meanwhile.
                    let during = written.load(Ordering::SeqCst) - before;
                    let kept = u64::from(rotation.keep) * 2;
                    let expected = before.min(kept.saturating_sub(during));
                    assert!(found.len() as u64 >= expected, "{} {before}", found.len());
                    searches.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        scope.spawn(|| {
            // Whoever else wants to write is refused at every moment.
            while !is_over.load(Ordering::SeqCst) {
                assert!(Appender::open(&place.path, rotation).is_err());
            }
        });
        let _over = Over(&is_over);
        for seq in 2..=RECORDS {
            append(&mut log, seq);
            written.store(seq, Ordering::SeqCst);
        }
    });
    let searches = searches.into_inner();
    assert!(searches > 20, "{searches} searches are too few to tell");
    assert_eq!(place.files().len(), 21);
}

#[test]
fn a_second_writer_is_refused_until_the_first_is_gone() {
    let place = Place::new();
    let mut first = place.open(SMALL);
    for seq in 1..=10 {
        append(&mut first, seq);
    }
    assert!(place.files().len() > 1);
    let refused = Appender::open(&place.path, SMALL).err().expect("refused");
    assert_eq!(refused.to_string(), "another process writes this audit log");
    drop(first);
    place.append(SMALL, 11..=11);
    assert_eq!(place.numbers(), down(11, 1));
}

#[test]
fn a_rotation_that_fails_stops_no_record() {
    let place = Place::new();
    // The name that the full file should get is taken.
    let obstacle = files::numbered(&place.path, 1);
    std::fs::create_dir(&obstacle).expect("a directory");
    let mut log = place.open(Rotation { keep: 1, ..SMALL });
    let mut failures = 0;
    for seq in 1..=30 {
        log.wait(line(seq)).expect("room");
        log.write().expect("written");
        failures += usize::from(log.not_rotated().is_some());
    }
    assert_eq!(failures, 1, "it is not tried at each record");
    assert_eq!(place.numbers(), down(30, 1));
    drop(log);
    // It is made up for.
    std::fs::remove_dir(&obstacle).expect("removed");
    place.append(Rotation { keep: 1, ..SMALL }, 31..=31);
    assert_eq!(place.bytes(0), line(31));
    assert_eq!(place.numbers(), down(31, 1));
    assert!(place.directory.path().join("audit.jsonl.lock").exists());
}

#[test]
fn what_a_disk_does_not_take_waits_up_to_a_bound() {
    let place = Place::new();
    std::os::unix::fs::symlink("/dev/full", &place.path).expect("a link");
    let mut log = place.open(LARGE);
    let mut taken = 0_u64;
    while log.wait(line(taken + 1)).is_ok() {
        taken += 1;
        assert_eq!(
            log.write().err().map(|error| error.kind()),
            Some(std::io::ErrorKind::StorageFull)
        );
    }
    assert!(taken > 10_000, "{taken}");
    assert_eq!(log.waiting() as u64, taken);
}
