//! The side that asks: one connection per peer, dialled when needed, and again after a pause when it could not be.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use cairn_fragment::{Terms, TransportError};
use cairn_schema::ids::NodeId;
use parking_lot::Mutex;
use quinn::{ClientConfig, Connection};
use tokio::{
    sync::Semaphore,
    time::{timeout, timeout_at},
};

use super::{
    QuicOptions, code,
    guard::{BytePermits, SendGuard},
    metrics::Metrics,
    stream::{StreamError, read_header, read_payload, write_frame},
};
use crate::wire::{Frame, FrameError, PayloadHeader, Reply, ReplyHeader, Request, RequestHeader};

/// A peer that sent nothing at all for so long under a waiting request is taken for gone.
const SILENCE: Duration = Duration::from_secs(1);

/// One request, with its payload and its deadline.
pub struct Call {
    request: Request,
    payload: Bytes,
    checksums: Option<Vec<u64>>,
    terms: Terms,
    at_once: bool,
}

impl Call {
    pub fn new(request: Request, terms: impl Into<Terms>) -> Self {
        Self { request, payload: Bytes::new(), checksums: None, terms: terms.into(), at_once: false }
    }

    pub fn with_payload(self, payload: Bytes) -> Self {
        Self { payload, checksums: None, ..self }
    }

    /// With block checksums that were made where the payload was made.
    pub fn with_checked_payload(self, payload: Bytes, checksums: Vec<u64>) -> Self {
        Self { payload, checksums: Some(checksums), ..self }
    }

    /// Dials even if the last dial failed a moment ago.
    pub fn at_once(self) -> Self {
        Self { at_once: true, ..self }
    }
}

/// Dials peers. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    dialler: Arc<Dialler>,
}

/// What it takes to dial.
struct Dialler {
    node: NodeId,
    endpoint: quinn::Endpoint,
    config: ClientConfig,
    options: QuicOptions,
    metrics: Arc<Metrics>,
}

impl Client {
    pub(super) fn new(
        node: NodeId,
        endpoint: quinn::Endpoint,
        config: ClientConfig,
        options: QuicOptions,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { dialler: Arc::new(Dialler { node, endpoint, config, options, metrics }) }
    }

    /// Who we are.
    pub fn node(&self) -> &NodeId {
        &self.dialler.node
    }

    /// A peer to call; nothing is dialled yet. Its certificate must name `node`.
    pub fn peer(&self, node: NodeId, address: SocketAddr) -> Arc<Peer> {
        let options = &self.dialler.options;
        Arc::new(Peer {
            dialler: self.dialler.clone(),
            requests: Semaphore::new(options.max_requests as usize),
            bytes: BytePermits::new(options.max_bytes),
            background_bytes: BytePermits::new(options.connection_window_bytes / 2),
            node,
            address,
            connection: Mutex::new(None),
            dialling: tokio::sync::Mutex::new(Dialling::default()),
            reach: Mutex::new(Reach::default()),
        })
    }

    pub(super) async fn close(&self) {
        code::close(&self.dialler.endpoint, code::SHUTTING_DOWN).await;
    }
}

/// One node at one address.
pub struct Peer {
    dialler: Arc<Dialler>,
    node: NodeId,
    address: SocketAddr,
    /// Requests under way, and the payload bytes they send and expect.
    requests: Semaphore,
    bytes: BytePermits,
    /// Payload bytes that are sent in the background. The peer reads them when it is their turn, and until then they
    /// keep what is behind them from being sent: so only a part of what may be under way is theirs.
    background_bytes: BytePermits,
    connection: Mutex<Option<Connection>>,
    /// Held by whoever dials, so that the others wait for one dial.
    dialling: tokio::sync::Mutex<Dialling>,
    reach: Mutex<Reach>,
}

/// How calls to a peer ended last, whoever made them.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// When it last answered, be it with an error.
    pub answered: Option<Instant>,
    /// When it last did not, and why.
    pub failed: Option<(Instant, String)>,
}

impl Reach {
    /// Why it cannot be reached, if the last call that ended did so without an answer.
    pub fn cut_off(&self) -> Option<&str> {
        let (failed, why) = self.failed.as_ref()?;
        self.answered.is_none_or(|answered| answered < *failed).then_some(why)
    }

    fn note(&mut self, error: Option<&TransportError>) {
        match error {
            Some(error @ (TransportError::Unreachable(..) | TransportError::Deadline(_))) => {
                self.failed = Some((Instant::now(), error.to_string()));
            }
            // Perhaps never sent, which tells nothing of the peer.
            Some(TransportError::Busy(_)) => {}
            _ => self.answered = Some(Instant::now()),
        }
    }
}

/// How the last attempts to connect to a peer went.
#[derive(Default)]
struct Dialling {
    failures: u32,
    /// Not before then, unless asked to dial at once.
    pause_until: Option<Instant>,
    last_error: String,
}

