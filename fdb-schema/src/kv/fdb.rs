//! FoundationDB. Everything is under one prefix, so a cluster can be shared.
//!
//! Every transaction has a timeout, because an unreachable cluster otherwise never answers. Retries are the verbs' business, which
//! know what an unknown commit means to them: this backend makes none.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use foundationdb::{
    Database, FdbError, KeySelector, RangeOption,
    api::{FdbApiBuilder, NetworkAutoStop},
    options::{ConflictRangeType, DatabaseOption, MutationType, StreamingMode},
};
use futures::future::try_join_all;

use crate::kv::{CommitVersion, Kv, KvError, RangePage, RangeQuery, Transaction, key_after, limits};

/// Longer than FoundationDB's own limit of a transaction's life: ends only those that get no answer.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(6);
/// How long opening waits for the cluster's first answer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The running network thread of the client library. One per process; drop it last, and before the process ends.
pub struct FdbNetwork {
    _guard: NetworkAutoStop,
}

/// Starts the client library.
///
/// # Safety
/// The guard must be dropped before the process exits: keep it in `main`, and let nothing that uses FoundationDB outlive it.
///
/// # Errors
/// The library was started before, or is too old for the API version this program was built for.
pub unsafe fn boot() -> Result<FdbNetwork, KvError> {
    static BOOTED: AtomicBool = AtomicBool::new(false);
    if BOOTED.swap(true, Ordering::AcqRel) {
        return Err(KvError::Storage("the FoundationDB client can be started only once in a process".into()));
    }
    let network = FdbApiBuilder::default().build().map_err(|error| {
        KvError::Storage(format!("the installed FoundationDB client library does not fit: {error}"))
    })?;
    // SAFETY: the caller drops the guard before the process exits.
    let guard = unsafe { network.boot() };
    let guard = guard.map_err(|error| KvError::Storage(format!("FoundationDB client: {error}")))?;
    Ok(FdbNetwork { _guard: guard })
}

#[derive(Clone, Debug, Default)]
pub struct FdbOptions {
    /// None is the client library's default place.
    pub cluster_file: Option<PathBuf>,
    /// Before every key.
    pub prefix: Vec<u8>,
}

pub struct FdbKv {
    database: Arc<Database>,
    prefix: Bytes,
}

impl FdbKv {
    /// Connects and waits for the cluster's first answer. The borrow of the network shows that it has been started.
    ///
    /// # Errors
    /// [`KvError::Unavailable`] names the cluster file when it cannot be read or the cluster does not answer.
    pub async fn open(_network: &FdbNetwork, options: &FdbOptions) -> Result<Self, KvError> {
        let file = options.cluster_file.as_deref();
        let named = file.map_or_else(|| foundationdb::default_config_path().to_owned(), |f| f.display().to_string());
        let unreachable = |why: String| KvError::Unavailable(format!("FoundationDB cluster of {named}: {why}"));
        check_cluster_file(file.unwrap_or_else(|| Path::new(foundationdb::default_config_path())))
            .map_err(unreachable)?;
        let path = match file {
            None => None,
            Some(file) => Some(file.to_str().ok_or_else(|| unreachable("its path is not UTF-8".into()))?),
        };
        let database = Database::new(path).map_err(|error| unreachable(error.to_string()))?;
        let timeout_ms = i32::try_from(TRANSACTION_TIMEOUT.as_millis()).unwrap_or(i32::MAX);
        for option in [DatabaseOption::TransactionTimeout(timeout_ms), DatabaseOption::TransactionRetryLimit(0)] {
            database.set_option(option).map_err(|error| unreachable(error.to_string()))?;
        }
        let kv = Self { database: Arc::new(database), prefix: options.prefix.clone().into() };
        let first = kv.create()?;
        match tokio::time::timeout(OPEN_TIMEOUT, first.get_read_version()).await {
            Ok(Ok(_)) => Ok(kv),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Err(_) => Err(unreachable(format!("no answer in {OPEN_TIMEOUT:?}"))),
        }
    }

