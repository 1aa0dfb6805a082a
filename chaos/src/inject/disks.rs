//! Disks that are sick, full or read-only, bytes that rot on them, and clocks that are wrong.

use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::Value;

use crate::{
    cluster::Cluster,
    disk_files::{HEAD, flip_bit, segments},
    error::ChaosError,
    lab::{clock::Clock, volume::Volume},
    process,
    script::{Kind, Step, Target},
    strace::Injection,
};

/// How many fragments of a disk rot at once.
const ROTTEN: usize = 20;
const READS: &str = "pread64,preadv,preadv2";

/// Err says why it cannot be done here.
pub fn sicken(cluster: &Cluster, step: &Step, disk: &Path) -> Result<Injection, String> {
    let Target::Disk(node, _) = step.target else { return Err("it is not done to a disk".into()) };
    let what = match step.what {
        Kind::Eio => format!("{READS}:error=EIO"),
        Kind::Slow => format!("{READS},fdatasync:delay_enter=50000"),
        _ => format!("{READS},fdatasync:delay_enter=300000000"),
    };
    let files = segments(disk).map_err(|error| error.to_string())?;
    let files: Vec<PathBuf> = files.into_values().collect();
    let pid = cluster.nodes[node].pid().ok_or("the node does not run")?;
    tokio::task::block_in_place(|| Injection::into(pid, &what, &files))
}

/// Which fragments there are is read from a copy of the disk, made while its node stands still.
pub fn rot(cluster: &Cluster, step: &Step, disk: &Path, aside: &Path) -> Result<(), ChaosError> {
    let Target::Disk(node, _) = step.target else { return Ok(()) };
    let node = &cluster.nodes[node];
    let image = tempfile::tempdir_in(aside).map_err(ChaosError::io("make a folder for an image"))?;
    let copy = image.path().join("disk");
    let mut command = std::process::Command::new("cp");
    command.arg("-a").arg(disk).arg(&copy);
    let list = tokio::task::block_in_place(|| {
        node.freeze();
        let copied = process::run(command, "copy a disk");
        node.thaw();
        copied?;
        cluster.cairn(&["disk", "list", "--json", &copy.to_string_lossy()])
    })?;
    let lines = list.lines().skip(1).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let place = |line: Value| Some((line["segment"].as_u64()?, line["offset"].as_u64()?, line["bytes"].as_u64()?));
    let mut places: Vec<(u64, u64, u64)> = lines.filter_map(place).collect();
    let mut rng = StdRng::seed_from_u64(step.seed);
    places.shuffle(&mut rng);
    let files = segments(disk)?;
    let mut flipped = 0;
    for (segment, offset, bytes) in places.into_iter().take(ROTTEN) {
        let (at, bit) = (offset + rng.random_range(0..HEAD + bytes), rng.random_range(0..8));
        // A segment may have been emptied meanwhile.
        flipped += files.get(&segment).map_or(0, |file| usize::from(flip_bit(file, at, bit).is_ok()));
    }
    println!("   {flipped} fragments of a disk of {} are rotten", node.id);
    Ok(())
}

/// To the file system of the disk that is the target, or of all.
pub fn volumes(
    cluster: &Cluster,
    target: &Target,
    act: impl Fn(&Volume) -> Result<(), ChaosError>,
) -> Result<(), ChaosError> {
    let all = |node: usize| cluster.disk_volumes(node).iter();
    tokio::task::block_in_place(|| match target {
        Target::Disk(node, disk) => all(*node).skip(disk - 1).take(1).try_for_each(act),
        _ => (0..cluster.nodes.len()).flat_map(all).try_for_each(act),
    })
}

/// To the clocks of these nodes, and of the metadata server if it is the target or everything is.
pub fn clocks(
    cluster: &Cluster,
    target: &Target,
    nodes: &[usize],
    set: impl Fn(&Clock) -> Result<(), ChaosError>,
) -> Result<(), ChaosError> {
    let meta = cluster.meta_clock().filter(|_| matches!(target, Target::Metadata | Target::All));
    cluster.clocks(nodes).into_iter().chain(meta).try_for_each(set)
}
