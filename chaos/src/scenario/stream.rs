//! The memory of `cairn dev` (BND-1): it must not grow with an object that is streamed in and out, must stay within its
//! bound while several clients put, overwrite and get objects of all sizes, and must go back when they have ended.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};

use crate::{
    ChaosError,
    dev::DevCluster,
    process::{peak_rss_bytes, reset_peak_rss, rss_bytes},
    s3::S3,
    setting::Setting,
};

const PIECE: usize = 1 << 20;
const MIB: u64 = 1 << 20;
const BUCKET: &str = "stream";
/// What the large object may need beyond the small one: the noise of an allocator, far below the difference in size.
const SLACK_BYTES: u64 = 64 * MIB;
/// What the server is told that it may have resident, and the quarter more that is tolerated.
const MEMORY_BYTES: u64 = 512 * MIB;
const BOUND_BYTES: u64 = MEMORY_BYTES + MEMORY_BYTES / 4;
/// At rest, a process has no more than half of its peak, or this. Of six nodes with twelve disks, after this work, a
/// profile of the heap found 43 MiB of program and threads, 26 of the buffers of twelve QUIC endpoints, 18 that QUIC's
/// connections keep for the next streams (more after more streams at once), 28 between blocks that are in use, and few
/// of the 86 that rows and indexes may have in memory.
const AT_REST_BYTES: u64 = 160 * MIB;
const REST_LIMIT: Duration = Duration::from_secs(30);
/// Sizes that the clients mix, from one fragment of a replicated object to many stripes.
const SIZES: [usize; 6] = [4 << 10, 100_000, 1 << 20, 5_000_000, 16 << 20, 64 << 20];
const CLIENTS: u64 = 6;
const ROUNDS: u64 = 2;

/// Streams an object of `small_mib`, then one of `large_mib`, and compares the peaks; then mixes sizes, and waits for
/// rest.
pub async fn run(setting: &Setting, small_mib: u64, large_mib: u64) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let memory = format!("{} MiB", MEMORY_BYTES / MIB);
    let cluster = DevCluster::start(&setting.binary, folder.path(), &["--memory", &memory])?;
    cluster.s3().create_bucket(BUCKET).await?;
    let small = peak(&cluster, setting.seed, small_mib).await?;
    let large = peak(&cluster, setting.seed, large_mib).await?;
    if large > small + SLACK_BYTES || large > BOUND_BYTES {
        let what =
            format!("peak RSS {} MiB with {small_mib} MiB, {} MiB with {large_mib} MiB", small / MIB, large / MIB);
        return Err(ChaosError::Violated { invariant: "BND-1", what });
    }
    let mixed = mixed(&cluster, setting.seed).await?;
    if mixed > BOUND_BYTES {
        let what = format!("peak RSS {} MiB with mixed sizes, {} MiB allowed", mixed / MIB, BOUND_BYTES / MIB);
        return Err(ChaosError::Violated { invariant: "BND-1", what });
    }
    rest(&cluster, large.max(mixed)).await?;
    cluster.stop()
}

fn gone() -> ChaosError {
    ChaosError::Workload("the server is gone".into())
}

/// Several clients put, get, overwrite and get objects of all sizes, each in an order of its own. Returns the peak.
async fn mixed(cluster: &DevCluster, seed: u64) -> Result<u64, ChaosError> {
    reset_peak_rss(cluster.pid()).map_err(ChaosError::io("reset the peak RSS"))?;
    let start = Instant::now();
    let clients: Vec<_> = (0..CLIENTS).map(|client| tokio::spawn(mix(cluster.s3(), seed, client))).collect();
    let mut bytes = 0;
    for client in clients {
        bytes += client.await.map_err(|error| ChaosError::Workload(error.to_string()))??;
    }
    let peak = peak_rss_bytes(cluster.pid()).ok_or_else(gone)?;
    let rate = bytes as f64 / MIB as f64 / start.elapsed().as_secs_f64();
    println!("   {CLIENTS} clients with mixed sizes ({rate:.0} MiB/s): peak RSS {} MiB", peak / MIB);
    Ok(peak)
}

