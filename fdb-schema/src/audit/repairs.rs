//! Groups under repair: what their rows say is missing, recounted from the blobs that are not done.

use bytes::Bytes;

use super::{
    Audit, Problem,
    source::{Scan, Source},
};
use crate::{
    codec::Stored,
    error::Result,
    keyspace::{self, Space},
    record::{Blob, GroupRepair, rows::GroupBlobRow},
};

/// Returns how many fragments all rows together say are missing.
pub(super) async fn audit(source: &mut Source<'_>, audit: &mut Audit) -> Result<i64> {
    let mut missing = 0;
    let mut scan = Scan::of(Space::GroupRepair);
    while let Some(rows) = source.next(&mut scan).await? {
        for (key, value) in &rows {
            let Some(repair) = audit.readable(GroupRepair::read(key, value)) else { continue };
            missing += one(source, audit, &repair).await?;
        }
    }
    Ok(missing)
}

async fn one(source: &mut Source<'_>, audit: &mut Audit, repair: &GroupRepair) -> Result<i64> {
    let mut held: Vec<i64> = vec![0; repair.positions.len()];
    let mut scan = Scan::prefix(keyspace::group_blobs(repair.group));
    while let Some(rows) = source.next(&mut scan).await? {
        let ids: Vec<_> = rows.iter().filter_map(|(key, _)| keyspace::group_blob_id(key)).collect();
        let keys: Vec<Bytes> = ids.iter().copied().map(keyspace::blob).collect();
        let blobs = source.get_many(&keys).await?;
        for (((key, value), id), blob) in rows.iter().zip(ids).zip(blobs) {
            let Some(row) = audit.readable(GroupBlobRow::noted(key, value)) else { continue };
            let blob = blob.map(|blob| Blob::read(key, &blob)).transpose();
            let Some(Some(blob)) = audit.readable(blob) else { continue };
            let stripes = blob.stripes_by_group().remove(&repair.group).unwrap_or_default();
            if row.is_some_and(|row| row.stripes != stripes) {
                audit.report(Problem::GroupBlobs);
            }
            let epoch = row.map_or(0, |row| row.epoch);
            for (held, position) in held.iter_mut().zip(&repair.positions) {
                if position.covers(repair.cursor, id, epoch) {
                    *held += i64::try_from(stripes).unwrap_or(i64::MAX);
                }
            }
        }
    }
    let mut sum = 0i64;
    for (held, position) in held.into_iter().zip(&repair.positions) {
        let counted = i64::try_from(position.missing).unwrap_or(i64::MAX);
        sum = sum.saturating_add(counted);
        if held != counted {
            let (group, position) = (repair.group, position.position);
            audit.report(Problem::GroupRepair { group, position, missing: held, counted });
        }
    }
    Ok(sum)
}
