#![allow(clippy::unwrap_used)]
use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use cairn_schema::Meta;

use super::{super::test_world::*, *};
use crate::{background::repair::Repair, policy::Timings};

/// Two copies of objects on disks of nodes of their own; time stands still but where it is moved.
struct World {
    meta: Meta,
    jars: Arc<Jars>,
    ctx: Context,
    clock: Arc<AtomicU64>,
    groups: Vec<GroupId>,
    objects: u8,
}

const OBJECTS: u8 = 5;

impl World {
    /// So many groups, the first over disks 1 and 2, the second over 2 and 3, …, of so many disks.
    async fn new(disks: u8, groups: u8) -> Self {
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let time = clock.clone();
        let meta = Meta::in_memory().with_clock(move || time.load(Ordering::Relaxed));
        furnish(&meta).await;
        for number in 3..=disks {
            register(&meta, number).await;
        }
        let scheme = Scheme::Replicated { copies: 2 };
        meta.cluster(Policy::new(scheme, scheme, FailureDomain::Node)).await.unwrap();
        let jars = Arc::new(Jars::default());
        let ctx = context(meta.clone(), jars.clone(), Timings::default());
        let mut world = Self { meta, jars, ctx, clock, groups: Vec::new(), objects: 0 };
        for number in 0..groups {
            let pair = vec![disk(number % disks + 1), disk((number + 1) % disks + 1)];
            let group = world.meta.create_group(scheme, pair).await.unwrap();
            for _ in 0..OBJECTS {
                world.put(&group).await;
            }
            world.groups.push(group.id);
        }
        world
    }

    /// An object of one stripe, on all members.
    async fn put(&mut self, group: &Group) -> BlobId {
        let request = put(group, format!("k{}", self.objects), AttemptId::random());
        let blob = request.blob.as_ref().unwrap().blob.id;
        for (position, member) in (0u8..).zip(&group.members) {
            let name = FragmentName { group: group.id, blob, stripe: 0, position };
            self.jars.kept.lock().insert((*member, name), Bytes::copy_from_slice(&[self.objects]));
        }
        self.objects += 1;
        self.meta.commit_object(request).await.unwrap();
        blob
    }

    fn pass(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }

    async fn look(&self) -> Arc<Rows> {
        let rows = self.ctx.placement.refresh().await.unwrap();
        self.ctx.placement.poll_loads(&self.ctx.fragments, Duration::from_secs(5)).await;
        rows
    }

    async fn drain(&self, number: u8) -> Job {
        let targets = vec![JobTarget { level: FailureDomain::Disk, name: disk(number).to_string() }];
        let (attempt, kind) = (AttemptId::random(), JobKind::Drain);
        self.meta
            .start_job(NewJob { attempt, kind, targets, by: "n1".into(), planned: Moved::default() })
            .await
            .unwrap()
    }

    async fn job(&self, id: JobId) -> Job {
        self.meta.jobs().await.unwrap().into_iter().find(|job| job.id == id).unwrap()
    }

    async fn group(&self, id: GroupId) -> Group {
        self.meta.group(id).await.unwrap().unwrap()
    }

    /// One step of a mover that has just been started, as after a crash at any place between two steps.
    async fn step_anew(&self) -> Step {
        self.look().await;
        let step = Mover::new(self.ctx.clone()).step().await.unwrap();
        self.pass(SETTLE_MS);
        self.whole().await;
        step
    }

    async fn steps_until(&self, id: JobId, state: JobState) -> Job {
        for _ in 0..500 {
            self.step_anew().await;
            let job = self.job(id).await;
            if job.state == state {
                return job;
            }
        }
        panic!("{:?}", self.job(id).await);
    }

    /// Every stripe has all its fragments with its members, whatever was done so far, and the ledger knows of none that
    /// is not there.
    async fn whole(&self) {
        for group in self.meta.groups().await.unwrap() {
            for placed in self.meta.placed_blobs(group.id, None, 1000).await.unwrap() {
                for (position, member) in (0u8..).zip(&group.members) {
                    let name = FragmentName { group: group.id, blob: placed.blob.id, stripe: 0, position };
                    assert!(
                        self.jars.kept.lock().contains_key(&(*member, name)),
                        "{name} is not on its member {member}"
                    );
                }
            }
            let nodes: HashSet<_> = group.members.iter().collect();
            assert_eq!(nodes.len(), 2, "PLC-1");
        }
        assert_eq!(self.meta.ledger_len().await.unwrap(), 0);
    }

