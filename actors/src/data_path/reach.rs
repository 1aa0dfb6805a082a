//! One call of one fragment: made, tried again where that helps, and told to the placement, which avoids disks that do
//! not answer.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cairn_fragment::{Bounded, DiskError, NewFragment, TransportError};
use cairn_schema::{ids::*, record::MissingCause};
use rand::Rng;

use super::{latencies::Latencies, metrics::Metrics};
use crate::placement::{Heard, Placement, Use};

/// The way to the fragments.
pub(crate) struct Reach {
    fragments: Bounded,
    pub placement: Arc<Placement>,
    /// How long one call may take.
    deadline: Duration,
    metrics: Metrics,
    /// Of reads.
    pub latencies: Latencies,
    pub write_latencies: Latencies,
}

/// Why a fragment was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unread {
    /// It is not what it should be: something for the ledger.
    #[error("its disk does not have it whole")]
    Missing(MissingCause),
    /// The disk or its node has too much to do: the same call may succeed a moment later.
    #[error("too many requests wait for its disk")]
    Busy,
    #[error("its disk did not answer")]
    Unreachable,
}

impl Unread {
    fn of(error: &TransportError) -> Self {
        match error {
            TransportError::Disk(DiskError::NotFound(_)) => Self::Missing(MissingCause::NotFound),
            TransportError::Disk(error) if error.is_damage() => Self::Missing(MissingCause::Corrupt),
            TransportError::Disk(DiskError::OutOfRange { .. } | DiskError::BadChecksum) => {
                Self::Missing(MissingCause::Corrupt)
            }
            TransportError::Busy(_) | TransportError::Disk(DiskError::Busy) => Self::Busy,
            _ => Self::Unreachable,
        }
    }

    /// For metrics.
    fn label(self) -> &'static str {
        match self {
            Self::Missing(MissingCause::NotFound) => "not-found",
            Self::Missing(_) => "corrupt",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
        }
    }
}

impl Reach {
    pub(crate) fn new(fragments: Bounded, placement: Arc<Placement>, deadline: Duration, metrics: Metrics) -> Self {
        Self {
            fragments,
            placement,
            deadline,
            metrics,
            latencies: Latencies::of_reads(),
            write_latencies: Latencies::of_writes(),
        }
    }

    /// Writes one fragment, again if the disk was busy or the connection broke at once, until the deadline. Durable
    /// when it returns.
    pub(crate) async fn put(&self, disk: DiskId, fragment: NewFragment) -> Result<(), TransportError> {
        let started = Instant::now();
        let deadline = started + self.deadline;
        let mut tries = 0u32;
        loop {
            tries += 1;
            let Err(error) = self.fragments.put(disk, fragment.clone(), deadline).await else {
                self.write_latencies.observe(fragment.payload.len(), started.elapsed());
                self.placement.report(disk, Use::Write, Heard::Answer);
                return Ok(());
            };
            if let Some(pause) = pause_before_retry(&error, tries)
                && Instant::now() + pause < deadline
            {
                tokio::time::sleep(pause).await;
                continue;
            }
            self.metrics.fragment_write_failures.inc();
            self.blame(disk, Use::Write, &error);
            tracing::debug!(%disk, fragment = %fragment.name, %error, "a fragment was not written");
            return Err(error);
        }
    }

    /// Reads exactly `range` of one fragment, verified. One try: the caller has other fragments to ask.
    pub(crate) async fn get(&self, disk: DiskId, name: FragmentName, range: Range<u32>) -> Result<Bytes, Unread> {
        let started = Instant::now();
        let read = self.fragments.get(disk, name, range.clone(), started + self.deadline).await;
        let error = match read {
            Ok(bytes) if bytes.len() == range.len() => {
                self.latencies.observe(bytes.len(), started.elapsed());
                self.placement.report(disk, Use::Read, Heard::Answer);
                return Ok(bytes);
            }
            Ok(bytes) => {
                let what = format!("{} bytes came for {}", bytes.len(), range.len());
                TransportError::Disk(DiskError::Corrupt { name, what })
            }
            Err(error) => error,
        };
        let unread = Unread::of(&error);
        self.metrics.fragment_read_failures.with_label_values(&[unread.label()]).inc();
        self.blame(disk, Use::Read, &error);
        tracing::debug!(fragment = %name, %disk, %error, "a fragment was not read");
        Err(unread)
    }

    fn blame(&self, disk: DiskId, asked: Use, error: &TransportError) {
        if let Some(heard) = fault(error) {
            self.placement.report(disk, asked, heard);
        }
    }
}

fn pause_before_retry(error: &TransportError, tries: u32) -> Option<Duration> {
    let jittered = |base: u64| Duration::from_millis(rand::rng().random_range(base / 2..=base));
    match error {
        TransportError::Busy(_) | TransportError::Disk(DiskError::Busy) if tries < 8 => {
            Some(jittered(10 << tries.min(6)))
        }
        TransportError::Unreachable(..) if tries < 2 => Some(jittered(50)),
        // Damaged on the way: the same bytes again.
        TransportError::BadChecksum(_) | TransportError::Disk(DiskError::BadChecksum) if tries < 3 => Some(jittered(4)),
        _ => None,
    }
}

/// What the error tells of the disk's health: that other requests to it will fare as badly, so that it is better
/// avoided. None: it is this one request that failed.
fn fault(error: &TransportError) -> Option<Heard> {
    let disk = matches!(
        error,
        TransportError::Deadline(_)
            | TransportError::Overdue(_)
            | TransportError::Disk(
                DiskError::Full { .. } | DiskError::ReadOnly(_) | DiskError::Gone(_) | DiskError::Io { .. }
            )
    );
    match error {
        TransportError::Unreachable(..) | TransportError::UnknownDisk(_) => Some(Heard::NoNode),
        _ if disk => Some(Heard::Nothing),
        _ => None,
    }
}
