//! Reads a segment's records one after another, and finds the way again after damage.

use std::{fs::File, path::Path};

use super::{
    DiskError,
    file::{Io, next_data},
    format::{
        COPY_AT, FormatError, Place, RECORD_HEADER_LEN, RecordHeader, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_LEN,
        SegmentHeader, UNIT,
    },
    identity::refused,
};

/// A window is read at once when records are small, less when payloads are skipped anyway.
const WINDOW: usize = 1 << 20;
const SMALL_WINDOW: usize = 16 << 10;
const LARGE_RECORD: u64 = 64 << 10;

/// What lies somewhere in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Record {
        place: Place,
        header: RecordHeader,
    },
    /// Not records, and not a hole either.
    Damaged {
        start: u64,
        end: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanEnd {
    /// Where the last valid record ends.
    pub end: u64,
    /// Bytes that are not zero follow it: a batch cut short by a crash, or damage at the very end.
    pub torn: bool,
}

/// The header of a segment file. None if both copies are empty: a file whose creation never finished.
pub fn read_segment_header(io: &Io, file: &File, path: &Path) -> Result<Option<SegmentHeader>, DiskError> {
    let bytes = io.read_at(file, path, 0, SEGMENT_HEADER_BYTES as usize)?;
    let copy = |at: u64| -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = [0; SEGMENT_HEADER_LEN];
        let from = bytes.get(at as usize..).unwrap_or_default();
        let length = from.len().min(SEGMENT_HEADER_LEN);
        out[..length].copy_from_slice(&from[..length]);
        out
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    match (SegmentHeader::decode(&copy(0)), SegmentHeader::decode(&copy(COPY_AT))) {
        (Ok(header), _) | (_, Ok(header)) => Ok(Some(header)),
        (Err(why @ FormatError::Version { .. }), _) | (_, Err(why @ FormatError::Version { .. })) => {
            Err(refused(path, why.to_string()))
        }
        (Err(why), Err(_)) => {
            Err(DiskError::Io { operation: "read segment header", why: format!("{}: {why}", path.display()) })
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
}

impl Window<'_> {
    /// At least `want` bytes at `at` where the file has them.
    fn at(&mut self, at: u64, want: usize) -> Result<&[u8], DiskError> {
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + want as u64 > end {
            self.bytes = self.io.read_at(self.file, self.path, at, want.max(self.next))?;
            self.start = at;
        }
        Ok(&self.bytes[(at - self.start) as usize..])
    }
}

/// Scans one segment file from byte `from` to its end.
pub struct Scan<'a> {
    pub io: &'a Io,
    pub file: &'a File,
    pub path: &'a Path,
    pub number: u32,
    pub salt: u64,
}

impl Scan<'_> {
    pub fn run(&self, from: u64, sink: &mut dyn FnMut(Found) -> Result<(), DiskError>) -> Result<ScanEnd, DiskError> {
        let length = self.file.metadata().map_err(|e| super::file::disk_error("stat segment", self.path, e))?.len();
        let mut window =
            Window { io: self.io, file: self.file, path: self.path, start: 0, bytes: Vec::new(), next: SMALL_WINDOW };
        let mut at = from;
        let mut end = from;
        // Where bytes that are no record began; `remnant` if a hole precedes them: the rest of a record that was given back.
        let mut strange: Option<(u64, bool)> = None;
        let mut after_hole = false;
        while at + UNIT <= length {
            let unit = match u32::try_from(at / UNIT) {
                Ok(unit) => unit,
                Err(_) => return Err(refused(self.path, "a segment longer than 256 GiB")),
            };
            let head = window.at(at, RECORD_HEADER_LEN)?;
            let Some(first) = head.get(..RECORD_HEADER_LEN) else { break };
            if first.iter().all(|byte| *byte == 0) {
                // Zeros do not end a damaged region: only a record does.
                if !matches!(strange, Some((_, false))) {
                    after_hole = true;
                    strange = None;
                }
                at = self.skip_zeros(at, head.len() as u64, head, length);
                continue;
            }
            let Some(header) = self.record_at(&mut window, at, unit)? else {
                strange = strange.or(Some((at, after_hole)));
                at += UNIT;
                continue;
            };
            if let Some((start, false)) = strange.take() {
                sink(Found::Damaged { start, end: at })?;
            }
            after_hole = false;
            let size = u64::from(header.units()) * UNIT;
            sink(Found::Record { place: Place { segment: self.number, unit }, header })?;
            window.next = if size > LARGE_RECORD { SMALL_WINDOW } else { WINDOW };
            at += size;
            end = at;
        }
        Ok(ScanEnd { end, torn: strange.is_some_and(|(_, remnant)| !remnant) })
    }

    /// The valid record at `at`, if there is one. A valid record of a newer version refuses the disk.
    fn record_at(&self, window: &mut Window<'_>, at: u64, unit: u32) -> Result<Option<RecordHeader>, DiskError> {
        let Some(table) = RecordHeader::table_bytes(window.at(at, RECORD_HEADER_LEN)?) else { return Ok(None) };
        match RecordHeader::decode(window.at(at, RECORD_HEADER_LEN + table)?, self.salt, unit) {
            Ok(header) => Ok(Some(header)),
            Err(why @ FormatError::Version { .. }) => Err(refused(self.path, why.to_string())),
            Err(_) => Ok(None),
        }
    }

    /// The next unit after `at` that is not zero, or the end of the file; holes are not read.
    fn skip_zeros(&self, at: u64, window: u64, bytes: &[u8], length: u64) -> u64 {
        match bytes.iter().position(|byte| *byte != 0) {
            Some(position) => at + position as u64 / UNIT * UNIT,
            None => match next_data(self.file, at + window / UNIT * UNIT) {
                Some(data) => data / UNIT * UNIT,
                None => length,
            },
        }
    }
}
