//! One engine per disk: append-only segments of self-describing records, group-committed, verified at every read.
//!
//! ```text
//! DIR/identity          whose disk this is                                   (identity)
//!     lock              held by the process that has it open                  (identity)
//!     index/            where every fragment lies: a tree of sorted tables      (index)
//!     segments/N.seg    the truth: records of fragments and tombstones        (format)
//!
//!  put ─ permit ─ verify ─▶ queue ─▶ writer thread: a batch, one vectored write, one fdatasync ─▶ index ─▶ replies
//!  get ─ permit ─▶ index ─▶ reader thread: pread, verify the blocks touched ─▶ bytes
//! ```
//!
//! Deletes write a tombstone, then give the pages of large fragments back by punching holes. A tombstone names exactly
//! the record it kills and is kept until the segment file of that record is gone, so an index rebuilt from the segments
//! resurrects nothing. What holes cannot give back, the leavings of small records, a compaction does: it moves what is
//! live of a segment to the end of the log (compact). A segment that holds no fragment, and nothing that another
//! segment needs, is removed after the next checkpoint.

mod batch;
mod compact;
mod engine;
mod file;
pub mod format;
mod handle;
mod holes;
mod identity;
mod index;
mod log;
mod memory;
pub mod metrics;
mod options;
mod outstanding;
pub mod pace;
mod queue;
mod read_errors;
mod reader;
mod recover;
mod scan;
mod segment;
mod state;
mod threads;
pub mod tools;
mod turns;
mod writer;

pub use {
    file::{Faults, SyncPoint},
    handle::DiskHandle,
    memory::{IndexMemory, LEAST_CHANGES},
    metrics::DiskMetrics,
    options::DiskOptions,
    recover::RecoveryReport,
};
