//! A log read forwards, from a record on and to its end again and again, through its rotations.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::path::PathBuf;

use super::files;
use super::search::Stamp;
use crate::record::Record;

/// A place in a log.
pub(super) struct Tail {
    path: PathBuf,
    /// The number of the last record that was read.
    after: u64,
    file: Option<BufReader<File>>,
    /// Whether nothing more comes into this file: another one is written.
    is_full: bool,
    /// What there is of the line that is being read.
    line: Vec<u8>,
}

impl Tail {
    /// Begins behind the record of that number.
    pub(super) fn new(path: PathBuf, after: u64) -> Self {
        Self {
            path,
            after,
            file: None,
            is_full: false,
            line: Vec::new(),
        }
    }

    /// The next decisions, at most `limit`; none: there are no more yet. Blocks on files. Lines that
    /// can't be read are skipped.
    pub(super) fn read(&mut self, limit: usize) -> io::Result<Vec<Record>> {
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(file) = &mut self.file else {
                match self.first()? {
                    Some(file) => self.file = Some(BufReader::new(file)),
                    None => break,
                }
                continue;
            };
            file.read_until(b'\n', &mut self.line)?;
            if self.line.ends_with(b"\n") {
                found.extend(self.take_line());
            } else if !self.is_full {
                // Something may have been written since it was read to its end.
                self.is_full = files::identity_of_newest(&self.path)? != Some(self.identity()?);
                if !self.is_full {
                    break;
                }
            } else if !self.go_on()? {
                break;
            }
        }
        Ok(found)
    }

    fn take_line(&mut self) -> Option<Record> {
        let line = std::mem::take(&mut self.line);
        let seq = serde_json::from_slice::<Stamp>(&line).ok()?.seq;
        let is_new = seq > self.after;
        self.after = self.after.max(seq);
        is_new.then(|| serde_json::from_slice(&line).ok()).flatten()
    }

    /// The file in which the next record stands, or the oldest one.
    fn first(&self) -> io::Result<Option<File>> {
        let mut oldest = None;
        for file in self.all()? {
            let begins_at = first_number(&file)?;
            oldest = Some(file);
            if begins_at.is_some_and(|seq| seq <= self.after.saturating_add(1)) {
                break;
            }
        }
        Ok(oldest)
    }

    /// Takes up the file behind the one that was read; false: there is none yet.
    fn go_on(&mut self) -> io::Result<bool> {
        let current = self.identity()?;
        let mut newer = None;
        for file in self.all()? {
            if files::identity(&file)? == current {
                let Some(file) = newer else {
                    return Ok(false);
                };
                self.begin(Some(file));
                return Ok(true);
            }
            newer = Some(file);
        }
        // It was removed meanwhile.
        self.begin(None);
        Ok(true)
    }

    fn begin(&mut self, file: Option<File>) {
        self.file = file.map(BufReader::new);
        self.is_full = false;
        self.line.clear();
    }

    /// The newest first. A log that nobody has begun yet has none.
    fn all(&self) -> io::Result<Vec<File>> {
        match files::open_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            result => result,
        }
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        files::identity(file.get_ref())
    }
}

/// The number of the first record that can be read. The file is at its beginning then.
fn first_number(file: &File) -> io::Result<Option<u64>> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let mut found = None;
    while found.is_none() && reader.read_until(b'\n', &mut line)? > 0 {
        let stamp = serde_json::from_slice::<Stamp>(&line).ok();
        found = stamp.map(|stamp| stamp.seq);
        line.clear();
    }
    reader.rewind()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{Place, SMALL};

    #[test]
    fn it_reads_on_through_rotations_and_misses_and_doubles_nothing() {
        let place = Place::new();
        let mut tail = Tail::new(place.path.clone(), 0);
        assert!(tail.read(10).expect("no log yet").is_empty());
        let mut seen = Vec::new();
        let mut next = 1;
        for step in [1, 1, 3, 7, 1, 12, 2, 40] {
            // Of many files that came and went meanwhile, the last are still there.
            place.append(SMALL, next..=next + step - 1);
            next += step;
            loop {
                let some = tail.read(5).expect("readable");
                if some.is_empty() {
                    break;
                }
                assert!(some.len() <= 5);
                seen.extend(some.iter().map(|record| record.seq));
            }
            assert_eq!(seen.last(), Some(&(next - 1)));
        }
        assert!(place.files().len() > 3);
        assert!(seen.is_sorted_by(|one, other| one < other), "{seen:?}");
        let kept = *place.numbers().last().expect("some");
        let expected: Vec<_> = (kept.max(28)..next).collect();
        assert!(seen.ends_with(&expected), "{seen:?}");
        assert!(seen.starts_with(&(1..=27).collect::<Vec<_>>()), "{seen:?}");
    }

    #[test]
    fn it_begins_behind_any_record() {
        let place = Place::new();
        place.append(SMALL, 1..=60);
        let mut kept = place.numbers();
        kept.reverse();
        for after in 0..=61 {
            let mut tail = Tail::new(place.path.clone(), after);
            let found = tail.read(1_000).expect("readable");
            let found: Vec<_> = found.iter().map(|record| record.seq).collect();
            let expected = kept.iter().copied().filter(|seq| *seq > after);
            assert_eq!(found, expected.collect::<Vec<_>>(), "after {after}");
        }
    }

    #[test]
    fn a_line_is_told_when_it_is_whole() {
        use std::io::Write;
        let place = Place::new();
        place.append(SMALL, 1..=1);
        let whole = place.bytes(0);
        std::fs::write(&place.path, b"").expect("emptied");
        let mut tail = Tail::new(place.path.clone(), 0);
        let mut file = files::open(&place.path).expect("open");
        for byte in &whole {
            assert!(tail.read(10).expect("readable").is_empty());
            file.write_all(&[*byte]).expect("written");
        }
        assert_eq!(tail.read(10).expect("readable").len(), 1);
    }
}
