//! A large object streamed in and out of `cairn dev`: its memory must not grow with the object (BND-1).

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};

use super::Setting;
use crate::{
    ChaosError,
    dev::DevCluster,
    process::{peak_rss_bytes, reset_peak_rss},
};

const PIECE: usize = 1 << 20;
const MIB: u64 = 1 << 20;
const BUCKET: &str = "stream";
/// What the large object may need beyond the small one: the noise of an allocator, far below the difference in size.
const SLACK_BYTES: u64 = 64 * MIB;
/// The peak itself: six nodes, their stripes' budgets, caches and code.
const BOUND_BYTES: u64 = 1024 * MIB;

/// Streams an object of `small_mib`, then one of `large_mib`, and compares the peaks.
pub async fn run(setting: &Setting, small_mib: u64, large_mib: u64) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let cluster = DevCluster::start(&setting.binary, folder.path(), &[])?;
    cluster.s3().create_bucket(BUCKET).await?;
    let small = peak(&cluster, setting.seed, small_mib).await?;
    let large = peak(&cluster, setting.seed, large_mib).await?;
    if large > small + SLACK_BYTES || large > BOUND_BYTES {
        let what =
            format!("peak RSS {} MiB with {small_mib} MiB, {} MiB with {large_mib} MiB", small / MIB, large / MIB);
        return Err(ChaosError::Violated { invariant: "BND-1", what });
    }
    cluster.stop()
}

/// Streams an object of `mib` in and out and returns the most memory the server had resident meanwhile.
async fn peak(cluster: &DevCluster, seed: u64, mib: u64) -> Result<u64, ChaosError> {
    let s3 = cluster.s3();
    let key = format!("{mib}-mib");
    reset_peak_rss(cluster.pid()).map_err(ChaosError::io("reset the peak RSS"))?;
    let start = std::time::Instant::now();
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
    let gone = || ChaosError::Workload("the server is gone".into());
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
