//! Groups some of whose members are yet to get what their predecessors had.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{BlobId, DiskId, GroupId},
    record::{Blob, MissingCause},
};

/// One row of the ledger that stands for everything that the new members of a group lack, however much that is. Repair
/// walks over the group's blobs in order of id, and round from the last to the first; all positions go with the one
/// walk, so that stripes that lack several fragments are read once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRepair {
    pub group: GroupId,
    /// The last blob that is done; None: the walk is before the first.
    pub cursor: Option<BlobId>,
    /// In order of position, and never none.
    pub positions: Vec<PositionRepair>,
}

/// A position with a new member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionRepair {
    pub position: u8,
    /// Blobs committed under this epoch of the group, or a later one, have their fragments on the new member.
    pub epoch: u64,
    pub cause: MissingCause,
    pub since_ms: u64,
    /// The member before: what it still has can be copied.
    pub from: DiskId,
    /// Where the walk was when the position joined it, which is where it ends for this one.
    pub start: Option<BlobId>,
    /// Whether the walk has been round the end since.
    pub wrapped: bool,
    /// Fragments that it is still to get.
    pub missing: u64,
}

impl PositionRepair {
    /// Whether the position is still to get its fragments of a blob that was committed under `epoch`.
    pub fn covers(&self, cursor: Option<BlobId>, blob: BlobId, epoch: u64) -> bool {
        let ahead = cursor.is_none_or(|cursor| blob > cursor);
        let before_start = self.start.is_some_and(|start| blob <= start);
        epoch < self.epoch && if self.wrapped { ahead && before_start } else { ahead || before_start }
    }

    /// Whether a walk that stands at `cursor` has nothing left for it.
    pub fn is_done(&self, cursor: Option<BlobId>) -> bool {
        self.wrapped && cursor >= self.start
    }
}

/// A blob in one of its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedBlob {
    pub blob: Blob,
    /// The group's epoch when the blob was committed; 0 for those of before that was noted.
    pub epoch: u64,
}

/// A step of a walk over a group under repair: everything after `from` as far as `to` has been seen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRepairStep {
    pub group: GroupId,
    /// The group's, under which it was done.
    pub epoch: u64,
    /// The cursor before.
    pub from: Option<BlobId>,
    /// The cursor now; None: there was nothing up to the end, and the walk begins again.
    pub to: Option<BlobId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> BlobId {
        BlobId([number; 16])
    }

    #[test]
    fn a_position_that_joins_late_is_covered_once_round() {
        let position = |start, wrapped| PositionRepair {
            position: 0,
            epoch: 2,
            cause: MissingCause::DiskLost,
            since_ms: 0,
            from: DiskId([0; 16]),
            start,
            wrapped,
            missing: 0,
        };
        let covered = |position: &PositionRepair, cursor| -> Vec<u8> {
            (1..=5).filter(|blob| position.covers(cursor, id(*blob), 1)).collect()
        };
        let first = position(None, false);
        assert_eq!(covered(&first, None), [1, 2, 3, 4, 5]);
        assert_eq!(covered(&first, Some(id(3))), [4, 5]);
        assert!(!first.is_done(Some(id(5))), "a blob may come behind the last until the walk has been round");
        assert!(position(None, true).is_done(None));
        let late = position(Some(id(3)), false);
        assert_eq!(covered(&late, Some(id(3))), [1, 2, 3, 4, 5]);
        assert_eq!(covered(&late, Some(id(4))), [1, 2, 3, 5]);
        let round = position(Some(id(3)), true);
        assert_eq!(covered(&round, None), [1, 2, 3]);
        assert_eq!(covered(&round, Some(id(2))), [3]);
        assert!(!round.is_done(Some(id(2))));
        assert!(round.is_done(Some(id(3))) && covered(&round, Some(id(3))).is_empty());
        assert!(!first.covers(None, id(1), 2), "committed with the new member");
    }
}
