//! Versions against heads and usage counters.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    Audit, Problem,
    source::{Scan, Source},
};
use crate::{
    codec::Stored,
    error::Result,
    ids::VersionId,
    keyspace::{self, Space, UsageField},
    kv::{Row, counter},
    record::{
        Version, VersionKind,
        rows::{HeadRow, VersionRow},
    },
    verbs::version_rows::head_of,
};

/// Heads read at a time.
const BATCH: usize = 500;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    objects: i64,
    bytes: i64,
}

/// The key whose versions are being read.
struct Key {
    bucket: String,
    key: String,
    newest: (VersionId, Version),
    null_row: Option<VersionId>,
}

#[derive(Default)]
struct Recount {
    sums: BTreeMap<String, Sums>,
    current: Option<Key>,
    keys: u64,
    /// What heads should be.
    expected: Vec<(String, String, HeadRow)>,
}

pub(super) async fn audit(source: &mut Source<'_>, audit: &mut Audit) -> Result<()> {
    let buckets = buckets(source).await?;
    let counted = usage(source).await?;
    let mut recount = Recount::default();
    let mut scan = Scan::of(Space::Version);
    while let Some(rows) = source.next(&mut scan).await? {
        for row in &rows {
            recount.take(row, audit);
        }
        if recount.expected.len() >= BATCH {
            recount.compare(source, audit).await?;
        }
    }
    recount.end_key();
    recount.compare(source, audit).await?;
    let heads = source.count(Space::Head).await?;
    if heads != recount.keys {
        audit.report(Problem::Heads { heads, keys: recount.keys });
    }
    let named: BTreeSet<&String> = counted.keys().chain(recount.sums.keys()).collect();
    for bucket in named {
        if !buckets.contains(bucket) {
            audit.report(Problem::NoBucket(bucket.clone()));
        }
        let (sums, counters) = (recount.sums.get(bucket), counted.get(bucket));
        let (sums, counters) = (sums.copied().unwrap_or_default(), counters.copied().unwrap_or_default());
        if sums != counters {
            audit.report(Problem::Usage {
                bucket: bucket.clone(),
                objects: sums.objects,
                bytes: sums.bytes,
                counted_objects: counters.objects,
                counted_bytes: counters.bytes,
            });
        }
    }
    Ok(())
}

async fn buckets(source: &mut Source<'_>) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut scan = Scan::of(Space::Bucket);
    while let Some(rows) = source.next(&mut scan).await? {
        names.extend(rows.iter().filter_map(|(key, _)| keyspace::bucket_name(key)).map(str::to_owned));
    }
    Ok(names)
}

async fn usage(source: &mut Source<'_>) -> Result<BTreeMap<String, Sums>> {
    let mut usage: BTreeMap<String, Sums> = BTreeMap::new();
    let mut scan = Scan::of(Space::Usage);
    while let Some(rows) = source.next(&mut scan).await? {
        for (key, value) in &rows {
            let sums = usage.entry(keyspace::bucket_of(key).unwrap_or_default().to_owned()).or_default();
            let sum =
                if key.last() == Some(&(UsageField::Objects as u8)) { &mut sums.objects } else { &mut sums.bytes };
            *sum = sum.wrapping_add(counter(Some(value)));
        }
    }
    Ok(usage)
}

impl Recount {
    fn take(&mut self, (key, value): &Row, audit: &mut Audit) {
        let Some(VersionRow { version, .. }) = audit.readable(VersionRow::read(key, value)) else { return };
        let bucket = keyspace::bucket_of(key).unwrap_or_default();
        let Some((object, row)) = keyspace::split_keyed(bucket, key) else {
            audit.report(Problem::Unreadable(crate::codec::corrupt("version row", key, &"not a version's key")));
            return;
        };
        audit.versions += 1;
        if version.kind == VersionKind::Object {
            let sums = self.sums.entry(bucket.to_owned()).or_default();
            sums.objects += 1;
            audit.objects += 1;
            audit.bytes = audit.bytes.saturating_add(version.size);
            sums.bytes = sums.bytes.wrapping_add(i64::try_from(version.size).unwrap_or(i64::MAX));
        }
        let row = VersionId(row);
        let null_row = version.id.is_null().then_some(row);
        match &mut self.current {
            Some(current) if current.bucket == bucket && current.key == object => {
                current.null_row = current.null_row.or(null_row);
            }
            _ => {
                self.end_key();
                self.keys += 1;
                let newest = (row, version);
                self.current = Some(Key { bucket: bucket.to_owned(), key: object, newest, null_row });
            }
        }
    }

    fn end_key(&mut self) {
        if let Some(Key { bucket, key, newest: (row, version), null_row }) = self.current.take() {
            self.expected.push((bucket, key, head_of(row, &version, null_row)));
        }
    }

    async fn compare(&mut self, source: &mut Source<'_>, audit: &mut Audit) -> Result<()> {
        for batch in std::mem::take(&mut self.expected).chunks(BATCH) {
            let keys: Vec<Bytes> = batch.iter().map(|(bucket, key, _)| keyspace::head(bucket, key)).collect();
            for ((bucket, key, expected), stored) in batch.iter().zip(source.get_many(&keys).await?) {
                if stored.as_ref() != Some(&expected.encode()) {
                    audit.report(Problem::Head { bucket: bucket.clone(), key: key.clone() });
                }
            }
        }
        Ok(())
    }
}
