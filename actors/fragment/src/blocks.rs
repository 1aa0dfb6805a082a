//! One xxh3-64 (seed 0) per `BLOCK_BYTES` of a fragment: what travels with it over the wire and lies beside it on disk.

use xxhash_rust::xxh3::xxh3_64;

/// Bytes covered by one checksum of a fragment.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// How many blocks, and so checksums, a fragment of `length` bytes has.
pub fn block_count(length: u32) -> usize {
    (length as usize).div_ceil(BLOCK_BYTES)
}

/// xxh3-64 of one block.
pub fn block_checksum(block: &[u8]) -> u64 {
    xxh3_64(block)
}

/// The checksum of each block of `payload`; the last block may be shorter, an empty payload has none.
pub fn block_checksums(payload: &[u8]) -> Vec<u64> {
    payload.chunks(BLOCK_BYTES).map(block_checksum).collect()
}

/// The index of the first block that does not match, or that has no checksum of its own.
pub fn verify_blocks(payload: &[u8], checksums: &[u64]) -> Result<(), usize> {
    let mut blocks = payload.chunks(BLOCK_BYTES);
    for (index, checksum) in checksums.iter().enumerate() {
        match blocks.next() {
            Some(block) if block_checksum(block) == *checksum => {}
            _ => return Err(index),
        }
    }
    if blocks.next().is_some() { Err(checksums.len()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_block_is_named() {
        let mut payload: Vec<u8> = (0..BLOCK_BYTES * 2 + 5).map(|index| (index % 251) as u8).collect();
        let checksums = block_checksums(&payload);
        assert_eq!(checksums.len(), 3);
        assert_eq!(verify_blocks(&payload, &checksums), Ok(()));
        payload[BLOCK_BYTES] ^= 1;
        assert_eq!(verify_blocks(&payload, &checksums), Err(1));
        payload[BLOCK_BYTES] ^= 1;
        assert_eq!(verify_blocks(&payload[..BLOCK_BYTES], &checksums), Err(1));
        assert_eq!(verify_blocks(&payload, &checksums[..2]), Err(2));
        assert_eq!(verify_blocks(&[], &[]), Ok(()));
        assert_eq!(verify_blocks(&[], &[0]), Err(0));
    }
}
