//! What a cluster is told to do: how it spreads data, and how long it waits for what.

use std::time::Duration;

use cairn_schema::record::{FailureDomain, Scheme};

/// The same on every node of a cluster.
#[derive(Clone, Debug)]
pub struct Policy {
    /// For objects of at least `small_below` bytes.
    pub scheme: Scheme,
    /// For smaller ones.
    pub small_scheme: Scheme,
    pub small_below: u64,
    /// No domain of this level holds more than m fragments of a stripe (PLC-1).
    pub failure_domain: FailureDomain,
    /// Fragments beyond k that must be durable before a stripe counts as safe.
    pub write_margin: u8,
    /// Data bytes per fragment of a full stripe: the stripe has k times as many.
    pub fragment_bytes: u32,
}

impl Policy {
    pub const SMALL_BELOW: u64 = 128 << 10;
    pub const WRITE_MARGIN: u8 = 1;
    pub const FRAGMENT_BYTES: u32 = 1 << 20;

    /// With sizes and a margin that suit most clusters.
    pub fn new(scheme: Scheme, small_scheme: Scheme, failure_domain: FailureDomain) -> Self {
        Self {
            scheme,
            small_scheme,
            small_below: Self::SMALL_BELOW,
            failure_domain,
            write_margin: Self::WRITE_MARGIN,
            fragment_bytes: Self::FRAGMENT_BYTES,
        }
    }
}

/// How long things may take, and how often they are done.
#[derive(Clone, Debug)]
pub struct Timings {
    pub gossip_interval: Duration,
    /// A suspected node is probed directly and through another; then its disks are marked down.
    pub probe_timeout: Duration,
    /// Disks down for longer are lost, and their groups repair without them.
    pub down_to_lost: Duration,
    /// The same for all disks of a failure domain together, if that is more than one node: that is rather a switch or a
    /// power cut than so many broken disks.
    pub domain_down_to_lost: Duration,
    /// One fragment operation on a peer.
    pub fragment_deadline: Duration,
    /// How long an unreferenced blob, or a fragment without a blob row, is kept.
    pub reclaim_grace: Duration,
    pub scrub_interval: Duration,
}

/// How much a node may do to keep data whole, each second. Besides, repair takes at most half of the time, and scrub a
/// fifth of it, less while clients use the disk.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Bytes of one disk that its scrub reads.
    pub scrub_bytes: u64,
    /// Bytes that the repair of one node reads and writes.
    pub repair_bytes: u64,
}

impl Default for Rates {
    fn default() -> Self {
        Self { scrub_bytes: 32 << 20, repair_bytes: 256 << 20 }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// What a node does that is told nothing else.
impl Default for Timings {
    fn default() -> Self {
        Self {
            gossip_interval: SECOND / 2,
            probe_timeout: SECOND,
            down_to_lost: HOUR / 4,
            domain_down_to_lost: 24 * HOUR,
            fragment_deadline: 10 * SECOND,
            reclaim_grace: 24 * HOUR,
            scrub_interval: 14 * 24 * HOUR,
        }
    }
}

impl Timings {
    /// How long one body may take from its first byte to its commit. Fragments without a blob row are orphans once they
    /// are as old as `reclaim_grace`, so a write must be committed well before its first fragment is (GC-1).
    pub fn write_limit(&self) -> Duration {
        self.reclaim_grace / 2
    }
}