/// A failed exchange, and whether the peer may have seen the request.
struct Failed {
    error: TransportError,
    /// The connection broke; another may do.
    lost: bool,
}

impl Peer {
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How calls to it ended last.
    pub fn reach(&self) -> Reach {
        self.reach.lock().clone()
    }

    /// Sends a request and returns the peer's answer, its payload verified; ends by the deadline.
    pub async fn call(&self, call: Call) -> Result<(Reply, Bytes), TransportError> {
        self.call_noting(call, &AtomicBool::new(false)).await
    }

    /// As [`call`](Self::call); `sent` becomes true once the peer may have seen the request.
    pub async fn call_noting(&self, call: Call, sent: &AtomicBool) -> Result<(Reply, Bytes), TransportError> {
        let started = Instant::now();
        let kind = call.request.kind();
        let metrics = &self.dialler.metrics;
        let done = self.bounded(call, sent, started).await;
        self.reach.lock().note(done.as_ref().err());
        let outcome = if done.is_ok() { "ok" } else { "error" };
        metrics.requests.with_label_values(&["client", kind, outcome]).inc();
        metrics.seconds.with_label_values(&[kind]).observe(started.elapsed().as_secs_f64());
        done
    }

    async fn bounded(&self, call: Call, sent: &AtomicBool, started: Instant) -> Result<(Reply, Bytes), TransportError> {
        let deadline = call.terms.deadline;
        let described = self.describe(&call)?;
        let wanted = described.length.max(call.request.expected_reply_bytes());
        let in_background = if call.terms.priority.is_client() { 0 } else { described.length };
        let permits = timeout_at(deadline.into(), async {
            let in_background = self.background_bytes.acquire(in_background).await;
            // The semaphore is never closed, so neither is ever refused.
            (in_background, self.requests.acquire().await, self.bytes.acquire(wanted).await)
        });
        let Ok(_permits) = permits.await else { return Err(TransportError::Busy(self.node.clone())) };
        let heard = self.current().map(|connection| (connection.clone(), datagrams(&connection)));
        match timeout_at(deadline.into(), self.attempts(call, described, sent)).await {
            Ok(done) => done,
            Err(_) => {
                self.drop_if_silent(heard, started);
                Err(TransportError::Deadline(self.node.clone()))
            }
        }
    }

    fn describe(&self, call: &Call) -> Result<PayloadHeader, TransportError> {
        let described = match &call.checksums {
            Some(checksums) => PayloadHeader::with_checksums(&call.payload, checksums.clone()),
            None => PayloadHeader::describe(&call.payload),
        };
        described
            .and_then(|described| described.check(call.request.max_payload()).map(|()| described))
            .map_err(|error| self.refused(&error))
    }

    /// A request that we refuse to send.
    fn refused(&self, error: &FrameError) -> TransportError {
        TransportError::Protocol(self.node.clone(), format!("not sent: {error}"))
    }

    /// A kept connection may turn out to be dead only when it is used; then a fresh one is tried, once.
    async fn attempts(
        &self,
        call: Call,
        described: PayloadHeader,
        sent: &AtomicBool,
    ) -> Result<(Reply, Bytes), TransportError> {
        if let Some(kept) = self.current() {
            match self.exchange(&kept, &call, described.clone(), sent).await {
                Ok(done) => return Ok(done),
                Err(failed) if failed.lost => {
                    self.forget(&kept);
                    if sent.load(Ordering::Acquire) && !call.request.is_idempotent() {
                        return Err(failed.error);
                    }
                }
                Err(failed) => return Err(failed.error),
            }
        }
        let fresh = self.dial(call.at_once).await?;
        self.exchange(&fresh, &call, described, sent).await.map_err(|failed| {
            if failed.lost {
                self.forget(&fresh);
            }
            failed.error
        })
    }

    async fn exchange(
        &self,
        connection: &Connection,
        call: &Call,
        payload: PayloadHeader,
        sent: &AtomicBool,
    ) -> Result<(Reply, Bytes), Failed> {
        let (send, mut recv) = connection.open_bi().await.map_err(|error| self.failed(error.into()))?;
        let mut send = SendGuard::new(send);
        let left = call.terms.deadline.saturating_duration_since(Instant::now());
        let deadline_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
        let bytes_sent = u64::from(payload.length);
        let header =
            RequestHeader { deadline_ms, payload, request: call.request.clone(), priority: call.terms.priority };
        let frame = Frame::encode(&header, call.payload.clone())
            .map_err(|error| Failed { error: self.refused(&error), lost: false })?;
        sent.store(true, Ordering::Release);
        write_frame(&mut send, frame).await.map_err(|error| self.failed(error))?;
        self.dialler.metrics.bytes.with_label_values(&["sent"]).inc_by(bytes_sent);

        let header: ReplyHeader = read_header(&mut recv).await.map_err(|error| self.failed(error))?;
        let ReplyHeader { payload: described, reply } = header;
        described.check(call.request.max_reply_payload()).map_err(|error| self.failed(error.into()))?;
        let payload = read_payload(&mut recv, &described, true).await.map_err(|error| self.failed(error))?;
        self.dialler.metrics.bytes.with_label_values(&["received"]).inc_by(payload.len() as u64);
        match reply {
            Ok(reply) => Ok((reply, payload)),
            Err(error) => Err(Failed { error: error.into_transport(&self.node), lost: false }),
        }
    }

