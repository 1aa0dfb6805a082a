//! Who answers peers, and what passes between them.

use async_trait::async_trait;
use bytes::Bytes;
use cairn_fragment::{Priority, Turn};
use cairn_schema::ids::NodeId;

use crate::wire::{RemoteError, Reply, Request};

/// A request as it arrived: within its bounds, its payload whole.
#[derive(Debug)]
pub struct Incoming {
    pub request: Request,
    /// Verified against `checksums`, except that of a Put, which the disk verifies.
    pub payload: Bytes,
    /// xxh3-64 of each block of the payload.
    pub checksums: Vec<u64>,
    /// The handler is dropped then, and the peer is told so.
    pub deadline: std::time::Instant,
    /// What [`Handler::turn`] gave.
    pub turn: Turn,
}

/// What goes back.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub reply: Reply,
    /// At most what [`Request::max_reply_payload`] allows.
    pub payload: Bytes,
}

/// Answers peers. `peer` is who the certificate says it is.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Waits until the request may be carried out. Asked before its payload is received, so that what waits here takes
    /// no memory.
    async fn turn(&self, _request: &Request, _priority: Priority) -> Result<Turn, RemoteError> {
        Ok(Turn::client())
    }

    async fn handle(&self, peer: &NodeId, incoming: Incoming) -> Result<Outgoing, RemoteError>;
}
