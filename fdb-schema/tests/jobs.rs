//! Jobs and the moves of groups: what changes members lacks nothing, whatever is committed, deleted, repaired or told
//! otherwise meanwhile.
#![allow(clippy::unwrap_used)]

mod common;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cairn_schema::{Meta, MetaError, ids::*, kv::SharedKv, record::*, verbs::*};
use common::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

async fn disk(meta: &Meta, node: &str) -> DiskId {
    let (id, node) = (DiskId::random(), node.parse().unwrap());
    let (rack, zone) = ("spare".to_owned(), "z".to_owned());
    let disk = Disk { id, node, rack, zone, capacity_bytes: 1 << 40, state: DiskState::Up, since_ms: 0 };
    meta.register_disk(disk).await.unwrap().id
}

fn new_job(kind: JobKind, targets: &[(FailureDomain, &str)]) -> NewJob {
    let target = |(level, name): &(FailureDomain, &str)| JobTarget { level: *level, name: (*name).to_owned() };
    let targets = targets.iter().map(target).collect();
    let planned = Moved { positions: 5, bytes: 500 };
    NewJob { attempt: AttemptId::random(), kind, targets, by: "n1".into(), planned }
}

async fn rebalance(meta: &Meta) -> JobId {
    meta.start_job(new_job(JobKind::Rebalance, &[])).await.unwrap().id
}

async fn furnished(kv: SharedKv) -> (Meta, Group) {
    let meta = Meta::new(kv);
    meta.cluster(policy()).await.unwrap();
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    (meta, group)
}

async fn states(meta: &Meta) -> BTreeMap<DiskId, DiskState> {
    meta.disks().await.unwrap().into_iter().map(|disk| (disk.id, disk.state)).collect()
}

#[tokio::test]
async fn a_drain_marks_its_disks_and_lets_go_of_them_when_it_is_cancelled() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        drains(name, kv).await;
    }
}

