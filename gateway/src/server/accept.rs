//! Accepting connections, and serving each in a task of its own.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use rustls::ProtocolVersion;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::MissedTickBehavior,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{proxied, socket::ClientSocket};
use crate::{
    connection::{Connection, CutOff, PhaseLimits},
    metrics::Metrics,
    network::Network,
    options::GatewayLimits,
    service::Service,
};

/// When the system is out of file handles, accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes that the kernel may hold for a client beyond those on their way to it. Without a bound it takes megabytes, and
/// a client that reads slowly looks for minutes like one that does not read at all.
const UNSENT_BYTES: u32 = 256 << 10;

/// Accepts connections until it is told to stop.
pub(super) struct Acceptor {
    pub(super) service: Arc<Service>,
    pub(super) http: Arc<Builder<TokioExecutor>>,
    pub(super) connections: Arc<Semaphore>,
    pub(super) tls: Option<TlsAcceptor>,
    /// Balancers, who must say whom they speak for.
    pub(super) balancers: Vec<Network>,
    pub(super) limits: GatewayLimits,
    pub(super) metrics: Metrics,
    /// Ends accepting; connections finish what they are at.
    pub(super) stop: CancellationToken,
    /// Ends everything at once.
    pub(super) kill: CancellationToken,
}

impl Acceptor {
    /// Ends when told to stop, or killed; hands back the connections still open.
    pub(super) async fn run(self, listener: TcpListener) -> TaskTracker {
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => break,
                () = self.kill.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &tasks),
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        tasks.close();
        tasks
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr, tasks: &TaskTracker) {
        let Ok(permit) = self.connections.clone().try_acquire_owned() else {
            self.metrics.refused_connections.inc();
            return;
        };
        prepare(&stream, peer);
        let phases = PhaseLimits { headers: self.limits.header_timeout, idle: self.limits.idle_timeout };
        let is_balancer = self.balancers.iter().any(|network| network.has(peer.ip()));
        let (service, http, limits) = (self.service.clone(), self.http.clone(), self.limits.clone());
        let (metrics, stop, header_timeout) = (self.metrics.clone(), self.stop.clone(), self.limits.header_timeout);
        let (tls, kill) = (self.tls.clone(), self.kill.clone());
        tasks.spawn(async move {
            let serve = async move {
                let mut stream = stream;
                let peer = match is_balancer {
                    false => peer,
                    true => match behind(&mut stream, peer, header_timeout).await {
                        Some(client) => client,
                        None => return metrics.cut_off_connections.with_label_values(&[CutOff::Proxy.label()]).inc(),
                    },
                };
                let connection = Connection::new(peer, phases);
                let client = Client { connection, service, http, limits, metrics, stop, _permit: permit };
                let Some(tls) = tls else { return client.serve(stream).await };
                match tokio::time::timeout(header_timeout, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        client.connection.speaks_tls(tls_version(stream.get_ref().1.protocol_version()));
                        client.serve(stream).await;
                    }
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

/// For whom a balancer speaks, which it says first; it may speak for itself. None if it does not say so in time.
async fn behind(stream: &mut TcpStream, balancer: SocketAddr, within: Duration) -> Option<SocketAddr> {
    let why = match tokio::time::timeout(within, proxied::read(stream)).await {
        Ok(Ok(client)) => return Some(client.unwrap_or(balancer)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it said nothing within {within:?}"),
    };
    tracing::debug!(%balancer, why, "a balancer does not say whom it speaks for");
    None
}

/// As policies name it.
fn tls_version(version: Option<ProtocolVersion>) -> &'static str {
    if version == Some(ProtocolVersion::TLSv1_2) { "1.2" } else { "1.3" }
}

fn prepare(stream: &TcpStream, peer: SocketAddr) {
    // Without it a small GET waits for Nagle and a delayed acknowledgement: 44 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "set TCP_NODELAY");
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
        tracing::debug!(%error, %peer, "set TCP_NOTSENT_LOWAT");
    }
}

/// One client's connection and what serves it.
struct Client {
    connection: Arc<Connection>,
    service: Arc<Service>,
    http: Arc<Builder<TokioExecutor>>,
    limits: GatewayLimits,
    metrics: Metrics,
    stop: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Client {
    async fn serve<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let _open = OpenConnection::count(&self.metrics);
        let least = self.limits.answer_pace();
        let socket = ClientSocket::new(stream, self.connection.clone(), least, self.metrics.clone());
        let (service, connection) = (self.service.clone(), self.connection.clone());
        let answer = service_fn(move |request| service.clone().call(request, connection.begin_request()));
        let mut serving = pin!(self.http.serve_connection(TokioIo::new(socket), answer));
        let mut look = tokio::time::interval((least.window / 4).max(Duration::from_millis(10)));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leaving = false;
        loop {
            tokio::select! {
                ended = serving.as_mut() => {
                    if let Err(error) = ended {
                        // Clients go away, and bodies that break off end here on purpose (CON-2).
                        tracing::debug!(%error, peer = %self.connection.peer(), "connection ended");
                    }
                    return;
                }
                () = self.stop.cancelled(), if !leaving => {
                    leaving = true;
                    serving.as_mut().graceful_shutdown();
                }
                () = self.connection.idle_too_long(), if !leaving => {
                    leaving = true;
                    serving.as_mut().graceful_shutdown();
                }
                _ = look.tick() => {
                    if let Err(why) = self.connection.look_at_streams(tokio::time::Instant::now()) {
                        tracing::debug!(peer = %self.connection.peer(), %why, "cut a connection off");
                        self.metrics.cut_off_connections.with_label_values(&[why.label()]).inc();
                        return;
                    }
                }
            }
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
