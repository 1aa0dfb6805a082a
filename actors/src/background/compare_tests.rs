#![allow(clippy::unwrap_used)]
use std::{collections::BTreeSet, sync::Arc};

use cairn_schema::{Meta, record::*};

use super::*;
use crate::{
    background::test_world::{Kept, Shelves, context, disk, furnish, group, put},
    placement::Rows,
    policy::Timings,
};

/// A group of two copies with so many blobs on both disks, and the comparison of disk 1 with disk 2.
struct World {
    meta: Meta,
    shelves: Arc<Shelves>,
    ctx: Context,
    group: Group,
    names: Vec<FragmentName>,
}

impl World {
    async fn new(blobs: usize) -> Self {
        let meta = Meta::in_memory();
        furnish(&meta).await;
        let group = group(&meta).await;
        let shelves = Arc::<Shelves>::default();
        let ctx = context(meta.clone(), shelves.clone(), Timings::default());
        let mut world = Self { meta, shelves, ctx, group, names: Vec::new() };
        for number in 0..blobs {
            world.write(&number.to_string()).await;
        }
        world
    }

    async fn write(&mut self, key: &str) {
        let put = put(&self.group, key.into(), AttemptId::random());
        let blob = put.blob.as_ref().unwrap().blob.id;
        self.meta.commit_object(put).await.unwrap();
        for position in 0..2 {
            let name = FragmentName { group: self.group.id, blob, stripe: 0, position };
            self.shelves.keep(disk(position + 1), name, Kept { length: 1, written_ms: 1, verified: Ok(()) });
        }
        self.names.push(FragmentName { group: self.group.id, blob, stripe: 0, position: 0 });
    }

    fn lose(&self, name: FragmentName) {
        self.shelves.kept.lock().get_mut(&disk(name.position + 1)).unwrap().remove(&name).unwrap();
    }

    /// How many names were looked for.
    async fn compare(&self) -> u64 {
        let rows = Rows::read(&self.meta).await.unwrap();
        let mut comparison = Comparison::new(disk(1), self.group.id, 0);
        let mut expected = 0;
        while let Some(page) = comparison.step(&self.ctx, &rows).await.unwrap() {
            expected += page.expected;
        }
        expected
    }

    async fn ledger(&self) -> BTreeSet<FragmentName> {
        self.meta.ledger(None, 10_000).await.unwrap().into_iter().map(|row| row.fragment).collect()
    }
}

#[tokio::test]
async fn red_1_what_a_disk_lacks_is_found_at_a_cost_that_grows_with_the_differences() {
    let world = World::new(1500).await;
    assert_eq!((world.compare().await, world.ledger().await), (0, BTreeSet::new()), "nothing differs");
    let lost: BTreeSet<_> = world.names.iter().step_by(300).copied().collect();
    lost.iter().for_each(|name| world.lose(*name));
    let looked_for = world.compare().await;
    assert_eq!(world.ledger().await, lost);
    assert!((1..=1500 / 4).contains(&looked_for), "{looked_for} of 1500");
    // When most of it is gone all is looked at once.
    world.names.iter().filter(|name| !lost.contains(name)).take(1000).for_each(|name| world.lose(*name));
    assert_eq!(world.compare().await, 1500);
    assert_eq!(world.ledger().await.len(), lost.len() + 1000);
}

/// What only the other has, or has no row, is no trouble of this disk.
#[tokio::test]
async fn what_the_metadata_do_not_expect_is_not_missing() {
    let world = World::new(100).await;
    let stray = FragmentName { blob: BlobId::random(), position: 1, ..world.names[0] };
    world.shelves.keep(disk(2), stray, Kept { length: 1, written_ms: 1, verified: Ok(()) });
    let own = FragmentName { blob: BlobId::random(), ..world.names[0] };
    world.shelves.keep(disk(1), own, Kept { length: 1, written_ms: 1, verified: Ok(()) });
    world.compare().await;
    assert_eq!(world.ledger().await, BTreeSet::new());
}

/// The other disk is of a node that knows no digests, or is away.
#[tokio::test]
async fn red_1_without_another_to_compare_with_all_names_are_looked_for() {
    let world = World::new(100).await;
    world.lose(world.names[7]);
    *world.shelves.without_digests.lock() = Some(disk(2));
    assert_eq!(world.compare().await, 100);
    assert_eq!(world.ledger().await, [world.names[7]].into());
}
