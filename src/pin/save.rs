//! A file replaced in one step, so that no reader ever sees a half of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

/// Replaces what `path` holds by `new`, if that is still `old`. Mode and owner stay; where it is a
/// symbolic link, the file that it leads to is replaced.
///
/// # Errors
/// When the file can't be replaced, or has become another one meanwhile.
pub fn save(path: &Path, old: &str, new: &str) -> io::Result<()> {
    let target = fs::canonicalize(path)?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let draft = target.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let saved = write(&target, &draft, old, new);
    if saved.is_err() {
        // It may not be there, and the error that counts is known.
        let _ = fs::remove_file(&draft);
    }
    saved
}

fn write(target: &Path, draft: &Path, old: &str, new: &str) -> io::Result<()> {
    let meta = fs::metadata(target)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(draft)?;
    // Who may not give files away keeps the list as its own.
    let _ = chown(draft, Some(meta.uid()), Some(meta.gid()));
    file.set_permissions(meta.permissions())?;
    file.write_all(new.as_bytes())?;
    file.sync_all()?;
    if fs::read(target)? != old.as_bytes() {
        return Err(io::Error::other("it was changed meanwhile"));
    }
    fs::rename(draft, target)?;
    match target.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
