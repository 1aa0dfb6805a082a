//! The HTTP server under the S3 service.

mod accept;
mod proxied;
mod socket;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cairn_actors::Store;
use futures::future::BoxFuture;
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::accept::Acceptor;
use crate::{
    audit::AuditLog,
    metrics::Metrics,
    op::dispatch::Operations,
    options::{GatewayError, GatewayLimits, GatewayOptions},
    service::Service,
    tls::{Certificate, Certificates},
};

/// What hyper may read ahead on one HTTP/1 connection.
const HTTP1_BUFFER_BYTES: usize = 256 << 10;
const HTTP2_STREAM_WINDOW_BYTES: u32 = 1 << 20;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const HTTP2_SEND_BUFFER_BYTES: usize = 1 << 20;
const HTTP2_STREAMS: u32 = 256;
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);
const LISTEN_BACKLOG: u32 = 4096;

/// A running gateway. Dropping it closes the listener and every connection; [`Gateway::stop`] lets requests finish.
pub struct Gateway {
    local_addr: SocketAddr,
    certificates: Vec<Certificate>,
    stop: CancellationToken,
    accepting: JoinHandle<TaskTracker>,
    /// Cancelled when the accepting task ends, by whatever way.
    ended: CancellationToken,
    kill: DropGuard,
}

impl Gateway {
    /// Whether a gateway could be started with these options, as far as that can be told without listening.
    pub fn check(options: &GatewayOptions) -> Result<(), GatewayError> {
        options.check()?;
        match &options.tls {
            Some(default) => Certificates::read(default, &options.certificates)?.acceptor().map(drop),
            None => Ok(()),
        }
    }

    /// Binds, registers metrics and begins to serve. Boxed, so that all that serves a request is compiled in this
    /// crate.
    pub fn start(store: Store, options: GatewayOptions) -> BoxFuture<'static, Result<Self, GatewayError>> {
        Box::pin(async move {
            options.check()?;
            let metrics = Metrics::register(&options.metrics)?;
            Self::serve(Operations::new(store, &options, &metrics), options, metrics)
        })
    }

    /// Serves any operations: those of the tests of this layer need no store.
    fn serve(
        operations: impl Into<Operations>,
        options: GatewayOptions,
        metrics: Metrics,
    ) -> Result<Self, GatewayError> {
        let read = |default: &(String, String)| Certificates::read(default, &options.certificates);
        let certificates = options.tls.as_ref().map(read).transpose()?;
        let tls = certificates.as_ref().map(Certificates::acceptor).transpose()?;
        let listener = listen(options.listen).map_err(|error| GatewayError::Listen(options.listen, error))?;
        let local_addr = listener.local_addr().map_err(|error| GatewayError::Listen(options.listen, error))?;
        let limits = options.limits.clone();
        let audit = options.audit.filter(AuditLog::wants_requests);
        let service = Service::new(operations.into(), limits.clone(), metrics.clone(), audit);
        let stop = CancellationToken::new();
        let kill = CancellationToken::new();
        let acceptor = Acceptor {
            service: Arc::new(service),
            http: Arc::new(http_builder(&limits)),
            connections: Arc::new(Semaphore::new(limits.connections)),
            tls,
            balancers: options.balancers,
            limits,
            metrics,
            stop: stop.clone(),
            kill: kill.clone(),
        };
        let ended = CancellationToken::new();
        let ending = ended.clone().drop_guard();
        let accepting = tokio::spawn(async move {
            let _ending = ending;
            acceptor.run(listener).await
        });
        tracing::info!(%local_addr, tls = options.tls.is_some(), "S3 is served");
        let certificates = certificates.map(|certificates| certificates.all()).unwrap_or_default();
        Ok(Self { local_addr, certificates, stop, accepting, ended, kill: kill.drop_guard() })
    }

    /// Where it really listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What clients are shown: the default certificate, then those of the options in their order; none without TLS.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.certificates.clone()
    }

    /// Waits until no connection is accepted any more: a gateway that nobody told to stop cannot go on then.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Accepts no more, lets requests under way finish for up to `grace`, then closes what is left.
    pub async fn stop(self, grace: Duration) {
        self.stop.cancel();
        match self.accepting.await {
            Ok(connections) => {
                let open = connections.len();
                if tokio::time::timeout(grace, connections.wait()).await.is_err() {
                    tracing::warn!(open, ?grace, "closing connections whose requests did not end in time");
                }
            }
            Err(error) => tracing::error!(%error, "the accepting task failed"),
        }
        drop(self.kill);
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

fn http_builder(limits: &GatewayLimits) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    // The socket bounds the time that headers take: hyper would not before the first byte, nor over HTTP/2, and would
    // take an idle connection for one whose headers do not come.
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(limits.header_count)
        .max_buf_size(HTTP1_BUFFER_BYTES.max(limits.header_bytes));
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES);
    http
}
