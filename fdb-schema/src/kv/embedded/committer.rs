//! The thread that commits.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use fjall::{AbstractTree, Database, Keyspace, PersistMode, Readable};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::kv::{
    CommitVersion, KvError,
    embedded::{
        directory::DirectoryLock,
        mark::{Mark, VERSION_KEY},
        shared::{Published, Shared},
    },
    occ::{CommitRequest, Overlay, Resolver, Rows, Verdict, apply},
};

/// Commits that share a sync, at most.
const GROUP_COMMITS: usize = 1024;
/// Bytes of the commits that share a sync, roughly.
const GROUP_BYTES: usize = 16 << 20;

/// At most so many memtables, and runs of tables, may wait for fjall's threads before a batch is written. Together with
/// what one batch can add that stays below where fjall makes its writers wait.
const MEMTABLES_WAITING: usize = 1;
const RUNS_WAITING: usize = 25;
/// Commits are not kept waiting longer than this for a memtable to be written: nearly all of those who made them have
/// given up by then.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);
const ROOM_PAUSE: Duration = Duration::from_millis(2);

/// When fjall has room for another batch, and for how long the committer waits until it has.
struct Room {
    memtables_waiting: usize,
    runs_waiting: usize,
    timeout: Duration,
}

/// Why there is no room; nothing was written.
enum NoRoom {
    /// fjall's threads have failed.
    Failed(String),
    /// They are slow.
    Late(String),
}

/// A commit that waits for its outcome.
pub(super) struct Pending {
    pub request: CommitRequest,
    pub waiting: Waiting,
}

/// Who is to be told the outcome.
pub(super) struct Waiting {
    pub answer: oneshot::Sender<Result<CommitVersion, KvError>>,
    /// Its share of the queue's bound in bytes, released with the answer.
    pub _permit: OwnedSemaphorePermit,
}

impl Waiting {
    fn tell(self, outcome: Result<CommitVersion, KvError>) {
        // Whoever waited may have given up.
        let _ = self.answer.send(outcome);
    }
}

pub(super) struct Committer {
    db: Database,
    /// What the store says about itself: the version of the last commit.
    about: Keyspace,
    shared: Arc<Shared>,
    resolver: Resolver,
    version: u64,
    room: Room,
    /// Why no commit is taken any more, once that is so.
    poisoned: watch::Sender<Option<String>>,
    /// Released when the store is closed.
    lock: DirectoryLock,
}

/// The version of the last commit; 0 for a new store.
pub(super) fn stored_version(about: &Keyspace, mark: Mark) -> Result<u64, String> {
    let stored = about.get(VERSION_KEY).map_err(|error| error.to_string())?;
    stored.map_or(Ok(0), |value| mark.version(&value))
}

/// The rows that were published last.
struct Stored<'a> {
    shared: &'a Shared,
    published: Arc<Published>,
}

fn storage(error: fjall::Error) -> KvError {
    KvError::Storage(error.to_string())
}

impl Rows for Stored<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let stored = self.published.snapshot.get(&self.shared.rows, key).map_err(storage)?;
        Ok(stored.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn keys(&self, begin: &Bytes, end: &Bytes) -> Result<Vec<Bytes>, KvError> {
        if begin >= end {
            return Ok(Vec::new());
        }
        let rows = self.published.snapshot.range(&self.shared.rows, &begin[..]..&end[..]);
        rows.map(|row| Ok(Bytes::copy_from_slice(&row.key().map_err(storage)?))).collect()
    }
}

/// Commits that were judged and wait for the sync that they share.
struct Group<'a> {
    /// The stored rows with what the group changes.
    rows: Overlay<Stored<'a>>,
    /// The version that the group will have.
    version: u64,
    waiting: Vec<Waiting>,
}

impl Committer {
    pub(super) fn new(db: Database, about: Keyspace, shared: Arc<Shared>, version: u64, lock: DirectoryLock) -> Self {
        let room = Room { memtables_waiting: MEMTABLES_WAITING, runs_waiting: RUNS_WAITING, timeout: ROOM_TIMEOUT };
        Self {
            db,
            about,
            shared,
            resolver: Resolver::new(version),
            version,
            room,
            poisoned: watch::Sender::new(None),
            lock,
        }
    }

