//! `cargo xtask`: the project's own commands.

mod bench;
mod python;
mod report;
mod verify;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Formatting, lints, licences, every test, real S3 clients and a short chaos run. Says what ran and what was
    /// skipped.
    Verify(verify::Options),
    /// Benchmarks in release mode: put-get (1 KiB, 1 MiB and 64 MiB by 1 and 16 clients against a fresh `cairn dev`),
    /// metadata, disk, repair.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Task::Verify(options) => verify::run(&options),
        Task::Bench(options) => bench::run(&options),
    }
}
