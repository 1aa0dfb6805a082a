//! `cairn-chaos`: runs scenarios against real Cairn processes.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use cairn_chaos::{
    ChaosError,
    campaign::{Campaign, Seeds, Shard},
    lab::{self, Lab},
    report::Report,
    run::{self, Order},
    scenario::{away, clients, corrupt, drain, heal, metadata, racks, restart, rot, sick, stop, stream, watch},
    script::{self, MetadataKind, Needs, units::Span},
    setting::Setting,
};
use clap::{Parser, Subcommand, ValueEnum};

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
    /// The same scenario with many seeds, each a run of its own. It goes on where it was stopped.
    Seeds {
        #[command(flatten)]
        run: RunArgs,
        /// The first and the last one, such as 1..1000.
        #[arg(long)]
        seeds: Seeds,
        /// Of several machines, which one this is, such as 1/4: each has seeds of its own.
        #[arg(long)]
        shard: Option<Shard>,
        /// Where it is written down which seeds were run, and what came of them; DIR/state without it.
        #[arg(long)]
        state: Option<PathBuf>,
    },
    /// Runs what a report.json of a run that failed was written by with fewer and fewer of its faults, as long as it
    /// fails still.
    Shrink {
        report: PathBuf,
        /// A folder for the reports of all tries.
        #[arg(long = "report", value_name = "DIR")]
        folder: PathBuf,
        /// How many runs it may take.
        #[arg(long, default_value_t = 40)]
        tries: usize,
    },
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
    /// An older cairn program: what runs until it is upgraded, in scenarios that upgrade.
    #[arg(long, value_name = "PATH")]
    program_before: Option<PathBuf>,
    /// Of the schedule just these steps, by their numbers.
    #[arg(long, value_delimiter = ',', num_args = 0..)]
    only: Option<Vec<usize>>,
    /// Folder for report.json and report.html.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

impl RunArgs {
    /// The scenario's file, and what stands in it.
    fn read(&self) -> Result<(PathBuf, String), ChaosError> {
        let file = if self.file.is_file() || self.file.extension().is_some() {
            self.file.clone()
        } else {
            self.scenarios.join(&self.file).with_extension("toml")
        };
        let text = std::fs::read_to_string(&file).map_err(ChaosError::io(format!("read {}", file.display())))?;
        Ok((file, text))
    }

    fn order(self, binary: PathBuf, seed: u64, fdb: Option<PathBuf>) -> Result<Order, ChaosError> {
        let (file, text) = self.read()?;
        let Self { duration, metadata, program_before: before, only, report, .. } = self;
        let name = file.display().to_string();
        Ok(Order { binary, name, text, seed, duration, metadata, fdb, before, only, report })
    }

    /// For each of many seeds.
    fn campaign(self, binary: &Path) -> Result<Campaign, ChaosError> {
        let (file, text) = self.read()?;
        let mut run_options = Vec::new();
        let mut option = |name: &str, value: Option<String>| {
            run_options.extend(value.into_iter().flat_map(|value| [format!("--{name}"), value]));
        };
        option("duration", self.duration.map(|span| span.to_string()));
        option(
            "metadata",
            self.metadata.and_then(|kind| kind.to_possible_value()).map(|value| value.get_name().into()),
        );
        option("program-before", self.program_before.map(|path| path.display().to_string()));
        if self.only.is_some() {
            return Err(ChaosError::Workload("--only is for one seed: each has steps of its own".into()));
        }
        let Some(reports) = self.report else {
            return Err(ChaosError::Workload("--report DIR is needed: a folder for the reports of all seeds".into()));
        };
        campaign(binary, file, text, run_options, reports)
    }
}

fn campaign(
    binary: &Path,
    file: PathBuf,
    text: String,
    run_options: Vec<String>,
    reports: PathBuf,
) -> Result<Campaign, ChaosError> {
    let program = std::env::current_exe().map_err(ChaosError::io("find this program"))?;
    let options = vec!["--binary".into(), binary.display().to_string()];
    let version = std::process::Command::new(binary).arg("--version").output();
    let version = version.map_err(ChaosError::io(format!("run {}", binary.display())))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    std::fs::create_dir_all(&reports).map_err(ChaosError::io(format!("create {}", reports.display())))?;
    Ok(Campaign { program, options, file, text, run_options, reports, version })
}

fn seeds(campaign: &Campaign, seeds: &Seeds, shard: Shard, state: Option<PathBuf>) -> Result<(), ChaosError> {
    let state = state.unwrap_or_else(|| campaign.reports.join("state"));
    let (held, failed) = campaign.seeds(seeds, shard, &state)?;
    println!("   {held} seeds held, {} failed; {}", failed.len(), state.display());
    for ran in &failed {
        let report = campaign.folder(ran.seed).join("report.json");
        println!("   seed {}: {}; cairn-chaos replay {}", ran.seed, ran.broken.join(", "), report.display());
    }
    if failed.is_empty() { Ok(()) } else { Err(ChaosError::Workload(format!("{} seeds failed", failed.len()))) }
}

