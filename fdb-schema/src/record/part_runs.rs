//! Which parts a version has, in few bytes: 10,000 parts no two of which are of one length must fit in the version's
//! row, beside its metadata and tags.
//!
//! For each run one number, and up to two more that its two lowest bits announce. All are LEB128: 7 bits to a byte, the
//! lowest first.
//!
//! | Number | Holds |
//! |---|---|
//! | length, then bits | the length of each part; bit 1: a count follows; bit 0: a gap follows, before the count |
//! | gap | part numbers left out since the run before, or since 0 |
//! | count | parts of the run; 1 if it is not there |
//!
//! Parts of up to 8 GiB without gaps or equals take 5 bytes each.

use serde::{Deserializer, Serializer, de::Error};

use crate::bytes16;

/// Parts with consecutive numbers and the same length: enough to find the parts of a byte range without reading them
/// all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRun {
    pub first: u16,
    pub count: u16,
    pub length: u64,
}

const GAP: u128 = 1;
const COUNT: u128 = 2;
const FLAGS: u32 = 2;

pub fn serialize<S: Serializer>(runs: &[PartRun], serializer: S) -> Result<S::Ok, S::Error> {
    bytes16::vec::serialize(&encoded(runs), serializer)
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PartRun>, D::Error> {
    let bytes = bytes16::vec::deserialize(deserializer)?;
    decoded(&bytes).ok_or_else(|| D::Error::custom("runs of parts are garbled"))
}

fn encoded(runs: &[PartRun]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut next = 1u16;
    for run in runs {
        let gap = run.first.wrapping_sub(next);
        let gap_flag = if gap > 0 { GAP } else { 0 };
        let count_flag = if run.count == 1 { 0 } else { COUNT };
        put_number(&mut bytes, u128::from(run.length) << FLAGS | count_flag | gap_flag);
        if gap > 0 {
            put_number(&mut bytes, gap.into());
        }
        if run.count != 1 {
            put_number(&mut bytes, run.count.into());
        }
        next = run.first.wrapping_add(run.count);
    }
    bytes
}

/// None for what [`encoded`] does not make of parts that an object can have.
fn decoded(mut bytes: &[u8]) -> Option<Vec<PartRun>> {
    let mut runs = Vec::new();
    let (mut next, mut size) = (1u16, 0u64);
    while !bytes.is_empty() {
        let lead = take_number(&mut bytes)?;
        let mut following = |flag| if lead & flag == 0 { Some(None) } else { take_number(&mut bytes).map(Some) };
        let gap = u16::try_from(following(GAP)?.unwrap_or(0)).ok()?;
        let count = u16::try_from(following(COUNT)?.unwrap_or(1)).ok().filter(|count| *count > 0)?;
        let run = PartRun { first: next.checked_add(gap)?, count, length: u64::try_from(lead >> FLAGS).ok()? };
        next = run.first.checked_add(count)?;
        size = size.checked_add(run.length.checked_mul(count.into())?)?;
        runs.push(run);
    }
    Some(runs)
}

fn put_number(bytes: &mut Vec<u8>, mut number: u128) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u128> {
    let mut number = 0;
    // As many bytes as 64 bits and the flags can take.
    for place in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u128::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_have_their_golden_bytes() {
        let run = |first, count, length| PartRun { first, count, length };
        for (runs, golden) in [
            (vec![], ""),
            (vec![run(1, 1, 5)], "14"),
            (vec![run(1, 9999, 5 << 20)], "8280800a8f4e"),
            (vec![run(3, 2, 31), run(5, 1, 32), run(300, 1, 0)], "7f0202800101a602"),
        ] {
            assert_eq!(hex::encode(encoded(&runs)), golden, "{runs:?}");
            assert_eq!(decoded(&encoded(&runs)), Some(runs));
        }
        let beyond_64_bits = "fcffffffffffffffff03".repeat(3);
        for (garbled, why) in [
            ("ffffffffffffffffff7f", "a length of more than 64 bits"),
            (&beyond_64_bits, "a size of more than 64 bits"),
            ("0200", "a run of no parts"),
            ("01ffff03", "a gap past the last number"),
            ("02ffff03", "a count past the last number"),
            ("80", "a number cut short"),
            ("01", "no gap"),
            ("0301", "no count"),
        ] {
            assert_eq!(decoded(&hex::decode(garbled).unwrap()), None, "{why}");
        }
    }

    proptest! {
        #[test]
        fn runs_are_read_back(given in prop::collection::vec((0u16..40, 1u16..40, 0u64..1 << 43), 0..200)) {
            let mut next = 1;
            let runs: Vec<PartRun> = given.into_iter().map(|(gap, count, length)| {
                let first = next + gap;
                next = first + count;
                PartRun { first, count, length }
            }).collect();
            prop_assert_eq!(decoded(&encoded(&runs)), Some(runs));
        }

        #[test]
        fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            decoded(&bytes);
        }
    }
}