    async fn positions(&self, number: u8) -> usize {
        let groups = self.meta.groups().await.unwrap();
        groups.iter().filter(|group| group.members.contains(&disk(number))).count()
    }

    async fn state(&self, number: u8) -> DiskState {
        let disks = self.meta.disks().await.unwrap();
        disks.into_iter().find(|row| row.id == disk(number)).unwrap().state
    }
}

#[tokio::test]
async fn red_1_a_drained_disk_is_empty_in_the_end_and_nothing_is_missing_at_any_step_whoever_dies() {
    let world = World::new(6, 12).await;
    assert_eq!(world.positions(2).await, 4);
    let job = world.drain(2).await;
    assert_eq!(world.state(2).await, DiskState::Draining);
    let refused = world.meta.remove_disks(&[disk(2)]).await.unwrap_err();
    assert!(refused.to_string().contains("4 of the groups"), "{refused}");
    let done = world.steps_until(job.id, JobState::Done).await;
    assert_eq!((world.positions(2).await, done.moved.positions, done.moved.bytes), (0, 4, 4 * u64::from(OBJECTS)));
    assert!(world.meta.group_moves().await.unwrap().is_empty());
    let sealed = world.meta.groups().await.unwrap().into_iter().filter(|group| group.state == GroupState::Sealed);
    assert_eq!(sealed.count(), 0, "all take writes again");
    let metrics = &world.ctx.metrics;
    assert_eq!((metrics.moved_members.get(), metrics.moved_bytes.get()), (4, 4 * u64::from(OBJECTS)));
    // Copied, not decoded: with the others silent it would not have gone otherwise; each was written once.
    world.meta.remove_disks(&[disk(2)]).await.unwrap();
    assert_eq!(world.state(2).await, DiskState::Removed);
}