pub(crate) async fn drains(name: &str, kv: SharedKv) {
    let (meta, group) = furnished(kv).await;
    let [first, second, _] = group.members[..] else { panic!("three members") };
    let revision = meta.placement_revision().await.unwrap();
    let job = meta.start_job(new_job(JobKind::Drain, &[(FailureDomain::Node, "n0")])).await.unwrap();
    assert_eq!((job.id, job.state, job.planned.positions), (JobId(1), JobState::Running, 5), "{name}");
    assert_eq!(states(&meta).await[&first], DiskState::Draining, "{name}");
    assert!(meta.placement_revision().await.unwrap() > revision, "{name}: nodes learn of it");
    let refused = |new: NewJob| {
        let meta = meta.clone();
        async move { meta.start_job(new).await.unwrap_err() }
    };
    let again = refused(new_job(JobKind::Drain, &[(FailureDomain::Rack, "z/r0")])).await;
    assert!(matches!(&again, MetaError::InUse { by, .. } if by == "job 1"), "{name}: {again}");
    let nobody = refused(new_job(JobKind::Drain, &[(FailureDomain::Node, "n1"), (FailureDomain::Zone, "y")])).await;
    assert!(matches!(&nobody, MetaError::NoSuchEntry { name, .. } if name.contains("zone \"y\"")), "{name}: {nobody}");
    assert_eq!(states(&meta).await[&second], DiskState::Up, "{name}: what is refused changes nothing");
    for wrong in [new_job(JobKind::Drain, &[]), new_job(JobKind::Rebalance, &[(FailureDomain::Node, "n1")])] {
        let error = refused(wrong).await;
        assert!(matches!(error, MetaError::Invalid { .. }), "{name}: {error}");
    }
    rebalance(&meta).await;
    let error = refused(new_job(JobKind::Rebalance, &[])).await;
    assert!(matches!(error, MetaError::InUse { .. }), "{name}: {error}");

    // A group cannot be formed with it, nor is it taken out while it is a member.
    let form = meta.create_group(group.scheme, group.members.clone()).await.unwrap_err();
    assert_eq!(form, MetaError::Stale("group member"), "{name}");
    let held = meta.remove_disks(&[first]).await.unwrap_err();
    assert!(held.to_string().contains("1 of the groups, the first of them group"), "{name}: {held}");
    let up = meta.remove_disks(&[second]).await.unwrap_err();
    assert!(up.to_string().contains("it is up, not drained"), "{name}: {up}");

    // Two drains about one node: it is let go of by the last.
    let both = meta.start_job(new_job(JobKind::Drain, &[(FailureDomain::Node, "n1")])).await.unwrap();
    let done = meta.set_job_state(both.id, JobState::Done).await.unwrap();
    assert_eq!(done.state, JobState::Done, "{name}");
    let third = meta.start_job(new_job(JobKind::Drain, &[(FailureDomain::Rack, "z/r1")])).await.unwrap();
    meta.set_job_state(third.id, JobState::Cancelled).await.unwrap();
    assert_eq!(states(&meta).await[&second], DiskState::Draining, "{name}: by the one that is done");
    meta.set_job_state(both.id, JobState::Cancelled).await.unwrap();
    assert_eq!(states(&meta).await[&second], DiskState::Up, "{name}");

    let paused = meta.set_job_state(job.id, JobState::Paused).await.unwrap();
    assert_eq!(paused.state, JobState::Paused, "{name}");
    meta.note_job(job.id, Some("no".into())).await.unwrap();
    assert_eq!(meta.jobs().await.unwrap()[0].blocked, None, "{name}: it does not run");
    let done = meta.set_job_state(job.id, JobState::Done).await.unwrap_err();
    assert!(matches!(done, MetaError::Invalid { .. }), "{name}: {done}");
    meta.set_job_state(job.id, JobState::Running).await.unwrap();
    meta.note_job(job.id, Some("é".repeat(1000))).await.unwrap();
    assert_eq!(meta.jobs().await.unwrap()[0].blocked.as_ref().unwrap().len(), 500, "{name}: cut short");
    meta.set_job_state(job.id, JobState::Cancelled).await.unwrap();
    assert_eq!(states(&meta).await[&first], DiskState::Up, "{name}");
    let over = meta.set_job_state(job.id, JobState::Running).await.unwrap_err();
    assert!(matches!(over, MetaError::Invalid { .. }), "{name}: {over}");
    let unknown = meta.set_job_state(JobId(77), JobState::Paused).await.unwrap_err();
    assert!(matches!(unknown, MetaError::NoSuchEntry { .. }), "{name}: {unknown}");
    audited(&meta, name).await;
}

#[tokio::test]
async fn bnd_1_jobs_that_are_over_are_forgotten_in_the_end_and_few_are_under_way() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        jobs_are_forgotten(name, kv).await;
    }
}

pub(crate) async fn jobs_are_forgotten(name: &str, kv: SharedKv) {
    let (meta, _) = furnished(kv).await;
    for _ in 0..200 {
        let job = rebalance(&meta).await;
        meta.set_job_state(job, JobState::Cancelled).await.unwrap();
    }
    let kept: Vec<u64> = meta.jobs().await.unwrap().iter().map(|job| job.id.0).collect();
    assert_eq!(kept, (137..=200).collect::<Vec<u64>>());
    for number in 0..20 {
        let node = format!("m{number}");
        disk(&meta, &node).await;
        let started = meta.start_job(new_job(JobKind::Drain, &[(FailureDomain::Node, &node)])).await;
        assert_eq!(started.is_ok(), number < 16, "{started:?}");
    }
    audited(&meta, name).await;
}

/// What holds a disk, in the order in which it goes: member, repair that copies from it, move.
#[tokio::test]
async fn gc_1_a_disk_is_taken_out_only_when_nothing_is_left_of_it() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        a_disk_is_taken_out(name, kv).await;
    }
}

