//! The bytes of a segment file. Pure: no file is touched here.
//!
//! ```text
//! segment file                                   all integers little-endian, records aligned to 64 bytes
//! ┌──────────────┬──────────────┬────────┬────────┬─────────┬───┐
//! │ header  @0   │ copy  @4096  │ record │ record │ …       │ 0 │  preallocated, zero until written
//! └──────────────┴──────────────┴────────┴────────┴─────────┴───┘
//!                               8192
//! segment header                                 record header                        of a tombstone
//!  0  magic "CAIRNSEG"                            0  magic "CF"
//!  8  version = 1, 3 zero bytes                   2  version = 1
//! 12  number u32                                  3  kind: 1 fragment, 2 tombstone, 3 void
//! 16  disk id, 16 bytes                           4  group u32
//! 32  salt u64                                    8  blob id, 16 bytes
//! 40  created, ms since 1970, u64                24  stripe u32
//! 48  xxh3-64 of bytes 0..48                     28  position u8                       position u8
//!                                                29  3 zero bytes                      units of what it kills, u24
//!                                                32  payload length u32                unit of what it kills
//! record of a fragment                           36  0 u32                             segment of what it kills
//!  0  record header, 64 bytes                    40  batch u64
//! 64  xxh3-64 of each 64 KiB block, 8 bytes each 48  written, ms since 1970, u64
//!  …  payload                                    56  checksum u64 of bytes 0..56 and of the block checksums
//!  …  zeros up to a multiple of 64
//! ```
//!
//! The record checksum is `xxh3(header[0..56], seed = salt + unit + xxh3(block checksums, seed = salt))`. The salt is
//! random per segment and never leaves the disk, and `unit` is where the record lies (in 64-byte units): so bytes that
//! a client chose can never pass for a record when a scan looks for the next one after damage, nor can a record written
//! to the wrong place. A *batch* is what one fdatasync made durable: only records of the last batch can be torn by a
//! crash. The next opening turns a torn record into a *void*, the only change ever made in place: its header says how
//! many units (like a tombstone's u24) to pass over. Merely killing it would not do: a rebuilt index would let it
//! replace an older record of its fragment before it came to the tombstone.
//!
//! A *tombstone* kills the record it names and every older one of the same fragment: those lie before it in the log,
//! and whichever of them are still there (a compaction moves records; holes take the heads of dead ones) must not come
//! back.

use cairn_fragment::block_count;
use cairn_schema::ids::{BlobId, DiskId, FragmentName, GroupId};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Records begin at multiples of this.
pub const UNIT: u64 = 64;
pub const SEGMENT_VERSION: u8 = 1;
pub const RECORD_VERSION: u8 = 1;
/// Both copies of the segment header; records begin here.
pub const SEGMENT_HEADER_BYTES: u64 = 8192;
/// Where the second copy of a segment header or an identity lies: on another page, so that one bad sector spares it.
pub const COPY_AT: u64 = 4096;
pub const SEGMENT_HEADER_LEN: usize = 56;
pub const RECORD_HEADER_LEN: usize = 64;
/// Larger fragments are refused: they would not fit the engine's bounds on memory.
pub const MAX_FRAGMENT_BYTES: usize = 256 * 1024 * 1024;

