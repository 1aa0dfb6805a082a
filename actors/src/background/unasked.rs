//! The job that nobody asks for: what was written while failure domains were away lies on fewer of them than it could,
//! and is spread once they are back.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_schema::{MetaError, ids::*, record::*};

use super::{
    Context,
    draft::{Draft, Stock},
    room::Room,
    widen::widen,
};
use crate::{placement::Rows, supervisor::StepError};

/// How often it is looked whether there is anything to spread.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// What comes back may go again: the disks must have been as they are for so long, in milliseconds.
const SETTLED_MS: u64 = 30_000;
/// So long after one such job has ended the next may begin though no disk has changed, in milliseconds.
const AGAIN_MS: u64 = 600_000;
/// What is foretold of such a job has no more moves than this.
const MOST_MOVES: usize = 100_000;

/// Begins a rebalance when stripes could lose more failure domains than they can, and nobody has said otherwise.
#[derive(Default)]
pub(super) struct Unasked {
    looked: Option<Instant>,
}

impl Unasked {
    pub(super) fn is_due(&self) -> bool {
        self.looked.is_none_or(|when| when.elapsed() >= LOOK_EVERY)
    }

    /// Whether a job should be begun, as far as that can be told without reading anything: an operator who has one
    /// under way, paused, or has cancelled one since the disks changed last, does not want another.
    pub(super) fn may_begin(&mut self, ctx: &Context, rows: &Rows, jobs: &[Job]) -> bool {
        self.looked = Some(Instant::now());
        if ctx.metrics.thin_stripes.get() <= 0 || jobs.iter().any(|job| job.state.is_active()) {
            return false;
        }
        let now = ctx.meta.now_ms();
        let changed = rows.disks.values().map(|disk| disk.since_ms).max().unwrap_or(0);
        let ended = |job: &&Job| job.kind == JobKind::Rebalance && job.state_ms >= changed;
        let stands_against =
            |job: &Job| job.state == JobState::Cancelled || now < job.state_ms.saturating_add(AGAIN_MS);
        changed.saturating_add(SETTLED_MS) <= now && !jobs.iter().filter(ended).any(stands_against)
    }

    /// Begins it, if there is anything to be moved. Nothing may be missing.
    pub(super) async fn begin(&mut self, ctx: &Context, rows: &Arc<Rows>) -> Result<bool, StepError> {
        let draft = drafted(ctx, rows).await?;
        if draft.moves.is_empty() {
            return Ok(false);
        }
        let new = NewJob {
            attempt: AttemptId::random(),
            kind: JobKind::Rebalance,
            targets: Vec::new(),
            by: format!("{} by itself", ctx.node),
            planned: draft.sum(),
        };
        match ctx.meta.start_job(new).await {
            Ok(job) => {
                let groups = draft.moves.len();
                tracing::warn!(job = %job.id, groups, "stripes lie on fewer failure domains than they could: they are spread");
                Ok(true)
            }
            // An operator was faster.
            Err(MetaError::InUse { .. } | MetaError::TooLarge { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Off the async threads: every group is looked at.
async fn drafted(ctx: &Context, rows: &Arc<Rows>) -> Result<Draft, StepError> {
    let room = Room::read(ctx, rows).await?;
    let (topology, level, rows) = (ctx.placement.topology(), ctx.policy().failure_domain, rows.clone());
    let draft = move || {
        let free = |disk| topology.free_for_moves(disk);
        let mut stock = Stock::new(level, room, &rows, &free);
        widen(&rows, &HashSet::new(), &mut stock, MOST_MOVES)
    };
    Ok(tokio::task::spawn_blocking(draft).await?)
}
