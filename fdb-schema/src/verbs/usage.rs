//! Counting what a bucket holds, within what it may hold.
//!
//! The counters of a bucket are spread over stripes, so that commits do not wait for each other. A quota is held
//! without giving that up by dividing it among the stripes (the escrow method: O'Neil, "The Escrow Transactional
//! Method", 1986): whoever adds to a stripe reads that stripe alone, and if its share is not enough, all of them, and
//! divides what there is anew. So the sum is never above the quota, whatever is committed at the same time.

use bytes::Bytes;

use crate::{
    error::MetaError,
    keyspace::{self, USAGE_STRIPES, UsageField},
    kv::{RangeQuery, counter},
    record::{Bucket, BucketQuota, Quota, Usage},
    verbs::tx::{Outcome, Tx},
};

/// Counts a version that goes.
pub(crate) fn count_gone(tx: &mut Tx, bucket: &str, size: u64) {
    add(tx, bucket, rand::random(), Change { objects: -1, bytes: -signed(size) });
}

/// Counts a version that comes, in place of one of `replaced` bytes if there is one.
///
/// # Errors
/// QuotaExceeded if the bucket would then hold more than it may, and more than before.
pub(crate) async fn count_new(tx: &mut Tx, bucket: &Bucket, size: u64, replaced: Option<u64>) -> Outcome<()> {
    let objects = if replaced.is_some() { 0 } else { 1 };
    let change = Change { objects, bytes: signed(size) - signed(replaced.unwrap_or(0)) };
    let stripe = rand::random::<u8>() % USAGE_STRIPES;
    if let Some(kept) = bucket.quota
        && change.grows_within(kept.quota)
        && !(kept.shared && has_share(tx, &bucket.name, stripe, kept.quota, change).await?)
    {
        return divide_anew(tx, bucket, kept, stripe, change).await;
    }
    add(tx, &bucket.name, stripe, change);
    Ok(())
}

/// Whoever adds next divides what there is among the shares of another quota: reading the counters here would conflict
/// with every commit of a busy bucket. None ends it.
pub(crate) fn set_quota(tx: &mut Tx, bucket: Bucket, quota: Option<Quota>) {
    let quota = quota.map(|quota| BucketQuota { quota, shared: false });
    tx.set(keyspace::bucket(&bucket.name), &Bucket { quota, ..bucket });
}

/// What a bucket holds. `snapshot`: it may change until the commit.
pub(crate) async fn read(tx: &mut Tx, bucket: &str, snapshot: bool) -> Outcome<Usage> {
    let rows = usize::from(USAGE_STRIPES) * 2;
    let query = RangeQuery { snapshot, ..RangeQuery::prefix(keyspace::usages(bucket), rows) };
    let page = tx.range(query).await?;
    // A stripe alone may be negative: what one added, another may have taken away.
    let sum = |field: UsageField| {
        let counters = page.rows.iter().filter(|(key, _)| key.last() == Some(&(field as u8)));
        let sum = counters.map(|(_, value)| counter(Some(value))).fold(0, i64::wrapping_add);
        u64::try_from(sum).unwrap_or_default()
    };
    Ok(Usage { objects: sum(UsageField::Objects), bytes: sum(UsageField::Bytes) })
}

/// For what does not count yet and may be refused early: whether a bucket has room for so much, as far as is known now.
///
/// # Errors
/// QuotaExceeded.
pub(crate) async fn expect_room(tx: &mut Tx, bucket: &Bucket, bytes: u64) -> Outcome<()> {
    let Some(BucketQuota { quota, .. }) = bucket.quota else { return Ok(()) };
    let usage = read(tx, &bucket.name, true).await?;
    check(bucket, quota, usage, Change { objects: 0, bytes: signed(bytes) })
}

/// What a transaction changes.
#[derive(Clone, Copy)]
struct Change {
    objects: i64,
    bytes: i64,
}

impl Change {
    fn of(self, field: UsageField) -> i64 {
        match field {
            UsageField::Objects => self.objects,
            UsageField::Bytes => self.bytes,
        }
    }

    /// Whether there is more then of something that is bounded.
    fn grows_within(self, quota: Quota) -> bool {
        FIELDS.iter().any(|field| self.of(*field) > 0 && limit(quota, *field).is_some())
    }
}

const FIELDS: [UsageField; 2] = [UsageField::Objects, UsageField::Bytes];

fn limit(quota: Quota, field: UsageField) -> Option<u64> {
    match field {
        UsageField::Objects => quota.objects,
        UsageField::Bytes => quota.bytes,
    }
}

