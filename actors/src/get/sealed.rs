//! Pieces of blobs that are sealed: whole blocks as they are stored, of which all or some bytes are wanted.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use cairn_fragment::sealing::{BLOCK_BYTES, BlobSealer, NotOpened, SEALED_BLOCK_BYTES};
use cairn_schema::record::{self, Blob};

/// Blocks that are handed out together: a client that stalls keeps no more than these.
const BLOCKS_AT_ONCE: usize = 16;

/// How a piece is opened.
#[derive(Clone)]
pub(super) struct SealedPiece {
    opener: Arc<dyn BlobSealer>,
    /// The piece's first block by its number in the blob, and the blob's last.
    first: u64,
    last: u64,
    /// Bytes of the first block before those that are wanted.
    skip: u32,
    /// Bytes that are wanted.
    wanted: u32,
}

impl std::fmt::Debug for SealedPiece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { first, last, skip, wanted, .. } = self;
        write!(f, "SealedPiece({wanted} bytes, {skip} into block {first} of {last})")
    }
}

/// Bytes that were opened, and how many stored ones they were made of.
pub(super) struct Opened {
    pub bytes: Bytes,
    pub stored: Vec<Bytes>,
}

impl SealedPiece {
    /// `len` stored bytes of a blob from `offset` on, of which `plain` is wanted where they have some of it. None if
    /// they are not whole blocks.
    pub(super) fn new(
        opener: Arc<dyn BlobSealer>,
        blob: &Blob,
        offset: u64,
        len: usize,
        plain: &Range<u64>,
    ) -> Option<Self> {
        let end = offset + len as u64;
        let whole = |at: u64| at.is_multiple_of(record::SEALED_BLOCK_BYTES);
        if !whole(offset) || !(whole(end) || end == blob.length) {
            return None;
        }
        let first = offset / record::SEALED_BLOCK_BYTES;
        let start = first * record::BLOCK_BYTES;
        let held = start..start + record::plain_length(len as u64)?;
        let (from, to) = (plain.start.max(held.start), plain.end.min(held.end));
        let skip = u32::try_from(from.checked_sub(held.start)?).ok()?;
        let wanted = u32::try_from(to.checked_sub(from)?).ok()?;
        Some(Self { opener, first, last: blob.length.div_ceil(record::SEALED_BLOCK_BYTES) - 1, skip, wanted })
    }

    /// The piece without the first bytes that are wanted of it, and how many stored bytes it is shorter.
    pub(super) fn without(&self, bytes: u32) -> (u32, Self) {
        let gone = self.skip + bytes;
        let (blocks, skip) = (gone / BLOCK_BYTES as u32, gone % BLOCK_BYTES as u32);
        let left = Self { first: self.first + u64::from(blocks), skip, wanted: self.wanted - bytes, ..self.clone() };
        (blocks * SEALED_BLOCK_BYTES as u32, left)
    }

    /// Opens what is stored, which comes in any pieces.
    pub(super) fn open(&self, stored: Vec<Bytes>) -> Result<Vec<Opened>, NotOpened> {
        let mut stored = Cut(stored.into_iter().collect());
        let (mut block, mut skip, mut wanted) = (self.first, self.skip as usize, self.wanted as usize);
        let mut opened = Vec::new();
        while wanted > 0 {
            let (mut bytes, mut used) = (Vec::new(), Vec::new());
            let room = (skip + wanted).min(BLOCKS_AT_ONCE * BLOCK_BYTES);
            // The last block's tag is opened in place behind its bytes.
            bytes.reserve(room.next_multiple_of(BLOCK_BYTES) + SEALED_BLOCK_BYTES - BLOCK_BYTES);
            for _ in 0..room.div_ceil(BLOCK_BYTES) {
                let begin = bytes.len();
                stored.take_into(SEALED_BLOCK_BYTES, &mut bytes, &mut used);
                let plain = self.opener.open(block, block == self.last, &mut bytes[begin..])?;
                bytes.truncate(begin + plain);
                block += 1;
            }
            let mut bytes = Bytes::from(bytes);
            if bytes.len() <= skip {
                return Err(NotOpened { block });
            }
            let bytes = bytes.split_off(skip);
            let bytes = bytes.slice(..wanted.min(bytes.len()));
            wanted -= bytes.len();
            skip = 0;
            opened.push(Opened { bytes, stored: used });
        }
        Ok(opened)
    }
}

/// Bytes in pieces, taken from the front.
struct Cut(std::collections::VecDeque<Bytes>);

impl Cut {
    /// Copies up to `most` bytes, and adds the pieces that they were.
    fn take_into(&mut self, most: usize, out: &mut Vec<u8>, used: &mut Vec<Bytes>) {
        let mut left = most;
        while left > 0
            && let Some(front) = self.0.front_mut()
        {
            let piece = front.split_to(left.min(front.len()));
            if front.is_empty() {
                self.0.pop_front();
            }
            left -= piece.len();
            out.extend_from_slice(&piece);
            used.push(piece);
        }
    }
}
