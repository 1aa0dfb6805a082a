//! The ends that lifecycles put to versions: of exactly those that were judged, or of none.

use crate::{
    ids::{AttemptId, VersionId},
    keyspace,
    kv::RangeQuery,
    record::{
        Bucket, Ending, EventKind, Origin, Version, VersionKind,
        rows::{AttemptRow, HeadRow},
    },
    verbs::{
        DeleteObject, Meta, Precondition, Verb, VersionSelector, attempts, objects, outbox,
        tx::{Outcome, Tx, transact},
        version_rows,
    },
};

/// A version that is to end.
#[derive(Clone, Debug)]
pub struct EndVersion {
    pub attempt: AttemptId,
    pub bucket: String,
    pub key: String,
    /// As it was when it was judged.
    pub version: Version,
    pub ending: Ending,
}

impl Meta {
    /// Ends a version if it is still just what was judged, its tags and its place among the others of its key
    /// included. False if it is not: then nothing is changed.
    ///
    /// # Errors
    /// Locked for one that is kept.
    pub fn end_version(&self, request: EndVersion) -> Verb<'_, bool> {
        Box::pin(async move { transact!(self, "end_version", |tx| end(tx, &request)) })
    }
}

/// What is told of what ends: of a version that is gone, and of one that a marker hides.
const EXPIRED: [EventKind; 2] = [EventKind::Expired, EventKind::ExpiredByMarker];

async fn remove(tx: &mut Tx, bucket: &Bucket, key: &str, head: HeadRow, row: VersionId) -> Outcome<()> {
    let removed = version_rows::remove(tx, bucket, key, head, row, false).await?;
    outbox::note(tx, bucket, key, EventKind::Expired, &Origin::default(), &removed).await
}

async fn end(tx: &mut Tx, request: &EndVersion) -> Outcome<bool> {
    let EndVersion { attempt, bucket, key, version, ending } = request;
    let head_key = keyspace::head(bucket, key);
    tx.prefetch(&[keyspace::attempt(*attempt), keyspace::bucket(bucket), head_key.clone()]).await?;
    if attempts::done_before(tx, *attempt).await? {
        return Ok(true);
    }
    let bucket = tx.bucket(bucket).await?;
    let Some(head) = tx.get::<HeadRow>(&head_key).await? else { return Ok(false) };
    let found = version_rows::named(tx, &bucket.name, key, version.id).await?;
    let Some((row, _)) = found.filter(|(_, stored)| stored.version == *version) else { return Ok(false) };
    let is_current = head.row == row;
    match ending {
        Ending::Current if is_current && version.kind == VersionKind::Object => {
            let (selector, precondition) = (VersionSelector::Current, Precondition::default());
            let (attempt, bypass_governance) = (*attempt, false);
            let (name, key) = (bucket.name.clone(), key.clone());
            let origin = Origin::default();
            let request =
                DeleteObject { attempt, bucket: name, key, selector, precondition, bypass_governance, origin };
            objects::delete_current(tx, &bucket, &request, Some(head), EXPIRED).await?;
        }
        Ending::Noncurrent if !is_current => {
            remove(tx, &bucket, key, head, row).await?;
        }
        Ending::LoneMarker if is_current && version.kind == VersionKind::DeleteMarker => {
            let rows = tx.range(RangeQuery::prefix(keyspace::versions(&bucket.name, key), 2)).await?.rows;
            if rows.len() > 1 {
                return Ok(false);
            }
            remove(tx, &bucket, key, head, row).await?;
        }
        Ending::Current | Ending::Noncurrent | Ending::LoneMarker => return Ok(false),
    }
    attempts::remember(tx, *attempt, &AttemptRow::Done);
    Ok(true)
}
