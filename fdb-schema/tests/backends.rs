//! Every backend that runs here passes the conformance suite; the embedded store survives restarts and crashes.
#![allow(clippy::unwrap_used)]

mod common;
use std::{path::Path, sync::Arc};

use bytes::Bytes;
use cairn_schema::{
    Meta, MetaError, conformance,
    kv::{
        Kv, KvError, RangeQuery, SharedKv,
        embedded::{self, EmbeddedOptions, JournalError, OpenError},
        mem,
        remote::{self, RemoteServer},
    },
    record::*,
    verbs::VersionSelector,
};
use common::*;

#[tokio::test(flavor = "multi_thread")]
async fn mem_conforms() {
    conformance::run(mem_kv(), seed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conformance::run(embedded_kv(directory.path()), seed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_conforms() {
    conformance::run(remote_kv(), seed()).await;
    let directory = tempfile::tempdir().unwrap();
    let store = embedded::open(directory.path(), EmbeddedOptions::default()).unwrap();
    let remote = remote::kv(Arc::new(Loopback(RemoteServer::new(store))));
    conformance::run(Arc::new(remote), seed()).await;
}

async fn set(kv: &dyn Kv, key: &str, value: &str) -> Result<(), KvError> {
    let mut tx = kv.begin().await?;
    tx.set(Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    tx.commit().await.map(|_| ())
}

async fn get(kv: &dyn Kv, key: &str) -> Option<Bytes> {
    kv.begin().await.unwrap().get(key.as_bytes(), false).await.unwrap()
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let kv = embedded_kv(directory.path());
    for index in 0..50 {
        set(&*kv, &format!("k{index}"), "v").await.unwrap();
    }
    let before = stamp(&kv).await;
    drop(kv);
    let kv = embedded_kv(directory.path());
    for index in 0..50 {
        assert_eq!(get(&*kv, &format!("k{index}")).await.as_deref(), Some(&b"v"[..]));
    }
    // Versionstamps go on growing.
    assert!(stamp(&kv).await > before);
}

async fn stamp(kv: &SharedKv) -> Bytes {
    let mut tx = kv.begin().await.unwrap();
    tx.set_versionstamped(Bytes::from_static(b"stamp"), Bytes::new(), Bytes::new());
    tx.commit().await.unwrap();
    let newest = RangeQuery::prefix(Bytes::from_static(b"stamp"), 1).reversed();
    kv.begin().await.unwrap().range(newest).await.unwrap().rows.remove(0).0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_image_has_every_acknowledged_commit_and_no_half() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let kv = embedded_kv(&live);
    let acknowledged = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let writers = (0..8u64).map(|writer| {
        let (kv, acknowledged) = (kv.clone(), acknowledged.clone());
        tokio::spawn(async move {
            for index in 0..40u64 {
                let mut tx = kv.begin().await.unwrap();
                // Two rows that must come together.
                for half in ["a", "b"] {
                    let key = format!("{half}/{writer}/{index:04}");
                    tx.set(Bytes::from(key), Bytes::from(vec![b'x'; 500]));
                }
                tx.commit().await.unwrap();
                acknowledged.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    // Copies of a directory that is being written to are what a crash may leave.
    for image in 0..4 {
        let known = acknowledged.load(std::sync::atomic::Ordering::SeqCst);
        let path = directory.path().join(format!("image{image}"));
        copy_directory(&live, &path);
        let crashed = embedded_kv(&path);
        let mut tx = crashed.begin().await.unwrap();
        let all = |prefix: &'static str| RangeQuery::prefix(Bytes::from_static(prefix.as_bytes()), 10_000);
        let (a, b) = (tx.range(all("a/")).await.unwrap().rows, tx.range(all("b/")).await.unwrap().rows);
        assert!(a.len() as u64 >= known, "{} of {known} acknowledged commits", a.len());
        assert!(a.iter().map(|(key, _)| &key[1..]).eq(b.iter().map(|(key, _)| &key[1..])), "half a commit");
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_commits_share_syncs() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(embedded::open(directory.path(), EmbeddedOptions::default()).unwrap());
    let kv: SharedKv = store.clone();
    let commits = (0..256).map(|index| {
        let kv = kv.clone();
        tokio::spawn(async move { set(&*kv, &format!("k{index}"), "v").await })
    });
    for commit in commits.collect::<Vec<_>>() {
        commit.await.unwrap().unwrap();
    }
    let stats = store.stats();
    assert_eq!(stats.commits, 256);
    assert!(stats.syncs < 200, "{stats:?}");
    println!("{stats:?}");
}

/// CON-1: a commit that meets rows that cannot be read fails alone, and uses up no version that is not stored.
#[tokio::test(flavor = "multi_thread")]
async fn con_1_a_commit_that_cannot_read_its_rows_fails_alone() {
    const ROWS: usize = 2000;
    let directory = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { cache_bytes: 0, memtable_bytes: 64 << 10 };
    let key = |index: usize| Bytes::from(format!("n{index:06}"));
    let store = Arc::new(embedded::open(directory.path(), options).unwrap());
    for index in 0..ROWS {
        let mut tx = store.begin().await.unwrap();
        tx.set(key(index), vec![7; 200].into());
        tx.commit().await.unwrap();
    }
    drop(store);
    // Those of the rows: fjall keeps its own in 0.
    let tables = directory.path().join("store/keyspaces/1");
    assert!(damage_tables(&tables) > 0);
    let store = Arc::new(embedded::open(directory.path(), options).unwrap());
    let blind = async |index: usize| {
        let mut tx = store.begin().await.unwrap();
        tx.set(Bytes::from(format!("blind{index}")), Bytes::new());
        tx.commit().await.unwrap().0
    };
    let (mut version, mut failed) = (blind(0).await, 0);
    for index in 0..ROWS / 10 {
        let mut tx = store.begin().await.unwrap();
        tx.set(Bytes::from(format!("half{index}")), Bytes::new());
        tx.add(key(index * 10), 1);
        let (adding, other) = tokio::join!(tx.commit(), blind(index));
        failed += usize::from(matches!(adding, Err(KvError::Storage(_))));
        let highest = adding.as_ref().map_or(other, |added| added.0.max(other));
        assert!(highest <= version + 1 + u64::from(adding.is_ok()), "{version}, then {highest}");
        assert_eq!(get(&*store, &format!("half{index}")).await.is_some(), adding.is_ok(), "half a commit");
        version = highest;
    }
    assert!(failed > 0);
    assert!(store.stats().conflicts == 0);
}

/// Damages a byte in the middle of every table; how many there are.
fn damage_tables(directory: &Path) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            damaged += damage_tables(&entry);
        } else if entry.parent().is_some_and(|parent| parent.ends_with("tables")) {
            let mut bytes = std::fs::read(&entry).unwrap();
            let middle = bytes.len() / 4;
            bytes[middle] ^= 0x55;
            std::fs::write(&entry, bytes).unwrap();
            damaged += 1;
        }
    }
    damaged
}

#[tokio::test]
async fn a_directory_is_opened_once_and_only_in_a_format_that_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let meta = Meta::open_embedded(path).unwrap();
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    assert!(matches!(embedded::open(path, EmbeddedOptions::default()), Err(OpenError::Locked(_))));
    assert!(matches!(Meta::open_embedded(path).map(|_| ()), Err(MetaError::Storage(why)) if why.contains("in use")));
    drop(meta);
    let format = std::fs::read_to_string(path.join("FORMAT")).unwrap();
    let mark = format.strip_prefix("cairn metadata 2 ").and_then(|rest| rest.strip_suffix('\n')).unwrap();
    assert!(mark.len() == 32 && mark.chars().all(|digit| digit.is_ascii_hexdigit()), "{format:?}");
    let with = |text: &str| {
        std::fs::write(path.join("FORMAT"), text).unwrap();
        embedded::open(path, EmbeddedOptions::default()).map(|_| ())
    };
    assert!(matches!(with("cairn metadata 3 what comes\n"), Err(OpenError::NewerFormat { found: 3, .. })));
    let older = with("cairn metadata 1\n").unwrap_err();
    assert!(matches!(older, OpenError::OlderFormat { found: 1, .. }));
    assert!(older.to_string().contains("cairn admin metadata export"), "{older}");
    for garbled in ["something else", "cairn metadata 2\n", "cairn metadata 2 0123\n", "cairn metadata 0\n"] {
        assert!(matches!(with(garbled), Err(OpenError::NotOurs { .. })), "{garbled}");
        assert!(matches!(Meta::open_embedded(path).map(|_| ()), Err(MetaError::Corrupt { .. })));
    }
    let other = format!("cairn metadata 2 {}\n", "5a".repeat(16));
    assert!(matches!(with(&other), Err(OpenError::Journal(JournalError::Foreign { .. }))));
    std::fs::remove_file(path.join("FORMAT")).unwrap();
    assert!(matches!(embedded::open(path, EmbeddedOptions::default()), Err(OpenError::NotOurs { .. })));
    std::fs::write(path.join("FORMAT"), format).unwrap();
    let meta = Meta::open_embedded(path).unwrap();
    assert_eq!(meta.bucket("b").await.unwrap().name, "b");
}

#[tokio::test]
async fn an_unknown_record_version_is_an_error() {
    let kv = Arc::new(mem::kv());
    let meta = Meta::new(kv.clone());
    let group = group(&meta).await;
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    meta.commit_object(put(&group, "b", "k", 1)).await.unwrap();
    let mut tx = kv.begin().await.unwrap();
    tx.set(cairn_schema::keyspace::bucket("b"), Bytes::from_static(&[9, 1, 2]));
    tx.commit().await.unwrap();
    let read = meta.bucket("b").await;
    assert!(matches!(read, Err(MetaError::Corrupt { what: "bucket row", .. })), "{read:?}");
    let write = meta.delete_object(delete("b", "k", VersionSelector::Current)).await;
    assert!(matches!(write, Err(MetaError::Corrupt { .. })));
}
