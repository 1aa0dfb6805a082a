#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;

use bytes::Bytes;
use cairn_schema::Meta;

use super::{super::test_world::*, *};
use crate::{data_path::Codecs, placement::Rows, policy::Timings};

struct World {
    meta: Meta,
    jars: Arc<Jars>,
    ctx: Context,
    rows: Arc<Rows>,
    group: Group,
}

const LARGE: u32 = 100;

fn name(group: &Group, blob: u8, stripe: u32, position: u8) -> FragmentName {
    FragmentName { group: group.id, blob: BlobId([blob; 16]), stripe, position }
}

impl World {
    /// Two blobs, one of a stripe and one of many, with two copies on disks 1 and 2, of which 3 has just replaced 2.
    async fn new() -> Self {
        let meta = Meta::in_memory();
        furnish(&meta).await;
        let scheme = Scheme::Replicated { copies: 2 };
        meta.cluster(Policy::new(scheme, scheme, FailureDomain::Node)).await.unwrap();
        let (jars, old) = (Arc::new(Jars::default()), group(&meta).await);
        for (number, stripes) in [(1, 1), (2, LARGE)] {
            let mut request = put(&old, format!("k{number}"), AttemptId::random());
            let blob = &mut request.blob.as_mut().unwrap().blob;
            (blob.id, blob.length) = (BlobId([number; 16]), stripes.into());
            blob.runs[0].stripes = stripes;
            request.version.size = stripes.into();
            meta.commit_object(request).await.unwrap();
            for stripe in 0..stripes {
                let payload = Bytes::copy_from_slice(&[stripe as u8]);
                jars.kept.lock().insert((disk(1), name(&old, number, stripe, 0)), payload);
            }
        }
        register(&meta, 3).await;
        let members = vec![disk(1), disk(3)];
        let group = meta.replace_members(old.id, old.epoch, members, MissingCause::DiskLost).await.unwrap();
        let ctx = context(meta.clone(), jars.clone(), Timings::default());
        let rows = ctx.placement.refresh().await.unwrap();
        Self { meta, jars, ctx, rows, group }
    }

    /// Tells the metadata after every step.
    async fn walk(&self) -> Result<(), RebuildError> {
        let repair = self.meta.group_repair(self.group.id).await.unwrap().unwrap();
        let mut walk = Walk::new(repair, Arc::new(self.group.clone()), 0);
        let codecs = Codecs::default();
        let rebuild = Rebuild {
            ctx: &self.ctx,
            fragments: self.ctx.fragments_for(0),
            rows: &self.rows,
            codecs: &codecs,
            lease_holds: &|| true,
        };
        while let Walked::On(_) = walk.step(&rebuild).await? {
            if !walk.note(&self.ctx).await.unwrap() {
                break;
            }
        }
        Ok(())
    }

    async fn rows_of_their_own(&self) -> BTreeSet<FragmentName> {
        self.meta.ledger(None, 1000).await.unwrap().into_iter().map(|entry| entry.fragment).collect()
    }
}

#[tokio::test]
async fn red_1_a_stripe_that_cannot_be_made_stays_known_when_the_rest_of_its_blob_is() {
    let world = World::new().await;
    let lost = name(&world.group, 2, 5, 0);
    world.jars.kept.lock().remove(&(disk(1), lost));
    assert_eq!(world.meta.ledger_len().await.unwrap(), u64::from(LARGE) + 1);
    world.walk().await.unwrap();
    let behind = name(&world.group, 2, 5, 1);
    assert_eq!(world.rows_of_their_own().await, BTreeSet::from([lost, behind]));
    assert_eq!(world.meta.ledger_len().await.unwrap(), 2);
    assert!(world.meta.group_repairs(None, 1).await.unwrap().is_empty());
    let kept = world.jars.kept.lock();
    let made = (0..LARGE).filter(|stripe| kept.contains_key(&(disk(3), name(&world.group, 2, *stripe, 1))));
    assert_eq!(made.count(), LARGE as usize - 1);
}

#[tokio::test]
async fn a_walk_waits_for_those_that_give_no_answer_and_goes_on_where_it_was() {
    let world = World::new().await;
    for silent in [1, 3] {
        world.jars.silent.lock().insert(disk(silent));
        let error = world.walk().await.unwrap_err();
        assert!(!error.is_of_the_stripe(), "{error}");
        assert_eq!(world.rows_of_their_own().await, BTreeSet::new(), "nothing is known to be lost");
        assert_eq!(world.meta.ledger_len().await.unwrap(), u64::from(LARGE) + 1);
        world.jars.silent.lock().clear();
    }
    world.walk().await.unwrap();
    assert_eq!(world.meta.ledger_len().await.unwrap(), 0);
}

/// However large the stripes and slow the disks, a step ends well before its lease does, and what it did is not done
/// again.
#[tokio::test]
async fn a_step_begins_no_more_stripes_when_its_time_is_over() {
    let world = World::new().await;
    *world.jars.slowness.lock() = STEP / 2;
    let repair = world.meta.group_repair(world.group.id).await.unwrap().unwrap();
    let mut walk = Walk::new(repair, Arc::new(world.group.clone()), 0);
    let codecs = Codecs::default();
    let (fragments, lease_holds) = (world.ctx.fragments_for(0), || true);
    let rebuild = Rebuild { ctx: &world.ctx, fragments, rows: &world.rows, codecs: &codecs, lease_holds: &lease_holds };
    let Walked::On(mended) = walk.step(&rebuild).await.unwrap() else { panic!("there is more to do") };
    let first = mended.fragments;
    assert!((AT_A_TIME as u64..BATCH as u64).contains(&first), "{mended:?}");
    *world.jars.slowness.lock() = Duration::ZERO;
    let mut rest = 0;
    while let Walked::On(mended) = walk.step(&rebuild).await.unwrap() {
        rest += mended.fragments;
    }
    assert_eq!(first + rest, u64::from(LARGE) + 1, "each is made once");
    assert_eq!(world.meta.ledger_len().await.unwrap(), 0);
}
