//! Which rates of repair and scrub a node goes by: its own, but for those that the cluster has for all nodes. All that
//! goes by them is told here, from the picture of the cluster, while the node runs.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_disk::DiskHandle;
use cairn_schema::record::ClusterRates;
use parking_lot::Mutex;

use crate::{
    placement::Placement,
    policy::{Rates, RatesView},
    supervisor::{ChildHandle, Rate, Step, StepError, Worker, WorkerCommand},
};

/// The rates in force on a node, and whom they bind.
pub(super) struct RateKeeper {
    placement: Arc<Placement>,
    disks: Vec<DiskHandle>,
    /// Of the whole node.
    pub repair: Rate,
    /// Of each disk.
    pub scrub: Rate,
    in_force: Mutex<RatesView>,
    paced: Mutex<Vec<ChildHandle<WorkerCommand>>>,
}

impl RateKeeper {
    /// By what the node was told, until [`RateKeeper::follow`] finds the cluster's in the picture.
    pub(super) fn new(told: Rates, placement: Arc<Placement>, disks: Vec<DiskHandle>) -> Arc<Self> {
        let keeper = Self {
            placement,
            disks,
            repair: Rate::new(told.repair_bytes),
            scrub: Rate::new(told.scrub_bytes),
            in_force: Mutex::new(RatesView { told, kept: ClusterRates::default() }),
            paced: Mutex::default(),
        };
        keeper.bind(&told);
        Arc::new(keeper)
    }

    /// A worker that goes by one of the rates. It is woken when they grow: it may be in the middle of a long rest.
    pub(super) fn paces(&self, worker: ChildHandle<WorkerCommand>) {
        self.paced.lock().push(worker);
    }

    pub(super) fn view(&self) -> RatesView {
        *self.in_force.lock()
    }

    /// Makes the rates of the picture now those in force. Of several who do so at once the last has the newest picture,
    /// because it is looked at under the lock.
    pub(super) fn follow(&self) {
        let mut in_force = self.in_force.lock();
        let kept = self.placement.topology().rows.rates;
        if in_force.kept == kept {
            return;
        }
        let before = in_force.in_force();
        in_force.kept = kept;
        let now = in_force.in_force();
        self.bind(&now);
        tracing::info!(node = %self.placement.node(), generation = kept.generation, ?now, ?before, "goes by other rates");
        if now.repair_bytes > before.repair_bytes || now.scrub_bytes > before.scrub_bytes {
            for worker in self.paced.lock().iter() {
                // One that does not run is started anew, and rests for nobody.
                let _ = worker.cast(WorkerCommand::Wake);
            }
        }
    }

    fn bind(&self, rates: &Rates) {
        self.repair.set(rates.repair_bytes);
        self.scrub.set(rates.scrub_bytes);
        for disk in &self.disks {
            disk.set_background_share(rates.background_share);
        }
    }
}

/// Looks at the picture now and then.
pub(super) struct RateFollower(pub Arc<RateKeeper>);

#[async_trait]
impl Worker for RateFollower {
    async fn step(&mut self) -> Result<Step, StepError> {
        self.0.follow();
        Ok(Step::Idle)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use cairn_disk::{DiskOptions, IndexMemory};
    use cairn_schema::{
        Meta,
        ids::ClusterId,
        record::{FailureDomain, Policy, RateOverrides},
    };
    use tokio::sync::mpsc;

    use super::*;
    use crate::supervisor::{Need, Pace, Supervisor, WorkerMetrics, worker};

    const TOLD: Rates = Rates { scrub_bytes: 32 << 20, repair_bytes: 1 << 20, background_share: 0.25 };

    /// Does much at once, and says that it did.
    struct Steady(mpsc::UnboundedSender<()>);

    #[async_trait]
    impl Worker for Steady {
        async fn step(&mut self) -> Result<Step, StepError> {
            self.0.send(())?;
            Ok(Step::Worked { bytes: 1 << 30 })
        }
    }

    fn placement(meta: &Meta) -> Arc<Placement> {
        let scheme = "replicated(2)".parse().unwrap();
        Placement::new(meta.clone(), "n1".parse().unwrap(), Policy::new(scheme, scheme, FailureDomain::Node))
    }

    #[tokio::test]
    async fn disks_and_rates_follow_the_picture_and_return_to_what_the_node_was_told() {
        let (meta, dir) = (Meta::in_memory(), tempfile::tempdir().unwrap());
        let options = DiskOptions {
            path: dir.path().join("disk"),
            cluster: ClusterId([1; 16]),
            segment_bytes: 1 << 20,
            reserved_bytes: 0,
            capacity_bytes: Some(16 << 20),
            max_queued_bytes: 1 << 20,
            max_queued_reads: 16,
            index: IndexMemory::default(),
        };
        let disk = DiskHandle::open(options).unwrap();
        let placement = placement(&meta);
        let keeper = RateKeeper::new(TOLD, placement.clone(), vec![disk.clone()]);
        let in_force = || (keeper.scrub.get(), keeper.repair.get(), disk.background_share());
        assert_eq!(in_force(), (32 << 20, 1 << 20, 0.25));

        let overrides = RateOverrides { scrub_bytes: Some(2 << 20), repair_bytes: None, background_percent: Some(50) };
        meta.set_rates(0, overrides).await.unwrap();
        keeper.follow();
        assert_eq!(in_force(), (32 << 20, 1 << 20, 0.25), "the picture is the one before");
        placement.refresh().await.unwrap();
        keeper.follow();
        assert_eq!(in_force(), (2 << 20, 1 << 20, 0.5));
        let view = keeper.view();
        assert_eq!(
            (view.told, view.kept.generation, view.kept.rates.named()),
            (TOLD, 1, vec!["scrub", "background_percent"])
        );

        meta.set_rates(1, RateOverrides::default()).await.unwrap();
        placement.refresh().await.unwrap();
        keeper.follow();
        assert_eq!(in_force(), (32 << 20, 1 << 20, 0.25));
        disk.close().await;
    }

    #[tokio::test]
    async fn a_worker_that_rests_long_by_the_old_rate_goes_on_by_the_new_one() {
        let (meta, supervisor) = (Meta::in_memory(), Supervisor::start("test").await.unwrap());
        let placement = placement(&meta);
        let keeper = RateKeeper::new(TOLD, placement.clone(), Vec::new());
        let (idle, step_limit) = (Duration::from_secs(600), Duration::from_secs(10));
        let pace = Pace {
            tranquility: 0.0,
            bytes_per_second: Some(keeper.repair.clone()),
            share_left: None,
            idle,
            step_limit,
        };
        let metrics = WorkerMetrics::new(&prometheus::Registry::new()).unwrap();
        let (steps, mut stepped) = mpsc::unbounded_channel();
        let make = move || Steady(steps.clone());
        keeper.paces(worker::run(&supervisor, "steady", Need::Helpful, pace, &metrics, make).await.unwrap());
        // It rests for as long as a worker ever does.
        stepped.recv().await.unwrap();
        let fast = RateOverrides { repair_bytes: Some(u64::MAX), ..RateOverrides::default() };
        meta.set_rates(0, fast).await.unwrap();
        placement.refresh().await.unwrap();
        keeper.follow();
        let some = async {
            for _ in 0..5 {
                stepped.recv().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), some).await.expect("no rest of a minute");
        supervisor.stop(Duration::from_secs(5)).await;
    }
}