pub(crate) async fn a_disk_is_taken_out(name: &str, kv: SharedKv) {
    let (meta, group) = furnished(kv).await;
    meta.commit_object(put(&group, "b", "k", 5)).await.unwrap();
    let old = group.members[0];
    meta.start_job(new_job(JobKind::Drain, &[(FailureDomain::Node, "n0")])).await.unwrap();
    let held = |why: &'static str| {
        let meta = meta.clone();
        async move {
            let error = meta.remove_disks(&[old]).await.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    };
    held("1 of the groups").await;
    let members = [&[disk(&meta, "n7").await], &group.members[1..]].concat();
    let replaced = meta.replace_members(group.id, 1, members, MissingCause::DiskLost).await.unwrap();
    held("the repair of group").await;
    let repair = meta.group_repair(group.id).await.unwrap().unwrap();
    let last = meta.placed_blobs(group.id, None, 10).await.unwrap().pop().map(|placed| placed.blob.id);
    let step = GroupRepairStep { group: group.id, epoch: replaced.epoch, from: repair.cursor, to: last };
    assert_eq!(meta.advance_group_repair(step).await.unwrap(), None, "{name}");
    let removed = meta.remove_disks(&[old]).await.unwrap();
    assert_eq!(removed[0].state, DiskState::Removed, "{name}");
    // A second time it is so already; its node may register it as often as it likes.
    assert_eq!(meta.remove_disks(&[old]).await.unwrap(), removed, "{name}");
    assert_eq!(meta.register_disk(removed[0].clone()).await.unwrap().state, DiskState::Removed, "{name}");
    let unknown = meta.remove_disks(&[DiskId::random()]).await.unwrap_err();
    assert!(matches!(unknown, MetaError::NoSuchEntry { .. }), "{name}: {unknown}");
    audited(&meta, name).await;
}

#[tokio::test]
async fn a_group_that_is_under_repair_changed_or_told_of_disks_that_are_away_is_not_moved() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        what_is_not_moved(name, kv).await;
    }
}

pub(crate) async fn what_is_not_moved(name: &str, kv: SharedKv) {
    let (meta, group) = furnished(kv).await;
    meta.commit_object(put(&group, "b", "k", 5)).await.unwrap();
    let (job, to) = (rebalance(&meta).await, disk(&meta, "n7").await);
    let begin = |epoch, job, position, to| {
        let (meta, id) = (meta.clone(), group.id);
        async move { meta.begin_move(id, epoch, job, BTreeMap::from([(position, to)])).await }
    };
    let refused = |result: Result<GroupMove, MetaError>| result.unwrap_err();
    assert_eq!(refused(begin(2, job, 0, to).await), MetaError::Stale("group epoch"));
    assert_eq!(refused(begin(1, JobId(9), 0, to).await), MetaError::Stale("job"));
    for (position, to) in [(3, to), (0, group.members[1])] {
        let error = refused(begin(1, job, position, to).await);
        assert!(matches!(error, MetaError::Invalid { .. }), "{error}");
    }
    meta.set_disk_states(vec![(to, DiskState::Up, DiskState::Down)]).await.unwrap();
    assert_eq!(refused(begin(1, job, 0, to).await), MetaError::Stale("disk that was to be a member"));
    meta.set_disk_states(vec![(to, DiskState::Down, DiskState::Up)]).await.unwrap();
    let begun = begin(1, job, 0, to).await.unwrap();
    assert_eq!(begin(1, job, 0, to).await.unwrap(), begun, "as it is");
    assert_eq!(refused(begin(1, job, 1, to).await), MetaError::Stale("move of a group"));
    assert_eq!(meta.group(group.id).await.unwrap().unwrap().state, GroupState::Sealed);
    // The disk goes away, then the group gets another member: neither can end well.
    assert_eq!(meta.finish_move(group.id, 1).await.unwrap(), MoveEnd::Tail, "it was not walked");
    meta.set_disk_states(vec![(to, DiskState::Up, DiskState::Down)]).await.unwrap();
    assert_eq!(meta.finish_move(group.id, 1).await.unwrap(), MoveEnd::Gone);
    assert_eq!(meta.group(group.id).await.unwrap().unwrap(), group);
    let other = disk(&meta, "n8").await;
    begin(1, job, 0, other).await.unwrap();
    let members = [&group.members[..2], &[disk(&meta, "n9").await]].concat();
    meta.replace_members(group.id, 1, members.clone(), MissingCause::DiskLost).await.unwrap();
    assert_eq!(meta.finish_move(group.id, 1).await.unwrap(), MoveEnd::Gone);
    let now = meta.group(group.id).await.unwrap().unwrap();
    assert_eq!((now.members, now.state), (members, GroupState::Open));
    assert_eq!(refused(begin(2, job, 0, other).await), MetaError::Stale("group, which is under repair"));
    // A job that is paused ends its moves.
    let second = meta.create_group(group.scheme, group.members.clone()).await.unwrap();
    meta.begin_move(second.id, 1, job, BTreeMap::from([(0, other)])).await.unwrap();
    meta.set_job_state(job, JobState::Paused).await.unwrap();
    assert_eq!((meta.group_moves().await.unwrap(), meta.group(second.id).await.unwrap()), (vec![], Some(second)));
    audited(&meta, name).await;
}

