//! What reads find damaged or missing, told to the ledger: in the background, bounded, and each fragment once.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use cairn_schema::{Meta, clock::now_ms, ids::*, record::*};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::metrics::Metrics;

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

/// What the queue holds.
enum Entry {
    Finding(Finding),
    /// Answered when all that was queued before it is written or given up.
    Flush(oneshot::Sender<()>),
}

/// The queue's near end.
pub(crate) struct DamageReports {
    queue: mpsc::Sender<Entry>,
    reported: Mutex<HashMap<FragmentName, Instant>>,
    metrics: Metrics,
}

impl DamageReports {
    /// Starts the task that writes; it ends when this is dropped.
    pub(crate) fn start(meta: Meta, metrics: Metrics) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        tokio::spawn(write_entries(meta, entries, metrics.clone()));
        Self { queue, reported: Mutex::default(), metrics }
    }

    /// Never waits.
    pub(crate) fn report(&self, finding: Finding) {
        if !self.is_news(finding.fragment) {
            return;
        }
        if self.queue.try_send(Entry::Finding(finding)).is_err() {
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
    pub(crate) async fn flushed(&self) {
        let (flush, flushed) = oneshot::channel();
        // Either fails only if the task has ended, and then nothing is written any more.
        if self.queue.send(Entry::Flush(flush)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

async fn write_entries(meta: Meta, mut entries: mpsc::Receiver<Entry>, metrics: Metrics) {
    let mut batch = Vec::new();
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        let (mut findings, mut flushes) = (Vec::with_capacity(batch.len()), Vec::new());
        for entry in batch.drain(..) {
            match entry {
                Entry::Finding(finding) => findings.push(finding),
                Entry::Flush(flush) => flushes.push(flush),
            }
        }
        match write_findings(&meta, &findings).await {
            Ok(written) => metrics.damage_reported.inc_by(written),
            Err(error) => {
                tracing::warn!(%error, findings = findings.len(), "damage found by reads was not written to the ledger");
                metrics.damage_dropped.inc_by(findings.len() as u64);
            }
        }
        for flush in flushes {
            // Who asked may have stopped waiting.
            let _ = flush.send(());
        }
    }
}

/// Only fragments whose place is still the disk that was asked: a read that was overtaken by a change of members found
/// nothing wrong.
async fn write_findings(meta: &Meta, findings: &[Finding]) -> Result<u64, cairn_schema::MetaError> {
    let mut groups: HashMap<GroupId, Option<Group>> = HashMap::new();
    let since_ms = now_ms();
    let mut entries = Vec::with_capacity(findings.len());
    for finding in findings {
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
