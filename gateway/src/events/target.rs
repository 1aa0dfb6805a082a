//! What every kind of target is.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_actors::background::Undelivered;

/// What a target may take for a message: its worker waits for it.
pub const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);

/// A place that events are told to.
#[async_trait]
pub(super) trait Target: Send + Sync {
    /// The end of its ARN.
    fn kind(&self) -> &'static str;

    /// Hands a message over, within a bounded time; it is taken when this returns.
    async fn send(&self, message: Bytes) -> Result<(), Undelivered>;
}
