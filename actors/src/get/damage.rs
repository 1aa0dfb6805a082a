//! What reads find damaged or missing, told to the ledger: in the background, bounded, and each fragment once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use cairn_schema::{Meta, ids::*, record::*};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use crate::store::Metrics;

/// Findings that wait to be written; more are dropped, for scrub to find.
const QUEUE: usize = 1024;
/// Rows written in one transaction.
const BATCH: usize = 128;
/// A fragment reported is not reported again for this long; repair has taken it up by then.
const AGAIN_AFTER: Duration = Duration::from_secs(300);
const MOST_REMEMBERED: usize = 16 * 1024;

/// A fragment that was not what it should be, on the disk that was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding {
    pub fragment: FragmentName,
    pub cause: MissingCause,
    pub disk: DiskId,
}

/// The queue's near end.
pub(crate) struct DamageReports {
    queue: mpsc::Sender<Finding>,
    reported: Mutex<HashMap<FragmentName, Instant>>,
    progress: Arc<Progress>,
    metrics: Metrics,
}

#[derive(Default)]
struct Progress {
    queued: AtomicU64,
    done: AtomicU64,
    more_done: Notify,
}

impl DamageReports {
    /// Starts the task that writes; it ends when this is dropped.
    pub fn start(meta: Meta, metrics: Metrics) -> Self {
        let (queue, findings) = mpsc::channel(QUEUE);
        let progress = Arc::new(Progress::default());
        tokio::spawn(write_findings(meta, findings, progress.clone(), metrics.clone()));
        Self { queue, reported: Mutex::default(), progress, metrics }
    }

    /// Never waits.
    pub fn report(&self, finding: Finding) {
        if !self.is_news(finding.fragment) {
            return;
        }
        self.progress.queued.fetch_add(1, Ordering::SeqCst);
        if self.queue.try_send(finding).is_err() {
            self.progress.queued.fetch_sub(1, Ordering::SeqCst);
            self.metrics.damage_dropped.inc();
            self.reported.lock().remove(&finding.fragment);
        }
    }

    fn is_news(&self, fragment: FragmentName) -> bool {
        let mut reported = self.reported.lock();
        let now = Instant::now();
        if reported.len() >= MOST_REMEMBERED {
            reported.retain(|_, at| now.duration_since(*at) < AGAIN_AFTER);
            if reported.len() >= MOST_REMEMBERED {
                reported.clear();
            }
        }
        match reported.insert(fragment, now) {
            Some(before) if now.duration_since(before) < AGAIN_AFTER => {
                reported.insert(fragment, before);
                false
            }
            _ => true,
        }
    }

    /// Waits until what has been reported so far is written or given up.
    pub async fn flushed(&self) {
        let target = self.progress.queued.load(Ordering::SeqCst);
        loop {
            let more = self.progress.more_done.notified();
            if self.progress.done.load(Ordering::SeqCst) >= target {
                return;
            }
            more.await;
        }
    }
}

async fn write_findings(meta: Meta, mut findings: mpsc::Receiver<Finding>, progress: Arc<Progress>, metrics: Metrics) {
    let mut batch = Vec::new();
    while findings.recv_many(&mut batch, BATCH).await > 0 {
        let found = batch.len() as u64;
        match write_batch(&meta, &batch).await {
            Ok(written) => metrics.damage_reported.inc_by(written),
            Err(error) => {
                tracing::warn!(%error, findings = found, "damage found by reads was not written to the ledger");
                metrics.damage_dropped.inc_by(found);
            }
        }
        batch.clear();
        progress.done.fetch_add(found, Ordering::SeqCst);
        progress.more_done.notify_waiters();
    }
}

/// Only fragments whose place is still the disk that was asked: a read that was overtaken by a change of members found nothing wrong.
async fn write_batch(meta: &Meta, batch: &[Finding]) -> Result<u64, cairn_schema::MetaError> {
    let mut groups: HashMap<GroupId, Option<Group>> = HashMap::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let mut entries = Vec::with_capacity(batch.len());
    for finding in batch {
        let id = finding.fragment.group;
        if let std::collections::hash_map::Entry::Vacant(entry) = groups.entry(id) {
            entry.insert(meta.group(id).await?);
        }
        let position = usize::from(finding.fragment.position);
        let member = groups.get(&id).and_then(Option::as_ref).and_then(|group| group.members.get(position));
        if member == Some(&finding.disk) {
            entries.push(LedgerEntry { fragment: finding.fragment, cause: finding.cause, since_ms });
        }
    }
    if !entries.is_empty() {
        meta.ledger_add(&entries).await?;
    }
    Ok(entries.len() as u64)
}
