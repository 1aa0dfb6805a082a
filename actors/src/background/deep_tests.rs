#![allow(clippy::unwrap_used)]
use std::{collections::BTreeSet, time::Duration};

use cairn_schema::{Meta, keyspace::RECLAIM_BUCKETS, verbs::*};
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::{
    background::{
        scrub::Scrub,
        test_world::{Shelves, context, disk, furnish, put, register},
    },
    policy::Timings,
    supervisor::{Step, Worker},
};

const STRIPE: usize = 4000;
const STRIPES: u32 = 3;

/// One blob of three stripes in a group of its own, and the scrub of the disk that it begins on.
struct World {
    folder: tempfile::TempDir,
    meta: Meta,
    shelves: Arc<Shelves>,
    ctx: Context,
    scrub: Scrub,
    group: Group,
    blob: Blob,
    codec: Codec,
}

impl World {
    async fn new(scheme: &str) -> Self {
        let scheme: Scheme = scheme.parse().unwrap();
        let meta = Meta::in_memory();
        furnish(&meta).await;
        let width = scheme.width() as u8;
        for number in 3..=width {
            register(&meta, number).await;
        }
        let group = meta.create_group(scheme, (1..=width).map(disk).collect()).await.unwrap();
        let shelves = Arc::<Shelves>::default();
        let timings = Timings { scrub_interval: Duration::from_secs(3600), deep_scrub_passes: 1, ..Timings::default() };
        let ctx = context(meta.clone(), shelves.clone(), timings);
        let folder = tempfile::tempdir().unwrap();
        let scrub = Scrub::new(ctx.clone(), disk(1), folder.path().to_owned(), Duration::ZERO);
        let (blob, codec) = (commit(&meta, &group).await, Codec::new(scheme).unwrap());
        let world = Self { folder, meta, shelves, ctx, scrub, group, blob, codec };
        for stripe in 0..STRIPES {
            world.store(stripe, &world.codec.encode(bytes(stripe)).unwrap());
        }
        world
    }

    fn store(&self, stripe: u32, fragments: &[Bytes]) {
        for (position, bytes) in (0u8..).zip(fragments) {
            self.shelves.keep_bytes(
                self.group.members[usize::from(position)],
                self.name(stripe, position),
                bytes.clone(),
            );
        }
    }

    fn name(&self, stripe: u32, position: u8) -> FragmentName {
        FragmentName { group: self.group.id, blob: self.blob.id, stripe, position }
    }

    /// The fragment gets other bytes; its disk vouches for them all the same.
    fn forge(&self, stripe: u32, position: u8) {
        let (disk, name) = (self.group.members[usize::from(position)], self.name(stripe, position));
        let mut bytes = self.shelves.bytes.lock()[&(disk, name)].to_vec();
        bytes[7] ^= 1;
        self.shelves.keep_bytes(disk, name, bytes.into());
    }

    /// A whole pass.
    async fn pass(&mut self) {
        for _ in 0..100 {
            if self.scrub.step().await.unwrap() == Step::Idle {
                return;
            }
        }
        panic!("the pass does not end");
    }

    /// The process starts again, long after the last pass.
    fn restart(&mut self) {
        let file = self.folder.path().join("scrub");
        let position = std::fs::read_to_string(&file).unwrap();
        let (head, verified) = position.split_once("verified ").unwrap();
        let (_, rest) = verified.split_once('\n').unwrap();
        std::fs::write(file, format!("{head}verified 1\n{rest}")).unwrap();
        self.scrub = Scrub::new(self.ctx.clone(), disk(1), self.folder.path().to_owned(), Duration::ZERO);
    }

    /// What is missing of the fragments that there were.
    fn gone(&self) -> BTreeSet<(u32, u8)> {
        let all = (0..STRIPES).flat_map(|stripe| (0..self.codec.width() as u8).map(move |position| (stripe, position)));
        let is_gone = |(stripe, position): &(u32, u8)| {
            !self.shelves.names(self.group.members[usize::from(*position)]).contains(&self.name(*stripe, *position))
        };
        all.filter(is_gone).collect()
    }

    async fn ledger(&self) -> BTreeSet<(u32, u8)> {
        let rows = self.meta.ledger(None, 100).await.unwrap();
        assert!(rows.iter().all(|row| row.cause == MissingCause::Corrupt && row.fragment.blob == self.blob.id));
        rows.iter().map(|row| (row.fragment.stripe, row.fragment.position)).collect()
    }

    fn inconsistent(&self) -> (i64, BTreeSet<BlobId>) {
        let gauge = self.ctx.metrics.inconsistent_blobs.with_label_values(&[&disk(1).to_string()]);
        (gauge.get(), self.ctx.inconsistent.all())
    }
}

fn bytes(stripe: u32) -> Bytes {
    (0..STRIPE as u32).map(|n| ((n + stripe) * 31 % 251) as u8).collect::<Vec<_>>().into()
}

async fn commit(meta: &Meta, group: &Group) -> Blob {
    let mut put = put(group, "key".into(), AttemptId::random());
    let blob = &mut put.blob.as_mut().unwrap().blob;
    blob.length = u64::from(STRIPES) * STRIPE as u64;
    blob.stripe_bytes = STRIPE as u32;
    blob.runs[0].stripes = STRIPES;
    blob.checksum = xxh3_64(&(0..STRIPES).map(bytes).collect::<Vec<_>>().concat());
    let blob = blob.clone();
    put.version.size = blob.length;
    meta.commit_object(put).await.unwrap();
    blob
}

