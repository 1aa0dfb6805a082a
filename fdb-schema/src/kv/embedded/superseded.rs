//! When written rows are taken out of memory early, for the sake of those who read ranges.
//!
//! A row that is written again stays in the memtable beside the new one until the memtable becomes a table, which has
//! only what somebody may still see. A scan steps over each of them, so that a listing would cost as often as its keys
//! were overwritten since. What scans have stepped over is therefore added up, and once it is several times what a
//! table of the memtable would take to write, the table is written.
//!
//! The first byte of a key tells the tables of the keyspace apart: rows of counters, say, are written by every commit
//! and never scanned, and are not looked for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use lsm_tree::{Memtable, SeqNo};

/// What scans step over costs less than this many rows of a memtable that is written, sorted in with the others and
/// read back.
const WORTH_ROWS: u64 = 4;
/// Fewer superseded rows are never worth a table.
const LEAST: u64 = 1024;

#[derive(Default)]
struct Space {
    /// Whether somebody scans it, ever.
    scanned: AtomicBool,
    /// Rows of the memtable that a newer one there supersedes, since it is scanned.
    superseded: AtomicU64,
}

/// What scans step over in the present memtable. Counts are good enough when they are read beside a writer.
pub(super) struct Superseded {
    spaces: [Space; 256],
    /// At most so many rows were stepped over.
    stepped_over: AtomicU64,
    /// The memtable that all this is about.
    memtable: AtomicU64,
}

impl Default for Superseded {
    fn default() -> Self {
        let spaces = std::array::from_fn(|_| Space::default());
        Self { spaces, stepped_over: AtomicU64::new(0), memtable: AtomicU64::new(u64::MAX) }
    }
}

impl Superseded {
    /// A range from this key on was read. Whether there may have been something to step over.
    pub(super) fn scanned(&self, begin: &[u8]) -> bool {
        let Some(space) = begin.first() else { return false };
        let space = &self.spaces[usize::from(*space)];
        if !space.scanned.load(Relaxed) {
            space.scanned.store(true, Relaxed);
        }
        let superseded = space.superseded.load(Relaxed);
        if superseded > 0 {
            self.stepped_over.fetch_add(superseded, Relaxed);
        }
        superseded > 0
    }

    /// These keys are written to the memtable next. Only the committer calls this.
    pub(super) fn written<'k>(&self, memtable: &Memtable, keys: impl Iterator<Item = &'k [u8]>) {
        if self.memtable.swap(memtable.id(), Relaxed) != memtable.id() {
            self.forget();
        }
        for key in keys {
            let Some(first) = key.first() else { continue };
            let space = &self.spaces[usize::from(*first)];
            if space.scanned.load(Relaxed) && memtable.get(key, SeqNo::MAX).is_some() {
                space.superseded.fetch_add(1, Relaxed);
            }
        }
    }

    /// Whether the memtable is to become a table now, by whoever asks: others are told no.
    pub(super) fn claim_table(&self, memtable: &Memtable) -> bool {
        let stepped_over = self.stepped_over.load(Relaxed);
        self.memtable.load(Relaxed) == memtable.id()
            && stepped_over >= WORTH_ROWS * memtable.len() as u64
            && self.spaces.iter().map(|space| space.superseded.load(Relaxed)).sum::<u64>() >= LEAST
            && self.stepped_over.compare_exchange(stepped_over, 0, Relaxed, Relaxed).is_ok()
    }

    fn forget(&self) {
        self.stepped_over.store(0, Relaxed);
        for space in &self.spaces {
            space.superseded.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use lsm_tree::{InternalValue, ValueType};

    use super::*;

    fn write(superseded: &Superseded, memtable: &Memtable, seqno: &mut SeqNo, key: &[u8]) {
        superseded.written(memtable, [key].into_iter());
        *seqno += 1;
        memtable.insert(InternalValue::from_components(key, b"".to_vec(), *seqno, ValueType::Value));
    }

    #[test]
    fn a_table_is_written_once_scans_have_stepped_over_more_than_it_holds() {
        let (superseded, memtable, mut seqno) = (Superseded::default(), Memtable::new(1), 0);
        superseded.scanned(b"h");
        for _ in 0..=LEAST {
            write(&superseded, &memtable, &mut seqno, b"h1");
            // Nobody scans these.
            write(&superseded, &memtable, &mut seqno, b"c1");
        }
        assert!(!superseded.claim_table(&memtable));
        let mut scans = 0;
        while !superseded.claim_table(&memtable) {
            superseded.scanned(b"h0");
            superseded.scanned(b"c0");
            scans += 1;
        }
        assert_eq!(scans, (WORTH_ROWS * 2 * (LEAST + 1)).div_ceil(LEAST));
        assert!(!superseded.claim_table(&memtable), "once");
        // Another memtable begins anew.
        let next = Memtable::new(2);
        assert!(!superseded.claim_table(&next));
        write(&superseded, &next, &mut seqno, b"h1");
        assert!(!superseded.claim_table(&next));
    }

    #[test]
    fn few_superseded_rows_are_no_reason_however_often_they_are_passed() {
        let (superseded, memtable, mut seqno) = (Superseded::default(), Memtable::new(1), 0);
        superseded.scanned(b"h");
        (0..LEAST).for_each(|_| write(&superseded, &memtable, &mut seqno, b"h1"));
        for _ in 0..1_000_000 {
            superseded.scanned(b"h");
        }
        assert!(!superseded.claim_table(&memtable));
        write(&superseded, &memtable, &mut seqno, b"h1");
        superseded.scanned(b"h");
        assert!(superseded.claim_table(&memtable));
    }
}
