//! Runs the cases one after the other, clears what they wrote and stops the client library.

use std::{
    panic::AssertUnwindSafe,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use cairn_schema::kv::{
    Kv, KvError, SharedKv,
    fdb::{self, FdbKv, FdbNetwork, FdbOptions},
};
use futures::future::{FutureExt, LocalBoxFuture};

/// The server that is tested on. The store is dropped before the network.
pub(crate) struct Server {
    root: FdbKv,
    stores: AtomicU64,
    pub network: FdbNetwork,
    pub cluster_file: PathBuf,
}

impl Server {
    /// A new, empty store, under a prefix of its own.
    pub(crate) fn kv(&self) -> SharedKv {
        let number = self.stores.fetch_add(1, Ordering::Relaxed);
        let prefix = [self.root.prefix(), format!("{number}/").as_bytes()].concat();
        Arc::new(self.root.with_prefix(prefix).unwrap())
    }
}

pub(crate) type Case = (&'static str, fn(Arc<Server>) -> LocalBoxFuture<'static, ()>);

/// Clears everything below a store's prefix.
pub(crate) async fn clear(kv: &dyn Kv) -> Result<(), KvError> {
    let mut tx = kv.begin().await?;
    tx.clear_range(Bytes::new(), Bytes::from_static(&[0xff]));
    tx.commit().await.map(drop)
}

pub(crate) fn main() -> ExitCode {
    let Some(cluster_file) = std::env::var_os("CAIRN_FDB_CLUSTER_FILE").map(PathBuf::from) else {
        eprintln!("SKIPPED: nothing was tried on FoundationDB, CAIRN_FDB_CLUSTER_FILE is not set");
        return ExitCode::SUCCESS;
    };
    // SAFETY: dropped below, before this returns.
    let network = unsafe { fdb::boot() }.unwrap();
    let prefix = format!("cairn-test/{}/", hex::encode(rand::random::<[u8; 8]>())).into_bytes();
    let options = FdbOptions { cluster_file: Some(cluster_file.clone()), prefix };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let root = match runtime.block_on(FdbKv::open(&network, &options)) {
        Ok(root) => root,
        Err(error) => {
            eprintln!("FAILED: {error}");
            return ExitCode::FAILURE;
        }
    };
    let server = Arc::new(Server { root, stores: AtomicU64::new(0), network, cluster_file });
    let failed = run(&runtime, &server);
    if let Err(error) = runtime.block_on(clear(&server.root)) {
        eprintln!("what the tests wrote was left in FoundationDB: {error}");
    }
    // Nothing of the library is in use when the network stops.
    drop(runtime);
    drop(server);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the cases that the command line names, or all; how many failed.
fn run(runtime: &tokio::runtime::Runtime, server: &Arc<Server>) -> usize {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let (mut ran, mut failed) = (0, 0);
    for (name, case) in super::cases::CASES {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word)) {
            continue;
        }
        let started = Instant::now();
        // Panics print where they happened; here they only count.
        let ended = runtime.block_on(AssertUnwindSafe(case(server.clone())).catch_unwind());
        let verdict = if ended.is_ok() { "ok" } else { "FAILED" };
        println!("test fdb::{name} ... {verdict} ({:.1} s)", started.elapsed().as_secs_f64());
        ran += 1;
        failed += usize::from(ended.is_err());
    }
    println!("\n{ran} ran on FoundationDB, {failed} failed");
    failed
}
