//! fjall's format of a journal, version 3, as far as it takes to tell whether a batch is whole.
//!
//! ```text
//! batch  = start, item or clear × count, end
//! start  = 01, count u32, seqno u64
//! item   = 02, kind u8, compression u8, keyspace u64, key length u16, value length u32, stored length u32, key,
//!          stored value
//! clear  = 04, keyspace u64
//! end    = 03, xxh3-64 of the items and clears, "FJL" 03
//! ```
//! Numbers are little-endian. The file is longer than what was written: zeros follow.
//!
//! The first item of a batch that the committer wrote is the version row, which carries the store's mark.

use std::io::{self, Read};

use xxhash_rust::xxh3::Xxh3;

use crate::kv::embedded::mark::{MARK_IN_VALUE, Mark, VERSION_KEY, VERSION_VALUE_BYTES};

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: &[u8] = b"FJL\x03";

/// The tag and what follows it.
pub(super) const START_BYTES: usize = 1 + 4 + 8;
const ITEM_HEADER_BYTES: usize = 1 + 1 + 8 + 2 + 4 + 4;
const CLEAR_BYTES: usize = 8;
const END_BYTES: usize = 8 + MAGIC.len();
/// The version row, after its header.
const VERSION_ROW_BYTES: usize = VERSION_KEY.len() + VERSION_VALUE_BYTES;
/// Where the mark lies in the version row, and in the whole batch.
const MARK_IN_ROW: usize = VERSION_KEY.len() + MARK_IN_VALUE;
const MARK_IN_BATCH: usize = START_BYTES + 1 + ITEM_HEADER_BYTES + MARK_IN_ROW;

/// What begins at a place of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A whole batch and its number.
    Batch(u64),
    /// A whole batch without this store's mark.
    Foreign,
    /// Zeros, to the end.
    Nothing,
    /// Anything else.
    Torn,
}

/// Why a batch is not whole.
enum Broken {
    /// It ends early, or is not what it should be.
    Torn,
    Io(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Torn } else { Self::Io(error) }
    }
}

/// Reads batches one after the other, in little memory whatever their lengths say.
pub(super) struct Cursor<R> {
    reader: R,
    mark: Mark,
    at: u64,
}

impl<R: Read> Cursor<R> {
    pub(super) fn new(reader: R, mark: Mark) -> Self {
        Self { reader, mark, at: 0 }
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// What begins here; goes on after it if it is a batch.
    pub(super) fn next(&mut self) -> io::Result<Found> {
        let mut tag = [0];
        if self.reader.read(&mut tag)? == 0 {
            return Ok(Found::Nothing);
        }
        self.at += 1;
        if tag == [0] {
            return self.zeros();
        }
        match self.batch(tag[0]) {
            Ok(item) => Ok(item),
            Err(Broken::Torn) => Ok(Found::Torn),
            Err(Broken::Io(error)) => Err(error),
        }
    }

    fn zeros(&mut self) -> io::Result<Found> {
        let mut buffer = [0; 4096];
        loop {
            let read = self.reader.read(&mut buffer)?;
            if read == 0 {
                return Ok(Found::Nothing);
            }
            if buffer[..read].iter().any(|byte| *byte != 0) {
                return Ok(Found::Torn);
            }
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn hash(&mut self, mut bytes: u64, hasher: &mut Xxh3) -> Result<(), Broken> {
        let mut buffer = [0; 4096];
        while bytes > 0 {
            let step = bytes.min(buffer.len() as u64) as usize;
            self.reader.read_exact(&mut buffer[..step])?;
            self.at += step as u64;
            hasher.update(&buffer[..step]);
            bytes -= step as u64;
        }
        Ok(())
    }

    /// Reads what follows an item's header, and tells whether it is a version row with the mark.
    fn row(&mut self, header: &[u8; ITEM_HEADER_BYTES], hasher: &mut Xxh3) -> Result<bool, Broken> {
        let (key, stored) = (le(&header[10..12]), le(&header[16..20]));
        if (key, stored) != (VERSION_KEY.len() as u64, VERSION_VALUE_BYTES as u64) {
            self.hash(key + stored, hasher)?;
            return Ok(false);
        }
        let row: [u8; VERSION_ROW_BYTES] = self.take()?;
        hasher.update(&row);
        Ok(row.starts_with(VERSION_KEY) && row[MARK_IN_ROW..] == self.mark.bytes()[..])
    }

    fn batch(&mut self, tag: u8) -> Result<Found, Broken> {
        if tag != START {
            return Err(Broken::Torn);
        }
        let start: [u8; START_BYTES - 1] = self.take()?;
        let (count, seqno) = (le(&start[..4]), le(&start[4..]));
        let mut hasher = Xxh3::new();
        let mut marked = false;
        for index in 0..count {
            let [tag] = self.take()?;
            hasher.update(&[tag]);
            match tag {
                ITEM => {
                    let header: [u8; ITEM_HEADER_BYTES] = self.take()?;
                    hasher.update(&header);
                    marked |= self.row(&header, &mut hasher)? && index == 0;
                }
                CLEAR => {
                    let keyspace: [u8; CLEAR_BYTES] = self.take()?;
                    hasher.update(&keyspace);
                }
                _ => return Err(Broken::Torn),
            }
        }
        let [tag] = self.take()?;
        let end: [u8; END_BYTES] = self.take()?;
        if tag != END || le(&end[..8]) != hasher.digest() || &end[8..] != MAGIC {
            return Err(Broken::Torn);
        }
        Ok(if marked { Found::Batch(seqno) } else { Found::Foreign })
    }
}

fn le(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Where batches with the mark begin, if those are batches. Only a batch of the store's own has the mark in it, so
/// there are few, and none of them costs more than its own length.
pub(super) fn starts<'a>(bytes: &'a [u8], mark: &'a Mark) -> impl Iterator<Item = usize> + 'a {
    memchr::memmem::find_iter(bytes, mark.bytes()).filter_map(|at| at.checked_sub(MARK_IN_BATCH))
}

/// Whether these bytes end as a batch does.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    bytes.ends_with(MAGIC)
}

/// Whether these bytes begin with a whole batch of this store.
pub(super) fn is_whole(bytes: &[u8], mark: Mark) -> bool {
    matches!(Cursor::new(bytes, mark).next(), Ok(Found::Batch(_)))
}
