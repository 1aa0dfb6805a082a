//! Figures of the metadata backends, as one table: a row for each measure, a column for each backend.
//!
//! Every backend is used through the verbs, as a node uses it. The embedded and the remote store are made in a temporary folder, so that
//! every commit is synced to the disk below `--folder`; FoundationDB is used under a prefix of its own, which is cleared afterwards.

mod measures;
mod requests;
mod stores;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

/// As `cairn` itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendKind {
    /// The store in this process.
    Embedded,
    /// The same, served over QUIC with mutual TLS on loopback.
    Remote,
    /// A FoundationDB cluster that is running already.
    Fdb,
}

/// Figures of the metadata backends.
#[derive(Parser)]
pub struct Options {
    /// Which backends, separated by commas: a column each.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "embedded,remote")]
    backend: Vec<BackendKind>,
    /// FoundationDB's cluster file; its client library's default place if not given.
    #[arg(long)]
    cluster_file: Option<PathBuf>,
    /// Keys of the bucket that is listed.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Seconds of each rate.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Parts of the uploads that are completed.
    #[arg(long, default_value_t = 10_000)]
    parts: u16,
    /// Where the stores are made; the system's temporary folder if not given.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Only these measures.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    Commit,
    Get,
    List,
    Complete,
    Delete,
}

impl Options {
    fn wants(&self, measure: Measure) -> bool {
        self.only.is_empty() || self.only.contains(&measure)
    }
}

/// Measures with a figure for each backend, in the order in which they came.
#[derive(Default)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    fn column(&mut self, name: &str) {
        self.columns.push(name.to_owned());
    }

    /// A figure of the last column.
    pub fn set(&mut self, measure: &str, figure: String) {
        eprintln!("  {measure}: {figure}");
        let place = self.columns.len() - 1;
        let row = match self.rows.iter_mut().position(|(name, _)| name == measure) {
            Some(row) => row,
            None => {
                self.rows.push((measure.to_owned(), Vec::new()));
                self.rows.len() - 1
            }
        };
        self.rows[row].1.resize(place, "–".to_owned());
        self.rows[row].1.push(figure);
    }

    fn print(&self) {
        println!("| | {} |", self.columns.join(" | "));
        println!("|---|{}", "---|".repeat(self.columns.len()));
        for (measure, figures) in &self.rows {
            let mut figures = figures.clone();
            figures.resize(self.columns.len(), "–".to_owned());
            println!("| {measure} | {} |", figures.join(" | "));
        }
    }
}

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let options = Options::parse();
    match measured(&options) {
        Ok(table) => {
            table.print();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measured(options: &Options) -> Result<Table, Failure> {
    // Declared first, so dropped last: after the runtime and all that uses it.
    let network = stores::Network::start(&options.backend)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut table = Table::default();
    runtime.block_on(async {
        for kind in &options.backend {
            let store = stores::open(*kind, options, &network).await?;
            eprintln!("{}", store.name);
            table.column(store.name);
            let result = measures::run(&store, options, &mut table).await;
            store.close().await?;
            result?;
        }
        Ok::<_, Failure>(())
    })?;
    Ok(table)
}
