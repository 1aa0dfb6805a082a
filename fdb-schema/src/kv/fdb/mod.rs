//! FoundationDB. Everything is under one prefix, so a cluster can be shared.
//!
//! Every transaction has a timeout, because an unreachable cluster otherwise never answers. Retries are the verbs'
//! business, which know what an unknown commit means to them: this backend makes none.

pub mod cluster_file;
mod errors;
mod transaction;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use foundationdb::{
    Database,
    api::{FdbApiBuilder, NetworkAutoStop},
    options::DatabaseOption,
};

use crate::kv::{Kv, KvError, Transaction, limits};

/// Longer than FoundationDB's own limit of a transaction's life: ends only those that get no answer.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(6);
/// How long opening waits for the cluster's first answer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a FoundationDB could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the FoundationDB client can be started only once in a process")]
    StartedBefore,
    #[error("the installed FoundationDB client library cannot be used: {0}")]
    Client(String),
    #[error("FoundationDB cluster file {}: {why}", .file.display())]
    ClusterFile { file: PathBuf, why: String },
    #[error("prefix of {0} bytes: more than {limit}, or starts with 0xff, as FoundationDB's own keys do", limit = limits::PREFIX_BYTES)]
    Prefix(usize),
    /// It may be down, or another than the file names.
    #[error("the FoundationDB of {} does not answer: {why}", .file.display())]
    NoAnswer { file: PathBuf, why: String },
}

/// The running network thread of the client library. One per process; drop it last, and before the process ends.
pub struct FdbNetwork {
    _guard: NetworkAutoStop,
}

/// Starts the client library.
///
/// # Safety
/// The guard must be dropped before the process exits: keep it in `main`, and let nothing that uses FoundationDB
/// outlive it.
///
/// # Errors
/// The library was started before, or is too old for the API version this program was built for.
pub unsafe fn boot() -> Result<FdbNetwork, OpenError> {
    static BOOTED: AtomicBool = AtomicBool::new(false);
    if BOOTED.swap(true, Ordering::AcqRel) {
        return Err(OpenError::StartedBefore);
    }
    let unusable = |error: foundationdb::FdbError| OpenError::Client(format!("{error} ({})", error.code()));
    let network = FdbApiBuilder::default().build().map_err(unusable)?;
    // SAFETY: the caller drops the guard before the process exits.
    let guard = unsafe { network.boot() };
    Ok(FdbNetwork { _guard: guard.map_err(unusable)? })
}

#[derive(Clone, Debug, Default)]
pub struct FdbOptions {
    /// None is the client library's default place.
    pub cluster_file: Option<PathBuf>,
    /// Before every key: at most [`limits::PREFIX_BYTES`], and not starting with 0xff.
    pub prefix: Vec<u8>,
}

pub struct FdbKv {
    database: Arc<Database>,
    prefix: Bytes,
    file: PathBuf,
}

impl FdbKv {
    /// Reads the cluster file and prepares to use the cluster, without waiting for it. The borrow of the network shows
    /// that it has been started.
    ///
    /// # Errors
    /// ClusterFile, Prefix or Client, which are errors that no waiting mends.
    pub fn connect(_network: &FdbNetwork, options: &FdbOptions) -> Result<Self, OpenError> {
        check_prefix(&options.prefix)?;
        let file = cluster_file::locate(options.cluster_file.as_deref());
        let wrong = |why: String| OpenError::ClusterFile { file: file.clone(), why };
        cluster_file::check(&file).map_err(wrong)?;
        let path = file.to_str().ok_or_else(|| wrong("its path is not UTF-8".into()))?;
        let database = Database::new(Some(path)).map_err(|error| wrong(error.to_string()))?;
        let timeout_ms = i32::try_from(TRANSACTION_TIMEOUT.as_millis()).unwrap_or(i32::MAX);
        // The library's default limit for the size of a transaction is ours as well.
        for option in [DatabaseOption::TransactionTimeout(timeout_ms), DatabaseOption::TransactionRetryLimit(0)] {
            database.set_option(option).map_err(|error| OpenError::Client(error.to_string()))?;
        }
        Ok(Self { database: Arc::new(database), prefix: options.prefix.clone().into(), file })
    }

    /// [`FdbKv::connect`], and waits for the cluster's first answer.
    ///
    /// # Errors
    /// Also NoAnswer, in bounded time.
    pub async fn open(network: &FdbNetwork, options: &FdbOptions) -> Result<Self, OpenError> {
        let kv = Self::connect(network, options)?;
        let silent = |why: String| OpenError::NoAnswer { file: kv.file.clone(), why };
        let first = kv.create().map_err(|error| silent(error.to_string()))?;
        match tokio::time::timeout(OPEN_TIMEOUT, first.get_read_version()).await {
            Ok(Ok(_)) => Ok(kv),
            Ok(Err(error)) => Err(silent(error.to_string())),
            Err(_) => Err(silent(format!("nothing in {OPEN_TIMEOUT:?}"))),
        }
    }

    /// The same cluster, with other keys.
    ///
    /// # Errors
    /// Prefix, as [`FdbKv::connect`] has it.
    pub fn with_prefix(&self, prefix: Vec<u8>) -> Result<Self, OpenError> {
        check_prefix(&prefix)?;
        Ok(Self { database: Arc::clone(&self.database), prefix: prefix.into(), file: self.file.clone() })
    }

    /// What stands before every key.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    fn create(&self) -> Result<foundationdb::Transaction, KvError> {
        self.database.create_trx().map_err(errors::of_read)
    }
}

fn check_prefix(prefix: &[u8]) -> Result<(), OpenError> {
    let good = prefix.len() <= limits::PREFIX_BYTES && prefix.first() != Some(&0xff);
    if good { Ok(()) } else { Err(OpenError::Prefix(prefix.len())) }
}

#[async_trait]
impl Kv for FdbKv {
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError> {
        Ok(Box::new(transaction::FdbTransaction::new(self.create()?, self.prefix.clone())))
    }
}
