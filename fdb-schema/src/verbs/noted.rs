//! What a transaction knows of events, and how many may wait.

use std::collections::HashMap;

use bytes::Bytes;

/// Events of a bucket that may wait. Past it they are not kept but counted (BND-1): to refuse what clients write
/// because somebody else does not listen would make a store of its own stop with every listener.
pub(crate) const MAX_OF_BUCKET: u64 = 1_000_000;
/// Of all buckets, for one target.
pub(crate) const MAX_OF_TARGET: u64 = 4_000_000;

/// What a transaction has to do with events so far.
#[derive(Default)]
pub(crate) struct Noted {
    pub era: Option<u32>,
    /// Events that it writes.
    pub number: u16,
    /// How many wait, by the keys of the counters.
    pub waiting: HashMap<Bytes, u64>,
}
