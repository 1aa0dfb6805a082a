//! The CRC of a whole from those of its parts, without their bytes: what Complete needs for a full-object checksum.

use cairn_schema::record::ChecksumAlgorithm;
use crc_fast::{CrcAlgorithm, checksum_combine};

/// A part's raw digest as S3 writes it (big-endian) and the part's length in bytes.
pub type PartDigest<'a> = (&'a [u8], u64);

/// The digest of the parts' bytes one after the other. `None` when the algorithm cannot be combined (SHA-1 and SHA-256
/// are only ever composite) or a digest has the wrong size. No parts make the digest of no bytes.
pub fn combine_parts<'a>(
    algorithm: ChecksumAlgorithm,
    parts: impl IntoIterator<Item = PartDigest<'a>>,
) -> Option<Vec<u8>> {
    let (crc, size) = match algorithm {
        ChecksumAlgorithm::Crc32 => (CrcAlgorithm::Crc32IsoHdlc, 4),
        ChecksumAlgorithm::Crc32c => (CrcAlgorithm::Crc32Iscsi, 4),
        ChecksumAlgorithm::Crc64Nvme => (CrcAlgorithm::Crc64Nvme, 8),
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => return None,
    };
    let mut combined = crc_fast::checksum(crc, b"");
    for (digest, length) in parts {
        if digest.len() != size {
            return None;
        }
        let part = digest.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        combined = checksum_combine(crc, combined, part, length);
    }
    Some(combined.to_be_bytes()[8 - size..].to_vec())
}
