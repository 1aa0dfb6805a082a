#![allow(clippy::unwrap_used)]
use std::{collections::BTreeSet, sync::Arc};

use cairn_schema::{Meta, clock::now_ms};

use super::{super::test_world::*, *};
use crate::policy::Timings;

const STRIPES: u32 = 9000;

/// A blob of two-way copies on disks 1 and 2, of so many stripes, and rows for some of its fragments.
async fn world(lacks: impl Fn(u32) -> &'static [u8]) -> (Context, Arc<Rows>, Group) {
    let meta = Meta::in_memory();
    furnish(&meta).await;
    let group = group(&meta).await;
    let mut request = put(&group, "k".into(), AttemptId::random());
    let blob = &mut request.blob.as_mut().unwrap().blob;
    (blob.length, blob.runs[0].stripes) = (STRIPES.into(), STRIPES);
    let id = blob.id;
    request.version.size = STRIPES.into();
    meta.commit_object(request).await.unwrap();
    let name = |stripe, position| FragmentName { group: group.id, blob: id, stripe, position };
    let entry = |fragment| LedgerEntry { fragment, cause: MissingCause::NotFound, since_ms: now_ms() };
    let entries: Vec<LedgerEntry> =
        (0..STRIPES).flat_map(|stripe| lacks(stripe).iter().map(move |at| entry(name(stripe, *at)))).collect();
    meta.ledger_add(&entries).await.unwrap();
    let ctx = context(meta, Arc::new(Shelves::default()), Timings::default());
    let rows = ctx.placement.refresh().await.unwrap();
    (ctx, rows, group)
}

#[tokio::test]
async fn the_rows_of_a_group_are_all_read_in_windows_and_the_worst_of_each_comes_first() {
    // The last stripe of a window lacks two, so that the window would end between its rows.
    let both = [WINDOW as u32 - 1, 5000, 8500];
    let (ctx, rows, group) = world(|stripe| if both.contains(&stripe) { &[0, 1] } else { &[1] }).await;
    let mut singles = Singles::new(group.id, None);
    let (mut seen, mut windows) = (BTreeSet::new(), 0);
    while !singles.ended {
        singles.look(&ctx, &rows, |_| false).await.unwrap();
        windows += 1;
        let mut before = i32::MIN;
        while let Some(margin) = singles.margin() {
            assert!(margin >= before, "the worst first");
            before = margin;
            for stripe in singles.take(7) {
                assert!(singles.margin().is_none_or(|rest| rest >= stripe.margin));
                let expected = if both.contains(&stripe.name.2) { (-1, 2) } else { (0, 1) };
                assert_eq!((stripe.margin, stripe.entries.len()), expected, "{:?}", stripe.name);
                assert!(seen.insert(stripe.name), "twice: {:?}", stripe.name);
            }
        }
    }
    assert_eq!((seen.len() as u32, windows), (STRIPES, 3));
}

#[tokio::test]
async fn stripes_that_failed_a_moment_ago_and_those_of_disks_that_are_away_are_passed_over() {
    let (ctx, rows, group) = world(|stripe| if stripe < 10 { &[0] } else { &[] }).await;
    let mut singles = Singles::new(group.id, None);
    singles.look(&ctx, &rows, |name| name.2 != 3).await.unwrap();
    assert_eq!(singles.take(100).iter().map(|stripe| stripe.name.2).collect::<Vec<_>>(), [3]);
    let mut away = (*rows).clone();
    away.disks.get_mut(&disk(1)).unwrap().state = DiskState::Down;
    let mut singles = Singles::new(group.id, None);
    singles.look(&ctx, &away, |_| false).await.unwrap();
    assert!(singles.ended && singles.margin().is_none());
}
