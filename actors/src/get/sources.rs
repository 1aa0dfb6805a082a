//! Whom to ask for a piece of a stripe, decided from what was asked and what came, and from nothing else: no calls, no
//! clock and no chance. The loop around it ([`super::gather`]) brings those.
//!
//! Two ways. *Directly*: where the code is systematic and range-local only the data fragments that hold the bytes are
//! asked, and when one fails or is late the same byte range (the *window*) of enough others rebuilds it. *Any*: of
//! copies and of interleaved fragments, any that suffice are asked from the start, the best first. In both, a failure
//! asks another fragment at once.

use std::{collections::HashMap, ops::Range, time::Duration};

use bytes::Bytes;
use cairn_fragment::geometry::FragmentPiece;
use cairn_schema::record::Scheme;

use super::plan::Piece;
use crate::data_path::Unread;

/// How often a busy disk is asked again once nobody else is left to ask.
const BUSY_ROUNDS: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// A read to be made: `range` of the fragment at `position`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub position: u8,
    pub range: Range<u32>,
}

/// The fragments of one stripe while a piece of it is read.
pub(super) struct Sources {
    /// By position.
    sources: Vec<Source>,
    /// The data fragments that are read directly, in the order of their bytes; none where any fragments serve.
    direct: Vec<FragmentPiece>,
    /// So many fragments give the window's bytes of every other.
    needed: usize,
    /// The byte range of which `needed` fragments rebuild what is wanted; None while all is read directly.
    window: Option<Range<u32>>,
    busy_rounds: u32,
}

/// What is known of the fragment at one position.
#[derive(Default)]
struct Source {
    /// Ranges asked for and not answered.
    pending: Vec<Range<u32>>,
    /// Asked so long ago that others are asked in its stead, or on a disk that is not expected to answer.
    late: bool,
    failed: bool,
    busy: bool,
    /// What came: its own range, the window, or both.
    have: Vec<(Range<u32>, Bytes)>,
}

impl Sources {
    /// For a piece of a stripe of `width` fragments, of which `needed` rebuild the others.
    pub(super) fn new(piece: &Piece, needed: usize, width: usize) -> Self {
        debug_assert!((1..=width).contains(&needed), "{needed} of {width}");
        let (direct, window) = match (piece.scheme, &piece.fragments) {
            (Scheme::Replicated { .. }, _) => (Vec::new(), Some(piece.range.clone())),
            (Scheme::Rs { .. }, None) => (Vec::new(), Some(0..piece.fragment_len)),
            (Scheme::Rs { .. }, Some(fragments)) => (fragments.clone(), None),
        };
        debug_assert!(direct.is_empty() == window.is_some(), "a piece without bytes");
        let sources = std::iter::repeat_with(Source::default).take(width).collect();
        Self { sources, direct, needed, window, busy_rounds: 0 }
    }

    /// The most bytes that one read asks for at first.
    pub(super) fn longest(&self) -> usize {
        let window = self.window.as_ref().map_or(0, ExactSizeIterator::len);
        self.direct.iter().map(|fragment| fragment.range.len()).max().unwrap_or(window)
    }

    /// The first reads of the direct way. A fragment whose disk is not expected to answer is late from the start.
    pub(super) fn begin(&mut self, answers: impl Fn(u8) -> bool) -> Vec<Ask> {
        let mut asks = Vec::new();
        for FragmentPiece { position, range, .. } in self.direct.clone() {
            if answers(position) {
                asks.push(self.ask(position, range));
            } else {
                self.source(position).late = true;
            }
        }
        self.widen_window();
        asks
    }

    /// The reads that are still missing for the window, of the fragments that `rank` puts first.
    pub(super) fn ask_window<R: Ord>(&mut self, mut rank: impl FnMut(u8) -> R) -> Vec<Ask> {
        let Some(window) = self.window.clone() else { return Vec::new() };
        let coming = self.sources.iter().filter(|source| source.covers(&window) || source.expects(&window)).count();
        let open = |source: &Source| {
            let asked = source.pending.iter().any(|range| contains(range, &window));
            !(source.failed || source.busy || asked || source.covers(&window))
        };
        let open = self.sources.iter().enumerate().filter(|(_, source)| open(source));
        let mut open: Vec<u8> = open.map(|(position, _)| position as u8).collect();
        open.sort_by_cached_key(|position| rank(*position));
        open.truncate(self.needed.saturating_sub(coming));
        open.into_iter().map(|position| self.ask(position, window.clone())).collect()
    }

    fn ask(&mut self, position: u8, range: Range<u32>) -> Ask {
        let pending = &mut self.source(position).pending;
        debug_assert!(!pending.contains(&range), "{range:?} of {position} is asked for already");
        pending.push(range.clone());
        Ask { position, range }
    }

    /// What came of a read.
    pub(super) fn take(&mut self, Ask { position, range }: Ask, answer: Result<Bytes, Unread>) {
        let source = self.source(position);
        debug_assert!(source.pending.contains(&range), "nobody asked {position} for {range:?}");
        source.pending.retain(|pending| *pending != range);
        match answer {
            Ok(bytes) => {
                debug_assert_eq!(bytes.len(), range.len());
                source.have.push((range, bytes));
            }
            Err(Unread::Busy) => source.busy = true,
            Err(Unread::Unreachable | Unread::Missing(_)) => source.failed = true,
        }
        self.widen_window();
    }

    /// Whether a read is under way that nobody else is asked besides.
    pub(super) fn can_hedge(&self) -> bool {
        self.sources.iter().any(|source| !source.late && !source.pending.is_empty())
    }

