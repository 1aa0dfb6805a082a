//! A body on its way into sealed blocks.

use std::sync::Arc;

use bytes::Bytes;
use cairn_fragment::{
    checksum::{BodyDigests, DigestPlan},
    sealing::{BLOCK_BYTES, BlobSealer, SEALED_BLOCK_BYTES, stripe_blocks},
};

use super::hashing::Hashing;
use crate::error::StoreError;

/// Stripes up to this size are sealed where they stand.
const INLINE_BYTES: usize = 64 * 1024;

/// What seals the stripes of one blob, in order. What it returns is sent as it is, as often as it must be: no block is
/// ever sealed twice.
pub(super) struct StripeSealer {
    sealer: Arc<dyn BlobSealer>,
    next_block: u64,
    /// Of what is stored.
    hashing: Hashing,
}

/// Bytes of a full stripe that is sealed, of the body and as it is stored: whole blocks.
pub(super) fn sealed_stripe(stripe_bytes: u32) -> (usize, u32) {
    let blocks = stripe_blocks(stripe_bytes);
    (blocks as usize * BLOCK_BYTES, blocks * SEALED_BLOCK_BYTES as u32)
}

impl StripeSealer {
    pub(super) fn new(sealer: Arc<dyn BlobSealer>) -> Self {
        Self { sealer, next_block: 0, hashing: Hashing::start(DigestPlan::default()) }
    }

    /// The next stripe as it is stored; `last`: the body ends with it.
    pub(super) async fn seal(&mut self, stripe: Bytes, last: bool) -> Result<Bytes, StoreError> {
        let (sealer, first) = (self.sealer.clone(), self.next_block);
        self.next_block += stripe.len().div_ceil(BLOCK_BYTES) as u64;
        if stripe.len() <= INLINE_BYTES {
            return Ok(seal_blocks(&*sealer, first, last, &stripe));
        }
        let work = tokio::task::spawn_blocking(move || seal_blocks(&*sealer, first, last, &stripe));
        work.await.map_err(|_| StoreError::ShuttingDown)
    }

    /// To be told of each stripe that it made.
    pub(super) async fn push(&self, sealed: &Bytes) {
        self.hashing.push(sealed).await;
    }

    /// The length and the checksum of what was made.
    pub(super) async fn finish(self) -> Result<(u64, u64), StoreError> {
        let BodyDigests { digests, xxh3 } = self.hashing.finish().await?;
        Ok((digests.length, xxh3))
    }
}

/// `last`: the last of the blocks is the blob's last.
fn seal_blocks(sealer: &dyn BlobSealer, first: u64, last: bool, stripe: &[u8]) -> Bytes {
    let blocks = stripe.len().div_ceil(BLOCK_BYTES);
    let mut sealed = Vec::with_capacity(stripe.len() + blocks * (SEALED_BLOCK_BYTES - BLOCK_BYTES));
    for (index, block) in stripe.chunks(BLOCK_BYTES).enumerate() {
        sealer.seal(first + index as u64, last && index + 1 == blocks, block, &mut sealed);
    }
    sealed.into()
}
