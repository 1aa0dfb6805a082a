//! Power cuts, on a file system that can be shut down.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use cairn_schema::{Meta, MetaError, record::Versioning};
use rand::Rng;

use crate::{
    check, close,
    common::*,
    loop_fs::LoopFs,
    loudly, open, seeded,
    work::{Model, Notes, prepare, run},
};

const ROUNDS: u64 = 6;
const OPENINGS: u64 = 5;
/// A verb on a store that has failed says so well within its deadline.
const DEADLINE: Duration = Duration::from_secs(5);

fn loop_fs() -> Option<LoopFs> {
    match LoopFs::new() {
        Ok(fs) => Some(fs),
        Err(why) => {
            loudly(&format!(
                "\nSKIPPED: no power was cut, because this machine cannot shut a loop file system down ({why}).\n\
                 Only kills and crash images were tried."
            ));
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dur_2_power_cuts_under_load_take_back_nothing_acknowledged() {
    let Some(mut fs) = loop_fs() else { return };
    let (seed, mut rng) = seeded();
    let outside = tempfile::tempdir().unwrap();
    let store = fs.path().join("metadata");
    let mut model = Model::default();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let context = format!("seed {seed}, round {round}");
        let kv = open(&store).expect(&context);
        let meta = Meta::new(kv.clone()).with_deadline(DEADLINE);
        let group = prepare(&meta).await;
        check(&kv, &mut model, &context).await;
        let path = outside.path().join(round.to_string());
        let notes = Notes::create(&path);
        let moment = Duration::from_millis(rng.random_range(20..900));
        let cut = async {
            tokio::time::sleep(moment).await;
            tokio::task::block_in_place(|| {
                notes.cut();
                fs.cut()
            })
            .unwrap();
        };
        let work = run(&meta, &group, &notes, &model, seed, round, Arc::new(AtomicBool::new(false)));
        let (ends, ()) = tokio::join!(work, cut);
        for end in ends {
            let error = end.unwrap();
            let typed = matches!(error, MetaError::Storage(_) | MetaError::CommitUnknown(_) | MetaError::Timeout(_));
            assert!(typed, "{context}: {error}");
        }
        refuses(&meta, &context).await;
        close((meta, kv)).await;
        fs.unmount().expect(&context);
        fs.mount().expect(&context);
        let done = model.read(&path);
        println!("{context}: {done} changes acknowledged in {moment:?}");
        acknowledged += done;
    }
    let kv = open(&store).unwrap();
    check(&kv, &mut model, &format!("seed {seed}, at the end")).await;
    close(kv).await;
    assert!(acknowledged > 100, "only {acknowledged} changes were acknowledged");
}

/// A store that lost its disk takes no more changes and says why, at once.
async fn refuses(meta: &Meta, context: &str) {
    let started = Instant::now();
    let refused = meta.create_bucket(bucket("late", Versioning::Off)).await;
    let typed = matches!(refused, Err(MetaError::Storage(_) | MetaError::CommitUnknown(_)));
    assert!(typed, "{context}: {refused:?}");
    assert!(started.elapsed() < DEADLINE, "{context}: {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_while_a_store_is_made_leaves_one_that_opens() {
    let Some(mut fs) = loop_fs() else { return };
    let (seed, mut rng) = seeded();
    for round in 0..OPENINGS {
        let context = format!("seed {seed}, round {round}");
        let store = fs.path().join(format!("metadata-{round}"));
        let path = store.clone();
        let opening = tokio::task::spawn_blocking(move || open(&path).map(drop));
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
        tokio::task::block_in_place(|| fs.cut()).unwrap();
        println!("{context}: opening came to {:?}", opening.await.unwrap());
        fs.unmount().expect(&context);
        fs.mount().expect(&context);
        let kv = open(&store).expect(&context);
        let meta = Meta::new(kv.clone());
        prepare(&meta).await;
        check(&kv, &mut Model::default(), &context).await;
        close((meta, kv)).await;
    }
}
