//! What has been asked of the positions of one stripe, and what came.

use std::ops::Range;

use bytes::Bytes;

/// What is known of one position.
#[derive(Default)]
pub(super) struct Place {
    /// Ranges asked for and not answered.
    pub pending: Vec<Range<u32>>,
    /// Asked so long ago that others are asked in its stead.
    pub late: bool,
    pub failed: bool,
    pub busy: bool,
    /// What came: its own range, the window, or both.
    pub have: Vec<(Range<u32>, Bytes)>,
}

impl Place {
    pub fn covers(&self, window: &Range<u32>) -> bool {
        self.have.iter().any(|(range, _)| contains(range, window))
    }

    pub fn expects(&self, window: &Range<u32>) -> bool {
        !self.late && self.pending.iter().any(|range| contains(range, window))
    }

    pub fn slice(&self, wanted: &Range<u32>) -> Option<Bytes> {
        let (range, bytes) = self.have.iter().find(|(range, _)| contains(range, wanted))?;
        let from = (wanted.start - range.start) as usize;
        Some(bytes.slice(from..from + wanted.len()))
    }
}

pub(super) fn contains(outer: &Range<u32>, inner: &Range<u32>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// The range of the bytes that the pieces make up one after the other.
pub(super) fn cut(pieces: Vec<Bytes>, range: &Range<u32>) -> Vec<Bytes> {
    let (mut offset, mut cut) = (0usize, Vec::with_capacity(pieces.len()));
    for piece in pieces {
        let from = (range.start as usize).max(offset) - offset;
        let to = (range.end as usize).clamp(offset, offset + piece.len()) - offset;
        if from < to {
            cut.push(piece.slice(from..to));
        }
        offset += piece.len();
    }
    cut
}
