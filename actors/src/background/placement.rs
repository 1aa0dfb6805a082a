//! Keeps this node's picture of the cluster current, and enough groups formed.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use cairn_schema::MetaError;

use super::{Context, HealingMetrics};
use crate::{
    placement::{
        all_group_repairs,
        redundancy::{Presence, Redundancy, Singles},
        standing::{Grade, standing},
        tolerance::{Tolerance, tolerances},
    },
    supervisor::{Step, StepError, Worker},
};

/// How often disks are asked how full and how slow they are.
const LOADS_EVERY: Duration = Duration::from_secs(5);
/// How often the number of groups is looked at when nothing has changed.
const GROUPS_EVERY: Duration = Duration::from_secs(15);
/// How often the stripes are counted that lie more crowded than they need to, and it is judged how all stand.
const TOLERANCE_EVERY: Duration = Duration::from_secs(60);
/// A change of the cluster is often the first of several (nodes that start together): groups are formed once it is
/// quiet, or at once by a write that finds none.
const QUIET: Duration = Duration::from_secs(2);

/// Keeps the picture of the cluster current.
pub struct PlacementKeeper {
    ctx: Context,
    /// The revision that groups were last looked at for, or will be once it is quiet.
    revision: Option<u64>,
    loads_due: Instant,
    groups_due: Instant,
    tolerance_due: Instant,
}

impl PlacementKeeper {
    /// Windows of maintenance whose time is over here are over for all.
    async fn end_maintenance(&self) -> Result<(), StepError> {
        let Context { node, meta, placement, .. } = &self.ctx;
        let Some((serial, left)) = placement.end_windows() else { return Ok(()) };
        match meta.set_maintenance(serial, left.windows).await {
            Ok(_) => tracing::info!(%node, "the time of a node's maintenance is over"),
            // Somebody else was first.
            Err(MetaError::Stale(_)) => {}
            Err(error) => return Err(error.into()),
        }
        placement.refresh().await?;
        Ok(())
    }

    pub fn new(ctx: Context) -> Self {
        let now = Instant::now();
        ctx.metrics.health.set(-1);
        Self { ctx, revision: None, loads_due: now, groups_due: now + QUIET, tolerance_due: now }
    }

    /// How many stripes lie more crowded than they need to, and how all of them stand.
    async fn judge_stripes(&self) -> Result<(), StepError> {
        let Context { meta, placement, metrics, .. } = &self.ctx;
        let stripes = meta.group_stripes().await?;
        let topology = placement.topology();
        let thin = stripes.as_ref().map(|stripes| {
            let tolerances = tolerances(&topology.rows, topology.policy().failure_domain, stripes);
            tolerances.iter().map(Tolerance::thin).sum::<u64>()
        });
        metrics.thin_stripes.set(thin.map_or(-1, |thin| i64::try_from(thin).unwrap_or(i64::MAX)));
        let Some(stripes) = stripes else {
            metrics.health.set(-1);
            return Ok(());
        };
        let repairs = all_group_repairs(meta).await?;
        let redundancy = Redundancy::of(&topology.rows, Some(&stripes), &repairs, &Singles::default(), |_| false);
        let presence = |disk| match topology.disk(disk).is_some_and(|view| view.answers()) {
            true => Presence::There,
            false => Presence::Away,
        };
        let of_groups = standing(&topology.rows, &redundancy, presence).at_worst;
        // What else is missing repair has looked at, row by row.
        let missing = HealingMetrics::by_number(&metrics.missing_by_tolerance);
        let least = missing.into_iter().filter(|(_, fragments)| *fragments > 0).map(|(tolerance, _)| tolerance).min();
        let of_ledger = least.map_or(Grade::Safe, Grade::of_lacking);
        metrics.health.set(of_groups.max(of_ledger) as i64);
        Ok(())
    }

    async fn look(&mut self) -> Result<Step, StepError> {
        let Context { placement, fragments, timings, metrics, .. } = &self.ctx;
        let revision = placement.refresh().await?.revision;
        self.end_maintenance().await?;
        // Ends what was held against disks for a while, also while no request looks at them.
        metrics.show(&placement.topology());
        let now = Instant::now();
        if self.revision != revision {
            self.revision = revision;
            self.groups_due = self.groups_due.min(now + QUIET);
            self.tolerance_due = self.tolerance_due.min(now + QUIET);
        }
        if now >= self.loads_due {
            placement.poll_loads(fragments, timings.probe_timeout).await;
            self.loads_due = now + LOADS_EVERY;
        }
        if now >= self.groups_due {
            self.groups_due = now + GROUPS_EVERY;
            let made = placement.ensure_groups().await?;
            if made > 0 {
                tracing::info!(made, "formed placement groups");
            }
        }
        if now >= self.tolerance_due {
            self.tolerance_due = now + TOLERANCE_EVERY;
            self.judge_stripes().await?;
        }
        Ok(Step::Idle)
    }
}

#[async_trait]
impl Worker for PlacementKeeper {
    async fn step(&mut self) -> Result<Step, StepError> {
        let stepped = self.look().await;
        if stepped.is_err() {
            // What was judged before is not known to hold.
            self.ctx.metrics.health.set(-1);
            self.tolerance_due = Instant::now();
        }
        stepped
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use cairn_schema::{Meta, ids::*, record::*};

    use super::{super::test_world::*, *};
    use crate::policy::Timings;

    #[tokio::test]
    async fn the_gauge_of_health_tells_of_disks_that_are_down_and_of_what_repair_found() {
        let meta = Meta::in_memory();
        furnish(&meta).await;
        let keeper = PlacementKeeper::new(context(meta.clone(), Arc::new(Shelves::default()), Timings::default()));
        let Context { placement, metrics, .. } = keeper.ctx.clone();
        let health = async || {
            placement.refresh().await.unwrap();
            keeper.judge_stripes().await.unwrap();
            metrics.health.get()
        };
        assert_eq!(health().await, -1, "a store that does not count its stripes");
        let scheme = Scheme::Replicated { copies: 2 };
        meta.cluster(Policy::new(scheme, scheme, FailureDomain::Node)).await.unwrap();
        let group = group(&meta).await;
        assert_eq!(health().await, 0, "nothing is stored");
        meta.commit_object(put(&group, "k".into(), AttemptId::random())).await.unwrap();
        assert_eq!(health().await, 0);
        for (number, expected) in [(1, 2), (2, 3)] {
            meta.set_disk_states(vec![(disk(number), DiskState::Up, DiskState::Down)]).await.unwrap();
            assert_eq!(health().await, expected);
        }
        for number in [1, 2] {
            meta.set_disk_states(vec![(disk(number), DiskState::Down, DiskState::Up)]).await.unwrap();
        }
        let found =
            |tolerance: &str, fragments| metrics.missing_by_tolerance.with_label_values(&[tolerance]).set(fragments);
        found("1", 7);
        assert_eq!(health().await, 1);
        found("-1", 3);
        assert_eq!(health().await, 3);
        found("-1", 0);
        found("1", 0);
        assert_eq!(health().await, 0);
    }
}