    fn create(&self) -> Result<foundationdb::Transaction, KvError> {
        self.database.create_trx().map_err(read_error)
    }
}

/// The client library waits for ever for a cluster that a garbled file names.
fn check_cluster_file(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    match line.and_then(|line| line.split_once('@')) {
        Some((id, coordinators)) if id.contains(':') && coordinators.contains(':') => Ok(()),
        _ => Err("not a cluster file: want description:id@address:port,…".into()),
    }
}

#[async_trait]
impl Kv for FdbKv {
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError> {
        Ok(Box::new(FdbTransaction { inner: self.create()?, prefix: self.prefix.clone(), bytes: 0, refused: None }))
    }
}

struct FdbTransaction {
    inner: foundationdb::Transaction,
    prefix: Bytes,
    bytes: usize,
    /// What the commit will answer: a write was over a limit.
    refused: Option<KvError>,
}

mod code {
    pub const TRANSACTION_TOO_OLD: i32 = 1007;
    pub const FUTURE_VERSION: i32 = 1009;
    pub const NOT_COMMITTED: i32 = 1020;
    pub const TIMED_OUT: i32 = 1031;
    pub const TRANSACTION_TOO_LARGE: i32 = 2101;
    pub const KEY_TOO_LARGE: i32 = 2102;
    pub const VALUE_TOO_LARGE: i32 = 2103;
}

fn read_error(error: FdbError) -> KvError {
    match error.code() {
        code::NOT_COMMITTED => KvError::Conflict,
        code::TRANSACTION_TOO_OLD | code::FUTURE_VERSION => KvError::TooOld,
        code::TIMED_OUT => KvError::Timeout("FoundationDB did not answer".into()),
        code::TRANSACTION_TOO_LARGE => {
            let limit = limits::TRANSACTION_BYTES;
            KvError::TooLarge { what: "transaction", actual: limit + 1, limit }
        }
        code::KEY_TOO_LARGE => {
            KvError::TooLarge { what: "key", actual: limits::KEY_BYTES + 1, limit: limits::KEY_BYTES }
        }
        code::VALUE_TOO_LARGE => {
            KvError::TooLarge { what: "value", actual: limits::VALUE_BYTES + 1, limit: limits::VALUE_BYTES }
        }
        _ if error.is_retryable() => KvError::Unavailable(error.to_string()),
        _ => KvError::Storage(error.to_string()),
    }
}

fn commit_error(error: FdbError) -> KvError {
    // A commit that was not answered in time may have been done, or be done later.
    if error.is_maybe_committed() || error.code() == code::TIMED_OUT {
        KvError::CommitUnknown(error.to_string())
    } else {
        read_error(error)
    }
}

impl FdbTransaction {
    fn key(&self, key: &[u8]) -> Vec<u8> {
        let mut full = Vec::with_capacity(self.prefix.len() + key.len());
        full.extend_from_slice(&self.prefix);
        full.extend_from_slice(key);
        full
    }

    fn unprefixed(&self, key: &[u8]) -> Bytes {
        Bytes::copy_from_slice(key.get(self.prefix.len()..).unwrap_or_default())
    }

    /// Counts a write; one over the limits is refused at commit, as the other backends do.
    fn count(&mut self, key: usize, value: usize) -> bool {
        self.bytes += key + value;
        let over = |what, actual, limit| Some(KvError::TooLarge { what, actual, limit });
        let refused = if key > limits::KEY_BYTES {
            over("key", key, limits::KEY_BYTES)
        } else if value > limits::VALUE_BYTES {
            over("value", value, limits::VALUE_BYTES)
        } else if self.bytes > limits::TRANSACTION_BYTES {
            over("transaction", self.bytes, limits::TRANSACTION_BYTES)
        } else {
            return true;
        };
        self.refused = self.refused.take().or(refused);
        false
    }

