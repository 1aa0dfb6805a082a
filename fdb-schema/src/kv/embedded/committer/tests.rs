#![allow(clippy::unwrap_used)]

use tokio::sync::Semaphore;

use super::*;
use crate::kv::{
    embedded::{EmbeddedOptions, recover},
    occ::{KeyRange, Mutation},
};

type Answer = oneshot::Receiver<Result<CommitVersion, KvError>>;

/// A commit that sets a key, of a transaction that read it at a version.
fn pending(key: &'static str, read_at: u64) -> (Pending, Answer) {
    let begin = bytes::Bytes::from_static(key.as_bytes());
    let request = CommitRequest {
        read_version: Some(read_at),
        reads: vec![KeyRange { end: crate::kv::key_after(&begin), begin: begin.clone() }],
        mutations: vec![Mutation::Set(begin, "v".into())],
        ..CommitRequest::default()
    };
    let (answer, answered) = oneshot::channel();
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    (Pending { request, waiting: Waiting { answer, _permit: permit } }, answered)
}

fn commit(committer: &mut Committer, key: &'static str, read_at: u64) -> Result<CommitVersion, KvError> {
    let (pending, mut answered) = pending(key, read_at);
    committer.commit_group(vec![pending]);
    answered.try_recv().unwrap()
}

#[test]
fn commits_that_found_no_room_did_not_happen_and_can_be_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let (mut committer, shared) = recover(directory.path(), EmbeddedOptions::default()).unwrap();
    assert_eq!(commit(&mut committer, "a", 0), Ok(CommitVersion(1)));
    // A memtable that fjall does not know it has to write.
    assert!(shared.rows.tree.rotate_memtable().is_some());
    let room = Room { memtables_waiting: 0, runs_waiting: RUNS_WAITING, timeout: Duration::ZERO };
    let room = std::mem::replace(&mut committer.room, room);
    for _ in 0..2 {
        let late = commit(&mut committer, "b", 1);
        assert!(
            matches!(&late, Err(KvError::Unavailable(why)) if why.contains("nothing of what waits in memory")),
            "{late:?}"
        );
        assert_eq!(shared.published.read().version, 1);
    }
    committer.room = room;
    // Not a conflict with what did not happen, and no version is left out.
    assert_eq!(commit(&mut committer, "b", 1), Ok(CommitVersion(2)));
    assert_eq!(commit(&mut committer, "b", 1), Err(KvError::Conflict));
    // What was committed before is not remembered, so it counts as changed.
    assert_eq!(commit(&mut committer, "c", 0), Err(KvError::TooOld));
}

#[test]
fn a_commit_counts_among_those_that_wait_until_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let (mut committer, shared) = recover(directory.path(), EmbeddedOptions::default()).unwrap();
    let queue = Arc::new(Semaphore::new(1));
    let (mut pending, mut answered) = pending("a", 0);
    pending.waiting._permit = Arc::clone(&queue).try_acquire_owned().unwrap();
    let published = Arc::clone(&shared.published.read());
    let rows = Overlay::new(Stored { shared: &shared, published });
    let mut group = Group { rows, version: 1, waiting: Vec::new() };
    committer.judge(&mut group, pending);
    assert_eq!(queue.available_permits(), 0);
    committer.write(group);
    assert_eq!(answered.try_recv().unwrap(), Ok(CommitVersion(1)));
    assert_eq!(queue.available_permits(), 1);
}
