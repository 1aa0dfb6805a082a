//! A multipart object's checksum from those of its parts: no byte is read again.

use cairn_schema::record::{ChecksumAlgorithm, ChecksumKind, StoredChecksum};
use crc_fast::{CrcAlgorithm, checksum_combine};
use s3s::crypto::{Checksum, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};

/// Why parts have no common checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CombineError {
    #[error("part {index} (counted from 1) has no {expected} checksum")]
    Missing { index: usize, expected: &'static str },
    #[error("{0} checksums of parts cannot be joined to one of the whole object")]
    NotJoinable(&'static str),
}

/// The checksum of an object made of parts with these checksums and lengths, in order.
pub(crate) fn from_parts(
    algorithm: ChecksumAlgorithm,
    kind: ChecksumKind,
    parts: &[(Option<&StoredChecksum>, u64)],
) -> Result<StoredChecksum, CombineError> {
    let mut values = Vec::with_capacity(parts.len());
    for (index, (checksum, length)) in parts.iter().enumerate() {
        let value = checksum
            .filter(|checksum| checksum.algorithm == algorithm)
            .map(|checksum| checksum.value.as_slice())
            .ok_or(CombineError::Missing { index: index + 1, expected: super::name(algorithm) })?;
        values.push((value, *length));
    }
    let value = match kind {
        ChecksumKind::Composite => composite(algorithm, &values),
        ChecksumKind::FullObject => full_object(algorithm, &values)?,
    };
    Ok(StoredChecksum { algorithm, kind, value })
}

/// The digest of the parts' digests.
fn composite(algorithm: ChecksumAlgorithm, values: &[(&[u8], u64)]) -> Vec<u8> {
    fn digest<C: Checksum>(values: &[(&[u8], u64)]) -> Vec<u8> {
        let mut hasher = C::new();
        for (value, _) in values {
            hasher.update(value);
        }
        hasher.finalize().as_ref().to_vec()
    }
    match algorithm {
        ChecksumAlgorithm::Crc32 => digest::<Crc32>(values),
        ChecksumAlgorithm::Crc32c => digest::<Crc32c>(values),
        ChecksumAlgorithm::Crc64Nvme => digest::<Crc64Nvme>(values),
        ChecksumAlgorithm::Sha1 => digest::<Sha1>(values),
        ChecksumAlgorithm::Sha256 => digest::<Sha256>(values),
    }
}

/// The digest of the joined bytes, which CRCs allow to be worked out from the parts'.
fn full_object(algorithm: ChecksumAlgorithm, values: &[(&[u8], u64)]) -> Result<Vec<u8>, CombineError> {
    let (crc, bytes) = match algorithm {
        ChecksumAlgorithm::Crc32 => (CrcAlgorithm::Crc32IsoHdlc, 4),
        ChecksumAlgorithm::Crc32c => (CrcAlgorithm::Crc32Iscsi, 4),
        ChecksumAlgorithm::Crc64Nvme => (CrcAlgorithm::Crc64Nvme, 8),
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => {
            return Err(CombineError::NotJoinable(super::name(algorithm)));
        }
    };
    let joined = values
        .iter()
        .map(|(value, length)| (big_endian(value), *length))
        .reduce(|(left, left_length), (right, length)| {
            (checksum_combine(crc, left, right, length), left_length.saturating_add(length))
        })
        .map_or(0, |(value, _)| value);
    Ok(joined.to_be_bytes()[8 - bytes..].to_vec())
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, &byte| (value << 8) | u64::from(byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn stored(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> StoredChecksum {
        let value = match algorithm {
            ChecksumAlgorithm::Crc32 => Crc32::checksum(bytes).to_vec(),
            ChecksumAlgorithm::Crc32c => Crc32c::checksum(bytes).to_vec(),
            ChecksumAlgorithm::Crc64Nvme => Crc64Nvme::checksum(bytes).to_vec(),
            ChecksumAlgorithm::Sha1 => Sha1::checksum(bytes).to_vec(),
            ChecksumAlgorithm::Sha256 => Sha256::checksum(bytes).to_vec(),
        };
        StoredChecksum { algorithm, kind: ChecksumKind::FullObject, value }
    }

    proptest! {
        #[test]
        fn joined_crcs_equal_the_crc_of_the_joined_bytes(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8),
            which in 0usize..3,
        ) {
            let algorithm = [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc32c, ChecksumAlgorithm::Crc64Nvme][which];
            let sums: Vec<_> = parts.iter().map(|part| stored(algorithm, part)).collect();
            let input: Vec<_> = sums.iter().zip(&parts).map(|(sum, part)| (Some(sum), part.len() as u64)).collect();
            let joined = from_parts(algorithm, ChecksumKind::FullObject, &input).unwrap();
            prop_assert_eq!(joined, stored(algorithm, &parts.concat()));
        }
    }

    #[test]
    fn a_composite_is_the_digest_of_digests() {
        let sums = [stored(ChecksumAlgorithm::Sha256, b"a"), stored(ChecksumAlgorithm::Sha256, b"b")];
        let input = [(Some(&sums[0]), 1), (Some(&sums[1]), 1)];
        let made = from_parts(ChecksumAlgorithm::Sha256, ChecksumKind::Composite, &input).unwrap();
        let joined: Vec<u8> = sums.iter().flat_map(|sum| sum.value.clone()).collect();
        assert_eq!(made.value, Sha256::checksum(&joined));
        assert_eq!(made.kind, ChecksumKind::Composite);
    }

    #[test]
    fn parts_without_a_common_algorithm_have_no_checksum() {
        let sum = stored(ChecksumAlgorithm::Crc32, b"a");
        let missing = from_parts(ChecksumAlgorithm::Crc32, ChecksumKind::FullObject, &[(Some(&sum), 1), (None, 1)]);
        assert_eq!(missing, Err(CombineError::Missing { index: 2, expected: "CRC32" }));
        let other = from_parts(ChecksumAlgorithm::Sha1, ChecksumKind::Composite, &[(Some(&sum), 1)]);
        assert_eq!(other, Err(CombineError::Missing { index: 1, expected: "SHA1" }));
        let sha = stored(ChecksumAlgorithm::Sha1, b"a");
        let whole = from_parts(ChecksumAlgorithm::Sha1, ChecksumKind::FullObject, &[(Some(&sha), 1)]);
        assert_eq!(whole, Err(CombineError::NotJoinable("SHA1")));
    }
}
