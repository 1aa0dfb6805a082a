//! `cargo xtask`: the project's own commands.

mod bench;
mod python;
mod report;
mod verify;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Formatting, lints, licences, every test, real S3 clients and a short chaos run. Says what ran and what was skipped.
    Verify(verify::Options),
    /// Benchmarks in release mode: put-get (1 KiB, 1 MiB and 64 MiB by 1 and 16 clients against a fresh `cairn dev`), metadata, disk.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Task::Verify(options) => verify::run(&options),
        Task::Bench(options) => bench::run(&options),
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// `cargo` with the flag that lets s3s build, in the workspace.
fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(command).current_dir(root());
    if !matches!(command, "fmt" | "fetch") {
        cargo.arg("--ignore-rust-version");
    }
    cargo
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
