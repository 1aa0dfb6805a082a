//! Metadata calls over QUIC: how nodes reach the one process that serves the `remote` metadata store.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_fragment::TransportError;
use cairn_schema::{
    ids::NodeId,
    kv::remote::{MetaTransport, RemoteServer, TransportFailure},
};

use super::quic::{Call, Client, Handler, Incoming, Outgoing, Peer};
use crate::wire::{RemoteError, Reply, Request};

/// One call of a metadata store that is reached over QUIC.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// What answers metadata calls. Request and reply are opaque here, each at most `MAX_META_BYTES`.
#[async_trait]
pub trait MetaCalls: Send + Sync + 'static {
    /// `Err` is for requests that make no sense; the store's own errors belong into the reply.
    async fn call(&self, peer: &NodeId, request: Bytes) -> Result<Bytes, String>;
}

#[async_trait]
impl MetaCalls for RemoteServer {
    async fn call(&self, peer: &NodeId, request: Bytes) -> Result<Bytes, String> {
        Ok(self.handle(peer.as_str(), request).await)
    }
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

    /// Sent at most once: whether it may have been carried out although it failed is said by [`MetaCallError::sent`].
    pub async fn call_until(&self, request: Bytes, deadline: Instant) -> Result<Bytes, MetaCallError> {
        let sent = AtomicBool::new(false);
        let call = Call::new(Request::Meta, deadline).with_payload(request);
        let answer = match self.peer.call_noting(call, &sent).await {
            Ok((Reply::Bytes, reply)) => Ok(reply),
            Ok((reply, _)) => {
                let node = self.peer.node().clone();
                Err(TransportError::Protocol(
                    node,
                    format!("it answered with {}, which was not asked for", reply.kind()),
                ))
            }
            Err(error) => Err(error),
        };
        answer.map_err(|error| MetaCallError { error, sent: sent.load(Ordering::Acquire) })
    }
}

#[async_trait]
impl MetaTransport for QuicMeta {
    async fn call(&self, request: Bytes) -> Result<Bytes, TransportFailure> {
        self.call_until(request, Instant::now() + CALL_DEADLINE).await.map_err(|failed| {
            let why = failed.to_string();
            if failed.sent { TransportFailure::NoResponse(why) } else { TransportFailure::NotSent(why) }
        })
    }
}

/// Why a metadata call brought no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct MetaCallError {
    pub error: TransportError,
    /// The peer may have seen the call, and carried it out.
    pub sent: bool,
}
