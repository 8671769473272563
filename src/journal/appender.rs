//! A file that one process appends to, line by line, and rotates by size.
//!
//! What can't be written, as where the disk is full, waits in memory. It is written later, in order:
//! a line that was written in part is completed, so that none is torn unless the process is ended.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Rotation, files};

/// How often what was written is forced onto the disk.
const SYNC_EACH: Duration = Duration::from_secs(1);
/// How soon a rotation that failed is tried again.
const ROTATE_AGAIN: Duration = Duration::from_secs(10);
/// How many bytes may wait for a disk that takes none.
const WAITING: usize = 16 * 1024 * 1024;

/// The file, and what it has to take.
pub(super) struct Appender {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    length: u64,
    unsynced_since: Option<Instant>,
    lines: VecDeque<Vec<u8>>,
    /// The bytes of all lines that wait.
    bytes: usize,
    /// How much of the first line is written.
    begun: usize,
    not_rotated: Option<io::Error>,
    rotate_from: Option<Instant>,
    /// Held as long as this writes.
    _lock: File,
}

impl Appender {
    /// Opens a file to append to, and locks it.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let mut file = files::open(path)?;
        let lock = files::lock(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        let mut appender = Self {
            path: path.to_owned(),
            rotation,
            length,
            unsynced_since: None,
            lines: VecDeque::new(),
            bytes: 0,
            begun: 0,
            not_rotated: None,
            rotate_from: None,
            _lock: lock,
            file,
        };
        if !appender.ends_with_a_line()? {
            // The last writer was ended in the middle of a line, which stays behind as such.
            appender.wait(b"\n".to_vec())?;
        }
        Ok(appender)
    }

    fn ends_with_a_line(&mut self) -> io::Result<bool> {
        let mut last = *b"\n";
        if self.length > 0 {
            self.file.seek(SeekFrom::End(-1))?;
            self.file.read_exact(&mut last)?;
        }
        Ok(last == *b"\n")
    }

    /// Takes a line in, to be written.
    ///
    /// # Errors
    /// When too much waits already; the line is lost.
    pub(super) fn wait(&mut self, line: Vec<u8>) -> io::Result<()> {
        if self.bytes + line.len() > WAITING {
            let waiting = self.lines.len();
            return Err(io::Error::other(format!("{waiting} wait for the disk")));
        }
        self.bytes += line.len();
        self.lines.push_back(line);
        Ok(())
    }

    /// How many lines are not written.
    pub(super) fn waiting(&self) -> usize {
        self.lines.len()
    }

    /// Hands to the kernel what waits.
    ///
    /// # Errors
    /// When it does not take it; what is left goes on waiting.
    pub(super) fn write(&mut self) -> io::Result<()> {
        while let Some(line) = self.lines.front() {
            let length = line.len();
            // The end of a torn line belongs to the file that has its beginning.
            let is_full = line != b"\n" && self.is_full_with(length);
            if self.begun == 0
                && is_full
                && self.rotate_from.is_none_or(|from| from <= Instant::now())
            {
                self.rotate();
            }
            self.write_first()?;
            self.length += length as u64;
            self.bytes -= length;
            self.begun = 0;
            self.lines.pop_front();
        }
        Ok(())
    }

    fn write_first(&mut self) -> io::Result<()> {
        self.unsynced_since.get_or_insert_with(Instant::now);
        let line = self.lines.front().map_or(&[][..], Vec::as_slice);
        while self.begun < line.len() {
            match self.file.write(&line[self.begun..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.begun += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_full_with(&self, line: usize) -> bool {
        self.length > 0 && self.length + line as u64 > self.rotation.max_size
    }

    /// Begins a new file. Where that fails, the old one grows on: what is on record goes before the
    /// size.
    fn rotate(&mut self) {
        let rotated = self.begin_new_file();
        self.rotate_from = rotated.is_err().then(|| Instant::now() + ROTATE_AGAIN);
        self.not_rotated = rotated.err();
    }

    fn begin_new_file(&mut self) -> io::Result<()> {
        self.sync()?;
        files::shift(&self.path, self.rotation.keep)?;
        self.file = files::open(&self.path)?;
        self.length = 0;
        files::remove_beyond(&self.path, self.rotation.keep)?;
        files::sync_names(&self.path)
    }

    /// Why the last rotation failed; told once.
    pub(super) fn not_rotated(&mut self) -> Option<io::Error> {
        self.not_rotated.take()
    }

    /// Whether what was written should be forced onto the disk now.
    pub(super) fn is_sync_due(&self) -> bool {
        self.unsynced_since
            .is_some_and(|since| since.elapsed() >= SYNC_EACH)
    }

    /// Forces onto the disk what was written.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        match self.unsynced_since.take() {
            Some(_) => self.file.sync_data(),
            None => Ok(()),
        }
    }
}
