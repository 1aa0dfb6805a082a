//! Which fragments a disk has in one position of a group, in numbers that two disks can compare without their names: a
//! sum over a hash of each name, to which names can be added and from which they can be taken in any order.

use std::ops::AddAssign;

use cairn_schema::ids::BlobId;
use xxhash_rust::xxh3::xxh3_128;

/// Into how many parts a range of blobs is divided.
pub const PARTS: usize = 64;
const PART_BITS: u32 = PARTS.ilog2();

/// What a set of names comes to. A name counts without its group and position: members of a group that have the same
/// stripes have the same digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameDigest {
    pub fragments: u64,
    /// Of the xxh3-128 (seed 0) of blob id and big-endian stripe, modulo 2^128.
    pub sum: u128,
}

impl NameDigest {
    fn hash(blob: BlobId, stripe: u32) -> u128 {
        let mut name = [0; 20];
        name[..16].copy_from_slice(&blob.0);
        name[16..].copy_from_slice(&stripe.to_be_bytes());
        xxh3_128(&name)
    }

    pub fn add(&mut self, blob: BlobId, stripe: u32) {
        *self += Self { fragments: 1, sum: Self::hash(blob, stripe) };
    }

    /// Takes away one that was added.
    pub fn take(&mut self, blob: BlobId, stripe: u32) {
        self.fragments = self.fragments.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(Self::hash(blob, stripe));
    }
}

impl AddAssign for NameDigest {
    fn add_assign(&mut self, other: Self) {
        self.fragments = self.fragments.wrapping_add(other.fragments);
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// Blobs whose ids begin with the same bits: all of them, or one of 64 parts of such a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobRange {
    depth: u8,
    bits: u32,
}

impl BlobRange {
    /// Every blob.
    pub const ALL: Self = Self { depth: 0, bits: 0 };
    /// How often a range may be divided.
    pub const DEEPEST: u8 = 4;

    /// None if no division of all blobs makes such a range.
    pub fn new(depth: u8, bits: u32) -> Option<Self> {
        (depth <= Self::DEEPEST && u64::from(bits) < 1 << (PART_BITS * u32::from(depth)))
            .then_some(Self { depth, bits })
    }

    pub fn depth(self) -> u8 {
        self.depth
    }

    /// The bits that the ids begin with, six for each division.
    pub fn bits(self) -> u32 {
        self.bits
    }

    fn shift(self) -> u32 {
        128 - PART_BITS * u32::from(self.depth)
    }

    pub fn first(self) -> BlobId {
        let first = u128::from(self.bits).checked_shl(self.shift()).unwrap_or(0);
        BlobId(first.to_be_bytes())
    }

    pub fn last(self) -> BlobId {
        let rest = u128::MAX.checked_shr(PART_BITS * u32::from(self.depth)).unwrap_or(0);
        BlobId((u128::from_be_bytes(self.first().0) | rest).to_be_bytes())
    }

    pub fn contains(self, blob: BlobId) -> bool {
        (self.first()..=self.last()).contains(&blob)
    }

    /// Which of its parts a blob of the range is in.
    pub fn part_of(self, blob: BlobId) -> usize {
        (u128::from_be_bytes(blob.0) >> (self.shift() - PART_BITS)) as usize % PARTS
    }

    /// One of its [`PARTS`]; None if it is not divided any more.
    pub fn part(self, part: usize) -> Option<Self> {
        Self::new(
            self.depth + 1,
            (self.bits << PART_BITS) | u32::try_from(part).ok().filter(|part| *part < PARTS as u32)?,
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// Disks keep these numbers, and nodes of other builds compare theirs with ours.
    #[test]
    fn digests_are_pinned() {
        let mut digest = NameDigest::default();
        digest.add(BlobId([7; 16]), 3);
        assert_eq!(format!("{:032x}", digest.sum), GOLDEN);
        digest.add(BlobId([8; 16]), 0);
        digest.take(BlobId([7; 16]), 3);
        let mut other = NameDigest::default();
        other.add(BlobId([8; 16]), 0);
        assert_eq!(digest, other);
    }

    const GOLDEN: &str = "97d0a87b0f327477e17eb2ac21a7f140";

    proptest! {
        #[test]
        fn parts_are_the_range_each_blob_in_one(id in any::<[u8; 16]>()) {
            let blob = BlobId(id);
            let mut range = BlobRange::ALL;
            prop_assert_eq!((range.first(), range.last()), (BlobId([0; 16]), BlobId([255; 16])));
            for depth in 1..=BlobRange::DEEPEST {
                let part = range.part_of(blob);
                let within: Vec<usize> =
                    (0..PARTS).filter(|part| range.part(*part).unwrap().contains(blob)).collect();
                prop_assert_eq!(&within, &[part]);
                prop_assert_eq!(range.part(0).unwrap().first(), range.first());
                prop_assert_eq!(range.part(PARTS - 1).unwrap().last(), range.last());
                range = range.part(part).unwrap();
                prop_assert_eq!(BlobRange::new(depth, range.bits()), Some(range));
            }
            prop_assert_eq!(range.part(0), None);
            prop_assert_eq!((range.part(PARTS), BlobRange::new(1, 64)), (None, None));
        }
    }
}
