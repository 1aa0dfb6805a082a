//! What a node is told to do: how data is spread, how long it waits for what, how much it may do and hold.

use std::time::Duration;

pub use cairn_schema::record::Policy;
use cairn_schema::{
    record::{ClusterRates, RateOverrides},
    text::Size,
};

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
    /// Scrub decodes each blob, and compares it with its own checksum, once in so many passes; 0: never.
    pub deep_scrub_passes: u32,
    /// Uploads that nobody completes are aborted at this age where no rule of their bucket's lifecycle speaks of them;
    /// None: never. The node that carries out lifecycles goes by its own.
    pub abort_uploads_after: Option<Duration>,
}

/// How much a node may do to keep data whole. Besides, scrub takes a fifth of the time at most, a tenth while clients
/// use the disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Bytes of one disk that its scrub reads, each second.
    pub scrub_bytes: u64,
    /// Bytes that the repair of one node makes anew, each second.
    pub repair_bytes: u64,
    /// The part of a disk's time, up to 1, that repair and scrub get while clients use the disk. Not for stripes of
    /// which nothing more may be lost: their repair goes before, as clients do.
    pub background_share: f64,
}

impl Default for Rates {
    fn default() -> Self {
        Self { scrub_bytes: 32 << 20, repair_bytes: 256 << 20, background_share: 0.2 }
    }
}

impl Rates {
    pub fn background_percent(&self) -> u8 {
        (self.background_share * 100.0).round() as u8
    }

    /// With what the cluster says instead.
    pub fn overridden(self, by: &RateOverrides) -> Self {
        Self {
            scrub_bytes: by.scrub_bytes.unwrap_or(self.scrub_bytes),
            repair_bytes: by.repair_bytes.unwrap_or(self.repair_bytes),
            background_share: by.background_percent.map_or(self.background_share, |part| f64::from(part) / 100.0),
        }
    }
}

/// The rates of a node, and by whose word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatesView {
    /// What its own configuration says.
    pub told: Rates,
    /// What the cluster says instead, as far as the node knows.
    pub kept: ClusterRates,
}

impl RatesView {
    /// What the node goes by.
    pub fn in_force(&self) -> Rates {
        self.told.overridden(&self.kept.rates)
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
            deep_scrub_passes: 16,
            abort_uploads_after: None,
        }
    }
}

impl Timings {
    /// The longest `reclaim_grace` of any node. A write takes half of its node's at most, and a mark that a blob is
    /// condemned is kept for this long: so no write outlives the mark against it, whichever nodes they are of (GC-1).
    pub const LONGEST_GRACE: Duration = Duration::from_secs(30 * 24 * 3600);

    /// How long one body may take from its first byte to its commit. Fragments without a blob row are orphans once they
    /// are as old as `reclaim_grace`, so a write must be committed well before its first fragment is (GC-1).
    pub fn write_limit(&self) -> Duration {
        self.reclaim_grace / 2
    }
}

/// Bytes that a node may hold at once (BND-1), for each purpose. What its disks' indexes keep is in their own options.
#[derive(Clone, Copy, Debug)]
pub struct NodeMemory {
    /// Stripes of requests in flight; what is over waits, then is refused as Busy.
    pub stripes: u64,
    /// Fragments that other nodes send here to be kept, and those on their way to them.
    pub served: u64,
    /// Fragments that repair reads and makes.
    pub background: u64,
}

impl NodeMemory {
    pub const UNBOUNDED: Self = Self { stripes: u64::MAX, served: u64::MAX, background: u64::MAX };
    /// Several stripes must fit, or one upload would starve every other.
    pub const LEAST_STRIPES: u64 = 4;
    /// Fragments that are served at once at least, or one large one would keep all others waiting.
    pub const LEAST_SERVED: u64 = 4;

    /// Which part is too small for stripes and fragments as the policy has them, if one is.
    pub fn too_small_for(&self, policy: &Policy) -> Option<String> {
        let (stripe, fragment) = (policy.largest_stripe_bytes(), u64::from(policy.fragment_bytes));
        let needs = [
            ("for requests", self.stripes, stripe.saturating_mul(Self::LEAST_STRIPES)),
            ("for fragments of other nodes", self.served, fragment.saturating_mul(Self::LEAST_SERVED)),
            ("for repair", self.background, stripe),
        ];
        let (what, has, least) = needs.into_iter().find(|(_, has, least)| has < least)?;
        Some(format!(
            "stripes of {} need {} {what}, and this node has {}",
            Size(stripe),
            Size(least),
            Size(has >> 10 << 10)
        ))
    }
}
