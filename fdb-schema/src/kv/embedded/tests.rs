#![allow(clippy::unwrap_used)]

use super::*;

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
