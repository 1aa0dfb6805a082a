//! Quotas of buckets, against a small model: what would be too much is refused, and nothing else is.
#![allow(clippy::unwrap_used)]

mod common;
use std::collections::BTreeMap;

use cairn_schema::{Meta, MetaError, ids::*, kv::SharedKv, record::*, verbs::*};
use common::*;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

const BUCKET: &str = "b";
const KEYS: [&str; 4] = ["w", "x", "y", "z"];

async fn world(kv: SharedKv) -> (Meta, Group) {
    let meta = Meta::new(kv);
    meta.cluster(policy()).await.unwrap();
    meta.create_bucket(bucket(BUCKET, Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    (meta, group)
}

fn quota(bytes: impl Into<Option<u64>>, objects: impl Into<Option<u64>>) -> Quota {
    Quota { bytes: bytes.into(), objects: objects.into() }
}

fn is_refused<T: std::fmt::Debug>(outcome: &Result<T, MetaError>) -> bool {
    matches!(outcome, Err(MetaError::QuotaExceeded { .. }))
}

struct World {
    meta: Meta,
    group: Group,
    rng: StdRng,
    versioning: Versioning,
    quota: Quota,
    /// Sizes by key and id; None of a delete marker.
    versions: BTreeMap<(String, VersionId), Option<u64>>,
}

impl World {
    fn usage(&self) -> Usage {
        let sizes = self.versions.values().flatten();
        Usage { objects: sizes.clone().count() as u64, bytes: sizes.sum() }
    }

    fn key(&mut self) -> &'static str {
        KEYS.choose(&mut self.rng).unwrap()
    }

    /// Whether an object may come to a key.
    fn has_room(&self, key: &str, size: u64) -> bool {
        let replaced = match self.versioning {
            Versioning::Enabled => None,
            _ => self.versions.get(&(key.to_owned(), VersionId::NULL)).copied().flatten(),
        };
        let before = self.usage();
        let after = Usage {
            objects: before.objects + 1 - u64::from(replaced.is_some()),
            bytes: before.bytes + size - replaced.unwrap_or(0),
        };
        let fits = |limit: Option<u64>, before, after| after <= before || limit.is_none_or(|limit| after <= limit);
        fits(self.quota.bytes, before.bytes, after.bytes) && fits(self.quota.objects, before.objects, after.objects)
    }

    fn made(&mut self, key: &str, size: u64, outcome: Result<Committed, MetaError>) {
        assert_eq!(is_refused(&outcome), !self.has_room(key, size), "{key} of {size}: {outcome:?}");
        if let Ok(made) = outcome {
            self.versions.insert((key.to_owned(), made.version.id), Some(size));
        }
    }

    async fn put(&mut self) {
        let (key, size) = (self.key(), self.rng.random_range(0..40));
        let outcome = self.meta.commit_object(put(&self.group, BUCKET, key, size)).await;
        self.made(key, size, outcome);
    }

    async fn copy(&mut self) {
        let (from, to) = (self.key(), self.key());
        let located = self.meta.locate(BUCKET, from, VersionSelector::Current, RangeRequest::Nothing).await;
        let Ok(Located { version, .. }) = located else { return };
        let outcome = self.meta.copy_object(copy((BUCKET, from), (BUCKET, to))).await;
        self.made(to, version.size, outcome);
    }

    async fn upload(&mut self) {
        let (key, size) = (self.key(), self.rng.random_range(1..30));
        let begun = upload(BUCKET, key);
        self.meta.create_upload(begun.clone()).await.unwrap();
        // Parts do not count; whether there could be room for one is told beside them.
        let is_full = self.quota.bytes.is_some_and(|limit| self.usage().bytes + size > limit);
        assert_eq!(is_refused(&self.meta.expect_room(BUCKET, size).await), is_full);
        let part = self.meta.put_part(put_part(&self.group, &begun, 1, size)).await.unwrap();
        let outcome = self.meta.complete_upload(complete(&begun, &[part])).await;
        if is_refused(&outcome) {
            self.meta.abort_upload(BUCKET, key, begun.id).await.unwrap();
        }
        self.made(key, size, outcome);
    }

    async fn delete(&mut self) {
        let key = self.key();
        let all: Vec<_> = self.versions.keys().cloned().collect();
        if self.rng.random_bool(0.5)
            && let Some((key, id)) = all.choose(&mut self.rng).cloned()
        {
            self.meta.delete_object(delete(BUCKET, &key, VersionSelector::Id(id))).await.unwrap();
            self.versions.remove(&(key, id));
            return;
        }
        let deleted = self.meta.delete_object(delete(BUCKET, key, VersionSelector::Current)).await.unwrap();
        if self.versioning != Versioning::Enabled {
            self.versions.remove(&(key.to_owned(), VersionId::NULL));
        }
        if deleted.delete_marker {
            self.versions.insert((key.to_owned(), deleted.version.unwrap()), None);
        }
    }

    async fn change_bucket(&mut self) {
        if self.rng.random_bool(0.3) {
            self.versioning = *[Versioning::Enabled, Versioning::Suspended].choose(&mut self.rng).unwrap();
            return self.meta.set_versioning(BUCKET, self.versioning).await.unwrap();
        }
        let bytes = self.rng.random_bool(0.7).then(|| self.rng.random_range(0..200));
        let objects = self.rng.random_bool(0.5).then(|| self.rng.random_range(0..12));
        self.quota = quota(bytes, objects);
        self.meta.set_quota(BUCKET, self.quota).await.unwrap();
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..12) {
            0..5 => self.put().await,
            5 => self.copy().await,
            6..8 => self.upload().await,
            8..11 => self.delete().await,
            _ => self.change_bucket().await,
        }
        assert_eq!(self.meta.usage(BUCKET).await.unwrap(), self.usage());
    }
}