const SEGMENT_MAGIC: &[u8; 8] = b"CAIRNSEG";
const RECORD_MAGIC: &[u8; 2] = b"CF";
const KIND_FRAGMENT: u8 = 1;
const KIND_TOMBSTONE: u8 = 2;
const KIND_VOID: u8 = 3;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("not a {0}: wrong magic")]
    Magic(&'static str),
    #[error("{what} of version {version}, newer than this build knows")]
    Version { what: &'static str, version: u8 },
    #[error("{0} is damaged: checksum mismatch")]
    Checksum(&'static str),
    #[error("{what} is damaged: {why}")]
    Malformed { what: &'static str, why: &'static str },
}

/// Where a record lies on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub segment: u32,
    /// Offset in the segment file in units of 64 bytes.
    pub unit: u32,
}

impl Place {
    pub fn offset(self) -> u64 {
        u64::from(self.unit) * UNIT
    }
}

/// How a segment file begins: which segment of which disk it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub number: u32,
    pub disk: DiskId,
    pub salt: u64,
    pub created_ms: u64,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordBody {
    Fragment {
        length: u32,
    },
    /// `units`: how long the killed record is, so that a scan can tell what was given back from what is damaged.
    Tombstone {
        kills: Place,
        units: u32,
    },
    /// A fragment's record, this long, that a crash cut short.
    Void {
        units: u32,
    },
}

/// How a record begins: everything but the payload and its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    pub name: FragmentName,
    pub body: RecordBody,
    pub batch: u64,
    pub written_ms: u64,
}

/// Bytes between a record's start and its payload.
pub fn payload_at(length: u32) -> u64 {
    (RECORD_HEADER_LEN + 8 * block_count(length)) as u64
}

/// Units a fragment's record takes, padding included.
pub fn fragment_units(length: u32) -> u32 {
    let bytes = payload_at(length) + u64::from(length);
    // At most 2^32 + 2^19 bytes: fits easily.
    bytes.div_ceil(UNIT) as u32
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

fn id_at(bytes: &[u8], at: usize) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[at..at + 16]);
    id
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = [0; SEGMENT_HEADER_LEN];
        out[..8].copy_from_slice(SEGMENT_MAGIC);
        out[8] = SEGMENT_VERSION;
        out[12..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..32].copy_from_slice(&self.disk.0);
        out[32..40].copy_from_slice(&self.salt.to_le_bytes());
        out[40..48].copy_from_slice(&self.created_ms.to_le_bytes());
        let sum = xxh3_64(&out[..48]);
        out[48..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8; SEGMENT_HEADER_LEN]) -> Result<Self, FormatError> {
        const WHAT: &str = "segment header";
        if &bytes[..8] != SEGMENT_MAGIC {
            return Err(FormatError::Magic(WHAT));
        }
        // Before the checksum: a newer layout may keep it elsewhere.
        if bytes[8] != SEGMENT_VERSION {
            return Err(FormatError::Version { what: WHAT, version: bytes[8] });
        }
        if xxh3_64(&bytes[..48]) != u64_at(bytes, 48) {
            return Err(FormatError::Checksum(WHAT));
        }
        Ok(Self {
            number: u32_at(bytes, 12),
            disk: DiskId(id_at(bytes, 16)),
            salt: u64_at(bytes, 32),
            created_ms: u64_at(bytes, 40),
        })
    }
}

impl RecordHeader {
    /// Units of the whole record.
    pub fn units(&self) -> u32 {
        match self.body {
            RecordBody::Fragment { length } => fragment_units(length),
            RecordBody::Tombstone { .. } => 1,
            RecordBody::Void { units } => units,
        }
    }

    /// What is written over the header of a record that is not whole.
    pub fn voided(&self) -> Self {
        Self { body: RecordBody::Void { units: self.units() }, ..*self }
    }

