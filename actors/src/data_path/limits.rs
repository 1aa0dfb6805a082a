//! Bounds of single requests.

use std::time::Duration;

/// The defaults suit every cluster.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Stripes of one PUT that are being encoded and sent while the next is filled.
    pub put_stripes: usize,
    /// Pieces of at most a stripe that one GET holds: the one being sent to the client and those read ahead.
    pub get_pieces: usize,
    /// How long a request waits for memory before it is refused as busy.
    pub memory_wait: Duration,
    /// Of the memory for stripes, what one client's address or access key may take while nobody else takes any; 1 to
    /// 100. The more take some, the less each may.
    pub client_memory_percent: u8,
    /// A body that has not brought a stripe in this time keeps memory for what has come of it only; one that was not
    /// asked for more in this time keeps what it holds only as long as nobody waits for memory.
    pub stall: Duration,
    /// How long fragments that are not needed for the quorum are waited for at the end of a body.
    pub straggler_grace: Duration,
    /// A read is hedged after the 95th percentile of recent reads, but never sooner or later than these.
    pub hedge_floor: Duration,
    pub hedge_ceiling: Duration,
    /// A stripe goes to another group as well after the 99th percentile of recent writes of fragments, but never sooner
    /// or later than these.
    pub write_hedge_floor: Duration,
    pub write_hedge_ceiling: Duration,
    /// Consecutive stripes that stay in one group while it is healthy.
    pub run_stripes: u32,
    /// Groups tried for one stripe.
    pub stripe_tries: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            put_stripes: 2,
            get_pieces: 2,
            memory_wait: Duration::from_secs(5),
            client_memory_percent: 75,
            stall: Duration::from_secs(2),
            straggler_grace: Duration::from_millis(500),
            hedge_floor: Duration::from_millis(20),
            hedge_ceiling: Duration::from_secs(1),
            write_hedge_floor: Duration::from_millis(250),
            write_hedge_ceiling: Duration::from_secs(2),
            run_stripes: 64,
            stripe_tries: 4,
        }
    }
}
