//! Which pieces of which stripes make up a range of an object.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use cairn_fragment::{
    geometry::{FragmentPiece, Geometry, GeometryError, StripePiece, is_range_local},
    sealing::{BlobSealer, Sealer},
};
use cairn_schema::{MetaError, ids::*, record::*};

use super::{sealed::SealedPiece, whole::Promise};
use crate::error::StoreError;

/// Bytes of one stripe, with everything needed to read them.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub blob: BlobId,
    pub scheme: Scheme,
    pub stripe: u32,
    pub group: GroupId,
    /// Within the stripe; never empty.
    pub range: Range<u32>,
    pub stripe_len: u32,
    pub fragment_len: u32,
    /// The data fragments that hold the range, in order; None when the code interleaves them.
    pub fragments: Option<Vec<FragmentPiece>>,
    /// What the blob must come to; None if the read does not cover all of it.
    pub promise: Option<Promise>,
    /// How it is opened; None if it is not sealed.
    pub sealed: Option<SealedPiece>,
}

impl Piece {
    /// Whether it begins with the blob's first byte.
    pub(super) fn begins_blob(&self) -> bool {
        self.stripe == 0 && self.range.start == 0
    }

    /// The piece without the first bytes that are handed out of it, which are fewer than it has. None if the code
    /// interleaves them.
    pub(super) fn without(&self, bytes: u32) -> Option<Self> {
        let Some(sealed) = &self.sealed else { return self.without_stored(bytes) };
        let (stored, left) = sealed.without(bytes);
        Some(Self { sealed: Some(left), ..self.without_stored(stored)? })
    }

    /// The same of bytes as they are stored.
    fn without_stored(&self, bytes: u32) -> Option<Self> {
        debug_assert!((bytes as usize) < self.range.len());
        let mut left = bytes;
        let mut fragments = Vec::new();
        for piece in self.fragments.as_ref()? {
            let here = left.min(piece.range.end - piece.range.start);
            left -= here;
            let (start, end) = (piece.range.start + here, piece.range.end);
            if start < end {
                let stripe_offset = piece.stripe_offset + here;
                fragments.push(FragmentPiece { range: start..end, stripe_offset, ..*piece });
            }
        }
        Some(Self { range: self.range.start + bytes..self.range.end, fragments: Some(fragments), ..self.clone() })
    }
}

/// A blob, and what it must come to if all of it is read.
#[derive(Clone)]
struct Read {
    blob: Arc<Blob>,
    promise: Option<Promise>,
    opening: Option<Opening>,
}

/// What opens a blob, and the bytes wanted of what was sealed.
#[derive(Clone)]
struct Opening {
    opener: Arc<dyn BlobSealer>,
    plain: Range<u64>,
}

/// The pieces of a range, in order, worked out as they are asked for: a large object has very many.
pub(super) struct Pieces {
    slices: VecDeque<(Arc<Blob>, Range<u64>)>,
    /// What opens the blobs; the ranges are then of what was sealed.
    opener: Option<Arc<dyn Sealer>>,
    current: Option<(Read, Box<dyn Iterator<Item = StripePiece> + Send>)>,
    upcoming: Option<(Read, StripePiece)>,
    largest: u64,
}

impl Pieces {
    /// `range` of an object whose bytes from `parts_offset` on are in `parts`, sealed if there is an opener. Checks
    /// that the parts hold the whole range.
    pub(super) fn new(
        range: Range<u64>,
        parts_offset: u64,
        parts: Vec<Part>,
        opener: Option<Arc<dyn Sealer>>,
    ) -> Result<Self, StoreError> {
        let mut wanted = VecDeque::with_capacity(parts.len());
        let mut largest = 0;
        let mut offset = parts_offset;
        let mut held = range.start;
        for part in parts {
            let part_end = offset.saturating_add(part.length);
            for slice in part.slices {
                let end = offset.saturating_add(slice.length);
                let (from, to) = (range.start.max(offset), range.end.min(end));
                if from < to {
                    if from != held {
                        return Err(damaged("a gap between parts"));
                    }
                    held = to;
                    if opener.is_some() && !is_sealed_whole(&slice) {
                        return Err(damaged("a sealed part that is not its blob"));
                    }
                    // What is sealed is opened into other memory.
                    let times = if opener.is_some() { 2 } else { 1 };
                    largest = largest.max(times * piece_bytes(&slice.blob, to - from, opener.is_some()));
                    let start = slice.blob_offset.saturating_add(from - offset);
                    wanted.push_back((slice.blob, start..start.saturating_add(to - from)));
                }
                offset = end;
            }
            if offset != part_end {
                return Err(damaged("a part that its slices do not add up to"));
            }
        }
        if held != range.end {
            return Err(damaged("too few parts"));
        }
        let mut pieces = Self { slices: wanted, opener, current: None, upcoming: None, largest };
        pieces.advance()?;
        Ok(pieces)
    }

    /// The most bytes that a piece takes in memory.
    pub(super) fn largest(&self) -> u64 {
        self.largest
    }

    pub(super) fn is_done(&self) -> bool {
        self.upcoming.is_none()
    }

