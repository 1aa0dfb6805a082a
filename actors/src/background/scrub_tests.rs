#![allow(clippy::unwrap_used)]
use cairn_schema::{Meta, MetaError, verbs::*};

use super::*;
use crate::{
    background::test_world::{self, Kept, Shelves, context, disk, furnish, group, put},
    policy::Timings,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Node n1's scrub of disk 1, with the disks 1 and 2 of the cluster.
struct World {
    _folder: tempfile::TempDir,
    folder: PathBuf,
    meta: Meta,
    shelves: Arc<Shelves>,
    scrub: Scrub,
    group: Group,
}

impl World {
    async fn new() -> Self {
        let meta = Meta::in_memory();
        furnish(&meta).await;
        let group = group(&meta).await;
        let shelves = Arc::<Shelves>::default();
        let timings = Timings { reclaim_grace: HOUR, scrub_interval: HOUR, deep_scrub_passes: 0, ..Timings::default() };
        let ctx = context(meta.clone(), shelves.clone(), timings);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let scrub = Scrub::new(ctx, disk(1), path.clone(), Duration::ZERO);
        Self { _folder: folder, folder: path, meta, shelves, scrub, group }
    }

    fn name(&self, blob: BlobId) -> FragmentName {
        FragmentName { group: self.group.id, blob, stripe: 0, position: 0 }
    }

    /// An object, with its first copy on disk 1.
    async fn object(&self, key: &str, verified: Result<(), TransportError>) -> FragmentName {
        let put = put(&self.group, key.into(), AttemptId::random());
        self.meta.commit_object(put.clone()).await.unwrap();
        let name = self.name(blob_of(&put));
        self.shelves.keep(disk(1), name, Kept { length: 1, written_ms: 1, verified });
        name
    }

    fn keep(&self, name: FragmentName, age: Duration) {
        let written_ms = now_ms() - u64::try_from(age.as_millis()).unwrap();
        self.shelves.keep(disk(1), name, Kept { length: 1, written_ms, verified: Ok(()) });
    }

    /// The process starts again.
    fn restart(&mut self) {
        self.scrub = Scrub::new(self.scrub.ctx.clone(), disk(1), self.folder.clone(), Duration::ZERO);
    }

    /// As if the interval had passed since the last pass.
    fn let_interval_pass(&mut self) {
        self.scrub.position.as_mut().unwrap().verified_ms = Some(now_ms() - 2 * 3_600_000);
    }

    /// A whole pass; what fails is tried again.
    async fn pass(&mut self) {
        let mut failures = 0;
        loop {
            match self.scrub.step().await {
                Ok(Step::Idle) => return,
                Ok(Step::Worked { .. }) => {}
                Err(_) => failures += 1,
            }
            assert!(failures < 100, "the pass does not get on");
        }
    }

    async fn ledger(&self) -> Vec<(FragmentName, MissingCause)> {
        let rows = self.meta.ledger(None, 100).await.unwrap();
        rows.iter().map(|row| (row.fragment, row.cause)).collect()
    }

    fn found(&self, kind: &str) -> u64 {
        self.scrub.ctx.metrics.scrub_findings.with_label_values(&[kind]).get()
    }
}

fn blob_of(put: &CommitObject) -> BlobId {
    put.blob.as_ref().unwrap().blob.id
}

/// A write may still come to its commit.
#[tokio::test]
async fn gc_1_what_nothing_refers_to_stays_for_the_grace_period_and_then_goes_for_good() {
    let mut world = World::new().await;
    let (young, old) =
        (put(&world.group, "y".into(), AttemptId::random()), put(&world.group, "o".into(), AttemptId::random()));
    world.keep(world.name(blob_of(&young)), HOUR / 2);
    world.keep(world.name(blob_of(&old)), HOUR * 2);
    world.pass().await;
    assert_eq!(world.shelves.names(disk(1)), [world.name(blob_of(&young))]);
    assert_eq!(world.found("orphan"), 1);
    // The one that is gone cannot be committed without its bytes, however late its writer is.
    assert!(matches!(world.meta.commit_object(old).await, Err(MetaError::Stale(_))));
    world.meta.commit_object(young).await.unwrap();
}

#[tokio::test]
async fn gc_2_what_a_stripe_left_in_a_group_that_it_was_not_committed_in_goes() {
    let mut world = World::new().await;
    let kept = world.object("k", Ok(())).await;
    let other = world.meta.create_group(world.group.scheme, vec![disk(2), disk(1)]).await.unwrap();
    let left = FragmentName { group: other.id, position: 1, ..kept };
    world.keep(left, HOUR / 2);
    world.pass().await;
    assert_eq!(world.shelves.names(disk(1)), [kept, left], "the write may be under way");
    world.keep(left, HOUR * 2);
    world.let_interval_pass();
    world.pass().await;
    assert_eq!(world.shelves.names(disk(1)), [kept]);
    assert!(world.ledger().await.iter().all(|(name, _)| name.position == 1), "only the copy that disk 2 lacks");
}

#[tokio::test]
async fn red_1_damage_and_what_cannot_be_read_are_in_the_ledger_and_the_pass_goes_on() {
    let mut world = World::new().await;
    let name = world.name(BlobId([0; 16]));
    let corrupt = DiskError::Corrupt { name, what: "a bit".into() };
    let unreadable = DiskError::Unreadable { name, why: "EIO".into() };
    let mut lost = vec![world.object("a", Err(corrupt.into())).await, world.object("b", Err(unreadable.into())).await];
    let whole = world.object("c", Ok(())).await;
    world.pass().await;
    let mut ledger = world.ledger().await;
    ledger.retain(|(_, cause)| *cause == MissingCause::Corrupt);
    let mut names: Vec<_> = ledger.into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    lost.sort_unstable();
    assert_eq!(names, lost);
    assert!(world.shelves.verified.lock().contains(&(disk(1), whole)));
    assert_eq!(world.scrub.ctx.metrics.scrubbed_fragments.get(), 1);
}

#[tokio::test]
async fn a_fragment_that_cannot_be_looked_at_keeps_the_pass_from_no_other() {
    let mut world = World::new().await;
    let mut names = Vec::new();
    for key in ["a", "b", "c"] {
        names.push(world.object(key, Ok(())).await);
    }
    names.sort_unstable();
    world.shelves.keep(disk(1), names[0], busy());
    world.pass().await;
    let verified = world.shelves.verified.lock().clone();
    assert!(names[1..].iter().all(|name| verified.contains(&(disk(1), *name))), "{verified:?}");
    // In its turn, and once more at the end of the pass.
    assert_eq!(verified.iter().filter(|(_, name)| *name == names[0]).count(), 2 * (TRIES as usize + 1));
    assert_eq!(world.found("skipped"), 2);
}

fn busy() -> Kept {
    Kept { length: 1, written_ms: 1, verified: Err(DiskError::Busy.into()) }
}

/// The age that is shown exceeds that of every byte's verification, so a pass that left something out does not count.
#[tokio::test]
async fn red_1_what_was_skipped_is_looked_at_before_the_disk_counts_as_verified() {
    let mut world = World::new().await;
    let (stuck, _) = (world.object("a", Ok(())).await, world.object("b", Ok(())).await);
    world.shelves.keep(disk(1), stuck, busy());
    world.pass().await;
    let age = world.scrub.ctx.metrics.scrub_oldest_seconds.with_label_values(&[&disk(1).to_string()]);
    assert_eq!((world.scrub.step().await.unwrap(), age.get()), (Step::Idle, -1), "it rests, and nothing is verified");
    // The next pass comes sooner than usual, and meets the disk at rest.
    let corrupt = DiskError::Corrupt { name: stuck, what: "a bit".into() };
    world.shelves.keep(disk(1), stuck, Kept { verified: Err(corrupt.into()), ..busy() });
    world.scrub.rest_until = Instant::now();
    world.pass().await;
    world.scrub.step().await.unwrap();
    assert!(age.get() >= 0);
    assert!(world.ledger().await.contains(&(stuck, MissingCause::Corrupt)));
}

/// What is busy for a moment costs no second pass, also when the process starts again meanwhile.
#[tokio::test]
async fn red_1_what_was_skipped_for_a_moment_is_found_at_the_end_of_the_pass() {
    let mut world = World::new().await;
    let (stuck, other) = (world.object("a", Ok(())).await, world.object("b", Ok(())).await);
    world.shelves.keep(disk(1), stuck, busy());
    while world.found("skipped") == 0 {
        world.scrub.saved = None;
        let _ = world.scrub.step().await;
    }
    let looks = |world: &World| world.shelves.verified.lock().iter().filter(|(_, name)| *name == other).count();
    let before = looks(&world);
    world.restart();
    let corrupt = DiskError::Corrupt { name: stuck, what: "a bit".into() };
    world.shelves.keep(disk(1), stuck, Kept { verified: Err(corrupt.into()), ..busy() });
    world.pass().await;
    assert!(world.ledger().await.contains(&(stuck, MissingCause::Corrupt)));
    assert_eq!(looks(&world), before, "it was the same pass");
    assert!(world.scrub.position().await.verified_ms.is_some());
}

/// Once in an interval, over restarts as well.
#[tokio::test]
async fn a_pass_reads_the_disk_once_and_then_rests() {
    let mut world = World::new().await;
    let name = world.object("a", Ok(())).await;
    world.pass().await;
    assert_eq!(*world.shelves.verified.lock(), [(disk(1), name)]);
    assert_eq!(world.scrub.step().await.unwrap(), Step::Idle, "not before the next interval");
    world.restart();
    assert_eq!(world.scrub.step().await.unwrap(), Step::Idle, "a restart begins no pass");
    world.let_interval_pass();
    world.pass().await;
    assert_eq!(world.shelves.verified.lock().len(), 2);
    // A clock that was far ahead does not put it off for years.
    world.scrub.position.as_mut().unwrap().verified_ms = Some(now_ms() + 1_000_000_000_000);
    world.pass().await;
    assert_eq!(world.shelves.verified.lock().len(), 3);
}

#[tokio::test]
async fn a_restart_goes_on_with_the_pass_where_it_was() {
    let mut world = World::new().await;
    let mut names = Vec::new();
    for number in 0..150 {
        names.push(world.object(&number.to_string(), Ok(())).await);
    }
    names.sort_unstable();
    // It begins, and reads the first of three windows.
    for _ in 0..2 {
        world.scrub.saved = None;
        world.scrub.step().await.unwrap();
    }
    world.restart();
    world.pass().await;
    let verified: Vec<_> = world.shelves.verified.lock().iter().map(|(_, name)| *name).collect();
    assert_eq!(verified, names);
    let age = world.scrub.ctx.metrics.scrub_oldest_seconds.with_label_values(&[&disk(1).to_string()]);
    assert!(age.get() >= 0, "the pass was whole");
    // Without the file, or with one that means nothing, it begins anew.
    std::fs::write(world.folder.join("scrub"), "nonsense").unwrap();
    world.restart();
    world.pass().await;
    assert_eq!(world.shelves.verified.lock().len(), 300);
}

/// What a group that moves here is about to need here stays, however old; once the move has ended it is one copy too
/// many.
#[tokio::test]
async fn gc_1_what_a_move_awaits_stays_until_the_move_ends() {
    let mut world = World::new().await;
    test_world::register(&world.meta, 3).await;
    let group = world.meta.create_group(world.group.scheme, vec![disk(2), disk(3)]).await.unwrap();
    let put = put(&group, "k".into(), AttemptId::random());
    world.meta.commit_object(put.clone()).await.unwrap();
    let name = FragmentName { group: group.id, blob: blob_of(&put), stripe: 0, position: 1 };
    world.keep(name, HOUR * 2);
    world.shelves.keep(disk(3), name, Kept { length: 1, written_ms: 1, verified: Ok(()) });
    let kind = JobKind::Rebalance;
    let attempt = AttemptId::random();
    let new = NewJob { attempt, kind, targets: Vec::new(), by: "n1".into(), planned: Moved::default() };
    let job = world.meta.start_job(new).await.unwrap();
    world.meta.begin_move(group.id, 1, job.id, [(1, disk(1))].into()).await.unwrap();
    world.pass().await;
    assert_eq!((world.shelves.names(disk(1)), world.found("misplaced")), (vec![name], 0));
    world.meta.end_move(group.id, 1).await.unwrap();
    world.let_interval_pass();
    world.pass().await;
    assert_eq!((world.shelves.names(disk(1)), world.found("misplaced")), (vec![], 1));
    assert_eq!(world.shelves.names(disk(3)), [name], "the member's own");
}
