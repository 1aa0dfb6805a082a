//! One xxh3-64 (seed 0) per `BLOCK_BYTES` of a fragment: what travels with it over the wire and lies beside it on disk.

use xxhash_rust::xxh3::xxh3_64;

use crate::disk::BLOCK_BYTES;

/// The checksum of each block of `payload`; the last block may be shorter, an empty payload has none.
pub fn block_checksums(payload: &[u8]) -> Vec<u64> {
    payload.chunks(BLOCK_BYTES).map(xxh3_64).collect()
}

/// The index of the first block that does not match, or that has no checksum of its own.
pub fn verify_blocks(payload: &[u8], checksums: &[u64]) -> Result<(), usize> {
    let mut blocks = payload.chunks(BLOCK_BYTES);
    for (index, checksum) in checksums.iter().enumerate() {
        match blocks.next() {
            Some(block) if xxh3_64(block) == *checksum => {}
            _ => return Err(index),
        }
    }
    if blocks.next().is_some() { Err(checksums.len()) } else { Ok(()) }
}
