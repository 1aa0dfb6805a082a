//! Who goes first on a disk.

use std::{fmt, time::Instant};

use serde::{Deserialize, Serialize};

/// What a call of a fragment is for, as far as the disk's scheduler has to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Priority {
    /// A client waits for it, or data that nothing more may happen to.
    #[default]
    Client,
    /// It yields to clients: repair and scrub.
    Background,
}

impl Priority {
    pub fn is_client(&self) -> bool {
        *self == Self::Client
    }
}

/// How a call is to be carried out.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub deadline: Instant,
    pub priority: Priority,
}

impl From<Instant> for Terms {
    /// For a client, until then.
    fn from(deadline: Instant) -> Self {
        Self { deadline, priority: Priority::Client }
    }
}

/// Leave to use a disk now, given by its scheduler. Others may wait until it is dropped.
pub struct Turn {
    priority: Priority,
    _held: Option<Box<dyn Send + Sync>>,
}

impl Turn {
    /// Clients need nobody's leave.
    pub fn client() -> Self {
        Self { priority: Priority::Client, _held: None }
    }

    /// `held` is what the scheduler gets back when the turn is over.
    pub fn background(held: impl Send + Sync + 'static) -> Self {
        Self { priority: Priority::Background, _held: Some(Box::new(held)) }
    }

    pub fn priority(&self) -> Priority {
        self.priority
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Turn").field("priority", &self.priority).finish_non_exhaustive()
    }
}