/// What is committed while the group is moved is on the new disk as well when that becomes the member, whenever it
/// came.
#[tokio::test]
async fn red_1_what_is_written_meanwhile_is_moved_too() {
    let mut world = World::new(4, 1).await;
    let id = world.groups[0];
    let job = world.drain(1).await;
    let mut written = 0;
    for _ in 0..100 {
        if world.job(job.id).await.state == JobState::Done {
            break;
        }
        // Before every step but the last ones, or there would be no end.
        if written < 6 {
            let group = world.group(id).await;
            world.put(&group).await;
            written += 1;
        }
        world.step_anew().await;
    }
    assert_eq!((world.job(job.id).await.state, written), (JobState::Done, 6));
    let group = world.group(id).await;
    assert!(!group.members.contains(&disk(1)) && group.epoch == 2 && group.state == GroupState::Open, "{group:?}");
    assert_eq!(world.meta.placed_blobs(id, None, 100).await.unwrap().len(), usize::from(OBJECTS) + 6);
    assert!(world.meta.move_tail(id, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_moves_while_something_is_missing_and_repair_comes_first() {
    let world = World::new(6, 6).await;
    let job = world.drain(2).await;
    // Disk 4 is lost: of groups 3 and 4, which it shares with disks 3 and 5.
    for (from, to) in [(DiskState::Up, DiskState::Down), (DiskState::Down, DiskState::Lost)] {
        world.meta.set_disk_states(vec![(disk(4), from, to)]).await.unwrap();
    }
    world.jars.kept.lock().retain(|(of, _), _| *of != disk(4));
    let mut mover = Mover::new(world.ctx.clone());
    world.look().await;
    assert_eq!(mover.step().await.unwrap(), Step::Idle, "lost members have no stand-ins yet");
    let mut repair = Repair::new(world.ctx.clone());
    let mut repaired = 0;
    while world.positions(4).await > 0 || world.meta.ledger_len().await.unwrap() > 0 {
        repair.step().await.unwrap();
        world.look().await;
        if world.meta.ledger_len().await.unwrap() > 0 {
            mover.step().await.unwrap();
            assert!(world.meta.group_moves().await.unwrap().is_empty(), "something is missing");
            repaired += 1;
        }
        assert!(repaired < 1000);
    }
    assert!(repaired > 0);
    // Also what one row says: a stripe that lacks a fragment stops what is under way.
    let group = world.group(world.groups[0]).await;
    world.look().await;
    assert_eq!(mover.step().await.unwrap(), Step::Worked { bytes: 0 }, "moves begin");
    world.pass(SETTLE_MS);
    let blob = world.meta.placed_blobs(group.id, None, 1).await.unwrap().remove(0).blob.id;
    let fragment = FragmentName { group: group.id, blob, stripe: 0, position: 0 };
    let entry = LedgerEntry { fragment, cause: MissingCause::NotFound, since_ms: 1 };
    world.meta.ledger_add(&[entry]).await.unwrap();
    let before = world.jars.kept.lock().len();
    assert_eq!(mover.step().await.unwrap(), Step::Idle);
    assert_eq!(world.jars.kept.lock().len(), before, "nothing is copied");
    world.meta.ledger_clear(fragment, group.epoch).await.unwrap();
    world.steps_until(job.id, JobState::Done).await;
    assert_eq!(world.positions(2).await, 0);
}

#[tokio::test]
async fn a_drain_is_paused_resumed_and_cancelled_and_what_was_moved_stays() {
    let world = World::new(6, 12).await;
    let job = world.drain(2).await;
    while world.job(job.id).await.moved.positions == 0 {
        world.step_anew().await;
    }
    world.meta.set_job_state(job.id, JobState::Paused).await.unwrap();
    assert!(world.meta.group_moves().await.unwrap().is_empty(), "what was under way has ended");
    let at_pause = world.positions(2).await;
    for _ in 0..5 {
        assert_eq!(world.step_anew().await, Step::Idle);
    }
    assert_eq!((world.positions(2).await, world.state(2).await), (at_pause, DiskState::Draining));
    world.meta.set_job_state(job.id, JobState::Running).await.unwrap();
    while world.positions(2).await == at_pause {
        world.step_anew().await;
    }
    world.meta.set_job_state(job.id, JobState::Cancelled).await.unwrap();
    let left = world.positions(2).await;
    assert!((1..at_pause).contains(&left));
    for _ in 0..5 {
        assert_eq!(world.step_anew().await, Step::Idle);
    }
    assert_eq!((world.positions(2).await, world.state(2).await), (left, DiskState::Up));
    let open = world.meta.groups().await.unwrap();
    assert!(open.iter().all(|group| group.state == GroupState::Open));
    // It is one to be drained again.
    let again = world.drain(2).await;
    world.steps_until(again.id, JobState::Done).await;
    assert_eq!(world.positions(2).await, 0);
}

#[tokio::test]
async fn a_disk_that_comes_back_up_is_drained_again_and_one_that_is_lost_is_repaired() {
    let world = World::new(6, 6).await;
    let job = world.drain(2).await;
    world.meta.set_disk_states(vec![(disk(2), DiskState::Draining, DiskState::Down)]).await.unwrap();
    for _ in 0..3 {
        world.step_anew().await;
    }
    let blocked = world.job(job.id).await.blocked.unwrap();
    assert!(blocked.contains("which is away") && blocked.contains(&disk(2).to_string()), "{blocked}");
    assert_eq!(world.positions(2).await, 2);
    world.meta.set_disk_states(vec![(disk(2), DiskState::Down, DiskState::Up)]).await.unwrap();
    assert_eq!(world.step_anew().await, Step::Worked { bytes: 0 });
    assert_eq!(world.state(2).await, DiskState::Draining);
    world.steps_until(job.id, JobState::Done).await;
    // Also once the drain is done.
    for (from, to) in [(DiskState::Draining, DiskState::Down), (DiskState::Down, DiskState::Up)] {
        world.meta.set_disk_states(vec![(disk(2), from, to)]).await.unwrap();
    }
    world.step_anew().await;
    assert_eq!(world.state(2).await, DiskState::Draining);

    let second = world.drain(3).await;
    for (from, to) in [(DiskState::Draining, DiskState::Down), (DiskState::Down, DiskState::Lost)] {
        world.meta.set_disk_states(vec![(disk(3), from, to)]).await.unwrap();
    }
    world.jars.kept.lock().retain(|(of, _), _| *of != disk(3));
    let mut repair = Repair::new(world.ctx.clone());
    for _ in 0..200 {
        world.look().await;
        repair.step().await.unwrap();
    }
    world.steps_until(second.id, JobState::Done).await;
    assert_eq!(world.positions(3).await, 0);
    world.meta.remove_disks(&[disk(2), disk(3)]).await.unwrap();
}

#[tokio::test]
async fn a_stripe_that_cannot_be_copied_is_named_and_the_others_move() {
    let world = World::new(6, 6).await;
    let job = world.drain(2).await;
    // Of one stripe there is nothing left at all.
    let group = world.groups[0];
    let blob = world.meta.placed_blobs(group, None, 1).await.unwrap().remove(0).blob.id;
    let taken = |name: &FragmentName| name.blob == blob;
    let saved: HashMap<_, _> = world
        .jars
        .kept
        .lock()
        .iter()
        .filter(|((_, name), _)| taken(name))
        .map(|(at, bytes)| (*at, bytes.clone()))
        .collect();
    world.jars.kept.lock().retain(|(_, name), _| !taken(name));
    let mut mover = Mover::new(world.ctx.clone());
    for _ in 0..30 {
        world.look().await;
        mover.step().await.unwrap();
        world.pass(SETTLE_MS);
        // What the mover found out is in the ledger; repair can do nothing about it, and an operator looks.
        for entry in world.meta.ledger(None, 10).await.unwrap() {
            let epoch = world.group(entry.fragment.group).await.epoch;
            world.meta.ledger_clear(entry.fragment, epoch).await.unwrap();
        }
    }
    assert_eq!(world.positions(2).await, 1, "the others are moved");
    assert!(world.group(group).await.members.contains(&disk(2)));
    let reason = mover.reasons.get(&group).unwrap();
    assert!(reason.contains("0 of the 1 fragments needed"), "{reason}");
    world.jars.kept.lock().extend(saved);
    world.steps_until(job.id, JobState::Done).await;
}

#[tokio::test]
async fn one_node_moves_at_a_time() {
    let world = World::new(4, 2).await;
    world.drain(2).await;
    let other = world.meta.lease(LEASE_NAME, "n2", 60_000).await.unwrap().unwrap();
    assert_eq!(world.step_anew().await, Step::Idle);
    assert!(world.meta.group_moves().await.unwrap().is_empty());
    world.meta.release(&other).await.unwrap();
    assert_eq!(world.step_anew().await, Step::Worked { bytes: 0 });
    assert_eq!(world.meta.group_moves().await.unwrap().len(), 2);
}

/// Six disks with all there is, and two new ones.
#[tokio::test]
async fn plc_1_new_disks_get_their_share_by_a_rebalance() {
    let world = World::new(6, 24).await;
    for number in [7, 8] {
        register(&world.meta, number).await;
    }
    let (attempt, kind) = (AttemptId::random(), JobKind::Rebalance);
    let new = NewJob { attempt, kind, targets: Vec::new(), by: "n1".into(), planned: Moved::default() };
    let job = world.meta.start_job(new).await.unwrap();
    let done = world.steps_until(job.id, JobState::Done).await;
    let mut positions = Vec::new();
    for number in 1..=8 {
        positions.push(world.positions(number).await);
    }
    assert_eq!(positions, [6; 8], "48 positions on eight disks");
    assert_eq!(done.moved, Moved { positions: 12, bytes: 12 * u64::from(OBJECTS) });
}

/// What is about to be stopped is given nothing.
#[tokio::test]
async fn nothing_moves_to_where_somebody_works() {
    let world = World::new(3, 1).await;
    let address = "127.0.0.1:1".parse().unwrap();
    let node = Node { id: "n3".parse().unwrap(), rack: "r".into(), zone: "z".into(), address };
    world.meta.register_node(node.clone()).await.unwrap();
    let windows = ClusterMaintenance::default().started(node.id, 3_600_000, cairn_schema::clock::now_ms()).windows;
    world.meta.set_maintenance(0, windows).await.unwrap();
    let job = world.drain(2).await;
    for _ in 0..10 {
        world.step_anew().await;
    }
    assert_eq!(world.positions(3).await, 0);
    let blocked = world.job(job.id).await.blocked.unwrap();
    assert!(blocked.contains("take no writes now"), "{blocked}");
    world.meta.set_maintenance(1, Vec::new()).await.unwrap();
    world.steps_until(job.id, JobState::Done).await;
    assert_eq!((world.positions(2).await, world.positions(3).await), (0, 1));
}

/// One step of a mover that has just been started, or of one that looks again.
async fn look_and_step(world: &World) -> Step {
    world.look().await;
    let step = Mover::new(world.ctx.clone()).step().await.unwrap();
    world.pass(SETTLE_MS);
    step
}

async fn jobs_in(world: &World, state: JobState) -> usize {
    world.meta.jobs().await.unwrap().iter().filter(|job| job.state == state).count()
}

/// Three copies, two of them on one node, as they were written while others were away.
#[tokio::test]
async fn what_lies_on_fewer_nodes_than_it_could_is_spread_by_itself_unless_an_operator_says_otherwise() {
    let mut world = World::new(4, 0).await;
    let (node, rack, zone) = ("n1".parse().unwrap(), "r".to_owned(), "z".to_owned());
    let row = Disk { id: disk(5), node, rack, zone, capacity_bytes: 1, state: DiskState::Up, since_ms: 0 };
    world.meta.register_disk(row).await.unwrap();
    let scheme = Scheme::Replicated { copies: 3 };
    let thin = async |world: &mut World| {
        let group = world.meta.create_group(scheme, vec![disk(1), disk(5), disk(2)]).await.unwrap();
        for _ in 0..OBJECTS {
            world.put(&group).await;
        }
        group.id
    };
    let first = thin(&mut world).await;
    world.pass(60_000);
    assert_eq!(look_and_step(&world).await, Step::Idle, "nobody has judged the stripes yet");
    world.ctx.metrics.thin_stripes.set(5);
    world.meta.set_disk_states(vec![(disk(4), DiskState::Up, DiskState::Down)]).await.unwrap();
    world.meta.set_disk_states(vec![(disk(4), DiskState::Down, DiskState::Up)]).await.unwrap();
    assert_eq!(look_and_step(&world).await, Step::Idle, "a disk has just come back");
    world.pass(30_000);
    assert_eq!(look_and_step(&world).await, Step::Worked { bytes: 0 });
    let job = world.meta.jobs().await.unwrap().remove(0);
    assert_eq!((job.kind, &*job.by, job.planned.positions), (JobKind::Rebalance, "n1 by itself", 1));
    for _ in 0..100 {
        look_and_step(&world).await;
    }
    assert_eq!(jobs_in(&world, JobState::Done).await, 1);
    let group = world.group(first).await;
    let one_of_the_two = group.members.contains(&disk(1)) != group.members.contains(&disk(5));
    assert!(one_of_the_two && group.members.contains(&disk(2)), "{group:?}");
    for placed in world.meta.placed_blobs(first, None, 100).await.unwrap() {
        for (position, member) in (0u8..).zip(&group.members) {
            let name = FragmentName { group: first, blob: placed.blob.id, stripe: 0, position };
            assert!(world.jars.kept.lock().contains_key(&(*member, name)), "{name} is not on {member}");
        }
    }
    // There is nothing to be moved, whatever the gauge says, and no job is begun for it.
    world.pass(3_600_000);
    assert_eq!((look_and_step(&world).await, jobs_in(&world, JobState::Running).await), (Step::Idle, 0));
    thin(&mut world).await;
    assert_eq!(look_and_step(&world).await, Step::Worked { bytes: 0 });
    let id = world.meta.jobs().await.unwrap().iter().find(|job| job.state == JobState::Running).unwrap().id;
    world.meta.set_job_state(id, JobState::Paused).await.unwrap();
    world.pass(3_600_000);
    assert_eq!((look_and_step(&world).await, jobs_in(&world, JobState::Running).await), (Step::Idle, 0), "paused");
    world.meta.set_job_state(id, JobState::Cancelled).await.unwrap();
    world.pass(3_600_000);
    assert_eq!((look_and_step(&world).await, jobs_in(&world, JobState::Running).await), (Step::Idle, 0), "cancelled");
    world.meta.set_disk_states(vec![(disk(4), DiskState::Up, DiskState::Down)]).await.unwrap();
    world.meta.set_disk_states(vec![(disk(4), DiskState::Down, DiskState::Up)]).await.unwrap();
    world.pass(30_000);
    look_and_step(&world).await;
    assert_eq!(jobs_in(&world, JobState::Running).await, 1, "the cluster is another one now");
}
