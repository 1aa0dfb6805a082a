//! Deleting what a write that failed has left on disks. Best effort: what is missed here has no blob row, so scrub
//! takes it for the orphan that it is.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_fragment::Bounded;
use cairn_schema::{ids::*, record::Group};
use futures::{StreamExt, future::BoxFuture};
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::task::TaskTracker;

use super::metrics::Metrics;

/// Failed writes cleaned up at once, and waiting for it. More are left to scrub.
const AT_ONCE: usize = 16;
const MOST_WAITING: usize = 4096;

/// Names sent to a disk in one delete.
const BATCH: usize = 1000;

/// Consecutive stripes that went, or may have gone, to one group.
#[derive(Clone)]
pub(crate) struct Span {
    pub group: Arc<Group>,
    pub first: u32,
    pub stripes: u32,
}

impl Span {
    /// Adds a stripe, to the last span if it continues it.
    pub(crate) fn push(spans: &mut Vec<Self>, group: &Arc<Group>, stripe: u32) {
        match spans.last_mut() {
            Some(last)
                if last.group.id == group.id
                    && last.group.epoch == group.epoch
                    && last.first.checked_add(last.stripes) == Some(stripe) =>
            {
                last.stripes += 1;
            }
            _ => spans.push(Self { group: group.clone(), first: stripe, stripes: 1 }),
        }
    }
}

/// What a failed write may have left.
pub(crate) struct Remains {
    pub blob: BlobId,
    /// Ends when nothing of the write is under way any more, and says where it has been: a fragment that lands after
    /// its delete would stay. It must end by itself.
    pub quiet: BoxFuture<'static, Vec<Span>>,
}

/// Cleans up in the background, a bounded number at once.
pub(crate) struct Cleaner {
    fragments: Bounded,
    deadline: Duration,
    metrics: Metrics,
    runtime: Handle,
    tracker: TaskTracker,
    turns: Arc<Semaphore>,
}

impl Cleaner {
    /// Must be called within a runtime: that is where it will work, also for callers that are being dropped.
    pub(crate) fn new(fragments: Bounded, deadline: Duration, metrics: Metrics) -> Self {
        let (runtime, tracker) = (Handle::current(), TaskTracker::new());
        Self { fragments, deadline, metrics, runtime, tracker, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Takes over a failed write. Returns at once.
    pub(crate) fn clean(&self, remains: Remains) {
        if self.tracker.len() >= MOST_WAITING {
            self.metrics.cleanups.with_label_values(&["skipped"]).inc();
            tracing::warn!(blob = %remains.blob, "too many failed writes wait to be cleaned up; scrub will find this one");
            return;
        }
        let work = Work { fragments: self.fragments.clone(), deadline: self.deadline, metrics: self.metrics.clone() };
        let turns = self.turns.clone();
        self.tracker.spawn_on(
            async move {
                let _turn = turns.acquire_owned().await;
                work.run(remains).await;
            },
            &self.runtime,
        );
    }

    /// As [`Cleaner::clean`], done when it returns; dropping the future does not stop it.
    pub(crate) async fn clean_now(&self, remains: Remains) {
        let work = Work { fragments: self.fragments.clone(), deadline: self.deadline, metrics: self.metrics.clone() };
        // The only error is that of a runtime that is shutting down.
        let _ = self.tracker.spawn_on(async move { work.run(remains).await }, &self.runtime).await;
    }

    /// Waits until nothing is left to clean.
    pub(crate) async fn idle(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

struct Work {
    fragments: Bounded,
    deadline: Duration,
    metrics: Metrics,
}

impl Work {
    async fn run(self, remains: Remains) {
        let Remains { blob, quiet } = remains;
        let spans = quiet.await;
        let clean = self.delete(blob, &spans).await;
        self.metrics.cleanups.with_label_values(&[if clean { "clean" } else { "partial" }]).inc();
    }

    /// True when every disk that may hold a fragment has confirmed.
    async fn delete(&self, blob: BlobId, spans: &[Span]) -> bool {
        let mut members: HashMap<DiskId, Vec<(u8, &Span)>> = HashMap::new();
        for span in spans {
            for (position, disk) in span.group.members.iter().enumerate() {
                members.entry(*disk).or_default().push((position as u8, span));
            }
        }
        let disks = members.iter().map(|(disk, held)| self.delete_on(*disk, blob, held)).collect::<Vec<_>>();
        futures::stream::iter(disks).buffer_unordered(16).fold(true, |all, done| async move { all && done }).await
    }

    async fn delete_on(&self, disk: DiskId, blob: BlobId, held: &[(u8, &Span)]) -> bool {
        let mut names = held.iter().flat_map(|(position, span)| {
            (span.first..span.first.saturating_add(span.stripes)).map(move |stripe| FragmentName {
                group: span.group.id,
                blob,
                stripe,
                position: *position,
            })
        });
        loop {
            let batch: Vec<_> = names.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return true;
            }
            if !self.delete_batch(disk, batch).await {
                return false;
            }
        }
    }

    async fn delete_batch(&self, disk: DiskId, names: Vec<FragmentName>) -> bool {
        for pause_ms in [0, 50, 500] {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            let deadline = Instant::now() + self.deadline;
            match self.fragments.delete(disk, names.clone(), deadline).await {
                Ok(_) => return true,
                Err(error) => tracing::debug!(%disk, %error, "fragments of a failed write were not deleted"),
            }
        }
        false
    }
}
