//! Own disks that were away and are compared with what they should hold before they count again (RED-1): each by a
//! worker of its own, so that neither one that takes long nor one that cannot be compared keeps the judge from
//! anything.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use cairn_schema::ids::*;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    background::{Context, compare::Comparison},
    supervisor::StepError,
};

/// How long it may take before the disk is called up regardless; scrub finds what is left.
const LIMIT: Duration = Duration::from_secs(30);
/// What fails, as it does while the metadata or other nodes are away, is tried again after this, and each time later.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The workers, one for each disk that returns.
#[derive(Default)]
pub(super) struct Returning {
    workers: HashMap<DiskId, AbortOnDropHandle<()>>,
}

impl Returning {
    /// Whether a disk has been compared, at `until` at the latest; if nobody is at it, it is begun. Told once: then the
    /// disk is to be called up.
    pub(super) async fn is_compared(&mut self, ctx: &Context, disk: DiskId, until: Instant) -> bool {
        let begin = || AbortOnDropHandle::new(tokio::spawn(compare(ctx.clone(), disk)));
        let worker = self.workers.entry(disk).or_insert_with(begin);
        // What is quickly done is not to wait for the judge's next step.
        let Ok(ended) = tokio::time::timeout_at(until.into(), worker).await else { return false };
        self.workers.remove(&disk);
        if let Err(error) = &ended {
            tracing::error!(%disk, %error, "comparing a disk with what it should hold ended early and begins anew");
        }
        ended.is_ok()
    }

    /// It failed again, or is up.
    pub(super) fn forget(&mut self, disk: DiskId) {
        self.workers.remove(&disk);
    }
}

async fn compare(ctx: Context, disk: DiskId) {
    let mut done = Done { until: Instant::now() + LIMIT, positions: HashSet::new(), missing: 0 };
    let mut pause = PAUSE;
    while let Err(error) = done.go_on(&ctx, disk).await {
        tracing::warn!(%disk, %error, "a disk that returns cannot be compared with what it should hold yet");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// How far a comparison has come.
struct Done {
    until: Instant,
    positions: HashSet<(GroupId, u8)>,
    missing: u64,
}

impl Done {
    /// To the end, or until it has taken too long.
    async fn go_on(&mut self, ctx: &Context, disk: DiskId) -> Result<(), StepError> {
        let rows = ctx.placement.topology().rows.clone();
        for (group, position) in rows.positions_of(disk) {
            if self.positions.contains(&(group, position)) {
                continue;
            }
            let mut comparison = Comparison::new(disk, group, position);
            while let Some(page) = comparison.step(ctx, &rows).await? {
                self.missing += page.missing;
                if Instant::now() > self.until {
                    let missing = self.missing;
                    tracing::warn!(%disk, missing, "comparing the disk with what it should hold takes long; scrub will finish it");
                    return Ok(());
                }
            }
            self.positions.insert((group, position));
        }
        tracing::info!(%disk, missing = self.missing, "the disk was compared with what it should hold");
        Ok(())
    }
}