/// Returns the bytes that were moved.
async fn mix(s3: S3, seed: u64, client: u64) -> Result<u64, ChaosError> {
    let mut rng = StdRng::seed_from_u64(seed ^ client);
    let mut bytes = 0;
    for round in 0..ROUNDS {
        for step in 0..SIZES.len() {
            let size = SIZES[(step + client as usize) % SIZES.len()];
            let key = format!("mixed/{client}/{size}");
            let mut body = vec![0; size];
            rng.fill_bytes(&mut body);
            let body = Bytes::from(body);
            s3.put(BUCKET, &key, body.clone()).await?;
            if s3.get(BUCKET, &key).await? != body {
                let what = format!("{key}: other bytes came back in round {round}");
                return Err(ChaosError::Violated { invariant: "INT-1", what });
            }
            bytes += 2 * size as u64;
        }
    }
    Ok(bytes)
}

/// Waits until the server has given back what it does not use.
async fn rest(cluster: &DevCluster, peak: u64) -> Result<(), ChaosError> {
    let allowed = (peak / 2).max(AT_REST_BYTES);
    let start = Instant::now();
    loop {
        let resident = rss_bytes(cluster.pid()).ok_or_else(gone)?;
        if resident <= allowed {
            println!("   at rest: RSS {} MiB after {:.1} s", resident / MIB, start.elapsed().as_secs_f64());
            return Ok(());
        }
        if start.elapsed() > REST_LIMIT {
            let (resident, allowed) = (resident / MIB, allowed / MIB);
            let what = format!("RSS {resident} MiB at rest for {REST_LIMIT:?}, {allowed} MiB allowed");
            return Err(ChaosError::Violated { invariant: "BND-1", what });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Streams an object of `mib` in and out and returns the most memory the server had resident meanwhile.
async fn peak(cluster: &DevCluster, seed: u64, mib: u64) -> Result<u64, ChaosError> {
    let s3 = cluster.s3();
    let key = format!("{mib}-mib");
    reset_peak_rss(cluster.pid()).map_err(ChaosError::io("reset the peak RSS"))?;
    let start = Instant::now();
    let mut wanted = Sha256::new();
    pieces(seed, mib).for_each(|piece| wanted.update(&piece));
    let hashed = start.elapsed();
    s3.put_stream(BUCKET, &key, mib * MIB, pieces(seed, mib)).await?;
    let put = start.elapsed() - hashed;
    let mut got = Sha256::new();
    let length = s3.drain(BUCKET, &key, |piece| got.update(piece)).await?;
    let get = start.elapsed() - put - hashed;
    if length != mib * MIB || got.finalize() != wanted.finalize() {
        return Err(ChaosError::Violated {
            invariant: "INT-1",
            what: format!("{key}: {length} bytes, or others, came back"),
        });
    }
    s3.delete(BUCKET, &key).await?;
    let peak = peak_rss_bytes(cluster.pid()).ok_or_else(gone)?;
    println!(
        "   {mib} MiB in ({:.0} MiB/s) and out ({:.0} MiB/s): peak RSS {} MiB",
        mib as f64 / put.as_secs_f64(),
        mib as f64 / get.as_secs_f64(),
        peak / MIB
    );
    Ok(peak)
}

/// The object's bytes: one random piece, each time with its number in it.
fn pieces(seed: u64, mib: u64) -> impl Iterator<Item = Bytes> + Send + 'static {
    let mut piece = vec![0; PIECE];
    StdRng::seed_from_u64(seed).fill(piece.as_mut_slice());
    (0..mib).map(move |number| {
        piece[..8].copy_from_slice(&number.to_be_bytes());
        Bytes::copy_from_slice(&piece)
    })
}
