//! Object lock: what buckets and versions are told of it. What it forbids is decided where versions are removed.

use crate::{
    error::MetaError,
    ids::{AttemptId, VersionId},
    keyspace,
    record::{ObjectLock, Retention, Versioning, rows::AttemptRow},
    verbs::{
        Meta, Verb, VersionSelector, attempts,
        tx::{Outcome, Tx, transact},
        version_rows,
    },
};

impl Meta {
    /// Lets versions in a bucket be locked from now on, or changes what new ones get.
    ///
    /// # Errors
    /// VersioningNotEnabled.
    pub fn set_object_lock<'a>(&'a self, bucket: &'a str, lock: ObjectLock) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "set_object_lock", |tx| set_object_lock(tx, attempt, bucket, lock))
        })
    }

    /// Replaces the retention of a version; None ends it. Returns the version's id. `bypass`: for somebody who may
    /// bypass governance.
    ///
    /// # Errors
    /// NoObjectLock for a bucket without; Locked if the retention that is there does not allow it.
    pub fn set_retention<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        selector: VersionSelector,
        retention: Option<Retention>,
        bypass: bool,
    ) -> Verb<'a, VersionId> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            let change = Change::Retention { retention, bypass };
            transact!(self, "set_retention", |tx| change_lock(tx, attempt, bucket, key, selector, change))
        })
    }

    /// Puts a legal hold on a version, or lifts it. Returns the version's id.
    ///
    /// # Errors
    /// NoObjectLock for a bucket without.
    pub fn set_legal_hold<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        selector: VersionSelector,
        held: bool,
    ) -> Verb<'a, VersionId> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            let change = Change::LegalHold(held);
            transact!(self, "set_legal_hold", |tx| change_lock(tx, attempt, bucket, key, selector, change))
        })
    }
}

async fn set_object_lock(tx: &mut Tx, attempt: AttemptId, name: &str, lock: ObjectLock) -> Outcome<()> {
    tx.prefetch(&[keyspace::attempt(attempt), keyspace::bucket(name)]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    let mut bucket = tx.bucket(name).await?;
    if bucket.versioning != Versioning::Enabled {
        return Err(MetaError::VersioningNotEnabled(name.to_owned()).into());
    }
    bucket.object_lock = Some(lock);
    tx.set(keyspace::bucket(name), &bucket);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

#[derive(Clone, Copy)]
enum Change {
    Retention { retention: Option<Retention>, bypass: bool },
    LegalHold(bool),
}

async fn change_lock(
    tx: &mut Tx,
    attempt: AttemptId,
    bucket: &str,
    key: &str,
    selector: VersionSelector,
    change: Change,
) -> Outcome<VersionId> {
    tx.prefetch(&[keyspace::attempt(attempt), keyspace::bucket(bucket)]).await?;
    if let Some(AttemptRow::Locked(id)) = attempts::earlier(tx, attempt).await? {
        return Ok(id);
    }
    if tx.bucket(bucket).await?.object_lock.is_none() {
        return Err(MetaError::NoObjectLock(bucket.to_owned()).into());
    }
    // Read, so that a delete beside this conflicts.
    let (row, mut stored) = version_rows::object(tx, bucket, key, selector).await?;
    let id = stored.version.id;
    let lock = &mut stored.version.attributes.lock;
    match change {
        Change::LegalHold(held) => lock.legal_hold = Some(held),
        Change::Retention { retention, bypass } => {
            if lock.retention.is_some_and(|current| !current.may_become(retention, tx.now_ms, bypass)) {
                return Err(version_rows::locked(key, id).into());
            }
            lock.retention = retention;
        }
    }
    tx.set(keyspace::version(bucket, key, row), &stored);
    attempts::remember(tx, attempt, &AttemptRow::Locked(id));
    Ok(id)
}
