//! Events on their way: written in the transaction of what they tell of, so that there is one for every change that was
//! committed and none for any other.
//!
//! Their order is that of their commits, which the store itself stamps on their keys. A number counted in a row would
//! order them as well, but then all commits of a bucket would wait for that row. Two changes of one key are never
//! committed beside each other, since both read and write its head, so of two events of a key the later one always has
//! the larger stamp; and whoever reads a queue as of one moment never finds later what stands before what it found.

use bytes::Bytes;

use crate::{
    codec::Stored,
    error::MetaError,
    keyspace::{self, EventField},
    kv::counter,
    record::{Bucket, Event, EventKind, EventObject, Origin, Version, VersionKind, Versioning},
    verbs::tx::{Outcome, Tx},
};

/// Notes what became of a version, if its bucket's rules ask for that.
pub(crate) async fn note(
    tx: &mut Tx,
    bucket: &Bucket,
    key: &str,
    kind: EventKind,
    origin: &Origin,
    version: &Version,
) -> Outcome<()> {
    let Some(rule) = bucket.event_rule(kind, key) else { return Ok(()) };
    let gone = matches!(kind, EventKind::Removed | EventKind::Expired);
    let is_object = version.kind == VersionKind::Object && !gone;
    let event = Event {
        kind,
        bucket: bucket.name.clone(),
        key: key.to_owned(),
        version: (bucket.versioning != Versioning::Off).then_some(version.id),
        object: is_object.then(|| EventObject::from(version)),
        at_ms: tx.now_ms,
        queued_ms: tx.now_ms,
        rule: rule.id.clone(),
        origin: origin.clone(),
    };
    queue(tx, &rule.target, &event).await
}

/// Lets an event wait for its target, or counts it if too many do.
pub(crate) async fn queue(tx: &mut Tx, target: &str, event: &Event) -> Outcome<()> {
    let of_bucket = keyspace::event_count(EventField::BucketWaiting, &event.bucket);
    let of_target = keyspace::event_count(EventField::Waiting, target);
    let era = look(tx, [&of_bucket, &of_target]).await?;
    let waiting = |key: &Bytes| tx.noted.waiting.get(key).copied().unwrap_or_default();
    let (most_of_bucket, most_of_target) = tx.event_limits;
    if waiting(&of_bucket) >= most_of_bucket || waiting(&of_target) >= most_of_target {
        tx.add(keyspace::event_count(EventField::BucketLost, &event.bucket), 1);
        tx.add(keyspace::event_count(EventField::Lost, target), 1);
        return Ok(());
    }
    let number = tx.noted.number;
    tx.noted.number = number.checked_add(1).ok_or_else(|| {
        let most = u64::from(u16::MAX);
        MetaError::TooLarge { what: "events of a transaction", actual: most + 1, limit: most }
    })?;
    let stripe = keyspace::event_stripe(&event.bucket, &event.key);
    let (before, after) = keyspace::new_event(target, stripe, era, number);
    tx.set_versionstamped(before, after, event);
    for counter in [of_bucket, of_target] {
        *tx.noted.waiting.entry(counter.clone()).or_default() += 1;
        tx.add(counter, 1);
    }
    Ok(())
}

/// Notes how many wait by these counters, and returns the era, by one exchange with the store. Commits must not wait
/// for each other because of the counters, so as many as are committed at the same moment may pass the bounds.
async fn look(tx: &mut Tx, counters: [&Bytes; 2]) -> Outcome<u32> {
    let era_key = keyspace::event_era();
    let unknown = counters.into_iter().filter(|key| !tx.noted.waiting.contains_key(*key));
    let mut keys: Vec<Bytes> = unknown.cloned().collect();
    if tx.noted.era.is_none() {
        keys.push(era_key.clone());
    }
    let values = tx.raw_many_snapshot(&keys).await?;
    for (key, value) in keys.into_iter().zip(values) {
        if key == era_key {
            // Stamps of another store may be larger than those of this one will ever be.
            let stored = value.map(|bytes| u64::read(&key, &bytes)).transpose()?.unwrap_or_default();
            tx.noted.era = Some(u32::try_from(stored).unwrap_or(u32::MAX));
            tx.conflict_if_changed(&key);
        } else {
            let waiting = u64::try_from(counter(value.as_deref())).unwrap_or_default();
            tx.noted.waiting.insert(key, waiting);
        }
    }
    Ok(tx.noted.era.unwrap_or_default())
}