pub(crate) async fn run(name: &str, kv: SharedKv, seed: u64, steps: usize) {
    println!("{name}: CAIRN_SEED={seed}");
    let (meta, group) = world(kv).await;
    let (rng, quota) = (StdRng::seed_from_u64(seed), Quota::default());
    let mut world = World { meta, group, rng, versioning: Versioning::Off, quota, versions: BTreeMap::new() };
    for _ in 0..steps {
        world.step().await;
    }
    audited(&world.meta, name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bnd_1_a_bucket_never_grows_beyond_its_quota() {
    let seed = seed();
    for number in 0..40 {
        run("mem", mem_kv(), seed.wrapping_add(number), 200).await;
    }
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        run(name, kv, seed, 100).await;
    }
}

/// Many writers at the same time, some of whom overwrite and delete: to the last byte, and not one more.
#[tokio::test(flavor = "multi_thread")]
async fn bnd_1_writers_at_the_same_time_fill_a_quota_to_the_last_byte() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        writers_fill_a_quota(name, kv).await;
    }
}

pub(crate) async fn writers_fill_a_quota(name: &str, kv: SharedKv) {
    let (meta, group) = world(kv).await;
    let limit = quota(301, 40);
    meta.set_quota(BUCKET, limit).await.unwrap();
    let writers = (0..12u64).map(|writer| {
        let (meta, group) = (meta.clone(), group.clone());
        tokio::spawn(async move {
            let mut refused = 0;
            for number in 0..40u64 {
                let key = format!("{writer}/{}", number % 15);
                if number % 7 == 6 {
                    meta.delete_object(delete(BUCKET, &key, VersionSelector::Current)).await.unwrap();
                    continue;
                }
                match meta.commit_object(put(&group, BUCKET, &key, 1 + number % 11)).await {
                    Ok(_) => {}
                    Err(MetaError::QuotaExceeded { .. }) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
                let usage = meta.usage(BUCKET).await.unwrap();
                assert!(limit.admits(usage), "{usage:?}");
            }
            refused
        })
    });
    let mut refused = 0;
    for writer in writers.collect::<Vec<_>>() {
        refused += writer.await.unwrap();
    }
    assert!(refused > 0, "{name}: the quota was never met");
    // Objects of one byte fill what is left of one bound or the other.
    let mut fill = 0;
    while !is_refused(&meta.commit_object(put(&group, BUCKET, &format!("fill/{fill}"), 1)).await) {
        fill += 1;
    }
    let usage = meta.usage(BUCKET).await.unwrap();
    assert!(usage.bytes == 301 || usage.objects == 40, "{name}: {usage:?}");
    audited(&meta, name).await;
}

#[tokio::test]
async fn a_quota_below_what_there_is_takes_only_what_makes_it_less() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        a_quota_below_what_there_is(name, kv).await;
    }
}

pub(crate) async fn a_quota_below_what_there_is(name: &str, kv: SharedKv) {
    let (meta, group) = world(kv).await;
    for key in KEYS {
        meta.commit_object(put(&group, BUCKET, key, 10)).await.unwrap();
    }
    meta.set_quota(BUCKET, quota(25, None)).await.unwrap();
    let refused = meta.commit_object(put(&group, BUCKET, "new", 1)).await.unwrap_err();
    assert_eq!(refused.to_string(), r#"bucket "b" holds 40 bytes and may hold 25: 1 more do not fit"#);
    // Also in place of what there is.
    assert!(is_refused(&meta.commit_object(put(&group, BUCKET, "x", 11)).await));
    meta.commit_object(put(&group, BUCKET, "x", 4)).await.unwrap();
    meta.commit_object(put(&group, BUCKET, "empty", 0)).await.unwrap();
    for key in ["w", "y"] {
        meta.delete_object(delete(BUCKET, key, VersionSelector::Current)).await.unwrap();
    }
    assert!(is_refused(&meta.commit_object(put(&group, BUCKET, "new", 12)).await));
    meta.commit_object(put(&group, BUCKET, "new", 11)).await.unwrap();
    assert_eq!(meta.usage(BUCKET).await.unwrap().bytes, 25);
    meta.set_quota(BUCKET, Quota::default()).await.unwrap();
    assert_eq!(meta.bucket(BUCKET).await.unwrap().quota, None);
    meta.commit_object(put(&group, BUCKET, "new", 1000)).await.unwrap();
    audited(&meta, name).await;
}

#[tokio::test]
async fn quotas_survive_an_export_and_an_import() {
    let (meta, group) = world(mem_kv()).await;
    meta.set_quota(BUCKET, quota(100, 3)).await.unwrap();
    meta.commit_object(put(&group, BUCKET, "x", 60)).await.unwrap();
    let mut file = Vec::new();
    meta.export(&mut file).await.unwrap();
    let restored = Meta::in_memory();
    restored.import(&mut std::io::Cursor::new(file)).await.unwrap();
    assert_eq!(restored.bucket(BUCKET).await.unwrap(), meta.bucket(BUCKET).await.unwrap());
    assert!(is_refused(&restored.commit_object(put(&group, BUCKET, "y", 41)).await));
    restored.commit_object(put(&group, BUCKET, "y", 40)).await.unwrap();
}
