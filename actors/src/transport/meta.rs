//! Metadata calls over QUIC: how nodes reach the one process that serves the `remote` metadata store.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_schema::ids::NodeId;

use super::{
    TransportError,
    quic::{Call, Client, Handler, Incoming, Outgoing, Peer},
};
use crate::wire::{RemoteError, Reply, Request};

/// What answers metadata calls. Request and reply are opaque here, each at most `MAX_META_BYTES`.
#[async_trait]
pub trait MetaCalls: Send + Sync + 'static {
    /// `Err` is for requests that make no sense; the store's own errors belong into the reply.
    async fn call(&self, peer: &NodeId, request: Bytes) -> Result<Bytes, String>;
}

/// Serves metadata calls, and nothing else but probes.
pub struct MetaService<C> {
    calls: C,
}

impl<C: MetaCalls> MetaService<C> {
    pub fn new(calls: C) -> Self {
        Self { calls }
    }
}

#[async_trait]
impl<C: MetaCalls> Handler for MetaService<C> {
    async fn handle(&self, peer: &NodeId, incoming: Incoming) -> Result<Outgoing, RemoteError> {
        match incoming.request {
            Request::Meta => {
                let payload = self.calls.call(peer, incoming.payload).await.map_err(RemoteError::Unsupported)?;
                Ok(Outgoing { reply: Reply::Bytes, payload })
            }
            Request::Probe => Ok(Outgoing { reply: Reply::Done, payload: Bytes::new() }),
            other => Err(RemoteError::Unsupported(format!("this node serves metadata, not {}", other.kind()))),
        }
    }
}

/// The calling side. Cheap to clone.
#[derive(Clone)]
pub struct QuicMeta {
    peer: Arc<Peer>,
}

impl QuicMeta {
    /// `node` is the name in the certificate of the process that serves the metadata.
    pub fn new(client: &Client, node: NodeId, address: SocketAddr) -> Self {
        Self { peer: client.peer(node, address) }
    }

    /// Sent at most once: after an error that may have come too late, the call may still have been carried out
    /// ([`may_have_happened`]).
    pub async fn call(&self, request: Bytes, deadline: Instant) -> Result<Bytes, TransportError> {
        match self.peer.call(Call::new(Request::Meta, deadline).with_payload(request)).await? {
            (Reply::Bytes, reply) => Ok(reply),
            (reply, _) => {
                let node = self.peer.node().clone();
                Err(TransportError::Protocol(node, format!("it answered something else: {reply:?}")))
            }
        }
    }
}

/// Whether a call that failed so may nevertheless have been carried out by the peer.
pub fn may_have_happened(error: &TransportError) -> bool {
    // `Unreachable` is also what a connection lost half-way looks like.
    !matches!(error, TransportError::Busy(_) | TransportError::UnknownDisk(_))
}