fn used(usage: Usage, field: UsageField) -> u64 {
    match field {
        UsageField::Objects => usage.objects,
        UsageField::Bytes => usage.bytes,
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn add(tx: &mut Tx, bucket: &str, stripe: u8, change: Change) {
    for field in FIELDS {
        tx.add(keyspace::usage(bucket, stripe, field), change.of(field));
    }
}

/// Whether a stripe stays within its share. What it reads is unchanged at the commit, or that fails.
async fn has_share(tx: &mut Tx, bucket: &str, stripe: u8, quota: Quota, change: Change) -> Outcome<bool> {
    let bounded = FIELDS.into_iter().filter_map(|field| Some((field, limit(quota, field)?)));
    let bounded: Vec<_> = bounded.filter(|(field, _)| change.of(*field) > 0).collect();
    let keys: Vec<Bytes> = bounded.iter().map(|(field, _)| keyspace::usage(bucket, stripe, *field)).collect();
    let counters = tx.raw_many(&keys).await?;
    let fits = |((field, limit), value): ((UsageField, u64), Option<Bytes>)| {
        counter(value.as_deref()).saturating_add(change.of(field)) <= share(limit, stripe)
    };
    Ok(bounded.into_iter().zip(counters).all(fits))
}

/// When one share is not enough: all that there is decides, and is divided among the shares again.
async fn divide_anew(tx: &mut Tx, bucket: &Bucket, kept: BucketQuota, stripe: u8, change: Change) -> Outcome<()> {
    let usage = read(tx, &bucket.name, false).await?;
    check(bucket, kept.quota, usage, change)?;
    let after = |field| signed(used(usage, field)).saturating_add(change.of(field)).max(0).unsigned_abs();
    let after = Usage { objects: after(UsageField::Objects), bytes: after(UsageField::Bytes) };
    if !kept.quota.admits(after) {
        // What does not grow is above its bound still.
        add(tx, &bucket.name, stripe, change);
        return Ok(());
    }
    divide(tx, &bucket.name, kept.quota, after);
    if !kept.shared {
        let quota = Some(BucketQuota { shared: true, ..kept });
        tx.set(keyspace::bucket(&bucket.name), &Bucket { quota, ..bucket.clone() });
    }
    Ok(())
}

fn check(bucket: &Bucket, quota: Quota, usage: Usage, change: Change) -> Outcome<()> {
    for field in FIELDS {
        let (Some(limit), used, more) = (limit(quota, field), used(usage, field), change.of(field)) else { continue };
        if more > 0 && used.saturating_add(more.unsigned_abs()) > limit {
            let what = match field {
                UsageField::Objects => "objects",
                UsageField::Bytes => "bytes",
            };
            let more = more.unsigned_abs();
            return Err(MetaError::QuotaExceeded { bucket: bucket.name.clone(), what, used, more, limit }.into());
        }
    }
    Ok(())
}

/// Writes all counters of a bucket anew.
fn divide(tx: &mut Tx, bucket: &str, quota: Quota, usage: Usage) {
    for field in FIELDS {
        let total = used(usage, field);
        // Without a bound, any division of it will do.
        let limit = limit(quota, field).unwrap_or(u64::MAX);
        for stripe in 0..USAGE_STRIPES {
            let part = part(total, limit, stripe);
            tx.set_raw(keyspace::usage(bucket, stripe, field), Bytes::copy_from_slice(&part.to_le_bytes()));
        }
    }
}

const STRIPES: u64 = USAGE_STRIPES as u64;

/// What a stripe may count of a limit: as much as the others, and the first what does not divide.
fn share(limit: u64, stripe: u8) -> i64 {
    let rest = if stripe == 0 { limit % STRIPES } else { 0 };
    signed(limit / STRIPES + rest)
}

/// What a stripe counts of a total after it was divided: never more than its share of a limit that the total keeps.
fn part(total: u64, limit: u64, stripe: u8) -> i64 {
    let (even, rest) = (total / STRIPES, total % STRIPES);
    let more = match (even < limit / STRIPES, stripe) {
        // All but the first have no more room: it has the limit's own rest.
        (false, 0) => rest,
        (false, _) => 0,
        (true, stripe) => u64::from(u64::from(stripe) < rest),
    };
    signed(even + more)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bnd_1_parts_add_up_and_keep_their_shares(limit in 0u64..200, below in 0u64..200) {
            let total = limit.saturating_sub(below);
            let parts = (0..USAGE_STRIPES).map(|stripe| part(total, limit, stripe));
            prop_assert_eq!(parts.clone().sum::<i64>(), signed(total));
            for (stripe, part) in (0..).zip(parts) {
                prop_assert!((0..=share(limit, stripe)).contains(&part), "stripe {} of {}: {}", stripe, limit, part);
            }
            let shares: i64 = (0..USAGE_STRIPES).map(|stripe| share(limit, stripe)).sum();
            prop_assert_eq!(shares, signed(limit));
        }
    }
}