    fn conflict(&mut self, begin: &[u8], end: &[u8], kind: ConflictRangeType) {
        let (begin, end) = (self.key(begin), self.key(end));
        if let Err(error) = self.inner.add_conflict_range(&begin, &end, kind) {
            self.refused = self.refused.take().or(Some(read_error(error)));
        }
    }
}

#[async_trait]
impl Transaction for FdbTransaction {
    async fn get(&mut self, key: &[u8], snapshot: bool) -> Result<Option<Bytes>, KvError> {
        let value = self.inner.get(&self.key(key), snapshot).await.map_err(read_error)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    async fn get_many(&mut self, keys: &[Bytes], snapshot: bool) -> Result<Vec<Option<Bytes>>, KvError> {
        let gets = keys.iter().map(|key| self.inner.get(&self.key(key), snapshot));
        let values = try_join_all(gets).await.map_err(read_error)?;
        Ok(values.into_iter().map(|value| value.map(|value| Bytes::copy_from_slice(&value))).collect())
    }

    async fn range(&mut self, query: RangeQuery) -> Result<RangePage, KvError> {
        let mut page = RangePage::default();
        let (mut begin, mut end) = (query.begin, query.end);
        while begin < end && page.rows.len() < query.limit {
            let (first, last) = (self.key(&begin), self.key(&end));
            let option = RangeOption {
                limit: Some(query.limit - page.rows.len()),
                mode: StreamingMode::WantAll,
                reverse: query.reverse,
                begin: KeySelector::first_greater_or_equal(&first[..]),
                end: KeySelector::first_greater_or_equal(&last[..]),
                ..RangeOption::default()
            };
            let found = self.inner.get_range(&option, 1, query.snapshot).await.map_err(read_error)?;
            for row in found.iter() {
                page.rows.push((self.unprefixed(row.key()), Bytes::copy_from_slice(row.value())));
            }
            match page.rows.last() {
                Some((key, _)) if found.more() && query.reverse => end = key.clone(),
                Some((key, _)) if found.more() => begin = key_after(key),
                _ => break,
            }
        }
        page.more = page.rows.len() >= query.limit;
        Ok(page)
    }

    fn set(&mut self, key: Bytes, value: Bytes) {
        if self.count(key.len(), value.len()) {
            self.inner.set(&self.key(&key), &value);
        }
    }

    fn clear(&mut self, key: Bytes) {
        if self.count(key.len(), 0) {
            self.inner.clear(&self.key(&key));
        }
    }

    fn clear_range(&mut self, begin: Bytes, end: Bytes) {
        if begin < end && self.count(begin.len().max(end.len()), 0) {
            self.inner.clear_range(&self.key(&begin), &self.key(&end));
        }
    }

    fn add(&mut self, key: Bytes, delta: i64) {
        if self.count(key.len(), 8) {
            self.inner.atomic_op(&self.key(&key), &delta.to_le_bytes(), MutationType::Add);
        }
    }

    fn set_versionstamped(&mut self, prefix: Bytes, suffix: Bytes, value: Bytes) {
        if !self.count(prefix.len() + suffix.len() + 10, value.len()) {
            return;
        }
        // The place of the stamp follows the key, as 4 little-endian bytes.
        let mut key = self.key(&prefix);
        let place = u32::try_from(key.len()).unwrap_or(u32::MAX);
        key.extend_from_slice(&[0; 10]);
        key.extend_from_slice(&suffix);
        key.extend_from_slice(&place.to_le_bytes());
        self.inner.atomic_op(&key, &value, MutationType::SetVersionstampedKey);
    }

    fn add_read_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.conflict(&begin, &end, ConflictRangeType::Read);
    }

    fn add_write_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.conflict(&begin, &end, ConflictRangeType::Write);
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    async fn commit(self: Box<Self>) -> Result<CommitVersion, KvError> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        let committed = self.inner.commit().await.map_err(|error| commit_error(FdbError::from(error)))?;
        // Negative for a transaction that wrote nothing.
        let version = committed.committed_version().map_err(commit_error)?;
        Ok(CommitVersion(u64::try_from(version).unwrap_or(0)))
    }
}