/// What was copied to a disk that was away since may be gone from it: it is no member by a walk from before.
#[tokio::test]
async fn red_1_a_new_disk_that_was_away_since_the_move_began_ends_it() {
    let now = Arc::new(AtomicU64::new(1_000_000));
    let shown = now.clone();
    let (meta, group) = furnished(mem_kv()).await;
    let meta = meta.with_clock(move || shown.load(Ordering::Relaxed));
    meta.commit_object(put(&group, "b", "k", 5)).await.unwrap();
    let (job, to) = (rebalance(&meta).await, disk(&meta, "n7").await);
    let walked = async || {
        let moved = meta.begin_move(group.id, 1, job, BTreeMap::from([(0, to)])).await.unwrap();
        let step = MoveStep { group: group.id, id: moved.id, epoch: 1, from: None, to: None, bytes: 5 };
        assert!(meta.advance_move(step).await.unwrap().is_some_and(|moved| moved.walked));
        moved
    };
    let disk = async || meta.disks().await.unwrap().into_iter().find(|disk| disk.id == to).unwrap();

    let moved = walked().await;
    assert!(moved.positions[0].is_up_still(&disk().await));
    for (from, to_state) in [(DiskState::Up, DiskState::Down), (DiskState::Down, DiskState::Up)] {
        now.fetch_add(1, Ordering::Relaxed);
        meta.set_disk_states(vec![(to, from, to_state)]).await.unwrap();
    }
    assert!(!moved.positions[0].is_up_still(&disk().await), "up, but not ever since");
    assert_eq!(meta.finish_move(group.id, 1).await.unwrap(), MoveEnd::Gone);
    assert_eq!(
        (meta.group_move(group.id).await.unwrap(), meta.group(group.id).await.unwrap()),
        (None, Some(group.clone()))
    );
    assert_eq!(meta.ledger_len().await.unwrap(), 0);

    // Begun anew it comes to its end; what changes of the disk besides is no matter.
    let moved = walked().await;
    now.fetch_add(1, Ordering::Relaxed);
    meta.register_disk(Disk { capacity_bytes: 2 << 40, ..disk().await }).await.unwrap();
    assert!(moved.positions[0].is_up_still(&disk().await));
    assert_eq!(meta.finish_move(group.id, 1).await.unwrap(), MoveEnd::Done);
    assert_eq!(meta.group(group.id).await.unwrap().unwrap().members[0], to);
    audited(&meta, "after a disk was away").await;
}

/// One group and its moves, as they should be.
struct World {
    meta: Meta,
    rng: StdRng,
    id: GroupId,
    job: JobId,
    keys: Vec<(String, BlobId)>,
    next_key: u32,
    /// Fragments that each disk has: what was written or copied there.
    on: BTreeMap<DiskId, BTreeSet<(BlobId, u8)>>,
    finished: u32,
    /// What was committed by whoever did not know of a change of members yet.
    late: Vec<CommitObject>,
}

