//! Where a blob's bytes lie: stripes, fragments and the groups that hold them. Pure arithmetic, no input or output.
//!
//! A blob is cut into stripes of `stripe_bytes`; only the last may be shorter. How a stripe is cut into fragments
//! depends on its scheme:
//!
//! * `Rs` with `Gf256`: `f = ceil(len / k)`; data fragment `i` is the contiguous slice `i*f..min((i+1)*f, len)`, padded
//!   with zeros to `f`; parity fragments have `f` bytes. A fragment that would start behind the stripe's end is all
//!   padding.
//! * `Rs` with `Novelpoly`: symbols of two bytes dealt out in turn to as many fragments as the largest power of two ≤
//!   k.
//! * `Replicated`: every fragment is the whole stripe.

use std::ops::Range;

use cairn_schema::{
    ids::{FragmentName, GroupId},
    record::{Blob, ErasureCode, Scheme},
};

/// A blob record that contradicts itself, or a question about bytes it does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    #[error("a blob of {length} bytes cannot have stripes of {stripe_bytes} bytes")]
    StripeBytes { length: u64, stripe_bytes: u32 },
    #[error("the runs hold {runs} stripes, the blob has {stripes}")]
    Runs { runs: u64, stripes: u64 },
    #[error("scheme {0} cannot hold a stripe")]
    Scheme(Scheme),
    #[error("bytes {start}..{end} lie outside the blob's {length}")]
    OutOfRange { start: u64, end: u64, length: u64 },
    #[error("stripe {stripe} lies outside the blob's {stripes}")]
    NoSuchStripe { stripe: u32, stripes: u32 },
}

/// Number of stripes of a blob; `None` when there would be too many to number (or stripes had no bytes).
pub fn stripe_count(length: u64, stripe_bytes: u32) -> Option<u32> {
    if stripe_bytes == 0 {
        return if length == 0 { Some(0) } else { None };
    }
    u32::try_from(length.div_ceil(stripe_bytes.into())).ok()
}

/// Fragments of a stripe that suffice to read it. Differs from [`Scheme::data`] where the code rounds k down.
pub fn needed_fragments(scheme: Scheme) -> usize {
    match scheme {
        Scheme::Replicated { .. } => 1,
        Scheme::Rs { data, code: ErasureCode::Gf256, .. } => data.into(),
        Scheme::Rs { data: 0, .. } => 0,
        Scheme::Rs { data, code: ErasureCode::Novelpoly, .. } => 1 << data.ilog2(),
    }
}

/// Bytes of each fragment of a stripe of `stripe_len` bytes.
pub fn fragment_len(scheme: Scheme, stripe_len: u32) -> u32 {
    let needed = u32::try_from(needed_fragments(scheme)).unwrap_or(u32::MAX).max(1);
    match scheme {
        Scheme::Replicated { .. } => stripe_len,
        Scheme::Rs { code: ErasureCode::Gf256, .. } => stripe_len.div_ceil(needed),
        // Whole symbols of two bytes; a sum over 2^32 cannot arise because at least two bytes share a symbol.
        Scheme::Rs { code: ErasureCode::Novelpoly, .. } => stripe_len.div_ceil(2).div_ceil(needed).saturating_mul(2),
    }
}

/// Whether byte `i` of a lost fragment depends only on byte `i` of the others, and data fragments are contiguous
/// slices.
pub fn is_range_local(scheme: Scheme) -> bool {
    !matches!(scheme, Scheme::Rs { code: ErasureCode::Novelpoly, .. })
}

/// Bytes of one stripe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripePiece {
    pub stripe: u32,
    /// Within the stripe; never empty.
    pub range: Range<u32>,
    /// Offset in the blob of the first byte of `range`.
    pub blob_offset: u64,
}

/// Bytes of one data fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentPiece {
    /// The data fragment; for replicas always 0, and any copy does.
    pub position: u8,
    /// Within the fragment; never empty.
    pub range: Range<u32>,
    /// Offset in the stripe of the first byte of `range`.
    pub stripe_offset: u32,
}

/// One blob's layout, checked once so that every later question has an answer.
#[derive(Clone, Debug)]
pub struct Geometry<'a> {
    blob: &'a Blob,
    stripes: u32,
    /// For each run, the stripe behind its last.
    ends: Vec<u32>,
}

