//! QUIC between nodes, under mutual TLS.
//!
//! An [`Endpoint`] serves peers with a [`Handler`] and dials them through a [`Client`]: one connection per peer, one
//! bidirectional stream per request. Everything that a peer can make us hold is bounded: connections, streams, bytes of
//! payloads, time. What quinn leaves to its user is settled in `config` and `guard`.

mod config;
mod dial;
mod guard;
mod metrics;
mod serve;
mod stream;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_schema::ids::NodeId;
use quinn::VarInt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use config::QuicOptions;
pub use dial::{Call, Client, Peer};
use metrics::Metrics;

use crate::{
    tls::{self, Identity, TlsError},
    wire::{ALPN, RemoteError, Reply, Request},
};

#[derive(Debug, Clone, thiserror::Error)]
pub enum QuicError {
    #[error(transparent)]
    Identity(#[from] TlsError),
    #[error("listen on {0}: {1}")]
    Listen(SocketAddr, String),
    #[error("QUIC configuration: {0}")]
    Config(String),
    #[error("register metrics: {0}")]
    Metrics(String),
}

/// A request as it arrived: within its bounds, its payload whole.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub request: Request,
    /// Verified against `checksums`, except that of a Put, which the disk verifies.
    pub payload: Bytes,
    /// xxh3-64 of each block of the payload.
    pub checksums: Vec<u64>,
    /// The handler is dropped then, and the peer is told so.
    pub deadline: std::time::Instant,
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
    async fn handle(&self, peer: &NodeId, incoming: Incoming) -> Result<Outgoing, RemoteError>;
}

/// Why a stream or a connection was given up, as the other side sees it.
pub(crate) mod code {
    use quinn::VarInt;

    /// The caller no longer wants the answer.
    pub const CANCELLED: VarInt = VarInt::from_u32(1);
    /// The frame makes no sense here.
    pub const BAD_FRAME: VarInt = VarInt::from_u32(2);
    /// The frame is of a version not spoken here.
    pub const BAD_VERSION: VarInt = VarInt::from_u32(3);
    pub const TOO_LARGE: VarInt = VarInt::from_u32(4);
    pub const SHUTTING_DOWN: VarInt = VarInt::from_u32(5);
    pub const BUSY: VarInt = VarInt::from_u32(6);
    /// The certificate names no node.
    pub const NO_NODE: VarInt = VarInt::from_u32(7);
    /// The frame was not complete in time.
    pub const TOO_SLOW: VarInt = VarInt::from_u32(8);

    pub fn meaning(code: VarInt) -> &'static str {
        match code {
            CANCELLED => "cancelled",
            BAD_FRAME => "frame not understood",
            BAD_VERSION => "frame of an unknown version",
            TOO_LARGE => "frame too large",
            SHUTTING_DOWN => "shutting down",
            BUSY => "too busy",
            NO_NODE => "certificate names no node",
            TOO_SLOW => "too slow",
            _ => "no known reason",
        }
    }
}

/// A node's QUIC: one socket that serves, one that dials (each has its own driver task, so bulk in one direction does not wait
/// for the other). Cheap to clone.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    local_addr: SocketAddr,
    server: quinn::Endpoint,
    client: Client,
    options: QuicOptions,
    metrics: Arc<Metrics>,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl Endpoint {
    /// Binds both sockets; port 0 picks a free one. Peers wait until [`serve`](Self::serve) is called.
    pub async fn bind(listen: SocketAddr, identity: &Identity, options: QuicOptions) -> Result<Self, QuicError> {
        let tls = tls::configs(identity, ALPN)?;
        let metrics = Arc::new(Metrics::new(&tls.node, options.metrics.as_ref())?);
        let server = config::server_endpoint(listen, tls.server, identity, &options)?;
        let local_addr = server.local_addr().map_err(|error| QuicError::Listen(listen, error.to_string()))?;
        let (dialler, client_config) = config::client_endpoint(listen, tls.client, &options)?;
        let client = Client::new(tls.node.clone(), dialler, client_config, options.clone(), metrics.clone());
        Ok(Self {
            inner: Arc::new(Inner {
                node: tls.node,
                local_addr,
                server,
                client,
                options,
                metrics,
                closing: CancellationToken::new(),
                tasks: TaskTracker::new(),
            }),
        })
    }

    /// Who our certificate says we are.
    pub fn node(&self) -> &NodeId {
        &self.inner.node
    }

    /// Where peers reach us.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr
    }

    /// For reaching peers.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Answers peers with `handler` until the endpoint is closed. Calling it again adds nothing.
    pub fn serve(&self, handler: Arc<dyn Handler>) {
        let Inner { server, options, metrics, closing, tasks, .. } = &*self.inner;
        if tasks.is_closed() || !tasks.is_empty() {
            return;
        }
        let acceptor = serve::Acceptor::new(
            server.clone(),
            handler,
            options.clone(),
            metrics.clone(),
            closing.clone(),
            tasks.clone(),
        );
        tasks.spawn(acceptor.run());
    }

    /// Takes no more requests, waits up to `grace` for those in hand, then closes every connection.
    pub async fn close(&self, grace: Duration) {
        let inner = &*self.inner;
        inner.closing.cancel();
        inner.tasks.close();
        if tokio::time::timeout(grace, inner.tasks.wait()).await.is_err() {
            tracing::warn!(node = %inner.node, requests = inner.tasks.len(), "closing with requests in hand");
        }
        close(&inner.server, code::SHUTTING_DOWN).await;
        inner.client.close().await;
    }
}

impl Drop for Inner {
    /// An endpoint that nobody holds any more serves nobody.
    fn drop(&mut self) {
        self.closing.cancel();
        self.server.close(code::SHUTTING_DOWN, code::meaning(code::SHUTTING_DOWN).as_bytes());
    }
}

/// Tells peers at once, and gives the last packets a moment to leave.
async fn close(endpoint: &quinn::Endpoint, code: VarInt) {
    endpoint.close(code, code::meaning(code).as_bytes());
    let drained = endpoint.wait_idle();
    if tokio::time::timeout(Duration::from_millis(500), drained).await.is_err() {
        tracing::debug!("some peers did not acknowledge that the connection is closed");
    }
}
