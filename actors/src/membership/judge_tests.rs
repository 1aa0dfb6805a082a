#![allow(clippy::unwrap_used)]

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use cairn_fragment::{Bounded, DiskStatus, FragmentInfo, Fragments, NewFragment, Terms, TransportError};
use cairn_schema::{record::Cause, verbs::*};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::*;
use crate::{
    background::{BackgroundMemory, Courtesy, HealingMetrics, Inconsistent},
    membership::Peer,
    placement::Placement,
    policy::{Policy, Timings},
};

/// The network as node 0 meets it: who answers whom.
#[derive(Default)]
struct Net {
    /// Pairs (from, to) that cannot talk.
    cut: Mutex<HashSet<(NodeId, NodeId)>>,
    failed: Mutex<Option<String>>,
    /// What the disks hold, in order.
    held: Mutex<Vec<(DiskId, FragmentName)>>,
    listing: Mutex<Listing>,
}

/// What becomes of a call for what a disk holds.
#[derive(Clone, Copy, Default, PartialEq)]
enum Listing {
    #[default]
    Answers,
    Fails,
    Hangs,
}

fn node(index: usize) -> NodeId {
    format!("n{index}").parse().unwrap()
}

fn disk(index: usize) -> DiskId {
    DiskId([u8::try_from(index).unwrap(); 16])
}

impl Net {
    fn kill(&self, target: usize) {
        self.cut.lock().extend((0..9).map(|from| (node(from), node(target))));
    }

