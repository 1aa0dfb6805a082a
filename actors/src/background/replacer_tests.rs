#![allow(clippy::unwrap_used)]
use cairn_schema::Meta;

use super::{super::test_world::*, *};
use crate::policy::Timings;

/// Two copies on disks 1 and 2, of which 2 is lost; 3 may stand in.
struct World {
    meta: Meta,
    shelves: Arc<Shelves>,
    ctx: Context,
    group: GroupId,
}

impl World {
    async fn new() -> Self {
        let meta = Meta::in_memory();
        furnish(&meta).await;
        let scheme = Scheme::Replicated { copies: 2 };
        meta.cluster(Policy::new(scheme, scheme, FailureDomain::Node)).await.unwrap();
        let group = group(&meta).await;
        for number in 0..3 {
            meta.commit_object(put(&group, format!("k{number}"), AttemptId::random())).await.unwrap();
        }
        register(&meta, 3).await;
        for (from, to) in [(DiskState::Up, DiskState::Down), (DiskState::Down, DiskState::Lost)] {
            meta.set_disk_states(vec![(disk(2), from, to)]).await.unwrap();
        }
        let shelves = Arc::new(Shelves::default());
        let ctx = context(meta.clone(), shelves.clone(), Timings::default());
        Self { meta, shelves, ctx, group: group.id }
    }

    async fn replace(&self, replacer: &mut Replacer) -> bool {
        let rows = self.ctx.placement.refresh().await.unwrap();
        replacer.judge(&self.ctx, &rows);
        replacer.replace(&self.ctx, &rows).await.unwrap()
    }

    async fn members(&self) -> Vec<DiskId> {
        self.meta.group(self.group).await.unwrap().unwrap().members
    }
}

#[tokio::test]
async fn no_disk_is_given_more_than_it_has_room_for() {
    let world = World::new().await;
    let fragment = u64::from(world.ctx.policy().fragment_bytes);
    world.shelves.free.lock().insert(disk(3), 3 * fragment - 1);
    let mut replacer = Replacer::default();
    assert!(!world.replace(&mut replacer).await, "three fragments that may be as large as any");
    let metrics = &world.ctx.metrics;
    assert_eq!((metrics.unplaceable_members.get(), metrics.roomless_members.get()), (1, 1));
    assert_eq!(world.members().await, [disk(1), disk(2)]);
    world.shelves.free.lock().insert(disk(3), 3 * fragment);
    assert!(world.replace(&mut replacer).await);
    assert_eq!(world.members().await, [disk(1), disk(3)]);
    assert_eq!(world.meta.ledger_len().await.unwrap(), 3);
    assert!(!world.replace(&mut replacer).await);
    assert_eq!((metrics.unplaceable_members.get(), metrics.roomless_members.get()), (0, 0));

    // What disk 3 is to get it is to have room for besides.
    let rows = world.ctx.placement.refresh().await.unwrap();
    let room = Room::read(&world.ctx, &rows).await.unwrap();
    assert!(room.fits(disk(3), 4 * fragment, fragment) && !room.fits(disk(3), 4 * fragment - 1, fragment));
}

#[tokio::test]
async fn one_node_replaces_at_a_time_and_the_others_go_on() {
    let world = World::new().await;
    let other = world.meta.lease(LEASE_NAME, "n2", 60_000).await.unwrap().unwrap();
    let mut replacer = Replacer::default();
    assert!(!world.replace(&mut replacer).await);
    assert_eq!(world.members().await, [disk(1), disk(2)]);
    world.meta.release(&other).await.unwrap();
    assert!(replacer.again_at.take().is_some(), "it leaves the other alone for a while");
    assert!(world.replace(&mut replacer).await);
    assert_eq!(world.members().await, [disk(1), disk(3)]);
}

#[tokio::test]
async fn a_new_member_that_takes_no_more_is_replaced_only_as_long_as_it_is_the_member() {
    let world = World::new().await;
    register(&world.meta, 4).await;
    let mut replacer = Replacer::default();
    assert!(world.replace(&mut replacer).await);
    let judged = world.ctx.placement.refresh().await.unwrap();
    let home = world.members().await[1];
    let other = if home == disk(3) { disk(4) } else { disk(3) };
    replacer.judge(&world.ctx, &judged);
    replacer.desert(world.group, 1);
    assert!(replacer.replace(&world.ctx, &judged).await.unwrap());
    assert_eq!(world.members().await, [disk(1), other]);
    assert_eq!(world.meta.ledger_len().await.unwrap(), 3, "it lacks what the one before was to get");
    // By rows of before the last change the position is another's.
    replacer.desert(world.group, 1);
    assert!(!replacer.replace(&world.ctx, &judged).await.unwrap());
    assert_eq!(world.members().await, [disk(1), other]);
}

/// What is about to be stopped is given nothing.
#[tokio::test]
async fn nobody_stands_in_where_somebody_works() {
    let world = World::new().await;
    let address = "127.0.0.1:1".parse().unwrap();
    let node = Node { id: "n3".parse().unwrap(), rack: "r".into(), zone: "z".into(), address };
    world.meta.register_node(node.clone()).await.unwrap();
    let windows = ClusterMaintenance::default().started(node.id, 3_600_000, cairn_schema::clock::now_ms()).windows;
    world.meta.set_maintenance(0, windows).await.unwrap();
    let mut replacer = Replacer::default();
    assert!(!world.replace(&mut replacer).await);
    assert_eq!(world.members().await, [disk(1), disk(2)]);
    register(&world.meta, 4).await;
    assert!(world.replace(&mut replacer).await);
    assert_eq!(world.members().await, [disk(1), disk(4)]);
    world.meta.set_maintenance(1, Vec::new()).await.unwrap();
}
