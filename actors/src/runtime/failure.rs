//! Why a node cannot go on.

use crate::supervisor::ChildStatus;

/// Something that a node is of no use without has ended, and does not come back by itself. Its process should end:
/// whoever supervises that starts it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeFailure {
    /// Its own restarts did not help.
    #[error("its actor {name} failed too often, the last time with: {why}")]
    ActorGivenUp { name: String, why: String },
    /// The task that accepts connections of other nodes has ended.
    #[error("it accepts no connections of other nodes any more; the log says why")]
    Deaf,
}

impl From<ChildStatus> for NodeFailure {
    fn from(actor: ChildStatus) -> Self {
        let why = actor.last_failure.unwrap_or_else(|| "no reason given".to_owned());
        Self::ActorGivenUp { name: actor.name, why }
    }
}
