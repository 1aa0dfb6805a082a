//! When a disk that cannot read some of what it holds has failed as a whole.
//!
//! A fragment that cannot be read is missing, as a damaged one is, and is made anew. A few of them are what disks do in
//! their lives. A disk that has many, or that can read nothing at all, is not to be relied on: it is given up before
//! every fragment on it has been found out singly.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use cairn_schema::ids::FragmentName;
use parking_lot::Mutex;

/// So many fragments one after another that could not be read, and none that could.
const IN_A_ROW: usize = 16;
/// After this long without a read that succeeds, others of the disk's fragments are tried: those that are asked for may
/// be few.
const DOUBT: Duration = Duration::from_secs(5);
/// So many fragments that could not be read within [`PERIOD`].
const BUDGET: usize = 256;
const PERIOD: Duration = Duration::from_secs(60 * 60);

/// What a disk could not read lately. Outlives the engines that have the disk open.
#[derive(Default)]
pub(crate) struct ReadErrors {
    seen: Mutex<Seen>,
    /// Whether `seen.in_a_row` holds any: most reads need not look.
    row: AtomicBool,
}

#[derive(Default)]
struct Seen {
    /// When each was last found unreadable, of the last [`PERIOD`]. The same fragment may be asked for again and again
    /// until it has been made anew: it counts once.
    unreadable: HashMap<FragmentName, Instant>,
    /// Since something was read, and when the first of them was tried.
    in_a_row: HashSet<FragmentName>,
    row_began: Option<Instant>,
}

impl ReadErrors {
    /// A fragment was read.
    pub(crate) fn succeeded(&self) {
        if self.row.load(Ordering::Relaxed) {
            let mut seen = self.seen.lock();
            seen.in_a_row.clear();
            seen.row_began = None;
            self.row.store(false, Ordering::Relaxed);
        }
    }

    /// A fragment could not be read. Returns why the disk has failed, if it has.
    pub(crate) fn failed(&self, name: FragmentName, now: Instant) -> Option<String> {
        let mut seen = self.seen.lock();
        seen.forget_old(now);
        // Bounded: more than what is too many need not be known.
        if seen.unreadable.len() < BUDGET {
            seen.unreadable.insert(name, now);
        }
        if seen.in_a_row.len() < IN_A_ROW {
            seen.in_a_row.insert(name);
        }
        seen.row_began.get_or_insert(now);
        self.row.store(true, Ordering::Relaxed);
        seen.verdict()
    }

    /// A fragment that could not be read is not here any more.
    pub(crate) fn forget(&self, name: FragmentName) {
        let mut seen = self.seen.lock();
        seen.unreadable.remove(&name);
        seen.in_a_row.remove(&name);
    }

    /// Why the disk has failed, if it has.
    pub(crate) fn verdict(&self, now: Instant) -> Option<String> {
        let mut seen = self.seen.lock();
        seen.forget_old(now);
        seen.verdict()
    }

    /// Whether nothing has been read for so long that it should be tried.
    pub(crate) fn in_doubt(&self, now: Instant) -> bool {
        if !self.row.load(Ordering::Relaxed) {
            return false;
        }
        self.seen.lock().row_began.is_some_and(|began| now.saturating_duration_since(began) >= DOUBT)
    }

    /// Those of them that have not been tried in vain since something was read.
    pub(crate) fn untried(&self, mut names: Vec<FragmentName>) -> Vec<FragmentName> {
        let seen = self.seen.lock();
        names.retain(|name| !seen.in_a_row.contains(name));
        names
    }

    /// Some of the fragments that could not be read, to be tried again before the disk is called whole.
    pub(crate) fn suspects(&self, most: usize) -> Vec<FragmentName> {
        self.seen.lock().in_a_row.iter().take(most).copied().collect()
    }
}

impl Seen {
    fn forget_old(&mut self, now: Instant) {
        if self.unreadable.len() >= BUDGET {
            self.unreadable.retain(|_, at| now.saturating_duration_since(*at) < PERIOD);
        }
    }

    fn verdict(&self) -> Option<String> {
        if self.in_a_row.len() >= IN_A_ROW {
            return Some(format!("{IN_A_ROW} fragments in a row could not be read"));
        }
        let many = self.unreadable.len() >= BUDGET;
        many.then(|| format!("{BUDGET} fragments could not be read within {} minutes", PERIOD.as_secs() / 60))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cairn_schema::ids::*;

    use super::*;

    fn name(number: u32) -> FragmentName {
        FragmentName { group: GroupId(1), blob: BlobId([0; 16]), stripe: number, position: 0 }
    }

    #[test]
    fn a_disk_that_reads_nothing_has_failed_and_one_that_cannot_read_some_has_not() {
        let (errors, now) = (ReadErrors::default(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(errors.failed(name(0), now), None, "the same fragment counts once");
        }
        for number in 1..100 {
            assert_eq!(errors.failed(name(number), now), None);
            errors.succeeded();
        }
        for number in 1..IN_A_ROW as u32 {
            assert_eq!(errors.failed(name(number), now), None);
        }
        let why = errors.failed(name(0), now).unwrap();
        assert!(why.contains("in a row"), "{why}");
        assert_eq!(errors.suspects(4).len(), 4);
        errors.succeeded();
        assert_eq!(errors.verdict(now), None);
    }

    #[test]
    fn a_disk_of_which_nothing_was_read_for_a_while_is_in_doubt() {
        let (errors, now) = (ReadErrors::default(), Instant::now());
        assert!(!errors.in_doubt(now + DOUBT));
        assert_eq!(errors.failed(name(1), now), None);
        assert!(!errors.in_doubt(now + DOUBT / 2));
        assert_eq!(errors.failed(name(2), now + DOUBT / 2), None);
        assert!(errors.in_doubt(now + DOUBT));
        assert_eq!(errors.untried(vec![name(1), name(2), name(3)]), [name(3)]);
        errors.succeeded();
        assert!(!errors.in_doubt(now + DOUBT * 2));
    }

    #[test]
    fn a_disk_with_too_many_unreadable_fragments_has_failed_until_they_are_long_ago() {
        let (errors, now) = (ReadErrors::default(), Instant::now());
        for number in 1..BUDGET as u32 {
            assert_eq!(errors.failed(name(number), now), None);
            errors.succeeded();
        }
        assert!(errors.failed(name(0), now).is_some());
        errors.succeeded();
        assert!(errors.verdict(now + PERIOD / 2).is_some());
        assert_eq!(errors.verdict(now + PERIOD * 2), None);
    }
}
