//! The rows of the index: what they are called and what is in them.
//!
//! ```text
//! key                                              value (integers little-endian)
//! 00 'H'                                           the head: version = 1, disk id 16, written ms u64, next batch u64,
//!                                                  position of the log that the index covers: segment u32, end u64
//! 00 'S' segment, big-endian u32                   one segment: version = 1, sealed u8, salt u64, end u64,
//!                                                  fragments u32, their units u64, their payload bytes u64,
//!                                                  needs u32 and that many (segment u32, tombstones u32,
//!                                                  successors u32),
//!                                                  damaged u32 and that many (unit u32, units u32)
//! 00 'C'                                           the head with which the digests were written: they are current
//!                                                  if it is the same (builds before there were any change it alone)
//! 00 'D' group, big-endian, position               digests of the fragments of one position: version = 1, and for
//!                                                  each of 64 parts of the blobs fragments u64, sum u128
//! 01 group blob stripe position, big-endian        one fragment: version = 1, segment u32, unit u32, length u32,
//!                                                  written ms u64
//! ```
//!
//! Fragments sort by group, so a group's inventory is one range.

use cairn_fragment::{NameDigest, PARTS};
use cairn_schema::ids::{BlobId, DiskId, FragmentName, GroupId};

use super::segments::{Entry, Extent, Needs, SegmentState};
use crate::format::Place;

const VERSION: u8 = 1;
const FRAGMENT: u8 = 1;
pub(crate) const HEAD_KEY: [u8; 2] = [0, b'H'];
/// All segment rows lie between these.
pub(crate) const SEGMENT_KEYS: ([u8; 2], [u8; 2]) = ([0, b'S'], [0, b'T']);
/// All digest rows lie between these.
pub(crate) const DIGEST_KEYS: ([u8; 2], [u8; 2]) = ([0, b'D'], [0, b'E']);
pub(crate) const DIGESTS_KEY: [u8; 2] = [0, b'C'];
/// All fragment rows lie between these.
pub(crate) const NAME_KEYS: ([u8; 1], [u8; 1]) = ([FRAGMENT], [FRAGMENT + 1]);
pub(crate) const NAME_BYTES: usize = 26;

/// Up to where the index knows the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub disk: DiskId,
    pub written_ms: u64,
    pub next_batch: u64,
    pub segment: u32,
    pub end: u64,
}

