//! Bytes that are stored sealed: whoever stores and reads them is handed what seals and opens, and knows no keys.
//!
//! A blob is sealed block by block, so that a range opens only the blocks that it touches. Each block is bound to its
//! blob, to its number in it and to whether it is the last one, so that none opens in another place, and none is
//! missing at the end without its being seen.

use std::sync::Arc;

use cairn_schema::{ids::BlobId, record};

/// Of what clients see, in a block.
pub const BLOCK_BYTES: usize = record::BLOCK_BYTES as usize;
/// A whole block as it is stored.
pub const SEALED_BLOCK_BYTES: usize = record::SEALED_BLOCK_BYTES as usize;

/// A block that is not what was sealed for this place, or not by this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block {block} does not open")]
pub struct NotOpened {
    pub block: u64,
}

/// What seals the blobs of one version, and opens them.
pub trait Sealer: Send + Sync {
    fn of_blob(&self, blob: BlobId) -> Arc<dyn BlobSealer>;

    /// What is shown as the entity tag of a body with this MD5: another one where the MD5 would tell too much.
    fn tag_of(&self, md5: [u8; 16]) -> [u8; 16];
}

/// The same for one blob. For each block it may seal only once.
pub trait BlobSealer: Send + Sync {
    /// Appends the sealed form of a block, which is longer by its tag.
    fn seal(&self, block: u64, last: bool, plain: &[u8], out: &mut Vec<u8>);

    /// Opens a block in place: its bytes are the first of `sealed`, as many as are returned.
    ///
    /// # Errors
    /// NotOpened for what was not sealed for this place; `sealed` has no bytes of use then.
    fn open(&self, block: u64, last: bool, sealed: &mut [u8]) -> Result<usize, NotOpened>;
}

/// Whole sealed blocks in a stripe of at most so many bytes; one at least.
pub fn stripe_blocks(stripe_bytes: u32) -> u32 {
    (stripe_bytes / SEALED_BLOCK_BYTES as u32).max(1)
}
