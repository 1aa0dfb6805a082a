//! Reads a segment's records one after another, and finds the way again after damage.

use std::{fs::File, path::Path};

use cairn_fragment::DiskError;

use super::{
    file::{Io, disk_error, next_data},
    format::{COPY_AT, FormatError, Place, RECORD_HEADER_LEN, RecordHeader, SEGMENT_HEADER_LEN, SegmentHeader, UNIT},
    identity::refused,
    index::segments::PAGE,
};

/// A window is read at once when records are small, less when payloads are skipped anyway.
const WINDOW: usize = 1 << 20;
const SMALL_WINDOW: usize = 16 << 10;
const LARGE_RECORD: u64 = 64 << 10;

/// What lies somewhere in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Record {
        place: Place,
        header: RecordHeader,
    },
    /// No records: given back after a delete, damaged, never written.
    Gap(Gap),
}

/// A run of bytes of a segment that no record could be read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub start: u64,
    pub end: u64,
    /// Its runs of units that are not zero.
    pub strange: Vec<(u64, u64)>,
    /// No record follows.
    pub last: bool,
}

/// Why a segment file has no header to go by.
#[derive(Debug)]
pub(crate) enum HeaderError {
    /// The disk cannot read it now.
    Unread(DiskError),
    /// What is there is none, or of a version that is not known.
    Wrong(DiskError),
}

/// The header of a segment file. None if both copies are empty: a file whose creation never finished.
pub(crate) fn read_segment_header(io: &Io, file: &File, path: &Path) -> Result<Option<SegmentHeader>, HeaderError> {
    // Apart, so that a bad sector under one copy does not take the other.
    let copy = |at: u64| -> Result<[u8; SEGMENT_HEADER_LEN], DiskError> {
        let mut out = [0; SEGMENT_HEADER_LEN];
        let bytes = io.read_at(file, path, at, SEGMENT_HEADER_LEN)?;
        out[..bytes.len()].copy_from_slice(&bytes);
        Ok(out)
    };
    let (first, second) = match (copy(0), copy(COPY_AT)) {
        (Ok(first), Ok(second)) => (first, second),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => (one, one),
        (Err(error), Err(_)) => return Err(HeaderError::Unread(error)),
    };
    if first.iter().chain(&second).all(|byte| *byte == 0) {
        return Ok(None);
    }
    match (SegmentHeader::decode(&first), SegmentHeader::decode(&second)) {
        (Ok(header), _) | (_, Ok(header)) => Ok(Some(header)),
        (Err(why @ FormatError::Version { .. }), _) | (_, Err(why @ FormatError::Version { .. })) => {
            Err(HeaderError::Wrong(refused(path, why.to_string())))
        }
        (Err(why), Err(_)) => {
            let why = format!("{}: {why}", path.display());
            Err(HeaderError::Wrong(DiskError::Io { operation: "read segment header", why }))
        }
    }
}

/// A moving view of a file.
struct Window<'a> {
    io: &'a Io,
    file: &'a File,
    path: &'a Path,
    start: u64,
    bytes: Vec<u8>,
    next: usize,
    unreadable: bool,
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// Where the last valid record ends; where the scan began if there is none.
    pub end: u64,
    /// Where a scan that goes on begins.
    pub next: u64,
    /// The disk refused to read some of it.
    pub unreadable: bool,
}

impl Window<'_> {
    /// At least `want` bytes at `at` where the file has them.
    fn at(&mut self, at: u64, want: usize) -> &[u8] {
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + want as u64 > end {
            let window = self.io.read_at(self.file, self.path, at, want.max(self.next));
            self.bytes = window.unwrap_or_else(|error| self.around_bad_pages(at, want, &error));
            self.start = at;
        }
        &self.bytes[(at - self.start) as usize..]
    }

    /// Page by page what can be read, and bytes that are no record where nothing can: a bad sector costs what lies on
    /// it.
    fn around_bad_pages(&mut self, at: u64, want: usize, error: &DiskError) -> Vec<u8> {
        tracing::error!(path = %self.path.display(), at, %error, "part of a segment cannot be read");
        let mut bytes = Vec::new();
        while bytes.len() < want {
            let from = at + bytes.len() as u64;
            let rest = (PAGE - from % PAGE) as usize;
            match self.io.read_at(self.file, self.path, from, rest) {
                Ok(page) if page.is_empty() => break,
                Ok(page) => bytes.extend(page),
                Err(_) => {
                    self.unreadable = true;
                    bytes.resize(bytes.len() + rest, 0xff);
                }
            }
        }
        bytes
    }
}

