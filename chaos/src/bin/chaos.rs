//! `cairn-chaos`: runs scenarios against real Cairn processes.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use cairn_chaos::{
    ChaosError,
    report::Report,
    run::{self, Order},
    scenario::{away, clients, corrupt, drain, heal, metadata, racks, restart, rot, sick, stop, stream, watch},
    script::{self, MetadataKind, units::Span},
    setting::Setting,
};
use clap::{Parser, Subcommand};

/// Runs scenarios against real Cairn processes on this machine and says what held.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The cairn binary.
    #[arg(long, default_value = "target/debug/cairn")]
    binary: PathBuf,
    /// Folder of the client scripts.
    #[arg(long, default_value = "ops/clients")]
    clients: PathBuf,
    /// A python with boto3 and the other clients installed beside it.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Decides every choice a scenario makes; a random one is printed when none is given.
    #[arg(long, global = true)]
    seed: Option<u64>,
    /// Keep the metadata in the FoundationDB of this cluster file (the binary needs the `fdb` feature).
    #[arg(long, env = "CAIRN_FDB_CLUSTER_FILE")]
    fdb: Option<PathBuf>,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand, Debug)]
enum Scenario {
    /// A scenario of the catalogue, or of a file: load, faults, healing, and what held.
    Run(RunArgs),
    /// The catalogue.
    List {
        #[arg(long, default_value = CATALOGUE)]
        scenarios: PathBuf,
    },
    /// Run what a report.json was written by once more: the same scenario with the same seed and options.
    Replay {
        report: PathBuf,
        /// Folder for report.json and report.html of this run.
        #[arg(long = "report", value_name = "DIR")]
        folder: Option<PathBuf>,
    },
    /// awscli, boto3, rclone, s5cmd, s3cmd, pyarrow and restic against `cairn dev`, or node processes with `--fdb`.
    Clients,
    /// Twelve nodes in six racks; two racks die under load and return.
    Racks,
    /// Twelve nodes in six racks; one rack is lost for good, then another, and after each every disk is looked at.
    Heal {
        /// As in the configuration: 4+2, 8+4, 4+2/novelpoly.
        #[arg(long, default_value = "4+2")]
        scheme: String,
        /// Objects to write, of all sizes.
        #[arg(long, default_value_t = 240)]
        objects: usize,
    },
    /// Seven nodes in seven racks, one of which is drained under load while the node that moves is killed.
    Drain,
    /// Two racks of six are frozen while objects are written; the status counts what is left crowded in the others.
    Away,
    /// `cairn dev`, or node processes with `--fdb`, are killed under load and started again.
    Restart,
    /// One disk of twelve cannot read some of what it holds, then nothing, then hangs (needs strace).
    Sick,
    /// What `cairn admin safe-to-stop` allows is killed in a small cluster, whole, with a rack dead and under repair.
    Stop,
    /// Bytes on disk are flipped under a running cluster.
    Corrupt,
    /// A thousand fragments are damaged at rest, and all segment files of one disk deleted.
    Rot,
    /// The metadata's server is killed under load and started again: `cairn meta`, or a FoundationDB of its own.
    Metadata {
        #[arg(long, default_value_t = 2)]
        rounds: u32,
        /// The `fdbserver` to start and kill, with `fdbcli` beside it; without it, `cairn meta`.
        #[arg(long, env = "CAIRN_FDB_SERVER")]
        fdb_server: Option<PathBuf>,
    },
    /// A Prometheus looks on while a rack is lost and repaired: rules, dashboards' queries, alerts.
    Watch {
        /// The `prometheus` to start.
        #[arg(long, default_value = "prometheus")]
        prometheus: PathBuf,
        /// The folder with the rules, dashboards and pages.
        #[arg(long, default_value = "ops")]
        ops: PathBuf,
    },
    /// A large object in and out, then objects of all sizes, then rest; memory must stay within its bound and go back.
    Stream {
        #[arg(long, default_value_t = 64)]
        small_mib: u64,
        #[arg(long, default_value_t = 1024)]
        large_mib: u64,
    },
}

const CATALOGUE: &str = "chaos/scenarios";