    /// The header followed by the block checksums: all of the record before its payload.
    pub fn encode(&self, block_checksums: &[u64], salt: u64, unit: u32) -> Vec<u8> {
        let mut out = vec![0; RECORD_HEADER_LEN + 8 * block_checksums.len()];
        for (slot, sum) in out[RECORD_HEADER_LEN..].chunks_exact_mut(8).zip(block_checksums) {
            slot.copy_from_slice(&sum.to_le_bytes());
        }
        let (kind, first, second) = match self.body {
            RecordBody::Fragment { length } => (KIND_FRAGMENT, length, 0),
            RecordBody::Tombstone { kills, .. } => (KIND_TOMBSTONE, kills.unit, kills.segment),
            RecordBody::Void { .. } => (KIND_VOID, 0, 0),
        };
        out[..2].copy_from_slice(RECORD_MAGIC);
        out[2] = RECORD_VERSION;
        out[3] = kind;
        out[4..8].copy_from_slice(&self.name.group.0.to_le_bytes());
        out[8..24].copy_from_slice(&self.name.blob.0);
        out[24..28].copy_from_slice(&self.name.stripe.to_le_bytes());
        out[28] = self.name.position;
        if let RecordBody::Tombstone { units, .. } | RecordBody::Void { units } = self.body {
            out[29..32].copy_from_slice(&units.to_le_bytes()[..3]); // MAX_FRAGMENT_BYTES are less than 2^24 units
        }
        out[32..36].copy_from_slice(&first.to_le_bytes());
        out[36..40].copy_from_slice(&second.to_le_bytes());
        out[40..48].copy_from_slice(&self.batch.to_le_bytes());
        out[48..56].copy_from_slice(&self.written_ms.to_le_bytes());
        let sum = record_checksum(&out[..56], &out[RECORD_HEADER_LEN..], salt, unit);
        out[56..64].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// How many bytes of block checksums follow a header, or None if these bytes cannot begin a record. Decides how
    /// much to read before [`RecordHeader::decode`]; nothing else may be taken from bytes not yet verified.
    pub fn table_bytes(bytes: &[u8]) -> Option<usize> {
        if bytes.len() < RECORD_HEADER_LEN || &bytes[..2] != RECORD_MAGIC {
            return None;
        }
        match bytes[3] {
            KIND_FRAGMENT if u32_at(bytes, 32) as usize <= MAX_FRAGMENT_BYTES => {
                Some(8 * block_count(u32_at(bytes, 32)))
            }
            KIND_TOMBSTONE | KIND_VOID => Some(0),
            _ => None,
        }
    }

    /// `bytes`: the header and its block checksums, as [`RecordHeader::table_bytes`] sized them; more may follow.
    pub fn decode(bytes: &[u8], salt: u64, unit: u32) -> Result<Self, FormatError> {
        const WHAT: &str = "record header";
        let table = Self::table_bytes(bytes).ok_or(FormatError::Magic(WHAT))?;
        let end = RECORD_HEADER_LEN + table;
        if bytes.len() < end {
            return Err(FormatError::Malformed { what: WHAT, why: "it ends before its block checksums" });
        }
        if record_checksum(&bytes[..56], &bytes[RECORD_HEADER_LEN..end], salt, unit) != u64_at(bytes, 56) {
            return Err(FormatError::Checksum(WHAT));
        }
        if bytes[2] != RECORD_VERSION {
            return Err(FormatError::Version { what: WHAT, version: bytes[2] });
        }
        let units = u32::from_le_bytes([bytes[29], bytes[30], bytes[31], 0]);
        let kills = Place { segment: u32_at(bytes, 36), unit: u32_at(bytes, 32) };
        let body = match bytes[3] {
            KIND_TOMBSTONE => RecordBody::Tombstone { kills, units },
            KIND_VOID if units == 0 => return Err(FormatError::Malformed { what: WHAT, why: "a void of no length" }),
            KIND_VOID => RecordBody::Void { units },
            _ => RecordBody::Fragment { length: u32_at(bytes, 32) },
        };
        let name = FragmentName {
            group: GroupId(u32_at(bytes, 4)),
            blob: BlobId(id_at(bytes, 8)),
            stripe: u32_at(bytes, 24),
            position: bytes[28],
        };
        Ok(Self { name, body, batch: u64_at(bytes, 40), written_ms: u64_at(bytes, 48) })
    }
}

/// The checksum of block `index` from a record's verified head.
pub fn table_entry(head: &[u8], index: usize) -> Option<u64> {
    let at = RECORD_HEADER_LEN + 8 * index;
    (head.len() >= at + 8).then(|| u64_at(head, at))
}

fn record_checksum(header: &[u8], table: &[u8], salt: u64, unit: u32) -> u64 {
    let seed = salt.wrapping_add(u64::from(unit)).wrapping_add(xxh3_64_with_seed(table, salt));
    xxh3_64_with_seed(header, seed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name() -> FragmentName {
        FragmentName { group: GroupId(7), blob: BlobId([0xab; 16]), stripe: 0x01020304, position: 5 }
    }

    fn fragment() -> RecordHeader {
        RecordHeader {
            name: name(),
            body: RecordBody::Fragment { length: 70_000 },
            batch: 9,
            written_ms: 1_700_000_000_123,
        }
    }

    #[test]
    fn bytes_of_version_1_are_pinned() {
        let segment = SegmentHeader {
            number: 3,
            disk: DiskId([0xcd; 16]),
            salt: 0x1122334455667788,
            created_ms: 1_700_000_000_000,
        };
        let tombstone = RecordHeader {
            body: RecordBody::Tombstone { kills: Place { segment: 3, unit: 128 }, units: 0x010203 },
            ..fragment()
        };
        let void = fragment().voided();
        let bytes = [
            segment.encode().to_vec(),
            fragment().encode(&[1, 2], 42, 128),
            tombstone.encode(&[], 42, 129),
            void.encode(&[], 42, 128),
        ];
        assert_eq!(bytes.map(hex::encode), [GOLDEN_SEGMENT, GOLDEN_FRAGMENT, GOLDEN_TOMBSTONE, GOLDEN_VOID]);
        assert_eq!(RecordHeader::decode(&void.encode(&[], 42, 128), 42, 128).unwrap(), void);
        assert_eq!(void.units(), fragment().units());
    }

    const GOLDEN_SEGMENT: &str = "434149524e5345470100000003000000cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd88776655443322110068e5cf8b0100004b7cad8155cc393c";
    const GOLDEN_FRAGMENT: &str = "4346010107000000abababababababababababababababab0403020105000000701101000000000009000000000000007b68e5cf8b010000f7b7892db449638d01000000000000000200000000000000";
    const GOLDEN_VOID: &str = "4346010307000000abababababababababababababababab0403020105470400000000000000000009000000000000007b68e5cf8b010000257d327edb599f7b";
    const GOLDEN_TOMBSTONE: &str = "4346010207000000abababababababababababababababab0403020105030201800000000300000009000000000000007b68e5cf8b010000a62189b2a2e0af55";

    #[test]
    fn every_flipped_bit_of_a_head_is_noticed() {
        let good = fragment().encode(&[1, 2], 42, 128);
        assert_eq!(RecordHeader::decode(&good, 42, 128).unwrap(), fragment());
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(RecordHeader::decode(&bad, 42, 128).is_err(), "bit {bit}");
        }
        assert!(RecordHeader::decode(&good, 43, 128).is_err(), "another segment's salt");
        assert!(RecordHeader::decode(&good, 42, 129).is_err(), "another place");
        for end in 0..good.len() {
            assert!(RecordHeader::decode(&good[..end], 42, 128).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn newer_versions_are_refused_by_name() {
        let mut segment = SegmentHeader { number: 3, disk: DiskId([1; 16]), salt: 5, created_ms: 6 }.encode();
        segment[8] = 2;
        let sum = xxh3_64(&segment[..48]);
        segment[48..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&segment), Err(FormatError::Version { what: "segment header", version: 2 }));

        let mut record = fragment().encode(&[1, 2], 42, 128);
        record[2] = 9;
        let sum = record_checksum(&record[..56], &record[64..], 42, 128);
        record[56..64].copy_from_slice(&sum.to_le_bytes());
        let refused = RecordHeader::decode(&record, 42, 128);
        assert_eq!(refused, Err(FormatError::Version { what: "record header", version: 9 }));
    }

    #[test]
    fn sizes_cover_the_record() {
        assert_eq!(fragment_units(0), 1);
        assert_eq!(fragment_units(1), 2);
        assert_eq!(fragment_units(56), 2);
        assert_eq!(fragment_units(57), 3);
        assert_eq!(fragment_units(65_536), 1 + 1024 + 1);
    }
}
