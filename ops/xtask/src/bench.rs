//! `cargo xtask bench`: the first benchmark of PUT and GET, from outside, against a fresh cluster of this machine.

use std::process::{Command, ExitCode};

use clap::Args;

use crate::{cargo, report::Report, root, target};

#[derive(Args)]
pub struct Options {
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

pub fn run(options: &Options) -> ExitCode {
    let mut report = Report::default();
    let mut build = cargo("build");
    if report.command("build in release mode", build.args(["--release", "-p", "cairn", "-p", "cairn-chaos", "--bins"]))
    {
        let binaries = target().join("release");
        let mut bench = Command::new(root().join("ops/bench/put_get.sh"));
        bench.arg(binaries).args([&options.seconds.to_string(), &options.sizes, &options.clients]);
        report.command("PUT and GET", &mut bench);
    }
    report.finish()
}
