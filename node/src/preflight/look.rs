//! How far a look goes, what it notes, and how files and folders are looked at.

use std::path::Path;

use crate::config::{Findings, TlsSection};

/// Who looks, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// A start: only for what it would end with.
    Start,
    /// An operator: also for what a start does without, or finds out by itself.
    Check,
}

/// What is no problem, but worth a word.
#[derive(Debug, Default)]
pub(super) struct Notes(pub Vec<String>);

/// A folder that is there or could be made. What is wrong goes to `field`.
pub(super) fn check_makeable(field: &str, folder: &Path, findings: &mut Findings<'_>) {
    use rustix::fs::{Access, access};
    let Some(there) = folder.ancestors().map(nonempty).find(|ancestor| ancestor.exists()) else { return };
    if !there.is_dir() {
        findings.refuse(field, format!("{} is a file, not a folder", there.display()), "name a folder");
    } else if let Err(error) = access(there, Access::WRITE_OK | Access::EXEC_OK) {
        let what = format!("{} cannot be written to: {error}", there.display());
        findings.refuse(field, what, "let this user write to it, or name another folder");
    }
}

/// A file that is there or could be made, and appended to.
pub(super) fn check_appendable(field: &str, file: &Path, findings: &mut Findings<'_>) {
    use rustix::fs::{Access, access};
    let folder = file.parent().map(nonempty).unwrap_or(Path::new("."));
    let wrong = if file.is_dir() {
        Some(format!("{} is a folder", file.display()))
    } else if file.exists() {
        access(file, Access::WRITE_OK).err().map(|error| format!("{} cannot be written to: {error}", file.display()))
    } else {
        access(folder, Access::WRITE_OK | Access::EXEC_OK)
            .err()
            .map(|error| format!("{} cannot be made: {}: {error}", file.display(), folder.display()))
    };
    if let Some(what) = wrong {
        findings.refuse(field, what, "make its folder and let this user write to it, or name another file");
    }
}

/// The parent of a bare name is the working directory.
fn nonempty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// A file's text; None if it cannot be read, which is noted.
pub(super) fn read(field: &str, path: &Path, findings: &mut Findings<'_>) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            let fix = "create it, correct the path, or let this user read it";
            findings.refuse(field, format!("{} cannot be read: {error}", path.display()), fix);
            None
        }
    }
}

/// The three files of a `[tls]` section, with the fields that name them.
pub(super) fn tls_files(tls: &TlsSection) -> [(&'static str, &Path); 3] {
    [("tls.ca", &tls.ca), ("tls.cert", &tls.cert), ("tls.key", &tls.key)]
}
