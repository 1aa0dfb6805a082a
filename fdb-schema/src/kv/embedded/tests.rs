#![allow(clippy::unwrap_used)]

use fjall::AbstractTree;

use super::*;
use crate::kv::{Kv, RangeQuery};

fn store() -> (OccKv<EmbeddedEngine>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (open(directory.path(), EmbeddedOptions::default()).unwrap(), directory)
}

#[tokio::test]
async fn after_the_committer_panicked_commits_say_that_it_failed() {
    let (store, _directory) = store();
    let shared = Arc::clone(&store.0.shared);
    // As a panic leaves it: the receiver is gone, the store is still open.
    let (commits, _) = mpsc::channel(1);
    let handle = Arc::new(Handle { commits: Mutex::new(Some(commits)), thread: Mutex::new(None) });
    let broken = EmbeddedEngine { shared, handle, failure: watch::channel(None).1 };
    assert!(broken.failed().await.contains("panicked"));
    let refused = broken.commit(CommitRequest::default()).await;
    assert!(matches!(&refused, Err(KvError::Storage(why)) if why.contains("failed")), "{refused:?}");
    // What it had taken may have been written.
    let (commits, mut taken) = mpsc::channel(1);
    *broken.handle.commits.lock() = Some(commits);
    let (unknown, _) = tokio::join!(broken.commit(CommitRequest::default()), async { drop(taken.recv().await) });
    assert!(matches!(unknown, Err(KvError::CommitUnknown(_))), "{unknown:?}");
}

#[tokio::test]
async fn a_read_that_nobody_waits_for_keeps_its_turn_until_it_has_ended() {
    let (store, _directory) = store();
    let shared = Arc::clone(&store.0.shared);
    let view = Arc::new(store.0.view().await.unwrap());
    let (begun, begins) = oneshot::channel();
    let (end, ends) = std::sync::mpsc::channel::<()>();
    let reading = tokio::spawn(async move {
        let read = move |_: &Keyspace, _: &Snapshot| {
            begun.send(()).unwrap();
            Ok(ends.recv())
        };
        view.blocking(read).await.map(drop)
    });
    begins.await.unwrap();
    reading.abort();
    assert!(reading.await.unwrap_err().is_cancelled());
    assert_eq!(shared.reads.available_permits(), CONCURRENT_READS - 1);
    drop(end);
    let all = shared.reads.acquire_many(CONCURRENT_READS as u32).await;
    assert!(all.is_ok());
}

#[tokio::test]
async fn scans_that_step_over_many_superseded_rows_have_them_taken_out_of_memory() {
    const KEYS: usize = 64;
    let (store, _directory) = store();
    let write = async || {
        let mut tx = store.begin().await.unwrap();
        (0..KEYS).for_each(|key| tx.set(Bytes::from(format!("a{key:02}")), Bytes::from(vec![1; 16])));
        tx.commit().await.unwrap();
    };
    let scan = async || {
        let mut tx = store.begin().await.unwrap();
        let page = tx.range(RangeQuery::new(Bytes::from("a"), Bytes::from("b"), 100).snapshot()).await.unwrap();
        assert_eq!(page.rows.len(), KEYS);
    };
    scan_none(&store).await;
    for _ in 0..32 {
        write().await;
    }
    // Nobody writes any more.
    let mut scans = 0;
    while store.stats().early_tables == 0 {
        scan().await;
        scans += 1;
    }
    assert!(scans < 10, "{scans}");
    assert_eq!(store.0.shared.rows.tree.active_memtable().len(), 0);
    scan().await;
    assert_eq!(store.stats().early_tables, 1);
}

/// A table is known to be scanned from its first scan on.
async fn scan_none(store: &OccKv<EmbeddedEngine>) {
    let mut tx = store.begin().await.unwrap();
    let page = tx.range(RangeQuery::new(Bytes::from("a"), Bytes::from("b"), 1).snapshot()).await.unwrap();
    assert!(page.rows.is_empty());
}
