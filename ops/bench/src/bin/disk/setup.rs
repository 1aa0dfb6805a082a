//! What the measurements share: disks, fragments, medians, lines.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cairn_actors::{
    disk::{DiskHandle, DiskOptions, IndexMemory},
    fragment::{NewFragment, block_checksums},
};
use cairn_schema::ids::{BlobId, ClusterId, FragmentName, GroupId};
use rand::{RngCore, SeedableRng, rngs::SmallRng};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) const MIB: usize = 1 << 20;

pub(crate) struct Setting {
    pub dir: PathBuf,
    pub runtime: tokio::runtime::Runtime,
    pub rounds: usize,
    /// Moved by each side in a round.
    pub mib: usize,
}

/// As a node opens its disks, with segments of `segment_bytes`.
pub(crate) fn options(path: &Path, segment_bytes: u64) -> DiskOptions {
    DiskOptions {
        path: path.to_owned(),
        cluster: ClusterId([7; 16]),
        segment_bytes,
        reserved_bytes: 64 << 20,
        capacity_bytes: None,
        max_queued_bytes: 64 << 20,
        max_queued_reads: 1024,
        index: IndexMemory::default(),
    }
}

/// Names as a node sees them: ten groups, random blobs, a position.
pub(crate) fn name(n: u64) -> FragmentName {
    let mut blob = [0; 16];
    SmallRng::seed_from_u64(n).fill_bytes(&mut blob);
    FragmentName { group: GroupId((n % 10) as u32), blob: BlobId(blob), stripe: 0, position: (n % 6) as u8 }
}

/// Numbers no fragment of this process has had yet.
pub(crate) fn fresh(count: usize) -> std::ops::Range<u32> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = NEXT.fetch_add(count as u32, Ordering::Relaxed);
    first..first + count as u32
}

/// Payloads with the checksums that whoever made them would send along.
pub(crate) struct Pool(Vec<(Bytes, Vec<u64>)>);

impl Pool {
    /// As many different payloads of `length` bytes as fit into 64 MiB, at most 256.
    pub(crate) fn new(length: usize) -> Self {
        let count = (64 * MIB / length.max(1)).clamp(1, 256);
        let mut random = SmallRng::seed_from_u64(length as u64);
        let one = |_| {
            let mut bytes = vec![0; length];
            random.fill_bytes(&mut bytes);
            let sums = block_checksums(&bytes);
            (Bytes::from(bytes), sums)
        };
        Self((0..count).map(one).collect())
    }

    pub(crate) fn payload(&self, n: u64) -> &Bytes {
        &self.0[n as usize % self.0.len()].0
    }

    pub(crate) fn fragment(&self, n: u64) -> NewFragment {
        let (payload, block_checksums) = &self.0[n as usize % self.0.len()];
        NewFragment { name: name(n), payload: payload.clone(), block_checksums: block_checksums.clone() }
    }
}

/// Puts the fragments `numbers` with `writers` at once.
pub(crate) async fn put_all(
    disk: &DiskHandle,
    writers: usize,
    numbers: std::ops::Range<u64>,
    make: impl Fn(u64) -> NewFragment + Clone + Send + Sync + 'static,
) -> Result<(), Failure> {
    let next = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(numbers.start));
    let tasks = (0..writers).map(|_| {
        let (disk, next, make, end) = (disk.clone(), next.clone(), make.clone(), numbers.end);
        tokio::spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= end {
                    return Ok(());
                }
                disk.put(make(n)).await?;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await?.map_err(|error: cairn_actors::fragment::DiskError| error)?;
    }
    Ok(())
}

/// What a side took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    pub wall: Duration,
    /// Processor time of the whole process. On a machine with other work it is steadier than the wall's.
    pub processor: Duration,
}

impl std::ops::AddAssign for Took {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.processor += other.processor;
    }
}

impl Took {
    /// As if it had been done so many times more.
    pub(crate) fn times(self, factor: f64) -> Self {
        Self { wall: self.wall.mul_f64(factor), processor: self.processor.mul_f64(factor) }
    }
}

/// Runs and clocks between [`Clock::start`] and [`Clock::stop`].
pub(crate) struct Clock(Instant, Duration);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now(), processor())
    }

    pub(crate) fn stop(self) -> Took {
        Took { wall: self.0.elapsed(), processor: processor().saturating_sub(self.1) }
    }
}

fn processor() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Both sides in turn, the first to go changing each round. Returns the times (ours, raw) of each round; the first,
/// which warms up, is left out.
pub(crate) fn in_turns(
    rounds: usize,
    mut ours: impl FnMut() -> Result<Took, Failure>,
    mut raw: impl FnMut() -> Result<Took, Failure>,
) -> Result<Vec<(Took, Took)>, Failure> {
    let mut times = Vec::new();
    for round in 0..=rounds {
        let pair = if round % 2 == 0 {
            let ours = ours()?;
            (ours, raw()?)
        } else {
            let raw = raw()?;
            (ours()?, raw)
        };
        if round > 0 {
            times.push(pair);
        }
    }
    Ok(times)
}

pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 { numbers[middle] } else { (numbers[middle - 1] + numbers[middle]) / 2.0 }
}

/// How many times as fast as the raw side we were in each round; prints the median, its spread, whether the goal is
/// met, and how much processor time each of the `amount` took.
pub(crate) fn print_ratio(what: &str, amount: f64, unit: &str, times: &[(Took, Took)], goal: f64) {
    let ratio = |pair: &(Took, Took)| pair.1.wall.as_secs_f64() / pair.0.wall.as_secs_f64();
    let mut ratios: Vec<f64> = times.iter().map(ratio).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let (least, most) = (ratios.first().copied().unwrap_or(0.0), ratios.last().copied().unwrap_or(0.0));
    let ratio = median(ratios);
    let of = |figure: &dyn Fn(&(Took, Took)) -> f64| median(times.iter().map(figure).collect());
    let (ours, raw) = (of(&|pair| amount / pair.0.wall.as_secs_f64()), of(&|pair| amount / pair.1.wall.as_secs_f64()));
    let each = 1e6 / amount;
    let processor = of(&|pair| pair.0.processor.as_secs_f64() * each);
    let raw_processor = of(&|pair| pair.1.processor.as_secs_f64() * each);
    let verdict = if ratio >= goal { "met" } else { "MISSED" };
    println!(
        "{what:<44} {ours:>9.0} {unit:<5} raw {raw:>7.0}  ratio {ratio:>5.2} ({least:.2} to {most:.2})  goal {goal:.2} {verdict:<6}  processor {processor:.1} us each, raw {raw_processor:.1}"
    );
}
