//! How long a transaction may live, held here rather than by each store.
//!
//! FoundationDB promises versions for five seconds and often serves them for longer; the others would keep them for as
//! long as somebody reads them. What works on one must work on all, so every backend counts by the same clock and
//! refuses at the same age.

use std::time::Instant;

use crate::kv::{KvError, limits};

/// The age of one transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    /// None: it may live for as long as it likes.
    begun: Option<Instant>,
}

impl Life {
    pub(super) fn begin() -> Self {
        Self { begun: Some(Instant::now()) }
    }

    /// Of a transaction that only reads, from a store that keeps versions for as long as they are read.
    pub(super) fn endless() -> Self {
        Self { begun: None }
    }

    /// # Errors
    /// TooOld once [`limits::TRANSACTION_LIFE`] is over.
    pub(super) fn check(&self) -> Result<(), KvError> {
        let over = self.begun.is_some_and(|begun| begun.elapsed() > limits::TRANSACTION_LIFE);
        if over { Err(KvError::TooOld) } else { Ok(()) }
    }

    pub(super) fn is_endless(&self) -> bool {
        self.begun.is_none()
    }
}
