//! Which keys were written by the commits of the last seconds: decides whether a transaction may commit.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound::{Excluded, Included},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::kv::{
    limits,
    occ::{CommitRequest, KeyRange},
};

/// How long writes are remembered: a little longer than a transaction may live.
const REMEMBERED: Duration = limits::TRANSACTION_LIFE.saturating_add(Duration::from_secs(1));
/// Older commits are forgotten early above this, and the transactions that began before them must start again.
const MAX_BYTES: usize = 128 << 20;
/// What an entry costs besides its key.
const ENTRY_BYTES: usize = 96;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Go,
    Conflict,
    /// It began before the oldest commit that is remembered.
    TooOld,
}

/// The keys and ranges that one commit wrote.
#[derive(Debug, Default)]
pub struct Written {
    pub keys: Vec<Bytes>,
    pub ranges: Vec<KeyRange>,
}

#[derive(Debug)]
struct Remembered {
    version: u64,
    at: Instant,
    written: Written,
    bytes: usize,
}

#[derive(Debug, Default)]
pub struct Resolver {
    /// The version that last wrote each key.
    newest: BTreeMap<Bytes, u64>,
    commits: VecDeque<Remembered>,
    /// Cleared ranges with their versions, oldest first; few, because verbs clear single rows.
    ranges: VecDeque<(u64, KeyRange)>,
    /// Versions below this are forgotten.
    floor: u64,
    bytes: usize,
}

impl Resolver {
    /// For a store whose newest commit is `version`: what was written up to it is not remembered, so transactions that
    /// began before it are too old.
    pub fn new(version: u64) -> Self {
        Self { floor: version, ..Self::default() }
    }

    pub fn judge(&self, request: &CommitRequest) -> Verdict {
        let Some(read_version) = request.read_version else { return Verdict::Go };
        if request.reads.is_empty() {
            return Verdict::Go;
        }
        if read_version < self.floor {
            return Verdict::TooOld;
        }
        let changed = request.reads.iter().any(|read| self.changed_since(read, read_version));
        if changed { Verdict::Conflict } else { Verdict::Go }
    }

    fn changed_since(&self, read: &KeyRange, version: u64) -> bool {
        if read.begin >= read.end {
            return false;
        }
        let bounds = (Included(&read.begin), Excluded(&read.end));
        self.newest.range::<Bytes, _>(bounds).any(|(_, written)| *written > version)
            || self
                .ranges
                .iter()
                .rev()
                .take_while(|(written, _)| *written > version)
                .any(|(_, range)| range.begin < read.end && read.begin < range.end)
    }

    /// Remembers what the commit at `version` wrote; versions never decrease.
    pub fn record(&mut self, version: u64, written: Written) {
        let mut bytes = ENTRY_BYTES;
        for key in &written.keys {
            bytes += key.len() + ENTRY_BYTES;
            self.newest.insert(key.clone(), version);
        }
        for range in &written.ranges {
            bytes += range.begin.len() + range.end.len() + ENTRY_BYTES;
            self.ranges.push_back((version, range.clone()));
        }
        self.bytes += bytes;
        self.commits.push_back(Remembered { version, at: Instant::now(), written, bytes });
        self.forget();
    }

    fn forget(&mut self) {
        while let Some(oldest) = self.commits.front() {
            if self.bytes <= MAX_BYTES && oldest.at.elapsed() < REMEMBERED {
                return;
            }
            let Some(oldest) = self.commits.pop_front() else { return };
            self.floor = self.floor.max(oldest.version);
            self.bytes -= oldest.bytes;
            for key in &oldest.written.keys {
                if self.newest.get(key) == Some(&oldest.version) {
                    self.newest.remove(key);
                }
            }
            while self.ranges.front().is_some_and(|(version, _)| *version <= oldest.version) {
                self.ranges.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(version: u64, begin: &'static str, end: &'static str) -> CommitRequest {
        CommitRequest {
            read_version: Some(version),
            reads: vec![KeyRange { begin: begin.into(), end: end.into() }],
            ..CommitRequest::default()
        }
    }

    #[test]
    fn later_writes_conflict_and_earlier_ones_do_not() {
        let mut resolver = Resolver::new(10);
        resolver.record(11, Written { keys: vec!["b".into()], ranges: vec![] });
        resolver.record(12, Written { keys: vec![], ranges: vec![KeyRange { begin: "m".into(), end: "p".into() }] });
        assert_eq!(resolver.judge(&read(10, "a", "c")), Verdict::Conflict);
        assert_eq!(resolver.judge(&read(11, "a", "c")), Verdict::Go);
        assert_eq!(resolver.judge(&read(10, "a", "b")), Verdict::Go);
        assert_eq!(resolver.judge(&read(11, "o", "z")), Verdict::Conflict);
        assert_eq!(resolver.judge(&read(12, "o", "z")), Verdict::Go);
        assert_eq!(resolver.judge(&read(11, "p", "z")), Verdict::Go);
        assert_eq!(resolver.judge(&read(9, "x", "z")), Verdict::TooOld);
    }
}
