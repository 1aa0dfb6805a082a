//! Whether a row of a group's repair stands for a fragment already.

use crate::{
    ids::{BlobId, GroupId},
    keyspace,
    record::{GroupRepair, PositionRepair, rows::GroupBlobRow},
    verbs::tx::{Outcome, Tx},
};

/// What is covered by a row of a group's repair, of one blob.
pub(crate) struct Covered {
    pub(crate) repair: GroupRepair,
    pub(crate) blob: BlobId,
    pub(crate) epoch: u64,
}

impl Covered {
    pub(crate) fn has(&self, position: u8) -> bool {
        let covers = |filled: &PositionRepair| filled.covers(self.repair.cursor, self.blob, self.epoch);
        self.repair.positions.iter().any(|filled| filled.position == position && covers(filled))
    }
}

/// None when the group is not under repair, or has nothing of the blob. Who asks for many prefetches the groups' rows.
pub(crate) async fn covered(tx: &mut Tx, group: GroupId, blob: BlobId) -> Outcome<Option<Covered>> {
    let Some(repair) = tx.get::<GroupRepair>(&keyspace::group_repair(group)).await? else { return Ok(None) };
    let key = keyspace::group_blob(group, blob);
    let Some(value) = tx.raw(&key).await? else { return Ok(None) };
    let epoch = GroupBlobRow::noted(&key, &value)?.map_or(0, |row| row.epoch);
    Ok(Some(Covered { repair, blob, epoch }))
}
