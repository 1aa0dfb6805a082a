//! Reads records and verifies what it read: nothing leaves here whose checksum was not checked (INT-1).

use std::{fs::File, ops::Range, path::Path};

use bytes::Bytes;
use cairn_fragment::{BLOCK_BYTES, DiskError, block_checksum};
use cairn_schema::ids::FragmentName;

use super::{
    file::Io,
    format::{RecordBody, RecordHeader, UNIT, fragment_units, payload_at, table_entry},
    index::segments::Entry,
};

/// Read and hashed at once: a few blocks.
const PIECE: usize = 4 * BLOCK_BYTES;

/// One record of one open segment.
pub(crate) struct Record<'a> {
    pub io: &'a Io,
    pub file: &'a File,
    pub path: &'a Path,
    pub salt: u64,
    pub name: FragmentName,
    pub entry: Entry,
}

impl Record<'_> {
    fn corrupt(&self, what: impl Into<String>) -> DiskError {
        DiskError::Corrupt { name: self.name, what: what.into() }
    }

    /// Bytes of the record from its start; a file that ends before them is damage, not an I/O error.
    fn bytes(&self, from: u64, length: usize) -> Result<Vec<u8>, DiskError> {
        let mut bytes = Vec::with_capacity(length);
        self.bytes_onto(&mut bytes, from, length)?;
        Ok(bytes)
    }

    fn bytes_onto(&self, bytes: &mut Vec<u8>, from: u64, length: usize) -> Result<(), DiskError> {
        let before = bytes.len();
        let at = self.entry.place.offset() + from;
        self.io.read_onto(bytes, self.file, self.path, at, length).map_err(|error| {
            if error.is_loss() {
                DiskError::Unreadable { name: self.name, why: error.to_string() }
            } else {
                error.into()
            }
        })?;
        if bytes.len() - before < length { Err(self.corrupt("its segment ends early")) } else { Ok(()) }
    }

    fn check_head(&self, head: &[u8]) -> Result<(), DiskError> {
        let header = RecordHeader::decode(head, self.salt, self.entry.place.unit)
            .map_err(|error| self.corrupt(error.to_string()))?;
        if header.name != self.name || header.body != (RecordBody::Fragment { length: self.entry.length }) {
            return Err(self.corrupt("another record lies in its place"));
        }
        Ok(())
    }

    fn check_blocks(&self, head: &[u8], first: usize, bytes: &[u8]) -> Result<(), DiskError> {
        for (i, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if table_entry(head, first + i) != Some(block_checksum(block)) {
                return Err(self.corrupt(format!("checksum mismatch in block {}", first + i)));
            }
        }
        Ok(())
    }

    /// The verified bytes of `range`, which must lie inside the fragment. Reads whole blocks, only those touched.
    pub(crate) fn range(&self, range: Range<u32>) -> Result<Bytes, DiskError> {
        debug_assert!(range.start <= range.end && range.end <= self.entry.length, "{range:?} of {}", self.entry.length);
        let length = self.entry.length as usize;
        let head_bytes = payload_at(self.entry.length) as usize;
        let (start, end) = (range.start as usize, range.end as usize);
        if start >= end {
            self.check_head(&self.bytes(0, head_bytes)?)?;
            return Ok(Bytes::new());
        }
        let from = start / BLOCK_BYTES * BLOCK_BYTES;
        let to = end.next_multiple_of(BLOCK_BYTES).min(length);
        if from > 0 || to > PIECE {
            // What is read second is under way while the first is read and hashed.
            self.io.will_need(self.file, self.entry.place.offset() + (head_bytes + from) as u64, to - from);
        }
        if from > 0 {
            let head = self.bytes(0, head_bytes)?;
            self.check_head(&head)?;
            let blocks = self.blocks_onto(Vec::with_capacity(to - from), &head, from..to)?;
            return Ok(Bytes::from(blocks).slice(start - from..end - from));
        }
        let first = PIECE.min(to);
        let mut bytes = Vec::with_capacity(head_bytes + to);
        self.bytes_onto(&mut bytes, 0, head_bytes + first)?;
        let head = bytes[..head_bytes].to_vec();
        self.check_head(&head)?;
        self.check_blocks(&head, 0, &bytes[head_bytes..])?;
        let bytes = self.blocks_onto(bytes, &head, first..to)?;
        Ok(Bytes::from(bytes).slice(head_bytes + start..head_bytes + end))
    }

    /// Verified blocks behind what `bytes` holds already, read in pieces: each is hashed while the processor still has
    /// it at hand.
    fn blocks_onto(&self, mut bytes: Vec<u8>, head: &[u8], payload: Range<usize>) -> Result<Vec<u8>, DiskError> {
        for at in payload.clone().step_by(PIECE) {
            let before = bytes.len();
            self.bytes_onto(&mut bytes, (head.len() + at) as u64, PIECE.min(payload.end - at))?;
            self.check_blocks(head, at / BLOCK_BYTES, &bytes[before..])?;
        }
        Ok(bytes)
    }

    /// Reads the whole record, padding included, a few blocks at a time. Returns its block checksums.
    pub(crate) fn verify(&self) -> Result<Vec<u64>, DiskError> {
        const AT_ONCE: usize = 16 * BLOCK_BYTES;
        let length = self.entry.length as usize;
        let head_bytes = payload_at(self.entry.length) as usize;
        let head = self.bytes(0, head_bytes)?;
        self.check_head(&head)?;
        let mut at = 0;
        while at < length {
            let blocks = self.bytes((head_bytes + at) as u64, AT_ONCE.min(length - at))?;
            self.check_blocks(&head, at / BLOCK_BYTES, &blocks)?;
            at += blocks.len();
        }
        let record = u64::from(fragment_units(self.entry.length)) * UNIT;
        let padding = self.bytes((head_bytes + length) as u64, record as usize - head_bytes - length)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(self.corrupt("its padding is not zero"));
        }
        Ok((0..length.div_ceil(BLOCK_BYTES)).filter_map(|i| table_entry(&head, i)).collect())
    }
}
