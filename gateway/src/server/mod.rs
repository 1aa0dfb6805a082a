//! The HTTP server under the S3 service.

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cairn_actors::Store;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use s3s::service::S3Service;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    metrics::Metrics,
    op,
    options::{GatewayError, GatewayLimits, GatewayOptions},
    service::Service,
    tls,
};

/// What hyper may read ahead on one HTTP/1 connection.
const HTTP1_BUFFER_BYTES: usize = 256 << 10;
const HTTP2_STREAM_WINDOW_BYTES: u32 = 1 << 20;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const HTTP2_SEND_BUFFER_BYTES: usize = 1 << 20;
const HTTP2_STREAMS: u32 = 256;
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// When the system is out of file handles, accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const LISTEN_BACKLOG: u32 = 4096;

/// A running gateway. Dropping it closes the listener and every connection; [`Gateway::stop`] lets requests finish.
pub struct Gateway {
    local_addr: SocketAddr,
    stop: CancellationToken,
    accepting: JoinHandle<GracefulShutdown>,
    kill: DropGuard,
}

impl Gateway {
    /// Binds, registers metrics and begins to serve.
    pub async fn start(store: Store, options: GatewayOptions) -> Result<Self, GatewayError> {
        options.check()?;
        Self::serve(op::service(store, &options), options)
    }

    /// Serves any S3 service: what the tests of this layer give it needs no store.
    fn serve(s3: S3Service, options: GatewayOptions) -> Result<Self, GatewayError> {
        let tls = match &options.tls {
            Some((cert_pem, key_pem)) => Some(tls::acceptor(cert_pem, key_pem)?),
            None => None,
        };
        let metrics = Metrics::register(&options.metrics)?;
        let listener = listen(options.listen).map_err(|error| GatewayError::Listen(options.listen, error))?;
        let local_addr = listener.local_addr().map_err(|error| GatewayError::Listen(options.listen, error))?;
        let limits = options.limits.clone();
        let service = Service::new(s3, limits.clone(), metrics.clone());
        let stop = CancellationToken::new();
        let kill = CancellationToken::new();
        let acceptor = Acceptor {
            service: Arc::new(service),
            http: Arc::new(http_builder(&limits)),
            connections: Arc::new(Semaphore::new(limits.connections)),
            tls,
            limits,
            metrics,
            kill: kill.clone(),
        };
        let accepting = tokio::spawn(acceptor.run(listener, stop.clone()));
        tracing::info!(%local_addr, tls = options.tls.is_some(), "S3 is served");
        Ok(Self { local_addr, stop, accepting, kill: kill.drop_guard() })
    }

    /// Where it really listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Accepts no more, lets requests under way finish for up to `grace`, then closes what is left.
    pub async fn stop(self, grace: Duration) {
        self.stop.cancel();
        match self.accepting.await {
            Ok(connections) => {
                let open = connections.count();
                if tokio::time::timeout(grace, connections.shutdown()).await.is_err() {
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
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
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

/// Accepts connections and serves each in a task of its own.
struct Acceptor {
    service: Arc<Service>,
    http: Arc<Builder<TokioExecutor>>,
    connections: Arc<Semaphore>,
    tls: Option<TlsAcceptor>,
    limits: GatewayLimits,
    metrics: Metrics,
    kill: CancellationToken,
}

impl Acceptor {
    /// Ends when told to stop, or killed; hands back the connections still open.
    async fn run(self, listener: TcpListener, stop: CancellationToken) -> GracefulShutdown {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return graceful,
                () = self.kill.cancelled() => return graceful,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &graceful),
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr, graceful: &GracefulShutdown) {
        let Ok(permit) = self.connections.clone().try_acquire_owned() else {
            self.metrics.refused_connections.inc();
            return;
        };
        // Without it a small GET waits for Nagle and a delayed acknowledgement: 44 ms.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "set TCP_NODELAY");
        }
        let watcher = graceful.watcher();
        let connection = Connection {
            service: self.service.clone(),
            http: self.http.clone(),
            metrics: self.metrics.clone(),
            peer,
            _permit: permit,
        };
        let (tls, kill, handshake_timeout) = (self.tls.clone(), self.kill.clone(), self.limits.tls_handshake_timeout);
        tokio::spawn(async move {
            let serve = async move {
                let Some(tls) = tls else { return connection.serve(stream, watcher).await };
                match tokio::time::timeout(handshake_timeout, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection.serve(stream, watcher).await,
                    Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake"),
                    Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
                }
            };
            tokio::select! {
                () = serve => {}
                () = kill.cancelled() => {}
            }
        });
    }
}

struct Connection {
    service: Arc<Service>,
    http: Arc<Builder<TokioExecutor>>,
    metrics: Metrics,
    peer: SocketAddr,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve<S>(self, stream: S, watcher: hyper_util::server::graceful::Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let _open = OpenConnection::count(&self.metrics);
        let service = self.service.clone();
        let answer = service_fn(move |request| service.clone().call(request));
        let connection = self.http.serve_connection(TokioIo::new(stream), answer).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            // Clients go away, and bodies that break off end here on purpose (CON-2).
            tracing::debug!(%error, peer = %self.peer, "connection ended");
        }
    }
}

struct OpenConnection(prometheus::IntGauge);

impl OpenConnection {
    fn count(metrics: &Metrics) -> Self {
        metrics.connections.inc();
        Self(metrics.connections.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