/// A row that is not what this build writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    #[error("its {what} is of version {version}")]
    Version { what: &'static str, version: u8 },
    #[error("its {0} is garbled")]
    Garbled(&'static str),
}

/// Takes integers off the front of a row.
struct Fields<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn of(what: &'static str, row: &'a [u8]) -> Result<Self, RowError> {
        match row.split_first() {
            Some((&VERSION, rest)) => Ok(Self { what, rest }),
            Some((&version, _)) => Err(RowError::Version { what, version }),
            None => Err(RowError::Garbled(what)),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or(RowError::Garbled(self.what))?;
        self.rest = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, RowError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, RowError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn end(self) -> Result<(), RowError> {
        if self.rest.is_empty() { Ok(()) } else { Err(RowError::Garbled(self.what)) }
    }
}

pub(crate) fn name_key(name: &FragmentName) -> [u8; NAME_BYTES] {
    let mut key = [0; NAME_BYTES];
    key[0] = FRAGMENT;
    key[1..5].copy_from_slice(&name.group.0.to_be_bytes());
    key[5..21].copy_from_slice(&name.blob.0);
    key[21..25].copy_from_slice(&name.stripe.to_be_bytes());
    key[25] = name.position;
    key
}

pub(crate) fn decode_name(key: &[u8]) -> Result<FragmentName, RowError> {
    const WHAT: &str = "fragment key";
    let mut fields = match key.split_first() {
        Some((&FRAGMENT, rest)) => Fields { what: WHAT, rest },
        _ => return Err(RowError::Garbled(WHAT)),
    };
    let group = GroupId(u32::from_be_bytes(fields.take()?));
    let blob = BlobId(fields.take()?);
    let stripe = u32::from_be_bytes(fields.take()?);
    let [position] = fields.take()?;
    fields.end()?;
    Ok(FragmentName { group, blob, stripe, position })
}

pub(crate) fn encode_entry(entry: &Entry) -> [u8; 21] {
    let mut row = [0; 21];
    row[0] = VERSION;
    row[1..5].copy_from_slice(&entry.place.segment.to_le_bytes());
    row[5..9].copy_from_slice(&entry.place.unit.to_le_bytes());
    row[9..13].copy_from_slice(&entry.length.to_le_bytes());
    row[13..21].copy_from_slice(&entry.written_ms.to_le_bytes());
    row
}

pub(crate) fn decode_entry(row: &[u8]) -> Result<Entry, RowError> {
    let mut fields = Fields::of("fragment row", row)?;
    let place = Place { segment: fields.u32()?, unit: fields.u32()? };
    let entry = Entry { place, length: fields.u32()?, written_ms: fields.u64()? };
    fields.end()?;
    Ok(entry)
}

pub(crate) fn encode_head(head: &Head) -> Vec<u8> {
    let mut row = vec![VERSION];
    row.extend(head.disk.0);
    row.extend(head.written_ms.to_le_bytes());
    row.extend(head.next_batch.to_le_bytes());
    row.extend(head.segment.to_le_bytes());
    row.extend(head.end.to_le_bytes());
    row
}

pub(crate) fn decode_head(row: &[u8]) -> Result<Head, RowError> {
    let mut fields = Fields::of("head row", row)?;
    let head = Head {
        disk: DiskId(fields.take()?),
        written_ms: fields.u64()?,
        next_batch: fields.u64()?,
        segment: fields.u32()?,
        end: fields.u64()?,
    };
    fields.end()?;
    Ok(head)
}

pub(crate) fn segment_key(number: u32) -> [u8; 6] {
    let mut key = [0, b'S', 0, 0, 0, 0];
    key[2..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn decode_segment_key(key: &[u8]) -> Result<u32, RowError> {
    match key {
        [0, b'S', number @ ..] => {
            number.try_into().map(u32::from_be_bytes).map_err(|_| RowError::Garbled("segment key"))
        }
        _ => Err(RowError::Garbled("segment key")),
    }
}

pub(crate) fn encode_segment(state: &SegmentState) -> Vec<u8> {
    let mut row = vec![VERSION, u8::from(state.sealed)];
    row.extend(state.salt.to_le_bytes());
    row.extend(state.end.to_le_bytes());
    row.extend(state.fragments.to_le_bytes());
    row.extend(state.units.to_le_bytes());
    row.extend(state.payload.to_le_bytes());
    row.extend((state.needs.len() as u32).to_le_bytes());
    for (segment, needs) in &state.needs {
        row.extend(segment.to_le_bytes());
        row.extend(needs.tombstones.to_le_bytes());
        row.extend(needs.successors.to_le_bytes());
    }
    row.extend((state.damaged.len() as u32).to_le_bytes());
    for extent in &state.damaged {
        row.extend(extent.unit.to_le_bytes());
        row.extend(extent.units.to_le_bytes());
    }
    row
}

pub(crate) fn decode_segment(row: &[u8]) -> Result<SegmentState, RowError> {
    let mut fields = Fields::of("segment row", row)?;
    let [sealed] = fields.take()?;
    let mut state = SegmentState {
        sealed: sealed != 0,
        salt: fields.u64()?,
        end: fields.u64()?,
        fragments: fields.u32()?,
        units: fields.u64()?,
        payload: fields.u64()?,
        ..SegmentState::default()
    };
    for _ in 0..fields.u32()? {
        let segment = fields.u32()?;
        let needs = Needs { tombstones: fields.u32()?, successors: fields.u32()? };
        state.tombstones += u64::from(needs.tombstones);
        state.needs.insert(segment, needs);
    }
    for _ in 0..fields.u32()? {
        state.damaged.push(Extent { unit: fields.u32()?, units: fields.u32()? });
    }
    fields.end()?;
    Ok(state)
}

pub(crate) fn digest_key(group: GroupId, position: u8) -> [u8; 7] {
    let mut key = [0, b'D', 0, 0, 0, 0, position];
    key[2..6].copy_from_slice(&group.0.to_be_bytes());
    key
}

pub(crate) fn decode_digest_key(key: &[u8]) -> Result<(GroupId, u8), RowError> {
    match key {
        [0, b'D', a, b, c, d, position] => Ok((GroupId(u32::from_be_bytes([*a, *b, *c, *d])), *position)),
        _ => Err(RowError::Garbled("digest key")),
    }
}

pub(crate) fn encode_digests(parts: &[NameDigest; PARTS]) -> Vec<u8> {
    let mut row = vec![VERSION];
    for part in parts {
        row.extend(part.fragments.to_le_bytes());
        row.extend(part.sum.to_le_bytes());
    }
    row
}

pub(crate) fn decode_digests(row: &[u8]) -> Result<[NameDigest; PARTS], RowError> {
    let mut fields = Fields::of("digest row", row)?;
    let mut parts = [NameDigest::default(); PARTS];
    for part in &mut parts {
        *part = NameDigest { fragments: fields.u64()?, sum: u128::from_le_bytes(fields.take()?) };
    }
    fields.end()?;
    Ok(parts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name() -> FragmentName {
        FragmentName { group: GroupId(7), blob: BlobId([0xab; 16]), stripe: 0x01020304, position: 5 }
    }

    fn entry() -> Entry {
        Entry { place: Place { segment: 3, unit: 130 }, length: 70_000, written_ms: 1_700_000_000_123 }
    }

    fn head() -> Head {
        let (disk, written_ms) = (DiskId([0xcd; 16]), 1_700_000_000_456);
        Head { disk, written_ms, next_batch: 9, segment: 4, end: 8_192 }
    }

    fn segment() -> SegmentState {
        SegmentState {
            salt: 0x1122334455667788,
            end: 65_536,
            sealed: true,
            fragments: 2,
            units: 40,
            payload: 2_400,
            needs: [(1, Needs { tombstones: 3, successors: 0 }), (2, Needs { tombstones: 0, successors: 5 })].into(),
            tombstones: 3,
            damaged: vec![Extent { unit: 300, units: 4 }],
            ..SegmentState::default()
        }
    }

    #[test]
    fn rows_of_version_1_are_pinned() {
        let rows = [
            name_key(&name()).to_vec(),
            encode_entry(&entry()).to_vec(),
            HEAD_KEY.to_vec(),
            encode_head(&head()),
            segment_key(0x01020304).to_vec(),
            encode_segment(&segment()),
            DIGESTS_KEY.to_vec(),
            digest_key(GroupId(7), 5).to_vec(),
        ];
        assert_eq!(rows.map(hex::encode), GOLDEN);
        let row = encode_digests(&digests());
        let (head, rest) = row.split_at(1 + 24);
        assert_eq!(
            (hex::encode(head), rest.len()),
            ("01".to_owned() + "0300000000000000" + "1000000000000000000000000000002f", 63 * 24)
        );
        assert_eq!(
            rest.last_chunk::<24>().map(hex::encode).as_deref(),
            Some("010000000000000009000000000000000000000000000000")
        );
    }

    fn digests() -> [NameDigest; PARTS] {
        let mut parts = [NameDigest::default(); PARTS];
        parts[0] = NameDigest { fragments: 3, sum: (0x2f << 120) | 0x10 };
        parts[63] = NameDigest { fragments: 1, sum: 9 };
        parts
    }

    const GOLDEN: [&str; 8] = [
        "0100000007abababababababababababababababab0102030405",
        "010300000082000000701101007b68e5cf8b010000",
        "0048",
        "01cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdc869e5cf8b0100000900000000000000040000000020000000000000",
        "005301020304",
        "010188776655443322110000010000000000020000002800000000000000600900000000000002000000010000000300000000000000020000000000000005000000010000002c01000004000000",
        "0043",
        "00440000000705",
    ];

    #[test]
    fn what_is_written_is_read_back_and_nothing_else() {
        assert_eq!(decode_name(&name_key(&name())).unwrap(), name());
        assert_eq!(decode_entry(&encode_entry(&entry())).unwrap(), entry());
        assert_eq!(decode_head(&encode_head(&head())).unwrap(), head());
        assert_eq!(decode_segment(&encode_segment(&segment())).unwrap(), segment());
        assert_eq!(decode_segment_key(&segment_key(9)).unwrap(), 9);
        assert_eq!(decode_digests(&encode_digests(&digests())).unwrap(), digests());
        assert_eq!(decode_digest_key(&digest_key(GroupId(7), 5)).unwrap(), (GroupId(7), 5));
        assert!(
            decode_digests(&encode_digests(&digests())[..100]).is_err() && decode_digest_key(&[0, b'D', 1]).is_err()
        );
        assert_eq!(decode_digests(&[2; 40]), Err(RowError::Version { what: "digest row", version: 2 }));
        let row = encode_segment(&segment());
        for end in 0..row.len() {
            assert!(decode_segment(&row[..end]).is_err(), "cut at {end}");
        }
        assert_eq!(decode_entry(&[2; 21]), Err(RowError::Version { what: "fragment row", version: 2 }));
        assert_eq!(decode_head(&[7]), Err(RowError::Version { what: "head row", version: 7 }));
        assert_eq!(decode_segment(&[9; 40]).unwrap_err(), RowError::Version { what: "segment row", version: 9 });
        assert!(decode_name(&[0; NAME_BYTES]).is_err() && decode_segment_key(&[0, b'S', 1]).is_err());
    }

    #[test]
    fn keys_sort_as_names_do() {
        let mut names: Vec<_> = (0..200u32)
            .map(|n| FragmentName {
                group: GroupId(n % 3 * 200),
                blob: BlobId([(n % 5) as u8 * 60; 16]),
                stripe: n % 7 * 1000,
                position: n as u8,
            })
            .collect();
        names.sort_unstable();
        assert!(names.is_sorted_by_key(name_key));
        assert!(SEGMENT_KEYS.0.as_slice() < segment_key(0).as_slice());
        assert!(segment_key(u32::MAX).as_slice() < SEGMENT_KEYS.1.as_slice());
    }
}
