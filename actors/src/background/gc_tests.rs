#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use cairn_schema::{Meta, MetaError, verbs::*};

use super::*;
use crate::{
    background::test_world::{Shelves, context, furnish, group, put},
    policy::Timings,
};

/// An attempt of 1970.
fn old() -> AttemptId {
    let mut id = AttemptId::random();
    id.0[1..5].fill(0);
    id
}

async fn is_remembered(meta: &Meta, put: &CommitObject) -> bool {
    match meta.commit_object(put.clone()).await {
        Ok(_) => true,
        Err(MetaError::Stale(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn bnd_1_old_attempts_are_forgotten_while_the_queue_is_full() {
    // Long ago, so that every grace period is over.
    let meta = Meta::in_memory().with_clock(|| 1000);
    furnish(&meta).await;
    let group = group(&meta).await;
    for index in 0..500 {
        // Each replaces the one before, whose blob is queued.
        meta.commit_object(put(&group, format!("k{}", index % 2), AttemptId::random())).await.unwrap();
    }
    let (first, second) = (put(&group, "first".into(), old()), put(&group, "second".into(), old()));
    meta.commit_object(first.clone()).await.unwrap();
    assert!(is_remembered(&meta, &first).await);

    let timings = Timings { reclaim_grace: Duration::from_secs(1), ..Timings::default() };
    let mut gc = Gc::new(context(meta.clone(), Arc::<Shelves>::default(), timings));
    gc.step().await.unwrap();
    assert!(!is_remembered(&meta, &first).await);
    // Not at every step, but when it is time again.
    meta.commit_object(second.clone()).await.unwrap();
    gc.step().await.unwrap();
    assert!(is_remembered(&meta, &second).await);
    gc.forget_at = Instant::now();
    gc.step().await.unwrap();
    assert!(!is_remembered(&meta, &second).await);

    // The queue was full all the time, and is worked off.
    assert!(gc.ctx.metrics.reclaimed_blobs.get() < 498);
    while gc.step().await.unwrap() != Step::Idle {}
    assert_eq!(gc.ctx.metrics.reclaimed_blobs.get(), 498);
}