    fn talks(&self, from: &NodeId, to: &NodeId) -> Result<(), TransportError> {
        match self.cut.lock().contains(&(from.clone(), to.clone())) {
            true => Err(TransportError::Unreachable(to.clone(), "cut".into())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Probes for Net {
    async fn probe(&self, target: &NodeId, _: Instant) -> Result<(), TransportError> {
        self.talks(&node(0), target)
    }
    async fn probe_through(&self, through: &NodeId, target: &NodeId, _: Instant) -> Result<bool, TransportError> {
        self.talks(&node(0), through)?;
        Ok(self.talks(through, target).is_ok())
    }
}

#[async_trait]
impl Fragments for Net {
    async fn disk_status(&self, _: DiskId, _: Terms) -> Result<DiskStatus, TransportError> {
        Ok(DiskStatus { failed: self.failed.lock().clone(), ..DiskStatus::default() })
    }
    async fn list(
        &self,
        disk: DiskId,
        _: Option<GroupId>,
        after: Option<FragmentName>,
        _: usize,
        _: Terms,
    ) -> Result<Vec<FragmentInfo>, TransportError> {
        let listing = *self.listing.lock();
        match listing {
            Listing::Answers => {}
            Listing::Fails => return Err(TransportError::Unreachable(node(0), "listing".into())),
            Listing::Hangs => std::future::pending().await,
        }
        let held = self.held.lock();
        let listed = held.iter().filter(|(on, name)| *on == disk && after.is_none_or(|after| *name > after));
        Ok(listed.map(|(_, name)| FragmentInfo { name: *name, length: 10, written_ms: 0 }).collect())
    }
    async fn put(&self, _: DiskId, _: NewFragment, _: Terms) -> Result<(), TransportError> {
        unreachable!("a judge writes no fragments")
    }
    async fn get(&self, _: DiskId, _: FragmentName, _: Range<u32>, _: Terms) -> Result<Bytes, TransportError> {
        unreachable!("a judge reads no fragments")
    }
    async fn info(&self, _: DiskId, _: FragmentName, _: Terms) -> Result<FragmentInfo, TransportError> {
        unreachable!("a judge reads no fragments")
    }
    async fn delete(&self, _: DiskId, _: Vec<FragmentName>, _: Terms) -> Result<u64, TransportError> {
        unreachable!("a judge deletes no fragments")
    }
    async fn verify(&self, _: DiskId, _: FragmentName, _: Terms) -> Result<FragmentInfo, TransportError> {
        unreachable!("a judge reads no fragments")
    }
}

/// Node 0's judge over a cluster of nodes with one disk each.
struct Court {
    judge: Judge,
    meta: Meta,
    net: Arc<Net>,
    views: watch::Sender<Arc<View>>,
    placement: Arc<Placement>,
    nodes: usize,
}

impl Court {
    async fn of(nodes: usize, down_to_lost: Duration) -> Self {
        let meta = Meta::in_memory();
        for index in 0..nodes {
            let (id, rack, zone) = (node(index), format!("r{index}"), "z".to_owned());
            let address = "127.0.0.1:1".parse().unwrap();
            meta.register_node(Node { id: id.clone(), rack: rack.clone(), zone: zone.clone(), address }).await.unwrap();
            let row =
                Disk { id: disk(index), node: id, rack, zone, capacity_bytes: 1, state: DiskState::Up, since_ms: 0 };
            meta.register_disk(row).await.unwrap();
        }
        let (net, registry) = (Arc::new(Net::default()), prometheus::Registry::new());
        let policy = Policy::new("4+2".parse().unwrap(), "replicated(2)".parse().unwrap(), FailureDomain::Node);
        let second = Duration::from_secs(1);
        let timings = Timings { gossip_interval: second, down_to_lost, ..Timings::default() };
        let placement = Placement::new(meta.clone(), node(0), policy);
        let ctx = Context {
            node: node(0),
            meta: meta.clone(),
            fragments: Bounded::new(net.clone()),
            placement: placement.clone(),
            timings: Arc::new(timings),
            memory: BackgroundMemory::new(64 << 20),
            courtesy: Courtesy::new(|| false),
            inconsistent: Inconsistent::default(),
            metrics: HealingMetrics::new(&registry).unwrap(),
        };
        let (views, seen) = watch::channel(Arc::new(View::default()));
        let judge = Judge::new(ctx, net.clone(), vec![disk(0)], seen);
        let mut court = Self { judge, meta, net, views, placement, nodes };
        court.hear(&[]).await;
        court
    }

    /// Gossip calls all alive but `silent`; the judge takes a step.
    async fn hear(&mut self, silent: &[usize]) {
        let peer = |alive| Peer {
            alive,
            generation: 1,
            gossip: "127.0.0.1:1".parse().unwrap(),
            quic: None,
            rack: None,
            zone: None,
            version: None,
        };
        let peers = (1..self.nodes).map(|index| (node(index), peer(!silent.contains(&index)))).collect();
        self.views.send_replace(Arc::new(View { peers }));
        assert_eq!(self.judge.step().await.unwrap(), Step::Idle);
    }

    async fn not_up(&self) -> Vec<(usize, DiskState)> {
        let disks = self.meta.disks().await.unwrap();
        let mut away: Vec<_> = disks
            .iter()
            .filter(|row| row.state != DiskState::Up)
            .map(|row| (usize::from(row.id.0[0]), row.state))
            .collect();
        away.sort_unstable();
        away
    }

    /// Of the judge's own node.
    async fn second_disk(&mut self) -> DiskId {
        let (rack, zone) = ("r0".to_owned(), "z".to_owned());
        let (id, node) = (disk(self.nodes), node(0));
        let row = Disk { id, node, rack, zone, capacity_bytes: 1, state: DiskState::Up, since_ms: 0 };
        self.judge.own.push(id);
        self.meta.register_disk(row).await.unwrap().id
    }

    fn seems(&self, index: usize) -> Liveness {
        self.placement.topology().liveness(&node(index))
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn silence_confirmed_by_a_second_peer_takes_the_disks_of_that_node_down() {
    let mut court = Court::of(6, LONG).await;
    court.net.kill(3);
    court.hear(&[3, 4]).await;
    // 4 is silent in gossip only: it answers the probe.
    assert_eq!(court.not_up().await, [(3, DiskState::Down)]);
    assert_eq!((court.seems(3), court.seems(4), court.seems(5)), (Liveness::Dead, Liveness::Alive, Liveness::Alive));
}

#[tokio::test]
async fn a_node_that_only_we_cannot_reach_stays_up() {
    let mut court = Court::of(6, LONG).await;
    court.net.cut.lock().insert((node(0), node(3)));
    court.hear(&[3]).await;
    assert!(court.not_up().await.is_empty());
    // Nobody can be asked: open, not guilty.
    court.net.kill(4);
    court.net.cut.lock().extend([1, 2, 3, 5].map(|peer| (node(0), node(peer))));
    court.hear(&[4]).await;
    assert!(court.not_up().await.is_empty());
    assert_eq!(court.seems(4), Liveness::Suspect);
}

#[tokio::test]
async fn who_is_cut_off_or_accused_judges_nobody() {
    let mut court = Court::of(6, Duration::ZERO).await;
    for other in 1..6 {
        court.net.kill(other);
    }
    court.hear(&[1, 2, 3, 4, 5]).await;
    assert!(court.not_up().await.is_empty(), "one of six must not call five down");
    // The others have called us down: we neither judge nor call ourselves up while we see none of them.
    court.meta.set_disk_state(disk(0), DiskState::Up, DiskState::Down).await.unwrap();
    court.hear(&[1, 2, 3, 4, 5]).await;
    assert_eq!(court.not_up().await, [(0, DiskState::Down)]);
    // Back among them we are up again.
    court.net.cut.lock().clear();
    court.hear(&[]).await;
    assert!(court.not_up().await.is_empty());
}

/// Who answers is there, though gossip, which anybody can forge, calls all of them dead.
#[tokio::test]
async fn silence_in_gossip_alone_keeps_no_disk_down_and_condemns_nobody() {
    let mut court = Court::of(6, LONG).await;
    court.net.kill(3);
    court.meta.set_disk_state(disk(0), DiskState::Up, DiskState::Down).await.unwrap();
    court.hear(&[1, 2, 3, 4, 5]).await;
    assert!(!court.not_up().await.contains(&(0, DiskState::Down)), "our own is up again");
    court.hear(&[1, 2, 3, 4, 5]).await;
    assert_eq!(court.not_up().await, [(3, DiskState::Down)], "and who answers nobody is condemned");
    for other in [1, 2, 4, 5] {
        assert_eq!(court.seems(other), Liveness::Alive, "n{other}");
    }
}

#[tokio::test]
async fn of_two_nodes_the_one_that_lives_decides_alone() {
    let mut court = Court::of(2, LONG).await;
    court.net.kill(1);
    court.hear(&[1]).await;
    assert_eq!(court.not_up().await, [(1, DiskState::Down)]);
}

#[tokio::test]
async fn a_failed_disk_of_our_own_goes_down_and_returns_when_it_works() {
    let mut court = Court::of(3, LONG).await;
    *court.net.failed.lock() = Some("EIO".into());
    court.hear(&[]).await;
    assert_eq!(court.not_up().await, [(0, DiskState::Down)]);
    court.hear(&[]).await;
    assert_eq!(court.not_up().await, [(0, DiskState::Down)], "while it fails it stays down");
    *court.net.failed.lock() = None;
    court.hear(&[]).await;
    assert!(court.not_up().await.is_empty());
}

#[tokio::test]
async fn down_for_long_is_lost_unless_half_the_cluster_is_away() {
    for (gone, expected) in [(2, DiskState::Lost), (3, DiskState::Down)] {
        let mut court = Court::of(6, Duration::from_millis(20)).await;
        let silent: Vec<usize> = (1..=gone).collect();
        for index in &silent {
            court.meta.set_disk_state(disk(*index), DiskState::Up, DiskState::Down).await.unwrap();
            court.net.kill(*index);
        }
        court.hear(&silent).await;
        assert!(court.not_up().await.iter().all(|(_, state)| *state == DiskState::Down), "not at first sight");
        tokio::time::sleep(Duration::from_millis(40)).await;
        court.hear(&silent).await;
        let states: Vec<_> = silent.iter().map(|index| (*index, expected)).collect();
        assert_eq!(court.not_up().await, states);
    }
}

#[tokio::test]
async fn red_1_a_returning_disk_is_compared_with_what_it_should_hold() {
    let mut court = Court::of(3, LONG).await;
    let scheme: Scheme = "replicated(2)".parse().unwrap();
    let group = court.meta.create_group(scheme, vec![disk(1), disk(0)]).await.unwrap();
    let blob = Blob {
        id: BlobId::random(),
        scheme,
        length: 25,
        stripe_bytes: 10,
        runs: vec![StripeRun { group: group.id, stripes: 3 }],
        checksum: 0,
    };
    let bucket = Bucket::new("bucket", 0);
    court.meta.create_bucket(bucket).await.unwrap();
    let object = CommitObject {
        attempt: AttemptId::random(),
        bucket: "bucket".into(),
        key: "key".into(),
        version: NewVersion {
            etag: Etag { md5: [0; 16], parts: None },
            size: 25,
            owner: "o".into(),
            attributes: Attributes::default(),
            checksum: None,
            encryption: None,
        },
        blob: Some(NewBlob {
            blob: blob.clone(),
            epochs: vec![(group.id, group.epoch)],
            missing: Vec::new(),
            policy: None,
        }),
        precondition: Precondition::default(),
        cause: Cause::default(),
    };
    court.meta.commit_object(object).await.unwrap();
    let name = |stripe| FragmentName { group: group.id, blob: blob.id, stripe, position: 0 };
    court.net.held.lock().extend((0..3).map(|stripe| (disk(1), name(stripe))));
    court.meta.set_disk_state(disk(0), DiskState::Up, DiskState::Down).await.unwrap();
    court.hear(&[]).await;
    assert!(court.not_up().await.is_empty());
    // The disk turned out to be empty: all three stripes' second copies are missing.
    let rows = court.meta.ledger(None, 10).await.unwrap();
    let names: Vec<_> = rows.iter().map(|row| (row.fragment.stripe, row.fragment.position, row.cause)).collect();
    let missing = MissingCause::NotFound;
    assert_eq!(names, [(0, 1, missing), (1, 1, missing), (2, 1, missing)]);
}

/// The node's disks go down as any, for readers must know, and stay so until its time is over; and from then on they
/// have the time that every disk has.
#[tokio::test]
async fn what_somebody_works_on_is_down_and_not_given_up_until_the_work_is_over() {
    let limit = Duration::from_millis(20);
    let mut court = Court::of(6, limit).await;
    let window = ClusterMaintenance::default().started(node(1), 3_600_000, cairn_schema::clock::now_ms());
    court.meta.set_maintenance(0, window.windows).await.unwrap();
    for index in [1, 2] {
        court.net.kill(index);
        court.meta.set_disk_state(disk(index), DiskState::Up, DiskState::Down).await.unwrap();
    }
    court.hear(&[1, 2]).await;
    tokio::time::sleep(2 * limit).await;
    court.hear(&[1, 2]).await;
    assert_eq!(court.not_up().await, [(1, DiskState::Down), (2, DiskState::Lost)]);
    court.meta.set_maintenance(1, Vec::new()).await.unwrap();
    court.hear(&[1, 2]).await;
    assert_eq!(
        court.not_up().await,
        [(1, DiskState::Down), (2, DiskState::Lost)],
        "it has been away for long enough only now"
    );
    tokio::time::sleep(2 * limit).await;
    court.hear(&[1, 2]).await;
    assert_eq!(court.not_up().await, [(1, DiskState::Lost), (2, DiskState::Lost)]);
}

/// A disk that is drained is judged as one that is up, and returns as one that is drained.
#[tokio::test]
async fn draining_disks_go_down_and_return_as_they_were() {
    let mut court = Court::of(6, LONG).await;
    let target = |index| JobTarget { level: FailureDomain::Node, name: node(index).to_string() };
    let new = NewJob {
        attempt: AttemptId::random(),
        kind: JobKind::Drain,
        targets: vec![target(0), target(3)],
        by: "n0".into(),
        planned: Moved::default(),
    };
    let job = court.meta.start_job(new).await.unwrap();
    court.hear(&[]).await;
    assert_eq!(court.not_up().await, [(0, DiskState::Draining), (3, DiskState::Draining)]);
    // A node whose disks are all drained judges as before.
    court.net.kill(3);
    court.hear(&[3]).await;
    assert_eq!(court.not_up().await, [(0, DiskState::Draining), (3, DiskState::Down)]);
    *court.net.failed.lock() = Some("EIO".into());
    court.hear(&[3]).await;
    assert_eq!(court.not_up().await, [(0, DiskState::Down), (3, DiskState::Down)]);
    *court.net.failed.lock() = None;
    court.hear(&[3]).await;
    assert_eq!(court.not_up().await, [(0, DiskState::Draining), (3, DiskState::Down)]);
    leave(&court.meta, &[disk(0)]).await.unwrap();
    assert_eq!(court.not_up().await[0], (0, DiskState::Down), "it stops on purpose");
    court.meta.set_job_state(job.id, JobState::Cancelled).await.unwrap();
    court.hear(&[3]).await;
    assert_eq!(court.not_up().await, [(3, DiskState::Down)]);
}

/// Whether a comparison hangs or fails, verdicts about others are made, and told to those who write.
#[tokio::test]
async fn a_disk_whose_comparison_hangs_or_fails_keeps_no_verdict_waiting() {
    for trouble in [Listing::Hangs, Listing::Fails] {
        let mut court = Court::of(6, LONG).await;
        let second = court.second_disk().await;
        court.meta.create_group("replicated(2)".parse().unwrap(), vec![disk(1), second]).await.unwrap();
        *court.net.listing.lock() = trouble;
        court.meta.set_disk_state(second, DiskState::Up, DiskState::Down).await.unwrap();
        let began = Instant::now();
        court.hear(&[]).await;
        assert_eq!(court.not_up().await, [(6, DiskState::Down)], "it is not known what it holds");
        court.net.kill(3);
        court.hear(&[3]).await;
        assert_eq!(court.not_up().await, [(3, DiskState::Down), (6, DiskState::Down)]);
        assert_eq!(court.seems(3), Liveness::Dead);
        // No call of the comparison has come to its deadline by then.
        let deadline = Timings::default().fragment_deadline;
        assert!(began.elapsed() < deadline, "verdicts took {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_comparison_that_failed_is_tried_again_by_its_worker_until_the_disk_is_up() {
    let mut court = Court::of(3, LONG).await;
    court.meta.create_group("replicated(2)".parse().unwrap(), vec![disk(1), disk(0)]).await.unwrap();
    *court.net.listing.lock() = Listing::Fails;
    court.meta.set_disk_state(disk(0), DiskState::Up, DiskState::Down).await.unwrap();
    court.hear(&[]).await;
    *court.net.listing.lock() = Listing::Answers;
    let until = Instant::now() + Duration::from_secs(20);
    while !court.not_up().await.is_empty() {
        assert!(Instant::now() < until, "the disk is not called up");
        court.hear(&[]).await;
    }
}
