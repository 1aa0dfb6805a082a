//! What is measured of what.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendKind {
    /// The store in this process.
    Embedded,
    /// The same, served over QUIC with mutual TLS on loopback.
    Remote,
    /// A FoundationDB cluster that is running already.
    Fdb,
}

/// Figures of the metadata backends.
#[derive(Parser)]
pub(crate) struct Options {
    /// Which backends, separated by commas: a column each.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "embedded,remote")]
    pub backend: Vec<BackendKind>,
    /// FoundationDB's cluster file; its client library's default place if not given.
    #[arg(long)]
    pub cluster_file: Option<PathBuf>,
    /// Keys of the bucket that is listed.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// Seconds of each rate.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Parts of the uploads that are completed.
    #[arg(long, default_value_t = 10_000)]
    pub parts: u16,
    /// Where the stores are made; the system's temporary folder if not given.
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Only these measures.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Measure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    Commit,
    Get,
    List,
    Complete,
    Delete,
}

impl Options {
    pub(crate) fn wants(&self, measure: Measure) -> bool {
        self.only.is_empty() || self.only.contains(&measure)
    }
}