impl World {
    async fn group(&self) -> Group {
        self.meta.group(self.id).await.unwrap().unwrap()
    }

    fn write(&mut self, group: &Group, blob: BlobId) {
        for (position, member) in (0u8..).zip(&group.members) {
            self.on.entry(*member).or_default().insert((blob, position));
        }
    }

    /// Its fragments are written; it is committed now, or later.
    async fn object(&mut self) {
        let group = self.group().await;
        let request = put(&group, "b", &format!("k{}", self.next_key), 10);
        self.next_key += 1;
        self.write(&group, request.blob.as_ref().unwrap().blob.id);
        if self.rng.random_ratio(1, 4) { self.late.push(request) } else { self.commit(request).await }
    }

    /// A commit that finds other members is refused, and its writer writes again.
    async fn commit(&mut self, mut request: CommitObject) {
        loop {
            let id = request.blob.as_ref().unwrap().blob.id;
            match self.meta.commit_object(request.clone()).await {
                Ok(_) => return self.keys.push((request.key, id)),
                Err(MetaError::GroupChanged(_)) => {
                    let group = self.group().await;
                    request.blob.as_mut().unwrap().epochs = vec![(group.id, group.epoch)];
                    self.write(&group, id);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn late(&mut self) {
        if !self.late.is_empty() {
            let at = self.rng.random_range(0..self.late.len());
            let request = self.late.swap_remove(at);
            self.commit(request).await;
        }
    }

    async fn delete(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        let (key, _) = self.keys.swap_remove(self.rng.random_range(0..self.keys.len()));
        self.meta.delete_object(delete("b", &key, VersionSelector::Current)).await.unwrap();
        reclaim_all(&self.meta).await;
    }

    async fn begin(&mut self) {
        let group = self.group().await;
        let mut to = BTreeMap::new();
        for position in 0..3u8 {
            if self.rng.random_ratio(1, 2) {
                to.insert(position, disk(&self.meta, "spare").await);
            }
        }
        if to.is_empty() {
            return;
        }
        match self.meta.begin_move(group.id, group.epoch, self.job, to).await {
            Ok(_) | Err(MetaError::Stale(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn copy(&mut self, moved: &GroupMove, blob: BlobId) {
        for position in &moved.positions {
            self.on.entry(position.to).or_default().insert((blob, position.position));
        }
    }

    async fn walk(&mut self) {
        let Some(moved) = self.meta.group_move(self.id).await.unwrap() else { return };
        let limit = self.rng.random_range(1..6);
        if moved.walked {
            let tail = self.meta.move_tail(self.id, limit).await.unwrap();
            let mut done = Vec::new();
            for (id, blob) in tail {
                if blob.is_some() {
                    self.copy(&moved, id);
                }
                done.push(id);
            }
            if self.rng.random_ratio(9, 10) {
                self.meta.clear_move_tail(self.id, moved.id, &done).await.unwrap();
            }
            return;
        }
        let page = self.meta.placed_blobs(self.id, moved.cursor, limit).await.unwrap();
        page.iter().for_each(|placed| self.copy(&moved, placed.blob.id));
        // A walk may end here, and another begin where it began.
        if self.rng.random_ratio(9, 10) {
            let (from, to) = (moved.cursor, page.last().map(|placed| placed.blob.id));
            let step = MoveStep { group: self.id, id: moved.id, epoch: moved.epoch, from, to, bytes: 1 };
            self.meta.advance_move(step).await.unwrap();
        }
    }

    async fn finish(&mut self) {
        let Some(moved) = self.meta.group_move(self.id).await.unwrap() else { return };
        let before = self.group().await;
        let end = self.meta.finish_move(self.id, moved.epoch).await.unwrap();
        let now = self.group().await;
        if end == MoveEnd::Done {
            self.finished += 1;
            assert_eq!((now.epoch, now.state), (before.epoch + 1, GroupState::Open));
        } else {
            assert_eq!(now.members, before.members);
        }
    }

    async fn end(&mut self) {
        if let Some(moved) = self.meta.group_move(self.id).await.unwrap() {
            assert!(self.meta.end_move(self.id, moved.epoch).await.unwrap());
            assert!(!self.meta.end_move(self.id, moved.epoch).await.unwrap());
            assert_eq!(self.group().await.state, GroupState::Open);
        }
    }

    async fn pause(&mut self) {
        self.meta.set_job_state(self.job, JobState::Paused).await.unwrap();
        assert!(self.meta.group_moves().await.unwrap().is_empty());
        self.meta.set_job_state(self.job, JobState::Running).await.unwrap();
    }

    /// Every member has its fragment of every blob that there is, and nothing is in the ledger.
    async fn check(&self) {
        let group = self.group().await;
        for (key, blob) in &self.keys {
            for (position, member) in (0u8..).zip(&group.members) {
                let has = self.on.get(member).is_some_and(|has| has.contains(&(*blob, position)));
                assert!(has, "{key} lacks its fragment in position {position} of {group:?}");
            }
        }
        assert_eq!(self.meta.ledger_len().await.unwrap(), 0);
        let moves = self.meta.group_moves().await.unwrap();
        assert_eq!(group.state == GroupState::Sealed, !moves.is_empty());
        if moves.is_empty() {
            assert!(self.meta.move_tail(self.id, 1).await.unwrap().is_empty(), "a tail without a move");
        }
    }
}

#[tokio::test]
async fn red_1_new_members_have_everything_at_the_moment_they_are_members() {
    for round in 0..20 {
        random_moves(mem_kv(), seed().wrapping_add(round)).await;
    }
}

pub(crate) async fn random_moves(kv: SharedKv, seed: u64) {
    println!("CAIRN_SEED={seed}");
    let (meta, group) = furnished(kv).await;
    let (rng, id, job) = (StdRng::seed_from_u64(seed), group.id, rebalance(&meta).await);
    let (keys, on, late) = (Vec::new(), BTreeMap::new(), Vec::new());
    let mut world = World { meta, rng, id, job, keys, next_key: 0, on, finished: 0, late };
    for _ in 0..150 {
        match world.rng.random_range(0..24) {
            0..6 => world.object().await,
            6..8 => world.late().await,
            8 => world.delete().await,
            9..11 => world.begin().await,
            11..18 => world.walk().await,
            18..22 => world.finish().await,
            22 => world.end().await,
            _ => world.pause().await,
        }
        world.check().await;
    }
    // What is under way comes to its end.
    for _ in 0..200 {
        world.begin().await;
        world.walk().await;
        world.finish().await;
        world.check().await;
    }
    assert!(world.finished > 0, "seed {seed}");
    let counted = world.meta.jobs().await.unwrap()[0].moved.positions;
    assert!(counted >= u64::from(world.finished), "seed {seed}");
    audited(&world.meta, &format!("seed {seed}")).await;
}

#[tokio::test]
async fn jobs_and_moves_are_exported_and_imported() {
    let (meta, group) = furnished(mem_kv()).await;
    let job = rebalance(&meta).await;
    let to = disk(&meta, "n7").await;
    meta.begin_move(group.id, 1, job, BTreeMap::from([(0, to)])).await.unwrap();
    meta.commit_object(put(&group, "b", "k", 5)).await.unwrap();
    let mut file = Vec::new();
    meta.export(&mut file).await.unwrap();
    let other = Meta::in_memory();
    other.import(&mut std::io::Cursor::new(&file)).await.unwrap();
    assert_eq!(other.jobs().await.unwrap(), meta.jobs().await.unwrap());
    assert_eq!(other.group_moves().await.unwrap(), meta.group_moves().await.unwrap());
    assert_eq!(other.move_tail(group.id, 10).await.unwrap().len(), 1);
    audited(&other, "imported").await;
}