#[tokio::test]
async fn a_whole_blob_is_left_alone() {
    for scheme in ["4+2", "4+2/novelpoly", "replicated(3)"] {
        let mut world = World::new(scheme).await;
        world.pass().await;
        assert_eq!(world.ctx.metrics.deep_scrubbed_blobs.get(), 1, "{scheme}");
        assert_eq!((world.gone(), world.ledger().await), Default::default(), "{scheme}");
        assert_eq!(world.inconsistent(), (0, BTreeSet::new()), "{scheme}");
    }
}

/// Each of them verifies, and what is made anew of the others is as it should be.
#[tokio::test]
async fn int_1_red_1_a_fragment_of_wrong_bytes_is_found_by_the_others_and_is_missing_from_then_on() {
    let one = [(1, 0)];
    for (scheme, wrong) in [
        ("4+2", &one[..]),
        ("4+2", &[(2, 5)]),
        ("4+2", &[(0, 1), (1, 4)]),
        // More than half of what is to spare: the checksum tells which four of six are right.
        ("4+2", &[(0, 1), (0, 3)]),
        ("4+2", &[(2, 0), (2, 5)]),
        ("4+1", &[(1, 2)]),
        ("8+4", &[(0, 2), (0, 9)]),
        ("4+2/novelpoly", &[(1, 3)]),
        ("replicated(3)", &one),
        ("replicated(2)", &[(1, 1)]),
    ] {
        let mut world = World::new(scheme).await;
        wrong.iter().for_each(|(stripe, position)| world.forge(*stripe, *position));
        world.pass().await;
        let wrong: BTreeSet<_> = wrong.iter().copied().collect();
        assert_eq!((world.gone(), world.ledger().await), (wrong.clone(), wrong.clone()), "{scheme}");
        assert_eq!(world.inconsistent(), (0, BTreeSet::new()), "{scheme}");
        let found = world.ctx.metrics.scrub_findings.with_label_values(&["wrong"]).get();
        assert_eq!(found, wrong.len() as u64, "{scheme}");
    }
}

/// GC-1: nothing is taken away where it cannot be told what is wrong.
#[tokio::test]
async fn gc_1_what_cannot_be_told_is_told_and_nothing_is_taken_away() {
    let swapped = |world: &World| {
        for (stripe, of) in [(0, 1), (1, 0)] {
            world.store(stripe, &world.codec.encode(bytes(of)).unwrap());
        }
    };
    // All parity is other than what this code makes of the data: the code may be what is wrong.
    let parity = |world: &World| [4, 5].iter().for_each(|position| world.forge(0, *position));
    let too_much = |world: &World| [0, 1, 2].iter().for_each(|position| world.forge(0, *position));
    for spoil in [&swapped as &dyn Fn(&World), &parity, &too_much] {
        let mut world = World::new("4+2").await;
        spoil(&world);
        world.pass().await;
        assert_eq!((world.gone(), world.ledger().await), Default::default());
        let told = (1, [world.blob.id].into());
        assert_eq!(world.inconsistent(), told);
        // A restart does not forget it; another pass finds it again; when it is deleted it is no trouble any more.
        world.restart();
        world.pass().await;
        assert_eq!(world.inconsistent(), told);
        assert_eq!(world.ctx.metrics.scrub_findings.with_label_values(&["inconsistent"]).get(), 2);
        delete(&world.meta).await;
        world.restart();
        world.scrub.step().await.unwrap();
        assert_eq!(world.inconsistent(), (0, BTreeSet::new()));
    }
}

/// The object, and then its blob, as reclaim would.
async fn delete(meta: &Meta) {
    let delete = DeleteObject {
        bypass_governance: false,
        attempt: AttemptId::random(),
        bucket: "b".into(),
        key: "key".into(),
        selector: VersionSelector::Current,
        precondition: Precondition::default(),
        origin: Origin::default(),
    };
    meta.delete_objects(vec![delete]).await.remove(0).unwrap();
    for bucket in 0..RECLAIM_BUCKETS {
        let reclaims = meta.reclaimable(bucket, u64::MAX, 10).await.unwrap();
        meta.reclaimed(&reclaims).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_absent_or_cannot_be_read_keeps_no_blob_from_being_judged_by_the_rest() {
    let mut world = World::new("4+2").await;
    world.shelves.bytes.lock().remove(&(disk(6), world.name(0, 5)));
    world.forge(1, 3);
    world.pass().await;
    assert_eq!(world.ledger().await, [(1, 3)].into());
    // With fewer than suffice nothing is said of it.
    let mut world = World::new("4+2").await;
    (4..=6).for_each(|number| drop(world.shelves.bytes.lock().remove(&(disk(number), world.name(2, number - 1)))));
    world.forge(0, 0);
    world.pass().await;
    assert_eq!((world.ledger().await, world.inconsistent().0), Default::default());
}

/// In so many passes in a row each has its turn, and just once.
#[test]
fn every_blob_has_its_turn_once_in_so_many_passes() {
    for blob in (0..100).map(|_| BlobId::random()) {
        let turns = (1000..1016).filter(|pass| has_turn(blob, *pass, 16)).count();
        assert_eq!(turns, 1);
        assert!((0..16).all(|pass| has_turn(blob, pass, 1) && !has_turn(blob, pass, 0)));
    }
}
