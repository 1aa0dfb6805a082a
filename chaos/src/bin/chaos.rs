//! `cairn-chaos`: runs scenarios against real Cairn processes.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use cairn_chaos::{
    ChaosError,
    scenario::{away, clients, corrupt, drain, heal, metadata, racks, restart, rot, sick, stop, stream, watch},
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
    #[arg(long)]
    seed: Option<u64>,
    /// Keep the metadata in the FoundationDB of this cluster file (the binary needs the `fdb` feature).
    #[arg(long, env = "CAIRN_FDB_CLUSTER_FILE")]
    fdb: Option<PathBuf>,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand, Debug)]
enum Scenario {
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

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
