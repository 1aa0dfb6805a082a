#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use cairn_schema::{Meta, clock::now_ms};

use super::{super::test_world::*, *};
use crate::policy::Timings;

const AWAY: u32 = 5000;
const STRIPES: u32 = AWAY + 10;

/// Three copies on disks 1 to 3, of which 2 is away. Many stripes lack the copy there; a few, that come last, one that
/// can be made.
async fn world() -> (Meta, Arc<Jars>, Repair) {
    let meta = Meta::in_memory();
    furnish(&meta).await;
    register(&meta, 3).await;
    let group = meta.create_group(Scheme::Replicated { copies: 3 }, vec![disk(1), disk(2), disk(3)]).await.unwrap();
    let mut request = put(&group, "k".into(), AttemptId::random());
    let blob = &mut request.blob.as_mut().unwrap().blob;
    (blob.length, blob.runs[0].stripes) = (STRIPES.into(), STRIPES);
    let id = blob.id;
    request.version.size = STRIPES.into();
    meta.commit_object(request).await.unwrap();
    let jars = Arc::new(Jars::default());
    let name = |stripe, position| FragmentName { group: group.id, blob: id, stripe, position };
    let entries: Vec<LedgerEntry> = (0..STRIPES)
        .map(|stripe| {
            let fragment = name(stripe, if stripe < AWAY { 1 } else { 2 });
            LedgerEntry { fragment, cause: MissingCause::WriteAbsent, since_ms: now_ms() }
        })
        .collect();
    for stripe in AWAY..STRIPES {
        jars.kept.lock().insert((disk(1), name(stripe, 0)), Bytes::from_static(b"x"));
    }
    meta.ledger_add(&entries).await.unwrap();
    meta.set_disk_states(vec![(disk(2), DiskState::Up, DiskState::Down)]).await.unwrap();
    let ctx = context(meta.clone(), jars.clone(), Timings::default());
    (meta, jars, Repair::new(ctx))
}

fn shown(repair: &Repair, margin: &str) -> i64 {
    repair.ctx.metrics.missing_by_tolerance.with_label_values(&[margin]).get()
}

/// What can be made is made though a plan does not see it behind all that cannot, and what is missing by tolerance adds
/// up though it is not all read.
#[tokio::test]
async fn red_1_rows_behind_more_than_a_plan_reads_are_worked_off() {
    let (meta, jars, mut repair) = world().await;
    let mut steps = 0;
    while meta.ledger_len().await.unwrap() > u64::from(AWAY) {
        repair.step().await.unwrap();
        steps += 1;
        if steps == 1 {
            // All that was read can lose one more copy.
            assert_eq!(shown(&repair, "1"), i64::from(STRIPES));
        }
        assert!(steps < 50, "what can be made is never come to");
    }
    assert_eq!(meta.ledger_len().await.unwrap(), u64::from(AWAY));
    assert_eq!(jars.kept.lock().keys().filter(|(on, _)| *on == disk(3)).count() as u32, STRIPES - AWAY);
    // Then there is nothing more that could be done.
    while repair.step().await.unwrap() != Step::Idle {
        steps += 1;
        assert!(steps < 100, "it reads again and again in vain");
    }
    // The disk is back: the rest is looked at at once.
    meta.set_disk_states(vec![(disk(2), DiskState::Down, DiskState::Up)]).await.unwrap();
    for stripe in 0..AWAY {
        let mut name = jars.kept.lock().keys().next().unwrap().1;
        (name.stripe, name.position) = (stripe, 1);
        jars.kept.lock().insert((disk(2), name), Bytes::from_static(b"x"));
    }
    while meta.ledger_len().await.unwrap() > 0 {
        repair.step().await.unwrap();
        steps += 1;
        assert!(steps < 1000, "what is there is not seen to be there");
    }
}
