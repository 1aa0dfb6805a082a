//! The disk engine against the raw device: each figure is a ratio of two things done in turn in the same run, because a
//! figure of a shared machine means little on its own. Builds of the release profile only: a debug build measures
//! itself.

mod churn;
mod open;
mod raw;
mod read;
mod setup;
mod write;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

use setup::{Failure, Setting};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Fragments of 1 MiB against appending to one file with one sync a batch.
    Write,
    /// Fragments of 4 KiB by 64 writers against one write and one sync each.
    Small,
    /// Reads of 1 MiB and of 64 KiB against pread of the same bytes.
    Read,
    /// Opening a disk of many fragments, and the memory they take.
    Open,
    /// A day of writes and deletes: space taken against what lives.
    Churn,
}

#[derive(Parser)]
#[command(about = "Figures of the disk engine, as ratios to the raw device in the same run")]
struct Arguments {
    /// What to measure; everything if nothing is named.
    #[arg(value_enum)]
    what: Vec<What>,
    /// Folder on the file system to measure; the system's temporary folder if left out.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Rounds of each ratio, both sides in each; the median is printed.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// MiB written or read by each side in a round.
    #[arg(long, default_value_t = 256)]
    mib: usize,
    /// Fragments on the disk that is opened.
    #[arg(long, default_value_t = 10_000_000)]
    fragments: u64,
    /// MiB that live on the disk that is churned.
    #[arg(long, default_value_t = 1024)]
    live_mib: u64,
    /// How often the churn replaces what lives.
    #[arg(long, default_value_t = 10)]
    turnovers: u64,
    /// Used by the benchmark itself: opens the disk there in a fresh process.
    #[arg(long, hide = true)]
    open_there: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(dir) = &arguments.open_there {
        return open::child(&runtime, dir);
    }
    if cfg!(debug_assertions) {
        eprintln!("this is not a release build: its figures mean nothing");
    }
    let dir = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let setting =
        Setting { dir: dir.path().to_owned(), runtime, rounds: arguments.rounds.max(1), mib: arguments.mib.max(16) };
    let wanted = |what| arguments.what.is_empty() || arguments.what.contains(&what);
    println!("disk engine in {}", dir.path().display());
    if wanted(What::Write) {
        write::large(&setting)?;
    }
    if wanted(What::Small) {
        write::small(&setting)?;
    }
    if wanted(What::Read) {
        read::all(&setting)?;
    }
    if wanted(What::Open) {
        open::all(&setting, arguments.fragments)?;
    }
    if wanted(What::Churn) {
        churn::all(&setting, arguments.live_mib, arguments.turnovers)?;
    }
    Ok(())
}
