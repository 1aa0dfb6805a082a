//! Whom events are told to, as the engine knows it: by name. How they are told is the business of whoever knows what
//! clients expect.

use std::time::Duration;

use async_trait::async_trait;
use cairn_schema::record::QueuedEvent;

/// Tells events to targets.
#[async_trait]
pub trait Deliver: Send + Sync + 'static {
    /// The names of the targets that there are.
    fn targets(&self) -> Vec<String>;

    fn terms(&self) -> DeliveryTerms;

    /// Tells an event to a target, within a bounded time. The same event may be told again.
    async fn deliver(&self, target: &str, event: &QueuedEvent) -> Result<(), Undelivered>;
}

/// How long what is not delivered is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryTerms {
    /// An event that has waited for so long when a delivery fails is given up.
    pub dead_after: Duration,
    /// So is one that its target has refused so many times.
    pub refusals: u32,
    /// The pause after a failure, doubled for each in a row.
    pub first_pause: Duration,
    pub longest_pause: Duration,
}

impl Default for DeliveryTerms {
    fn default() -> Self {
        Self {
            dead_after: Duration::from_secs(24 * 60 * 60),
            refusals: 5,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// Why an event was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// The target is away or in trouble: no event would be taken now.
    #[error("{0}")]
    Failed(String),
    /// The target does not want this event.
    #[error("refused: {0}")]
    Refused(String),
}