#[derive(clap::Args, Debug)]
struct RunArgs {
    /// A file, or the name of one of the catalogue.
    file: PathBuf,
    /// Where the catalogue is.
    #[arg(long, default_value = CATALOGUE)]
    scenarios: PathBuf,
    /// How long faults go on, such as "10 min", whatever the file says.
    #[arg(long)]
    duration: Option<Span>,
    /// Where the metadata are, whatever the file says.
    #[arg(long)]
    metadata: Option<MetadataKind>,
    /// Folder for report.json and report.html.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

impl RunArgs {
    fn order(self, binary: PathBuf, seed: u64, fdb: Option<PathBuf>) -> Result<Order, ChaosError> {
        let file = if self.file.is_file() || self.file.extension().is_some() {
            self.file
        } else {
            self.scenarios.join(self.file).with_extension("toml")
        };
        let text = std::fs::read_to_string(&file).map_err(ChaosError::io(format!("read {}", file.display())))?;
        let (duration, metadata, report) = (self.duration, self.metadata, self.report);
        Ok(Order { binary, name: file.display().to_string(), text, seed, duration, metadata, fdb, report })
    }
}

fn replayed(report: &Path, folder: Option<PathBuf>, setting: &Setting) -> Result<Order, ChaosError> {
    let (binary, fdb) = (setting.binary.clone(), setting.fdb.clone());
    let wrong = |why: String| ChaosError::Workload(format!("{}: {why}", report.display()));
    let text = std::fs::read(report).map_err(|error| wrong(error.to_string()))?;
    let of: Report = serde_json::from_slice(&text).map_err(|error| wrong(format!("no report: {error}")))?;
    if of.format != Report::FORMAT {
        return Err(wrong(format!("its format is {}; this build reads {}", of.format, Report::FORMAT)));
    }
    let duration = of.duration.parse().map_err(wrong)?;
    let (name, text, seed, metadata) = (of.name, of.file, of.seed, Some(of.metadata));
    Ok(Order { binary, name, text, seed, duration: Some(duration), metadata, fdb, report: folder })
}

/// What a scenario is about, a line each.
fn list(folder: &std::path::Path) -> Result<(), ChaosError> {
    let files = std::fs::read_dir(folder).map_err(ChaosError::io(format!("read {}", folder.display())))?;
    let mut files: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    for file in files {
        let scenario = script::Scenario::read(&file).map_err(|error| ChaosError::Workload(error.to_string()))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        println!("{name:<16} {:>7}  {}", scenario.duration.to_string(), scenario.about);
    }
    Ok(())
}

async fn judged(order: Result<Order, ChaosError>) -> Result<(), ChaosError> {
    let order = order?;
    println!("   {}, --seed {}, duration {:?}, metadata {:?}", order.name, order.seed, order.duration, order.metadata);
    let report = Box::pin(run::run(&order)).await?;
    let broken: Vec<&str> = report.verdicts.iter().filter(|one| !one.is_good()).map(|one| &*one.name).collect();
    if broken.is_empty() { Ok(()) } else { Err(ChaosError::Workload(format!("did not hold: {}", broken.join(", ")))) }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Scenario::List { scenarios } = &arguments.scenario {
        return match list(scenarios) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("== {:?}, --seed {seed}", arguments.scenario);
    let setting = Setting {
        binary: arguments.binary,
        clients: arguments.clients,
        python: arguments.python,
        seed,
        fdb: arguments.fdb,
    };
    let start = Instant::now();
    match run(&setting, arguments.scenario).await {
        Ok(()) => {
            println!("   held, in {:.0} s", start.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("   FAILED after {:.0} s: {error}", start.elapsed().as_secs_f64());
            ExitCode::FAILURE
        }
    }
}

async fn run(setting: &Setting, scenario: Scenario) -> Result<(), ChaosError> {
    match scenario {
        Scenario::Run(arguments) => {
            judged(arguments.order(setting.binary.clone(), setting.seed, setting.fdb.clone())).await
        }
        Scenario::Replay { report, folder } => judged(replayed(&report, folder, setting)).await,
        Scenario::List { scenarios } => list(&scenarios),
        Scenario::Clients => clients::run(setting).await,
        Scenario::Racks => racks::run(setting).await,
        Scenario::Heal { scheme, objects } => heal::run(setting, &scheme, objects).await,
        Scenario::Drain => drain::run(setting).await,
        Scenario::Away => away::run(setting).await,
        Scenario::Restart => restart::run(setting).await,
        Scenario::Sick => sick::run(setting).await,
        Scenario::Stop => stop::run(setting).await,
        Scenario::Corrupt => corrupt::run(setting).await,
        Scenario::Rot => rot::run(setting).await,
        Scenario::Metadata { rounds, fdb_server } => metadata::run(setting, rounds, fdb_server.as_deref()).await,
        Scenario::Watch { prometheus, ops } => watch::run(setting, &prometheus, &ops).await,
        Scenario::Stream { small_mib, large_mib } => stream::run(setting, small_mib, large_mib).await,
    }
}
