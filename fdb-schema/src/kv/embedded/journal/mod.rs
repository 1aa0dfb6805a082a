//! Looks through fjall's journals before fjall does.
//!
//! The committer writes one batch at a time and syncs it before the next, so a power cut can tear only the last batch
//! of the last journal, and that one was acknowledged to nobody. Sectors reach the disk in any order: a torn batch may
//! have its end and lack its middle. fjall takes that for damage and does not open; and where it finds a batch that it
//! cannot parse, it drops all that follow it, which were acknowledged. So we decide first:
//!
//! - A batch that is not whole, with nothing whole after it, was torn: it is cut off.
//! - So is one that ends early in a journal after which others were begun and hold nothing: when a write fails in the
//!   middle of a batch, as on a full disk, no other follows, but fjall may still seal the journal, synced, and begin
//!   the next.
//! - One with a whole batch after it had been synced: the journal is damaged, and the store is not opened.
//!
//! Rows are bytes that users chose and may contain what looks like a whole batch, so only what carries the store's own
//! mark counts as one (`../mark.rs`). Without it a torn batch could not be told from damage, and looking for one would
//! take time squared in what was chosen.
//!
//! Damage to the very last batch looks like a torn one.

mod batch;

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use batch::{Cursor, Found};

use crate::kv::embedded::mark::Mark;

/// A page of a file or a sector of a disk is written whole or not at all.
const SECTOR: u64 = 512;
const READ_BYTES: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("journal {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "journal {path} is damaged at byte {at}, before commits that were acknowledged; nothing was changed; restore the file or a backup"
    )]
    Damaged { path: PathBuf, at: u64 },
    #[error(
        "journal {path} has at byte {at} a batch of another store than the FORMAT file beside it names; nothing was changed; put back what \
         belongs together"
    )]
    Foreign { path: PathBuf, at: u64 },
}

/// What was cut off the last journal that was written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mended {
    pub path: PathBuf,
    /// The journal's length now.
    pub at: u64,
}

/// Checks the journals of a store that is not open, and cuts off a batch that was being written when the power went.
///
/// # Errors
/// [`JournalError::Damaged`] when acknowledged commits are not readable, [`JournalError::Foreign`] when the mark is not
/// that of the store; then nothing was changed.
pub(super) fn mend(store: &Path, mark: Mark) -> Result<Option<Mended>, JournalError> {
    let journals = journals(store)?;
    let mut seqno = None;
    for (index, path) in journals.iter().enumerate() {
        let Some(bad) = scan(path, mark, &mut seqno)? else { continue };
        let later = &journals[index + 1..];
        let torn = match bad.what {
            What::Synced => false,
            What::Torn => all_empty(later, mark)?,
            What::TornWithEnd => later.is_empty(),
        };
        if !torn {
            return Err(JournalError::Damaged { path: path.clone(), at: bad.at });
        }
        let io = |source| JournalError::Io { path: path.clone(), source };
        let file = File::options().write(true).open(path).map_err(io)?;
        file.set_len(bad.at).and_then(|()| file.sync_all()).map_err(io)?;
        return Ok(Some(Mended { path: path.clone(), at: bad.at }));
    }
    Ok(None)
}

/// In the order in which they were written.
fn journals(store: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let io = |source| JournalError::Io { path: store.to_owned(), source };
    let mut numbered = Vec::new();
    for entry in fs::read_dir(store).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jnl"));
        // What has another name is fjall's to judge.
        if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
            numbered.push((number, path));
        }
    }
    numbered.sort();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

/// Opens a journal so that what is read of it is what the disk has.
///
/// The page cache may have more. When a sync has failed, Linux takes the pages for clean, some file systems (ext4) keep
/// them, and no later sync says so again. A process that was restarted, on a machine that was not, would find a batch
/// whole that the disk lacks, make it visible, acknowledge commits after it, and lose it with the power. So what is not
/// written yet is written, and nothing is opened if that fails; and the rest is forgotten, to be read again.
fn open_from_disk(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    file.sync_all()?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(file)
}

/// The first batch of a journal that is not whole.
struct Bad {
    at: u64,
    what: What,
}

enum What {
    /// It ends early, and nothing whole follows.
    Torn,
    /// It has its end and lacks something before; nothing whole follows.
    TornWithEnd,
    /// It had been synced: something whole follows.
    Synced,
}

/// Goes through a journal. `seqno` is the number of the last batch before it, and becomes that of its last.
fn scan(path: &Path, mark: Mark, seqno: &mut Option<u64>) -> Result<Option<Bad>, JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    let file = open_from_disk(path).map_err(io)?;
    let mut cursor = Cursor::new(BufReader::with_capacity(READ_BYTES, &file), mark);
    loop {
        let at = cursor.at();
        match cursor.next().map_err(io)? {
            Found::Batch(next) if seqno.is_none_or(|last| next > last) => *seqno = Some(next),
            Found::Batch(_) => {
                // The batch is whole but for its number, which no checksum covers: the number was lost with a sector,
                // or is damaged, or that of the batch before it is.
                let across_sectors = at % SECTOR + batch::START_BYTES as u64 > SECTOR;
                let what = if across_sectors { what_is_bad(&file, at, mark).map_err(io)? } else { What::Synced };
                return Ok(Some(Bad { at, what }));
            }
            Found::Foreign => return Err(JournalError::Foreign { path: path.to_owned(), at }),
            Found::Nothing => return Ok(None),
            Found::Torn => {
                let what = what_is_bad(&file, at, mark).map_err(io)?;
                return Ok(Some(Bad { at, what }));
            }
        }
    }
}

/// Tells what is wrong with a batch by what follows its first byte. In memory: what follows the last good batch is one
/// torn batch, unless the journal is damaged.
fn what_is_bad(mut file: &File, at: u64, mark: Mark) -> io::Result<What> {
    file.seek(SeekFrom::Start(at))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    let written = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let rest = &rest[..written];
    let whole_after = batch::starts(rest, &mark).any(|begin| begin > 0 && batch::is_whole(&rest[begin..], mark));
    Ok(match whole_after {
        true => What::Synced,
        false if batch::has_end(rest) => What::TornWithEnd,
        false => What::Torn,
    })
}

/// Whether nothing was written to any of these journals.
fn all_empty(journals: &[PathBuf], mark: Mark) -> Result<bool, JournalError> {
    for path in journals {
        let io = |source| JournalError::Io { path: path.clone(), source };
        let file = open_from_disk(path).map_err(io)?;
        let mut cursor = Cursor::new(BufReader::with_capacity(READ_BYTES, &file), mark);
        if cursor.next().map_err(io)? != Found::Nothing {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
