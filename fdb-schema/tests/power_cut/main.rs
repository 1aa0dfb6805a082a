//! DUR-2 of the embedded store, under load: after a power cut or a kill at any moment every acknowledged commit is
//! there, every other is there wholly or not at all, and every counter and index equals a recount.
//!
//! - `cuts`: an XFS file system in a file is shut down, which loses what was not synced. Needs root, loop devices and
//!   xfsprogs; says so loudly where it cannot run.
//! - `kills`: a process that works on the store is killed.
//! - `images`: what a power cut may leave of the batch that was being synced, made from real journals. Run everywhere.
#![allow(clippy::unwrap_used)]

mod audit;
#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod images;
mod kills;
mod loop_fs;
mod work;

use std::{io::Write, path::Path, sync::Arc};

use cairn_schema::{
    Meta,
    kv::{
        SharedKv,
        embedded::{self, EmbeddedOptions},
    },
};
use rand::{SeedableRng, rngs::StdRng};
use work::Model;

/// Memtables are small, so that tables are written and merged while the power is cut.
fn open(path: &Path) -> Result<SharedKv, String> {
    let options = EmbeddedOptions { cache_bytes: 8 << 20, memtable_bytes: 256 << 10 };
    embedded::open(path, options).map(|store| Arc::new(store) as SharedKv).map_err(|error| error.to_string())
}

fn seeded() -> (u64, StdRng) {
    let seed = std::env::var("CAIRN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}");
    (seed, StdRng::seed_from_u64(seed))
}

/// Past the capture of the test harness.
fn loudly(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Everything that must hold of a store that was opened again.
async fn check(kv: &SharedKv, model: &mut Model, context: &str) {
    audit::check(kv, context).await;
    model.check(&Meta::new(kv.clone()), context).await;
}

/// Closing waits for threads.
async fn close(held: impl Send + 'static) {
    tokio::task::spawn_blocking(move || drop(held)).await.unwrap();
}