    pub(super) fn next(&mut self) -> Result<Option<Piece>, StoreError> {
        let Some((Read { blob, promise, opening }, piece)) = self.upcoming.take() else { return Ok(None) };
        self.advance()?;
        debug_assert!(!piece.range.is_empty());
        let sealed = match opening {
            None => None,
            Some(Opening { opener, plain }) => {
                let made = SealedPiece::new(opener, &blob, piece.blob_offset, piece.range.len(), &plain);
                Some(made.ok_or_else(|| damaged("stripes that cut its sealed blocks"))?)
            }
        };
        let geometry = Geometry::new(&blob).map_err(contradiction)?;
        let made = || -> Result<Piece, GeometryError> {
            Ok(Piece {
                blob: blob.id,
                scheme: blob.scheme,
                stripe: piece.stripe,
                group: geometry.group(piece.stripe)?,
                stripe_len: geometry.stripe_len(piece.stripe)?,
                fragment_len: geometry.fragment_len(piece.stripe)?,
                fragments: geometry.fragment_pieces(piece.stripe, piece.range.clone())?,
                range: piece.range.clone(),
                promise,
                sealed,
            })
        };
        made().map(Some).map_err(contradiction)
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        loop {
            if let Some((read, pieces)) = &mut self.current
                && let Some(piece) = pieces.next()
            {
                self.upcoming = Some((read.clone(), piece));
                return Ok(());
            }
            let Some((blob, range)) = self.slices.pop_front() else {
                self.current = None;
                return Ok(());
            };
            let opener = self.opener.as_ref().map(|opener| opener.of_blob(blob.id));
            let (range, opening) = match opener {
                None => (range, None),
                Some(opener) => (stored_blocks(&blob, &range), Some(Opening { opener, plain: range })),
            };
            let promise = Promise::of(&blob, &range);
            let pieces =
                Geometry::new(&blob).and_then(|geometry| geometry.stripe_pieces(range)).map_err(contradiction)?;
            self.current = Some((Read { blob, promise, opening }, Box::new(pieces)));
        }
    }
}

/// A part that was sealed is all of a blob.
fn is_sealed_whole(slice: &Slice) -> bool {
    slice.blob_offset == 0 && sealed_length(slice.length) == Some(slice.blob.length)
}

/// Where the blocks are stored that have a range of what was sealed, which is not empty.
fn stored_blocks(blob: &Blob, plain: &Range<u64>) -> Range<u64> {
    let (first, end) = (plain.start / BLOCK_BYTES, plain.end.div_ceil(BLOCK_BYTES));
    first * SEALED_BLOCK_BYTES..end.saturating_mul(SEALED_BLOCK_BYTES).min(blob.length)
}

/// Memory for one piece of a range of `len` bytes: an interleaving code needs the stripe twice, as fragments and
/// decoded. Of what is sealed two blocks more than the bytes have may be touched.
fn piece_bytes(blob: &Blob, len: u64, sealed: bool) -> u64 {
    let stripe = u64::from(blob.stripe_bytes).min(blob.length);
    let len = if sealed { sealed_length(len).unwrap_or(len).saturating_add(2 * SEALED_BLOCK_BYTES) } else { len };
    if is_range_local(blob.scheme) { len.min(stripe) } else { stripe.saturating_mul(2) }
}

fn contradiction(error: GeometryError) -> StoreError {
    damaged(&error.to_string())
}

fn damaged(why: &str) -> StoreError {
    StoreError::Meta(MetaError::Corrupt { what: "a manifest", why: why.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn object(scheme: &str) -> Vec<Part> {
        let blob = Blob {
            id: BlobId([1; 16]),
            scheme: scheme.parse().unwrap(),
            length: 10_000,
            stripe_bytes: 4000,
            runs: vec![StripeRun { group: GroupId(1), stripes: 3 }],
            checksum: 0,
        };
        let slices = vec![Slice { blob_offset: 0, length: blob.length, blob: Arc::new(blob) }];
        vec![Part { number: 1, length: 10_000, md5: [0; 16], checksum: None, slices }]
    }

    fn first(range: Range<u64>, scheme: &str) -> Piece {
        Pieces::new(range, 0, object(scheme), None).unwrap().next().unwrap().unwrap()
    }

    /// Against the plan of a range that begins where the piece is to begin.
    #[test]
    fn a_piece_without_its_first_bytes_is_that_of_a_later_start() {
        for scheme in ["4+2", "replicated(3)"] {
            for begin in [0, 1, 999, 1500, 4000, 8100] {
                let piece = first(begin..10_000, scheme);
                for bytes in 0..piece.range.len() {
                    let (left, later) =
                        (piece.without(bytes as u32).unwrap(), first(begin + bytes as u64..10_000, scheme));
                    assert_eq!(
                        (left.range, left.fragments),
                        (later.range, later.fragments),
                        "{scheme} {begin} {bytes}"
                    );
                }
            }
        }
        assert_eq!(first(0..10_000, "4+2/novelpoly").without(10).map(|piece| piece.range), None);
    }
}