    /// Why no commit is taken any more, once that is so.
    pub(super) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.poisoned.subscribe()
    }

    /// Commits until every sender is gone.
    pub(super) fn run(mut self, mut commits: mpsc::Receiver<Pending>) {
        while let Some(first) = commits.blocking_recv() {
            let mut bytes = first.request.bytes();
            let mut gathered = vec![first];
            while gathered.len() < GROUP_COMMITS && bytes < GROUP_BYTES {
                let Ok(next) = commits.try_recv() else { break };
                bytes += next.request.bytes();
                gathered.push(next);
            }
            self.commit_group(gathered);
        }
    }

    fn commit_group(&mut self, gathered: Vec<Pending>) {
        let poisoned = self.poisoned.borrow().clone();
        if let Some(why) = poisoned {
            for pending in gathered {
                pending.waiting.tell(Err(KvError::Storage(why.clone())));
            }
            return;
        }
        let shared = Arc::clone(&self.shared);
        let published = Arc::clone(&shared.published.read());
        let mut group = Group {
            rows: Overlay::new(Stored { shared: &shared, published }),
            version: self.version + 1,
            waiting: Vec::new(),
        };
        for pending in gathered {
            self.judge(&mut group, pending);
        }
        if !group.waiting.is_empty() {
            self.write(group);
        }
    }

    /// Conflicts are decided in order: a commit conflicts also with those before it in its group, because it cannot
    /// have read what they write.
    fn judge(&mut self, group: &mut Group<'_>, pending: Pending) {
        let refused = match self.resolver.judge(&pending.request) {
            Verdict::Go => None,
            Verdict::Conflict => Some(KvError::Conflict),
            Verdict::TooOld => Some(KvError::TooOld),
        };
        if let Some(error) = refused {
            self.shared.counters.conflicts.fetch_add(1, Ordering::Relaxed);
            return pending.waiting.tell(Err(error));
        }
        let place = u16::try_from(group.waiting.len()).unwrap_or(u16::MAX);
        // On a layer of its own until it is applied to its end: half a commit must not be written with the others.
        let mut own = Overlay::new(&group.rows);
        match apply(&mut own, pending.request, group.version, place) {
            Ok(written) => {
                let changes = own.into_changes();
                group.rows.merge(changes);
                self.resolver.record(group.version, written);
                group.waiting.push(pending.waiting);
            }
            Err(error) => pending.waiting.tell(Err(error)),
        }
    }

    fn publish(&self) {
        let published = Published { version: self.version, snapshot: self.db.snapshot() };
        *self.shared.published.write() = Arc::new(published);
    }

    /// Waits until fjall has room for another batch. fjall would wait by itself, but for ever if the threads that make
    /// room have failed.
    fn wait_for_room(&self) -> Result<(), NoRoom> {
        let (room, started) = (&self.room, Instant::now());
        while self.shared.rows.sealed_memtable_count() > room.memtables_waiting
            || self.shared.rows.tree.l0_run_count() > room.runs_waiting
        {
            // This writes nothing; it tells whether those threads have failed.
            self.db.persist(PersistMode::Buffer).map_err(|error| NoRoom::Failed(error.to_string()))?;
            if started.elapsed() > room.timeout {
                return Err(NoRoom::Late(format!(
                    "nothing of what waits in memory was written to disk in {:?}",
                    room.timeout
                )));
            }
            std::thread::sleep(ROOM_PAUSE);
        }
        Ok(())
    }

    /// Nothing of the group was written or will be, so its commits can be tried again. The resolver remembers their
    /// writes already, which did not happen: it starts anew at the published version, which is the newest that there
    /// is.
    fn put_off(&mut self, group: Group<'_>, why: &str) {
        tracing::warn!(why, commits = group.waiting.len(), "the metadata store cannot take commits now");
        self.resolver = Resolver::new(self.version);
        for waiting in group.waiting {
            waiting.tell(Err(KvError::Unavailable(format!("the metadata store is too slow: {why}"))));
        }
    }

    /// From now on no change is taken: only opening the store again tells what the disk has.
    fn poison(&mut self, group: Group<'_>, why: &str, answered: impl Fn(String) -> KvError) {
        let why = format!("the metadata store failed and takes no more changes until it is restarted: {why}");
        tracing::error!(%why, "a metadata commit failed; refusing all that follow");
        for waiting in group.waiting {
            waiting.tell(Err(answered(why.clone())));
        }
        self.poisoned.send_replace(Some(why));
    }

    fn write(&mut self, group: Group<'_>) {
        match self.wait_for_room() {
            Ok(()) => {}
            Err(NoRoom::Late(why)) => return self.put_off(group, &why),
            Err(NoRoom::Failed(why)) => return self.poison(group, &why, KvError::Storage),
        }
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        // The first row of the batch: that is where an opening looks for the store's mark.
        batch.insert(&self.about, VERSION_KEY, self.lock.mark().value(group.version));
        for (key, value) in group.rows.changes() {
            match value {
                Some(value) => batch.insert(&self.shared.rows, &key[..], &value[..]),
                None => batch.remove(&self.shared.rows, &key[..]),
            }
        }
        match batch.commit() {
            Ok(()) => {
                self.version = group.version;
                self.publish();
                let commits = group.waiting.len() as u64;
                self.shared.counters.commits.fetch_add(commits, Ordering::Relaxed);
                self.shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
                for waiting in group.waiting {
                    waiting.tell(Ok(CommitVersion(group.version)));
                }
            }
            // The journal may or may not have the batch, and what the kernel did with pages that it failed to write is
            // not known.
            Err(error) => self.poison(group, &error.to_string(), KvError::CommitUnknown),
        }
    }
}

#[cfg(test)]
mod tests;
