//! QUIC between nodes, under mutual TLS.
//!
//! An [`Endpoint`] serves peers with a [`Handler`] and dials them through a [`Client`]: one connection per peer, one
//! bidirectional stream per request. Everything that a peer can make us hold is bounded: connections, streams, bytes of
//! payloads, time. What quinn leaves to its user is settled in `config` and `guard`.

mod code;
mod config;
mod dial;
mod error;
mod guard;
mod handler;
mod metrics;
mod serve;
mod socket;
mod stream;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cairn_schema::ids::NodeId;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use config::QuicOptions;
pub use dial::{Call, Client, Peer, Reach};
pub use error::QuicError;
pub use handler::{Handler, Incoming, Outgoing};
use metrics::Metrics;

use crate::{
    tls::{self, Identity},
    wire::ALPN,
};

/// A node's QUIC: one socket that serves, one that dials (each has its own driver task, so bulk in one direction does
/// not wait for the other). Cheap to clone.
#[derive(Clone)]
pub struct Endpoint {
    sockets: Arc<Sockets>,
}

/// An endpoint's two sockets, and what runs on them.
struct Sockets {
    node: NodeId,
    local_addr: SocketAddr,
    server: quinn::Endpoint,
    client: Client,
    options: QuicOptions,
    metrics: Arc<Metrics>,
    closing: CancellationToken,
    /// Cancelled when the accepting task ends, by whatever way.
    ended: CancellationToken,
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
            sockets: Arc::new(Sockets {
                node: tls.node,
                local_addr,
                server,
                client,
                options,
                metrics,
                closing: CancellationToken::new(),
                ended: CancellationToken::new(),
                tasks: TaskTracker::new(),
            }),
        })
    }

    /// Who our certificate says we are.
    pub fn node(&self) -> &NodeId {
        &self.sockets.node
    }

    /// Where peers reach us.
    pub fn local_addr(&self) -> SocketAddr {
        self.sockets.local_addr
    }

    /// For reaching peers.
    pub fn client(&self) -> &Client {
        &self.sockets.client
    }

    /// Answers peers with `handler` until the endpoint is closed. Calling it again adds nothing.
    pub fn serve(&self, handler: Arc<dyn Handler>) {
        let Sockets { server, options, metrics, closing, tasks, .. } = &*self.sockets;
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
        let ending = self.sockets.ended.clone().drop_guard();
        tasks.spawn(async move {
            let _ending = ending;
            acceptor.run().await;
        });
    }

    /// Waits until peers are not answered any more: an endpoint that serves and was not closed cannot go on then.
    pub async fn ended(&self) {
        self.sockets.ended.cancelled().await;
    }

    /// Takes no more requests, waits up to `grace` for those in hand, then closes every connection.
    pub async fn close(&self, grace: Duration) {
        let sockets = &*self.sockets;
        sockets.closing.cancel();
        sockets.tasks.close();
        if tokio::time::timeout(grace, sockets.tasks.wait()).await.is_err() {
            tracing::warn!(node = %sockets.node, requests = sockets.tasks.len(), "closing with requests in hand");
        }
        code::close(&sockets.server, code::SHUTTING_DOWN).await;
        sockets.client.close().await;
    }
}

impl Drop for Sockets {
    /// An endpoint that nobody holds any more serves nobody.
    fn drop(&mut self) {
        self.closing.cancel();
        self.server.close(code::SHUTTING_DOWN, code::meaning(code::SHUTTING_DOWN).as_bytes());
    }
}
