//! `cargo xtask bench`: benchmarks, built in release mode.

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
};

use clap::{Args, Subcommand};

use crate::{
    report::Report,
    workspace::{cargo, root, target},
};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: Option<What>,
    /// Without a word it is put-get.
    #[command(flatten)]
    put_get: PutGet,
}

#[derive(Subcommand)]
enum What {
    /// PUT and GET, from outside, against a fresh cluster of this machine.
    PutGet(PutGet),
    /// The metadata backends: commits, gets, listings, Complete and deletes.
    Metadata {
        /// Links FoundationDB's client library, for `--backend fdb`.
        #[arg(long)]
        fdb: bool,
        #[command(flatten)]
        passed: Passed,
    },
    /// The disk engine against the raw device.
    Disk {
        #[command(flatten)]
        passed: Passed,
    },
    /// Repair of a lost rack against raw files, and what clients notice of it.
    Repair {
        #[command(flatten)]
        passed: Passed,
    },
    /// Placement and the order of repair in a cluster of any size, in virtual time.
    Healing(Healing),
}

/// What it works out does not depend on the machine; how long that takes does.
#[derive(Args)]
struct Healing {
    /// A multiple of 200: ten for each node, in twenty racks.
    #[arg(long, default_value_t = 10_000)]
    disks: usize,
    #[arg(long, default_value_t = 1_000_000)]
    groups: usize,
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

#[derive(Args)]
struct PutGet {
    /// Seconds for each line of the table.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Object sizes in bytes.
    #[arg(long, default_value = "1024,1048576,67108864")]
    sizes: String,
    /// Numbers of clients.
    #[arg(long, default_value = "1,16")]
    clients: String,
}

#[derive(Args)]
struct Passed {
    /// Options of the benchmark itself: `-- --help` shows them.
    #[arg(last = true)]
    options: Vec<OsString>,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    match &options.what {
        None => put_get(&options.put_get),
        Some(What::PutGet(options)) => put_get(options),
        Some(What::Metadata { fdb, passed }) => {
            let features: &[&str] = if *fdb { &["--features", "fdb"] } else { &[] };
            own("metadata", features, passed)
        }
        Some(What::Disk { passed }) => own("disk", &[], passed),
        // It starts a cluster of the binary beside it.
        Some(What::Repair { passed }) => own("repair", &["-p", "cairn", "--bin", "cairn"], passed),
        Some(What::Healing(options)) => healing(options),
    }
}

/// The simulation among the engine's tests, which see what is the engine's own: built as they are, for all times in it
/// are virtual.
fn healing(Healing { disks, groups, seed }: &Healing) -> ExitCode {
    let mut report = Report::default();
    let mut simulation = cargo("test");
    simulation.args(["--workspace", "--lib", "background::simulation", "--", "--nocapture"]);
    for (name, value) in [
        ("CAIRN_SIM_DISKS", disks.to_string()),
        ("CAIRN_SIM_GROUPS", groups.to_string()),
        ("CAIRN_SEED", seed.to_string()),
    ] {
        simulation.env(name, value);
    }
    report.command("healing", &mut simulation);
    report.finish()
}

fn put_get(options: &PutGet) -> ExitCode {
    let mut report = Report::default();
    let mut build = cargo("build");
    if report.command("build in release mode", build.args(["--release", "-p", "cairn", "-p", "cairn-chaos", "--bins"]))
    {
        let mut bench = Command::new(root().join("ops/bench/put_get.sh"));
        bench.arg(target().join("release")).args([&options.seconds.to_string(), &options.sizes, &options.clients]);
        report.command("PUT and GET", &mut bench);
    }
    report.finish()
}

/// A program of `ops/bench`; `more` is what else to build, and how.
fn own(program: &str, more: &[&str], passed: &Passed) -> ExitCode {
    let mut report = Report::default();
    let mut build = cargo("build");
    build.args(["--release", "-p", "cairn-bench", "--bin", program]).args(more);
    if report.command("build in release mode", &mut build) {
        let mut bench = Command::new(target().join("release").join(program));
        report.command(program, bench.args(&passed.options));
    }
    report.finish()
}
