//! Small files written so that a crash leaves the old one or the new one, and secrets that only their owner reads.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// What failed, on which file.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}: {why}", path.display())]
pub(crate) struct FileError {
    pub doing: &'static str,
    pub path: PathBuf,
    pub why: String,
}

impl FileError {
    pub(crate) fn new(doing: &'static str, path: &Path, why: impl ToString) -> Self {
        Self { doing, path: path.to_owned(), why: why.to_string() }
    }
}

/// What to say about a file that must not be there.
const EXISTS: &str = "it exists; remove it first if it is no longer needed";

/// Creates a file that must not exist yet, readable by its owner only, synced.
pub(crate) fn write_new_secret(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let wrong = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => FileError::new("refuse to overwrite", path, EXISTS),
        _ => FileError::new("create", path, error),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(wrong)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| FileError::new("write", path, error))?;
    sync_folder(path)
}

/// Replaces (or creates) a file: written aside, synced, renamed, and the folder synced.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    let written = File::create(&aside).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| FileError::new("write", &aside, error))?;
    rename(&aside, path)
}

/// Gives a file that is written and synced its name, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    std::fs::rename(from, to).map_err(|error| FileError::new("replace", to, error))?;
    sync_folder(to)
}

/// Creates or empties a file that only its owner reads.
pub(crate) fn private(path: &Path) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).map_err(|error| FileError::new("create", path, error))
}

/// Looked at before anything is made, so that a refusal leaves nothing behind.
pub(crate) fn refuse_existing(paths: &[&Path]) -> Result<(), FileError> {
    match paths.iter().find(|path| path.exists()) {
        Some(path) => Err(FileError::new("refuse to overwrite", path, EXISTS)),
        None => Ok(()),
    }
}

pub(crate) fn create_folder(path: &Path) -> Result<(), FileError> {
    std::fs::create_dir_all(path).map_err(|error| FileError::new("create folder", path, error))
}

pub(crate) fn read_text(path: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(path).map_err(|error| FileError::new("read", path, error))
}

/// Removes a ready file: one that names a process which no longer serves would mislead.
pub(crate) fn forget(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "remove the ready file");
    }
}

fn sync_folder(path: &Path) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| FileError::new("sync", folder, error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_private_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.key");
        write_new_secret(&path, b"first").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = write_new_secret(&path, b"second").unwrap_err().to_string();
        assert!(error.contains("refuse to overwrite"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn replacing_leaves_nothing_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