    fn failed(&self, error: StreamError) -> Failed {
        let node = self.node.clone();
        let lost = matches!(error, StreamError::Lost(_));
        let error = match error {
            StreamError::Frame(FrameError::BadChecksum(_)) => TransportError::BadChecksum(node),
            StreamError::Lost(error) => TransportError::Unreachable(node, error.to_string()),
            StreamError::GivenUp(code::BUSY) => TransportError::Busy(node),
            StreamError::GivenUp(code::SHUTTING_DOWN) => {
                TransportError::Unreachable(node, "it is shutting down".into())
            }
            error => TransportError::Protocol(node, error.to_string()),
        };
        Failed { error, lost }
    }

    /// The connection at hand, if it lives as far as we know.
    fn current(&self) -> Option<Connection> {
        let mut kept = self.connection.lock();
        if kept.as_ref().is_some_and(|connection| connection.close_reason().is_some()) {
            *kept = None;
        }
        kept.clone()
    }

    fn forget(&self, connection: &Connection) {
        let mut kept = self.connection.lock();
        if kept.as_ref().is_some_and(|kept| kept.stable_id() == connection.stable_id()) {
            *kept = None;
        }
    }

    /// The caller bounds the time. At most one dial at a time; those who waited for it share its outcome.
    async fn dial(&self, at_once: bool) -> Result<Connection, TransportError> {
        let mut dialling = self.dialling.lock().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let unreachable = |why: String| TransportError::Unreachable(self.node.clone(), why);
        if !at_once && dialling.pause_until.is_some_and(|until| Instant::now() < until) {
            return Err(unreachable(format!("the last dial failed: {}", dialling.last_error)));
        }
        let Dialler { options, metrics, .. } = &*self.dialler;
        match timeout(options.setup_timeout, self.connect()).await.unwrap_or_else(|_| Err("no answer".into())) {
            Ok(connection) => {
                metrics.dials.with_label_values(&["connected"]).inc();
                *dialling = Dialling::default();
                *self.connection.lock() = Some(connection.clone());
                self.count_until_closed(connection.clone());
                Ok(connection)
            }
            Err(why) => {
                metrics.dials.with_label_values(&["failed"]).inc();
                tracing::debug!(peer = %self.node, address = %self.address, %why, "dial failed");
                let pause = options.backoff.saturating_mul(1 << dialling.failures.min(16)).min(options.max_backoff);
                dialling.failures = dialling.failures.saturating_add(1);
                dialling.pause_until = Some(Instant::now() + pause);
                dialling.last_error = why.clone();
                Err(unreachable(why))
            }
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        let Dialler { endpoint, config, .. } = &*self.dialler;
        // The name is checked against the peer's certificate: whoever else listens there is refused.
        let connecting = endpoint.connect_with(config.clone(), self.address, self.node.as_str());
        let connecting = connecting.map_err(|error| error.to_string())?;
        connecting.await.map_err(|error| error.to_string())
    }

    fn count_until_closed(&self, connection: Connection) {
        let open = self.dialler.metrics.connections.with_label_values(&["client"]);
        let peer = self.node.clone();
        open.inc();
        // Ends with the connection, which the idle timeout bounds.
        tokio::spawn(async move {
            let why = connection.closed().await;
            tracing::debug!(%peer, %why, "connection closed");
            open.dec();
        });
    }

    /// After a deadline: a connection on which not one packet came in meanwhile leads nowhere, so the next request
    /// dials anew rather than wait for the idle timeout.
    fn drop_if_silent(&self, heard: Option<(Connection, u64)>, started: Instant) {
        let Some((connection, before)) = heard else { return };
        if started.elapsed() >= SILENCE && datagrams(&connection) == before {
            tracing::debug!(peer = %self.node, "connection given up: nothing arrives on it");
            connection.close(code::CANCELLED, b"silent");
            self.forget(&connection);
        }
    }
}

impl Drop for Peer {
    /// A node that left the topology, or moved: its connection would be kept alive for ever.
    fn drop(&mut self) {
        if let Some(connection) = self.connection.get_mut().take() {
            connection.close(code::CANCELLED, b"no longer needed");
        }
    }
}

fn datagrams(connection: &Connection) -> u64 {
    connection.stats().udp_rx.datagrams
}
