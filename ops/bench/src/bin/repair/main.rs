//! Repair: how fast a rack that is lost for good is made anew, against plain files that are read and written in the
//! same folders in the same run; and what clients notice of it. A whole cluster of processes on this machine, driven
//! from outside, with the rates that a node has that is told nothing.

mod clients;
mod machine;
mod raw;
mod report;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use cairn_bench::{Failure, forget_cached};
use cairn_chaos::{
    admin,
    audit::Lost,
    cluster::{ACCESS_KEY, Cluster, Metadata, SECRET_KEY, Spec},
    inspect,
    s3::{Account, S3},
};
use clap::Parser;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;

use clients::{Clients, Window, random_body};
use machine::Usage;
use raw::{Rates, Raw};
use report::{Progress, Report};

const RACKS: usize = 6;
const NODES_PER_RACK: usize = 2;
const DISKS: usize = 2;
/// The rack that is lost; clients ask the nodes of the others all the time.
const LOST_RACK: &str = "r6";
const BUCKET: &str = "stored";
/// A fragment of a full stripe, as a node makes it that is told nothing.
const FRAGMENT_BYTES: usize = 1 << 20;
/// Whole stripes of 4+2 and of 8+4.
const OBJECT_BYTES: usize = 16 << 20;
const WRITERS: usize = 4;
const RAW_FRAGMENTS: usize = 192;
const NOTICED: Duration = Duration::from_secs(120);
const REPAIRED: Duration = Duration::from_secs(1800);
const POLL: Duration = Duration::from_millis(250);
/// How long it is looked whether the machine is idle.
const LOOK: Duration = Duration::from_secs(3);

