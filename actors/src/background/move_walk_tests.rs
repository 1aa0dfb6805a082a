#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use cairn_schema::Meta;

use super::{super::test_world::*, *};
use crate::policy::Timings;

const LARGE: u32 = 100;

struct World {
    meta: Meta,
    jars: Arc<Jars>,
    ctx: Context,
    group: Group,
}

fn name(group: GroupId, blob: u8, stripe: u32, position: u8) -> FragmentName {
    FragmentName { group, blob: BlobId([blob; 16]), stripe, position }
}

impl World {
    /// A blob of a stripe and one of many, on disks 1 and 2.
    async fn new() -> Self {
        let meta = Meta::in_memory();
        furnish(&meta).await;
        register(&meta, 3).await;
        let scheme = Scheme::Replicated { copies: 2 };
        meta.cluster(Policy::new(scheme, scheme, FailureDomain::Node)).await.unwrap();
        let (jars, group) = (Arc::new(Jars::default()), group(&meta).await);
        for (number, stripes) in [(1, 1), (2, LARGE)] {
            let mut request = put(&group, format!("k{number}"), AttemptId::random());
            let blob = &mut request.blob.as_mut().unwrap().blob;
            (blob.id, blob.length) = (BlobId([number; 16]), stripes.into());
            blob.runs[0].stripes = stripes;
            request.version.size = stripes.into();
            meta.commit_object(request).await.unwrap();
            for (stripe, position) in (0..stripes).flat_map(|stripe| [(stripe, 0), (stripe, 1)]) {
                let payload = Bytes::copy_from_slice(&[stripe as u8]);
                let at = (group.members[usize::from(position)], name(group.id, number, stripe, position));
                jars.kept.lock().insert(at, payload);
            }
        }
        let ctx = context(meta.clone(), jars.clone(), Timings::default());
        Self { meta, jars, ctx, group }
    }

    /// Disk 3 instead of disk 2.
    async fn walk(&self) -> MoveWalk {
        let rows = self.ctx.placement.refresh().await.unwrap();
        let moved = match self.meta.group_move(self.group.id).await.unwrap() {
            Some(moved) => moved,
            None => {
                let (attempt, kind) = (AttemptId::random(), JobKind::Rebalance);
                let new = NewJob { attempt, kind, targets: Vec::new(), by: "n1".into(), planned: Moved::default() };
                let job = self.meta.start_job(new).await.unwrap();
                self.meta.begin_move(self.group.id, 1, job.id, [(1, disk(3))].into()).await.unwrap()
            }
        };
        MoveWalk::new(moved, &rows).unwrap()
    }

    async fn step(&self, walk: &mut MoveWalk) -> Result<Stepped, RebuildError> {
        walk.step(&self.ctx, &Codecs::default(), &|| true).await
    }

    fn there(&self) -> usize {
        self.jars.kept.lock().keys().filter(|(at, _)| *at == disk(3)).count()
    }
}

#[tokio::test]
async fn large_blobs_are_copied_in_steps_and_each_stripe_once_though_walks_die() {
    let world = World::new().await;
    let (mut copied, mut steps) = (0, 0);
    let end = loop {
        // Another each time, which goes on where the metadata say that the one before was.
        let mut walk = world.walk().await;
        let (mut here, mut end) = (0, None);
        while here < 40 && end.is_none() {
            match world.step(&mut walk).await.unwrap() {
                Stepped::On(mended) => {
                    assert_eq!(mended.fragments, mended.copied, "nothing is decoded");
                    here += mended.fragments;
                }
                Stepped::Ended(ended) => end = Some(ended),
            }
        }
        copied += here;
        steps += 1;
        assert!(steps < 50);
        if let Some(end) = end {
            break end;
        }
    };
    assert_eq!((end, copied, world.there()), (MoveEnd::Done, u64::from(LARGE) + 1, LARGE as usize + 1));
    assert_eq!(world.meta.group(world.group.id).await.unwrap().unwrap().members, [disk(1), disk(3)]);
    assert_eq!(world.meta.ledger_len().await.unwrap(), 0);
}

/// A fragment that its old disk has lost is made of the others, and the group moves all the same.
#[tokio::test]
async fn red_1_what_the_old_disk_does_not_have_is_made_anew_on_the_new_one() {
    let world = World::new().await;
    world.jars.kept.lock().remove(&(disk(2), name(world.group.id, 2, 7, 1)));
    let mut walk = world.walk().await;
    let mut sum = Mended::default();
    while let Stepped::On(mended) = world.step(&mut walk).await.unwrap() {
        sum += mended;
    }
    assert_eq!((sum.fragments, sum.copied), (u64::from(LARGE) + 1, u64::from(LARGE)));
    assert_eq!((world.there(), world.meta.ledger_len().await.unwrap()), (LARGE as usize + 1, 0));
}

#[tokio::test]
async fn a_walk_whose_disks_give_no_answer_fails_and_the_members_stay() {
    let world = World::new().await;
    let mut walk = world.walk().await;
    world.jars.silent.lock().insert(disk(3));
    assert!(world.step(&mut walk).await.is_err());
    assert_eq!(world.meta.group(world.group.id).await.unwrap().unwrap().members, world.group.members);
    world.jars.silent.lock().clear();
    // Ended by somebody: the walk notices with what it tells next.
    world.meta.end_move(world.group.id, 1).await.unwrap();
    let end = loop {
        if let Stepped::Ended(end) = world.step(&mut walk).await.unwrap() {
            break end;
        }
    };
    assert_eq!(end, MoveEnd::Gone);
    assert_eq!(world.meta.group(world.group.id).await.unwrap().unwrap().members, world.group.members);
}