impl<'a> Geometry<'a> {
    pub fn new(blob: &'a Blob) -> Result<Self, GeometryError> {
        let stripes = stripe_count(blob.length, blob.stripe_bytes)
            .ok_or(GeometryError::StripeBytes { length: blob.length, stripe_bytes: blob.stripe_bytes })?;
        if blob.scheme.width() == 0 || blob.scheme.data() == 0 || blob.scheme.width() > 255 {
            return Err(GeometryError::Scheme(blob.scheme));
        }
        let in_runs: u64 = blob.runs.iter().map(|run| u64::from(run.stripes)).sum();
        if in_runs != u64::from(stripes) {
            return Err(GeometryError::Runs { runs: in_runs, stripes: stripes.into() });
        }
        let mut end = 0;
        let ends = blob
            .runs
            .iter()
            .map(|run| {
                end += run.stripes;
                end
            })
            .collect();
        Ok(Self { blob, stripes, ends })
    }

    pub fn blob(&self) -> &'a Blob {
        self.blob
    }

    pub fn stripes(&self) -> u32 {
        self.stripes
    }

    fn check(&self, stripe: u32) -> Result<(), GeometryError> {
        if stripe < self.stripes { Ok(()) } else { Err(GeometryError::NoSuchStripe { stripe, stripes: self.stripes }) }
    }

    /// Data bytes of a stripe.
    pub fn stripe_len(&self, stripe: u32) -> Result<u32, GeometryError> {
        self.check(stripe)?;
        let start = u64::from(stripe) * u64::from(self.blob.stripe_bytes);
        let len = (self.blob.length - start).min(self.blob.stripe_bytes.into());
        Ok(u32::try_from(len).unwrap_or(self.blob.stripe_bytes))
    }

    /// Bytes of each fragment of a stripe.
    pub fn fragment_len(&self, stripe: u32) -> Result<u32, GeometryError> {
        Ok(fragment_len(self.blob.scheme, self.stripe_len(stripe)?))
    }

    /// The group that holds a stripe.
    pub fn group(&self, stripe: u32) -> Result<GroupId, GeometryError> {
        self.check(stripe)?;
        let run = self.ends.partition_point(|end| *end <= stripe);
        Ok(self.blob.runs[run].group)
    }

    pub fn fragment(&self, stripe: u32, position: u8) -> Result<FragmentName, GeometryError> {
        Ok(FragmentName { group: self.group(stripe)?, blob: self.blob.id, stripe, position })
    }

    /// The stripes that hold `range` of the blob, in order, and which of their bytes. An empty range has none.
    pub fn stripe_pieces(&self, range: Range<u64>) -> Result<impl Iterator<Item = StripePiece> + use<>, GeometryError> {
        let Range { start, end } = range;
        if start > end || end > self.blob.length {
            return Err(GeometryError::OutOfRange { start, end, length: self.blob.length });
        }
        let size = u64::from(self.blob.stripe_bytes).max(1);
        let stripes = if start == end { 0..0 } else { start / size..end.div_ceil(size) };
        Ok(stripes.map(move |stripe| {
            let offset = stripe * size;
            let (from, to) = (start.max(offset), end.min(offset + size));
            StripePiece {
                stripe: stripe as u32,
                range: (from - offset) as u32..(to - offset) as u32,
                blob_offset: from,
            }
        }))
    }

    /// The data fragments that hold `range` of a stripe, in order. `None` when the code interleaves, so that nothing
    /// less than [`needed_fragments`] whole fragments will do.
    pub fn fragment_pieces(&self, stripe: u32, range: Range<u32>) -> Result<Option<Vec<FragmentPiece>>, GeometryError> {
        let stripe_len = self.stripe_len(stripe)?;
        if range.start > range.end || range.end > stripe_len {
            let (start, end) = (range.start.into(), range.end.into());
            return Err(GeometryError::OutOfRange { start, end, length: stripe_len.into() });
        }
        if !is_range_local(self.blob.scheme) {
            return Ok(None);
        }
        if range.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let f = fragment_len(self.blob.scheme, stripe_len);
        let pieces = (range.start / f..range.end.div_ceil(f)).map(|position| {
            // u64, because position * f may pass 2^32 for the last fragment of a very large stripe.
            let offset = u64::from(position) * u64::from(f);
            let from = u64::from(range.start).max(offset);
            let to = u64::from(range.end).min(offset + u64::from(f));
            FragmentPiece {
                position: position as u8,
                range: (from - offset) as u32..(to - offset) as u32,
                stripe_offset: from as u32,
            }
        });
        Ok(Some(pieces.collect()))
    }
}

#[cfg(test)]
#[path = "geometry_tests.rs"]
mod tests;