#[derive(Parser)]
#[command(about = "How fast repair is, as a ratio to raw files in the same run, and what clients notice of it")]
struct Arguments {
    /// The cairn binary; the one beside this program if left out.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Folder on the file system to measure; the system's temporary folder if left out.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// MiB to store. A sixth of it, and of its parity, is lost and made anew: enough for some 30 s.
    #[arg(long, default_value_t = 4096)]
    mib: usize,
    /// As in the configuration.
    #[arg(long, default_value = "4+2")]
    scheme: String,
    /// Seconds for which clients are watched before the loss, and after it before the repair.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// GETs in a second, of 1 MiB, and as many PUTs.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    if cfg!(debug_assertions) {
        eprintln!("this is not a release build: its figures mean nothing");
    }
    match run(&Arguments::parse()).await {
        Ok(report) => {
            print!("{report}");
            println!("{}", report.json());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<Report, Failure> {
    let (idle, load) = (machine::idle(LOOK).await?, machine::load_average());
    let data = arguments.scheme.split('+').next().and_then(|data| data.parse().ok());
    let data: usize = data.ok_or("the scheme must be k+m")?;
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?.with_file_name("cairn"),
    };
    let folder = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let spec = Spec {
        nodes_per_rack: NODES_PER_RACK,
        disks: DISKS,
        scheme: arguments.scheme.clone(),
        memory: "512 MiB".into(),
        ..Spec::six_racks(Metadata::Remote)
    };
    let mut bench = Bench { cluster: Cluster::start(&binary, folder.path(), &spec)?, windows: Vec::new() };
    bench.until("all disks to be up", |status| admin::disks_in(status, "up") == RACKS * NODES_PER_RACK * DISKS).await?;
    store(&bench.endpoints(), arguments.mib).await?;
    let disks = bench.disks();
    let raw = Raw::lay_out(&disks, data, RAW_FRAGMENTS, FRAGMENT_BYTES)?;
    let raw_before = raw.measure()?;

    let clients = Clients::start(bench.endpoints(), arguments.rate).await?;
    let time = Duration::from_secs(arguments.seconds);
    bench.watch("before", time).await?;
    bench.cluster.kill_rack(LOST_RACK);
    let down = NODES_PER_RACK * DISKS;
    bench.until("the disks of a rack to be down", |status| admin::disks_in(status, "down") == down).await?;
    let lost = inspect::killed(&bench.cluster, LOST_RACK)?.lost(|home| home.rack == LOST_RACK, |_| true);
    disks.iter().try_for_each(|disk| forget_cached(disk))?;
    bench.watch("a rack down", time).await?;
    let progress = bench.repair(&lost).await?;
    bench.watch("after", time).await?;
    let samples = clients.stop().await?;

    let raw_after = raw.measure()?;
    let windows = std::mem::take(&mut bench.windows);
    bench.cluster.stop()?;
    let machine =
        format!("{} of the machine's processors idle and a load average of {load} before", report::percent(idle));
    Ok(Report { machine, lost, progress, raw: mean(&raw_before, &raw_after), data, windows, samples })
}

/// Of two measurements of the same.
fn mean(before: &Rates, after: &Rates) -> Rates {
    before.iter().zip(after).map(|((threads, before), (_, after))| (*threads, (before + after) / 2.0)).collect()
}

/// Objects of whole stripes.
async fn store(endpoints: &[S3], mib: usize) -> Result<(), Failure> {
    let first = endpoints.first().ok_or("no endpoint")?;
    first.create_bucket(BUCKET).await?;
    let body = random_body(3, OBJECT_BYTES);
    let put = |number: usize| {
        let (s3, body) = (endpoints[number % endpoints.len()].clone(), body.clone());
        async move { s3.put(BUCKET, &number.to_string(), body).await }
    };
    let count = (mib << 20).div_ceil(OBJECT_BYTES);
    futures::stream::iter((0..count).map(put)).buffer_unordered(WRITERS).try_collect::<()>().await?;
    Ok(())
}

struct Bench {
    cluster: Cluster,
    windows: Vec<Window>,
}

impl Bench {
    /// Of the nodes that stay.
    fn endpoints(&self) -> Vec<S3> {
        let nodes = self.cluster.nodes.iter().filter(|node| node.rack != LOST_RACK);
        let account = |endpoint: &str| Account {
            endpoint: endpoint.into(),
            access_key: ACCESS_KEY.into(),
            secret_key: SECRET_KEY.into(),
        };
        nodes.map(|node| S3::new(account(&node.s3))).collect()
    }

    /// The folders of those disks that stay.
    fn disks(&self) -> Vec<PathBuf> {
        let nodes = self.cluster.nodes.iter().filter(|node| node.rack != LOST_RACK);
        nodes.flat_map(|node| node.disks().map(|disk| Path::new(node.folder()).join(disk))).collect()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<(), Failure> {
        admin::until(what, NOTICED, async || self.cluster.status().await, holds).await?;
        Ok(())
    }

    async fn watch(&mut self, name: &'static str, time: Duration) -> Result<(), Failure> {
        let pids = self.cluster.pids();
        let (from, usage) = (Instant::now(), Usage::now(&pids)?);
        tokio::time::sleep(time).await;
        let others = usage.of_others(&pids)?;
        self.windows.push(Window { name, from, to: Instant::now(), others });
        Ok(())
    }

    /// Gives the rack up, and waits until nothing is missing.
    async fn repair(&mut self, lost: &Lost) -> Result<Progress, Failure> {
        let pids = self.cluster.pids();
        let (from, usage) = (Instant::now(), Usage::now(&pids)?);
        self.cluster.give_up(&["--rack", &format!("z1/{LOST_RACK}")])?;
        let mut progress = vec![(Duration::ZERO, lost.fragments)];
        let mut listed = false;
        loop {
            tokio::time::sleep(POLL).await;
            let status = self.cluster.status().await?;
            let groups = status["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
            listed |= !groups.is_empty() && groups.iter().all(|group| group["up"] == group["width"]);
            let missing = status["missing_fragments"].as_u64().unwrap_or(u64::MAX);
            // Before every group has its new members, more is missing than the status can know.
            if listed {
                progress.push((from.elapsed(), missing));
            }
            if listed && missing == 0 {
                break;
            }
            if from.elapsed() > REPAIRED {
                return Err(format!("{missing} fragments are still missing after {REPAIRED:?}").into());
            }
        }
        let others = usage.of_others(&pids)?;
        self.windows.push(Window { name: "repair", from, to: Instant::now(), others });
        Ok(progress)
    }
}
