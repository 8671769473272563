//! The files of an audit log: FILE is written, FILE.1 is the newest of the old ones, and so on.
//!
//! A rotation is renames upwards alone, the highest first. Whoever opens the files upwards from FILE
//! while one is under way therefore misses none, and finds at worst one twice, which it can tell. A
//! rotation that was cut short leaves a number without a file, and the next one fills it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The highest number that an old file can have.
pub const MOST_KEPT: u32 = 99;
/// How often a reader whom rotations overtake begins anew.
const TRIES: u32 = 100;

/// FILE itself is number 0.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    beside(path, &number.to_string())
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Makes the caller the one who writes, as long as it keeps the file. The lock is on a file of its
/// own, which no rotation renames.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let path = beside(path, "lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::other("another process writes this audit log"))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Opens FILE to append to.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).read(true).open(path)
}

/// Opens all files to read, the newest first, each once.
///
/// # Errors
/// When one can't be opened, or there is none.
pub(super) fn open_all(path: &Path) -> io::Result<Vec<File>> {
    for _ in 0..TRIES {
        let files = open_upwards(path)?;
        // Behind a reader that was slow, files may come up that are newer than its first one.
        let newest = files.first().map(identity).transpose()?;
        if newest == identity_of_newest(path)? {
            return Ok(files);
        }
    }
    Err(io::Error::other("is rotated faster than it can be read"))
}

fn open_upwards(path: &Path) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    let mut known = BTreeSet::new();
    for number in 0..=MOST_KEPT {
        let file = match File::open(numbered(path, number)) {
            // Between two renames, or after a rotation that was cut short.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        if file.metadata()?.is_file() && known.insert(identity(&file)?) {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(files)
}

/// The same for one file under any name, and another file's never, as long as it is open.
pub(super) fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata()
        .map(|metadata| (metadata.dev(), metadata.ino()))
}

pub(super) fn identity_of_newest(path: &Path) -> io::Result<Option<(u64, u64)>> {
    for number in 0..=MOST_KEPT {
        match fs::metadata(numbered(path, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(metadata) if !metadata.is_file() => {}
            found => return found.map(|found| Some((found.dev(), found.ino()))),
        }
    }
    Ok(None)
}

/// Frees FILE, and keeps so many old files.
pub(super) fn shift(path: &Path, keep: u32) -> io::Result<()> {
    for (from, to) in renames(path, keep) {
        fs::rename(from, to)?;
    }
    Ok(())
}

/// The renames that free FILE, in order.
pub(super) fn renames(path: &Path, keep: u32) -> Vec<(PathBuf, PathBuf)> {
    let is_free = |number: &u32| !numbered(path, *number).exists();
    let free = (0..keep).find(is_free).unwrap_or(keep);
    let numbers = (0..free).rev();
    numbers
        .map(|number| (numbered(path, number), numbered(path, number + 1)))
        .collect()
}

/// Removes the old files beyond so many: fewer may be kept than before.
pub(super) fn remove_beyond(path: &Path, keep: u32) -> io::Result<()> {
    for number in keep + 1..=MOST_KEPT {
        match fs::remove_file(numbered(path, number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Forces the names of the files onto the disk.
pub(super) fn sync_names(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}