    /// What has not answered by now is late: others are asked besides.
    pub(super) fn hedge(&mut self) {
        self.sources.iter_mut().filter(|source| !source.pending.is_empty()).for_each(|source| source.late = true);
        self.widen_window();
    }

    /// When no read is under way: the disks that were busy once more, a few times, each time after a longer pause.
    pub(super) fn ask_busy_again(&mut self) -> Option<(Duration, Vec<Ask>)> {
        if self.busy_rounds >= BUSY_ROUNDS || !self.sources.iter().any(|source| source.busy) {
            return None;
        }
        self.busy_rounds += 1;
        let mut asks = Vec::new();
        for position in 0..self.sources.len() as u8 {
            if std::mem::take(&mut self.source(position).busy) {
                let own = self.direct.iter().find(|fragment| fragment.position == position);
                let range = own.map(|fragment| fragment.range.clone()).or(self.window.clone());
                asks.extend(range.map(|range| self.ask(position, range)));
            }
        }
        Some((BUSY_PAUSE * self.busy_rounds, asks))
    }

    /// In the direct way: makes the window span all that will have to be rebuilt, as far as is known now.
    fn widen_window(&mut self) {
        for FragmentPiece { position, range, .. } in &self.direct {
            let source = &self.sources[usize::from(*position)];
            if (source.failed || source.late || source.busy) && !source.covers(range) {
                // Fragments are only read directly where every range of them can be rebuilt from the same range of
                // others.
                self.window = Some(match self.window.take() {
                    Some(window) => window.start.min(range.start)..window.end.max(range.end),
                    None => range.clone(),
                });
            }
        }
    }

    /// Bytes of memory that rebuilding takes beyond the piece's own, if anything is to be rebuilt.
    pub(super) fn rebuild_bytes(&self) -> Option<u64> {
        let window = self.window.as_ref().filter(|_| !self.direct.is_empty())?;
        Some(window.len() as u64 * (self.needed as u64 + 1))
    }

    /// The same for a hedge: for all that it may have to rebuild.
    pub(super) fn hedge_bytes(&self) -> Option<u64> {
        (!self.direct.is_empty()).then(|| self.longest() as u64 * (self.needed as u64 + 1))
    }

    pub(super) fn is_complete(&self) -> bool {
        let window = self.window.as_ref().filter(|window| self.covering(window).count() >= self.needed);
        let is_there = |fragment: &FragmentPiece| {
            self.sources[usize::from(fragment.position)].covers(&fragment.range)
                || window.is_some_and(|window| contains(window, &fragment.range))
        };
        if self.direct.is_empty() { window.is_some() } else { self.direct.iter().all(is_there) }
    }

    /// Whether any fragments serve, so that the window's bytes of `needed` of them are the answer.
    pub(super) fn any_serve(&self) -> bool {
        self.direct.is_empty()
    }

    /// Of the fragments read directly, those whose bytes did not come: they are to be rebuilt.
    pub(super) fn lost(&self) -> Vec<u8> {
        let is_lost = |fragment: &&FragmentPiece| !self.sources[usize::from(fragment.position)].covers(&fragment.range);
        self.direct.iter().filter(is_lost).map(|fragment| fragment.position).collect()
    }

    pub(super) fn window_len(&self) -> usize {
        self.window.as_ref().map_or(0, ExactSizeIterator::len)
    }

    /// The window's bytes of as many fragments as are needed, and have come.
    pub(super) fn present(&self) -> Vec<(u8, Bytes)> {
        let Some(window) = &self.window else { return Vec::new() };
        self.covering(window).take(self.needed).collect()
    }

    /// The piece's bytes in order, those that were lost from `rebuilt`, which has the window's bytes by position. None
    /// while one is lacking.
    pub(super) fn in_order(&self, rebuilt: &HashMap<u8, Bytes>) -> Option<Vec<Bytes>> {
        let window_start = self.window.as_ref().map_or(0, |window| window.start);
        let bytes = |FragmentPiece { position, range, .. }: &FragmentPiece| {
            let again = || {
                let from = range.start.checked_sub(window_start)? as usize;
                Some(rebuilt.get(position)?.slice(from..from + range.len()))
            };
            self.sources[usize::from(*position)].slice(range).or_else(again)
        };
        self.direct.iter().map(bytes).collect()
    }

    /// How many fragments have not failed.
    pub(super) fn readable(&self) -> usize {
        self.sources.iter().filter(|source| !source.failed).count()
    }

    fn source(&mut self, position: u8) -> &mut Source {
        &mut self.sources[usize::from(position)]
    }

    fn covering(&self, window: &Range<u32>) -> impl Iterator<Item = (u8, Bytes)> {
        let sources = self.sources.iter().enumerate();
        sources.filter_map(|(position, source)| Some((position as u8, source.slice(window)?)))
    }
}

impl Source {
    fn covers(&self, window: &Range<u32>) -> bool {
        self.have.iter().any(|(range, _)| contains(range, window))
    }

    fn expects(&self, window: &Range<u32>) -> bool {
        !self.late && self.pending.iter().any(|range| contains(range, window))
    }

    fn slice(&self, wanted: &Range<u32>) -> Option<Bytes> {
        let (range, bytes) = self.have.iter().find(|(range, _)| contains(range, wanted))?;
        let from = (wanted.start - range.start) as usize;
        Some(bytes.slice(from..from + wanted.len()))
    }
}

fn contains(outer: &Range<u32>, inner: &Range<u32>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