fn shrink(report: &Path, folder: PathBuf, tries: usize, binary: &Path) -> Result<(), ChaosError> {
    let of = read_report(report)?;
    let broken = cairn_chaos::campaign::broken(&of);
    if broken.is_empty() {
        return Err(ChaosError::Workload(format!("{}: everything held, so nothing can be left out", report.display())));
    }
    std::fs::create_dir_all(&folder).map_err(ChaosError::io(format!("create {}", folder.display())))?;
    // Its file may be another one by now, or on another machine.
    let file = folder.join("scenario.toml");
    std::fs::write(&file, &of.file).map_err(ChaosError::io(format!("write {}", file.display())))?;
    let metadata = of.metadata.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let mut options = vec!["--duration".into(), of.duration.clone(), "--metadata".into(), metadata];
    options.extend(of.before.iter().flat_map(|path| ["--program-before".to_owned(), path.display().to_string()]));
    let steps = of.events.iter().map(|event| event.step.number).collect();
    let campaign = campaign(binary, file, of.file.clone(), options.clone(), folder)?;
    println!("   what did not hold: {}", broken.join(", "));
    let left = campaign.shrink(of.seed, steps, &broken, tries)?;
    let numbers: Vec<String> = left.iter().map(usize::to_string).collect();
    for event in of.events.iter().filter(|event| left.contains(&event.step.number)) {
        println!("   {}", event.step);
    }
    let (file, only) = (campaign.file.display(), numbers.join(","));
    println!("   cairn-chaos run {file} --seed {} --duration '{}' --only {only}", of.seed, of.duration);
    Ok(())
}

fn read_report(report: &Path) -> Result<Report, ChaosError> {
    let wrong = |why: String| ChaosError::Workload(format!("{}: {why}", report.display()));
    let text = std::fs::read(report).map_err(|error| wrong(error.to_string()))?;
    let of: Report = serde_json::from_slice(&text).map_err(|error| wrong(format!("no report: {error}")))?;
    if of.format != Report::FORMAT {
        return Err(wrong(format!("its format is {}; this build reads {}", of.format, Report::FORMAT)));
    }
    Ok(of)
}

fn replayed(report: &Path, folder: Option<PathBuf>, setting: &Setting) -> Result<Order, ChaosError> {
    let of = read_report(report)?;
    let duration = of.duration.parse().map_err(|why| ChaosError::Workload(format!("{}: {why}", report.display())))?;
    let (name, text, seed, metadata) = (of.name, of.file, of.seed, Some(of.metadata));
    let (before, only, duration) = (of.before, of.only, Some(duration));
    let (binary, fdb) = (setting.binary.clone(), setting.fdb.clone());
    Ok(Order { binary, name, text, seed, duration, metadata, fdb, before, only, report: folder })
}

/// What a scenario is about, a line each.
fn list(folder: &Path) -> Result<(), ChaosError> {
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

async fn judged(order: &Order, lab: &Lab) -> Result<(), ChaosError> {
    println!("   {}, --seed {}, duration {:?}, metadata {:?}", order.name, order.seed, order.duration, order.metadata);
    let report = Box::pin(run::run(order, lab)).await?;
    let broken: Vec<&str> = report.verdicts.iter().filter(|one| !one.is_good()).map(|one| &*one.name).collect();
    if broken.is_empty() { Ok(()) } else { Err(ChaosError::Workload(format!("did not hold: {}", broken.join(", ")))) }
}

/// What is run in this process's own namespaces, if it needs any: they must be entered before there are threads.
fn prepared(order: Result<Order, ChaosError>) -> Result<(Order, Lab), ChaosError> {
    let order = order?;
    let scenario = order.scenario()?;
    let with_network = scenario.needs(Needs::Network);
    let is_needed = with_network || scenario.topology.disk_size.is_some();
    let lab = if is_needed { lab::enter(with_network) } else { Err("the scenario needs none".into()) };
    Ok((order, lab))
}

fn main() -> ExitCode {
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
    let start = Instant::now();
    let setting = Setting {
        binary: arguments.binary,
        clients: arguments.clients,
        python: arguments.python,
        seed,
        fdb: arguments.fdb,
    };
    let done = match arguments.scenario {
        Scenario::Run(run) => {
            on_threads(prepared(run.order(setting.binary, seed, setting.fdb)), async |(order, lab)| {
                judged(&order, &lab).await
            })
        }
        Scenario::Replay { report, folder } => {
            on_threads(prepared(replayed(&report, folder, &setting)), async |(order, lab)| judged(&order, &lab).await)
        }
        Scenario::Seeds { run, seeds: wanted, shard, state } => run
            .campaign(&setting.binary)
            .and_then(|campaign| seeds(&campaign, &wanted, shard.unwrap_or(Shard::WHOLE), state)),
        Scenario::Shrink { report, folder, tries } => shrink(&report, folder, tries, &setting.binary),
        other => on_threads(Ok(other), async |scenario| run(&setting, scenario).await),
    };
    match done {
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

fn on_threads<T>(
    given: Result<T, ChaosError>,
    run: impl AsyncFnOnce(T) -> Result<(), ChaosError>,
) -> Result<(), ChaosError> {
    let given = given?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(ChaosError::io("start threads"))?.block_on(run(given))
}

async fn run(setting: &Setting, scenario: Scenario) -> Result<(), ChaosError> {
    match scenario {
        // None of these needs a cluster of the kind that the others share.
        Scenario::Run(_) | Scenario::Replay { .. } | Scenario::Seeds { .. } | Scenario::Shrink { .. } => Ok(()),
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
