//! What a disk is at, and for how long: a disk that hangs answers nothing, and only the operation that does not return
//! tells.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// A kind of operation that a disk may hang in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    /// A batch of the writer, or a step of compaction.
    Write,
    /// A look at the file system.
    Look,
    /// Writes down what has gathered of the index, which may be much.
    Checkpoint,
}

impl Operation {
    /// In an operator's words.
    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "a read",
            Self::Write => "a write",
            Self::Look => "a look at its file system",
            Self::Checkpoint => "a checkpoint",
        }
    }

    /// How many times longer than others it may take.
    fn patience(self) -> u32 {
        match self {
            Self::Read | Self::Write | Self::Look => 1,
            Self::Checkpoint => 10,
        }
    }
}

/// Operations under way. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Outstanding(Arc<Mutex<Operations>>);

#[derive(Default)]
struct Operations {
    next: u64,
    /// In the order in which they began.
    began: BTreeMap<u64, (Operation, Instant)>,
}

impl Outstanding {
    /// It is under way until the guard is dropped.
    pub(crate) fn begin(&self, operation: Operation) -> UnderWay {
        let mut operations = self.0.lock();
        let number = operations.next;
        operations.next += 1;
        operations.began.insert(number, (operation, Instant::now()));
        UnderWay { outstanding: self.clone(), number }
    }

    /// Why the disk is taken to hang, in an operator's words: the oldest operation that takes longer than `limit`.
    pub(crate) fn hangs(&self, now: Instant, limit: Duration) -> Option<String> {
        let operations = self.0.lock();
        let mut slow = operations
            .began
            .values()
            .filter(|(operation, began)| now.saturating_duration_since(*began) > limit * operation.patience());
        slow.next().map(|(operation, _)| format!("{} has not returned for more than {limit:?}", operation.as_str()))
    }
}

/// An operation that is under way.
pub(crate) struct UnderWay {
    outstanding: Outstanding,
    number: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.outstanding.0.lock().began.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_disk_hangs_while_its_oldest_operation_takes_too_long() {
        let (outstanding, limit, start) = (Outstanding::default(), Duration::from_secs(10), Instant::now());
        let read = outstanding.begin(Operation::Read);
        let checkpoint = outstanding.begin(Operation::Checkpoint);
        assert_eq!(outstanding.hangs(start + limit / 2, limit), None);
        let why = outstanding.hangs(start + limit * 2, limit).unwrap();
        assert!(why.starts_with("a read"), "{why}");
        drop(read);
        assert_eq!(outstanding.hangs(start + limit * 2, limit), None, "a checkpoint may take longer");
        let why = outstanding.hangs(start + limit * 20, limit).unwrap();
        assert!(why.starts_with("a checkpoint"), "{why}");
        drop(checkpoint);
        assert_eq!(outstanding.hangs(start + limit * 20, limit), None);
    }
}
