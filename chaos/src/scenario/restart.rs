//! `kill -9` of the whole of a cluster under load, then a second start: every acknowledged object is there (DUR-2 as
//! far as a process's death can show it; power cuts are the disk engine's and the metadata's own tests).

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{ChaosError, admin, s3::S3, setting::Setting, target::Target};

const WRITERS: u64 = 8;
const OBJECTS_BEFORE_THE_KILL: usize = 100;
const BUCKET: &str = "restart";
const READABLE: Duration = Duration::from_secs(30);

pub async fn run(setting: &Setting) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let mut cluster = Target::start(setting, folder.path())?;
    cluster.until_writable().await?;
    let s3 = cluster.s3()?;
    s3.create_bucket(BUCKET).await?;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            tokio::spawn(write(s3.clone(), setting.seed ^ writer, writer, acknowledged.clone(), stop.clone()))
        })
        .collect();
    let count = || acknowledged.lock().map(|keys| keys.len()).unwrap_or(0);
    admin::until(
        "objects to be acknowledged",
        Duration::from_secs(60),
        async || Ok(count()),
        |count| *count >= OBJECTS_BEFORE_THE_KILL,
    )
    .await?;
    cluster.kill();
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.map_err(|error| ChaosError::Workload(error.to_string()))?;
    }
    cluster.revive()?;
    let s3 = cluster.s3()?;
    let acknowledged = acknowledged.lock().map(|mut keys| std::mem::take(&mut *keys)).unwrap_or_default();
    for (key, seed) in &acknowledged {
        // Nodes that are processes of their own must first find each other again.
        let got = admin::until("a read", READABLE, async || Ok(s3.get(BUCKET, key).await?), |_| true).await;
        let lost =
            |what: String| ChaosError::Violated { invariant: "DUR-2", what: format!("{key} (seed {seed}): {what}") };
        if got.map_err(|error| lost(error.to_string()))? != body(*seed) {
            return Err(lost("other bytes".into()));
        }
    }
    println!("   {} objects acknowledged before kill -9, all there after it", acknowledged.len());
    cluster.stop()
}

/// Writes until it is stopped or the cluster is gone; remembers what was acknowledged.
async fn write(s3: S3, seed: u64, writer: u64, acknowledged: Arc<Mutex<Vec<(String, u64)>>>, stop: Arc<AtomicBool>) {
    let mut rng = StdRng::seed_from_u64(seed);
    for turn in 0u32.. {
        let seed: u64 = rng.random();
        let key = format!("w{writer}/{turn:05}");
        if stop.load(Ordering::Relaxed) || s3.put(BUCKET, &key, body(seed)).await.is_err() {
            return;
        }
        if let Ok(mut keys) = acknowledged.lock() {
            keys.push((key, seed));
        }
    }
}

/// Small and striped objects, the same for the same seed.
fn body(seed: u64) -> Bytes {
    let mut rng = StdRng::seed_from_u64(seed);
    let bytes = [1, 3000, 200_000, 1_500_000][rng.random_range(0..4)];
    let mut body = vec![0; bytes];
    rng.fill(body.as_mut_slice());
    body.into()
}