/// Scans one segment file.
pub(crate) struct Scan<'a> {
    pub io: &'a Io,
    pub file: &'a File,
    pub path: &'a Path,
    pub number: u32,
    pub salt: u64,
}

impl Scan<'_> {
    /// The records that begin from byte `from` on and before `until`, and what lies between them.
    pub(crate) fn run(&self, from: u64, until: u64, sink: &mut dyn FnMut(Found)) -> Result<Scanned, DiskError> {
        let length = self.file.metadata().map_err(|error| disk_error("stat segment", self.path, error))?.len();
        let length = length.min(until);
        let mut window = Window {
            io: self.io,
            file: self.file,
            path: self.path,
            start: 0,
            bytes: Vec::new(),
            next: SMALL_WINDOW,
            unreadable: false,
        };
        let mut at = from;
        let mut gap = Gap { start: from, end: from, strange: Vec::new(), last: false };
        while at + UNIT <= length {
            let Ok(unit) = u32::try_from(at / UNIT) else {
                return Err(refused(self.path, "a segment longer than 256 GiB"));
            };
            let head = window.at(at, RECORD_HEADER_LEN);
            let Some(first) = head.get(..RECORD_HEADER_LEN) else { break };
            if first.iter().all(|byte| *byte == 0) {
                at = self.skip_zeros(at, head, length);
                continue;
            }
            let Some(header) = self.record_at(&mut window, at, unit)? else {
                match gap.strange.last_mut() {
                    Some((_, end)) if *end == at => *end = at + UNIT,
                    _ => gap.strange.push((at, at + UNIT)),
                }
                at += UNIT;
                continue;
            };
            if at > gap.start {
                sink(Found::Gap(Gap { end: at, ..gap }));
            }
            let size = u64::from(header.units()) * UNIT;
            sink(Found::Record { place: Place { segment: self.number, unit }, header });
            window.next = if size > LARGE_RECORD { SMALL_WINDOW } else { WINDOW };
            at += size;
            gap = Gap { start: at, end: at, strange: Vec::new(), last: false };
        }
        let end = gap.start;
        if length > end {
            sink(Found::Gap(Gap { end: length, last: true, ..gap }));
        }
        Ok(Scanned { end, next: at.max(length), unreadable: window.unreadable })
    }

    /// The valid record at `at`, if there is one. A valid record of a newer version refuses the disk.
    fn record_at(&self, window: &mut Window<'_>, at: u64, unit: u32) -> Result<Option<RecordHeader>, DiskError> {
        let Some(table) = RecordHeader::table_bytes(window.at(at, RECORD_HEADER_LEN)) else { return Ok(None) };
        match RecordHeader::decode(window.at(at, RECORD_HEADER_LEN + table), self.salt, unit) {
            Ok(header) => Ok(Some(header)),
            Err(why @ FormatError::Version { .. }) => Err(refused(self.path, why.to_string())),
            Err(_) => Ok(None),
        }
    }

    /// The next unit after `at` that is not zero, or the end of the file; holes are not read.
    fn skip_zeros(&self, at: u64, bytes: &[u8], length: u64) -> u64 {
        match bytes.iter().position(|byte| *byte != 0) {
            Some(position) => at + position as u64 / UNIT * UNIT,
            None => match next_data(self.file, at + bytes.len() as u64 / UNIT * UNIT) {
                Some(data) => data / UNIT * UNIT,
                None => length,
            },
        }
    }
}
