//! The side that answers. Strangers are refused by TLS; a peer's garbage costs it the stream it came on, nothing else.

use std::{sync::Arc, time::Instant};

use cairn_fragment::Turn;
use cairn_schema::ids::NodeId;
use quinn::{Connection, RecvStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::{
    sync::Semaphore,
    time::{timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Handler, Incoming, Outgoing, QuicOptions, code,
    guard::{Admitted, PeerTable, SendGuard, ServedBytes},
    metrics::Metrics,
    stream::{StreamError, read_header, read_payload, write_frame},
};
use crate::{
    tls,
    wire::{Frame, PayloadHeader, RemoteError, ReplyHeader, Request, RequestHeader},
};

/// Accepts connections, and streams on them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Acceptor {
    serving: Arc<Serving>,
}

/// What it takes to answer.
struct Serving {
    endpoint: quinn::Endpoint,
    handler: Arc<dyn Handler>,
    options: QuicOptions,
    metrics: Arc<Metrics>,
    closing: CancellationToken,
    /// Every task that has a request in hand, so that closing can wait for them.
    tasks: TaskTracker,
    handshakes: Arc<Semaphore>,
    peers: Arc<PeerTable>,
}

impl Acceptor {
    pub(super) fn new(
        endpoint: quinn::Endpoint,
        handler: Arc<dyn Handler>,
        options: QuicOptions,
        metrics: Arc<Metrics>,
        closing: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let handshakes = Arc::new(Semaphore::new(options.max_handshakes));
        let peers = PeerTable::new(&options);
        let serving = Serving { endpoint, handler, options, metrics, closing, tasks, handshakes, peers };
        Self { serving: Arc::new(serving) }
    }

    pub(super) async fn run(self) {
        let Serving { endpoint, metrics, closing, tasks, handshakes, options, .. } = &*self.serving;
        loop {
            let incoming = tokio::select! {
                _ = closing.cancelled() => return,
                incoming = endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { return };
            let Ok(permit) = handshakes.clone().try_acquire_owned() else {
                metrics.refuse("handshake", "too_many");
                incoming.refuse();
                continue;
            };
            // Half full: strangers must prove that their address is theirs before they cost more.
            if handshakes.available_permits() < options.max_handshakes / 2 && incoming.may_retry() {
                metrics.refuse("handshake", "retry");
                if incoming.retry().is_err() {
                    tracing::debug!("a handshake could not be retried");
                }
                continue;
            }
            let acceptor = self.clone();
            tasks.spawn(async move {
                let connected = acceptor.handshake(incoming).await;
                drop(permit);
                if let Some((connection, admitted)) = connected {
                    acceptor.serve_connection(connection, admitted).await;
                }
            });
        }
    }

    async fn handshake(&self, incoming: quinn::Incoming) -> Option<(Connection, Admitted)> {
        let Serving { options, metrics, peers, .. } = &*self.serving;
        let from = incoming.remote_address();
        let connection = match timeout(options.setup_timeout, incoming).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                tracing::info!(%from, %error, "handshake refused");
                metrics.refuse("handshake", "failed");
                return None;
            }
            Err(_) => {
                tracing::info!(%from, "handshake took too long");
                metrics.refuse("handshake", "timeout");
                return None;
            }
        };
        let refuse = |code: VarInt, reason: &str| {
            metrics.refuse("connection", reason);
            connection.close(code, code::meaning(code).as_bytes());
        };
        let peer = match peer_of(&connection) {
            Ok(peer) => peer,
            Err(why) => {
                tracing::warn!(%from, %why, "connection refused: its certificate names no node");
                refuse(code::NO_NODE, "no_node");
                return None;
            }
        };
        match peers.admit(&peer) {
            Some(admitted) => Some((connection, admitted)),
            None => {
                tracing::warn!(%from, %peer, "connection refused: this node has too many already");
                refuse(code::BUSY, "too_many");
                None
            }
        }
    }

    async fn serve_connection(&self, connection: Connection, admitted: Admitted) {
        let Serving { metrics, closing, tasks, .. } = &*self.serving;
        let open = metrics.connections.with_label_values(&["server"]);
        open.inc();
        tracing::debug!(peer = %admitted.peer, from = %connection.remote_address(), "peer connected");
        let peer = admitted.peer.clone();
        loop {
            let stream = tokio::select! {
                // The connection stays open for the answers of requests in hand; the endpoint closes it behind them.
                _ = closing.cancelled() => break,
                stream = connection.accept_bi() => stream,
            };
            match stream {
                Ok((send, recv)) => {
                    // Without a permit the stream's task is not even started: a peer cannot get more by more
                    // connections.
                    let permit = tokio::select! {
                        _ = closing.cancelled() => break,
                        permit = admitted.requests.clone().acquire_owned() => permit,
                    };
                    let request = PeerRequest {
                        acceptor: self.clone(),
                        peer: peer.clone(),
                        bytes: admitted.bytes.clone(),
                        send: SendGuard::new(send),
                        recv,
                    };
                    tasks.spawn(async move {
                        request.run().await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::debug!(%peer, %error, "peer disconnected");
                    break;
                }
            }
        }
        open.dec();
    }
}

fn peer_of(connection: &Connection) -> Result<NodeId, String> {
    let identity = connection.peer_identity().ok_or("no certificate")?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| "no X.509 certificate")?;
    let certificate = chain.first().ok_or("an empty chain")?;
    tls::node_of(certificate).map_err(|error| error.to_string())
}

/// One request of one peer.
struct PeerRequest {
    acceptor: Acceptor,
    peer: NodeId,
    bytes: ServedBytes,
    send: SendGuard,
    recv: RecvStream,
}

impl PeerRequest {
    async fn run(mut self) {
        let serving = self.acceptor.serving.clone();
        let header = match timeout(serving.options.setup_timeout, self.header()).await {
            Ok(Ok(header)) => header,
            Ok(Err(error)) => return self.refuse(&error),
            Err(_) => {
                tracing::warn!(peer = %self.peer, "stream refused: its header did not arrive in time");
                serving.metrics.refuse("stream", "too_slow");
                let _ = self.recv.stop(code::TOO_SLOW);
                return self.send.reset(code::TOO_SLOW);
            }
        };
        let kind = header.request.kind();
        let deadline = Instant::now() + header.deadline().min(serving.options.max_deadline);
        // Held until the answer has left: it bounds what one peer's requests and our answers to them take.
        let needed = header.payload.length.max(header.request.expected_reply_bytes());
        let bytes = self.bytes.clone();
        let worked = timeout_at(deadline.into(), async {
            let turn = match serving.handler.turn(&header.request, header.priority).await {
                Ok(turn) => turn,
                Err(error) => return ((None, None), Ok(Err(error))),
            };
            let permits = bytes.acquire(needed).await;
            let outcome = self.answer(header, deadline, turn).await;
            (permits, outcome)
        })
        .await;
        let (_permits, outcome) = match worked {
            Ok((permits, Ok(outcome))) => (permits, outcome),
            Ok((_, Err(error))) => return self.refuse(&error),
            Err(_) => ((None, None), Err(RemoteError::Deadline)),
        };
        let result = if outcome.is_ok() { "ok" } else { "error" };
        serving.metrics.requests.with_label_values(&["server", kind, result]).inc();
        self.reply(outcome, &serving.metrics, serving.options.setup_timeout).await;
    }

    async fn header(&mut self) -> Result<RequestHeader, StreamError> {
        let header: RequestHeader = read_header(&mut self.recv).await?;
        header.payload.check(header.request.max_payload())?;
        Ok(header)
    }

    async fn answer(
        &mut self,
        header: RequestHeader,
        deadline: Instant,
        turn: Turn,
    ) -> Result<Result<Outgoing, RemoteError>, StreamError> {
        let serving = self.acceptor.serving.clone();
        let RequestHeader { payload: described, request, .. } = header;
        let limit = request.max_reply_payload();
        // The disk verifies what it is given to keep: hashing it here too would show nothing more.
        let verify = !matches!(request, Request::Put { .. });
        let payload = match read_payload(&mut self.recv, &described, verify).await {
            Err(StreamError::Frame(crate::wire::FrameError::BadChecksum(block))) => {
                tracing::warn!(peer = %self.peer, kind = request.kind(), block, "a payload arrived damaged");
                serving.metrics.refuse("stream", "checksum");
                return Ok(Err(RemoteError::BadChecksum));
            }
            read => read?,
        };
        serving.metrics.bytes.with_label_values(&["received"]).inc_by(payload.len() as u64);
        let incoming = Incoming { request, payload, checksums: described.checksums, deadline, turn };
        let outcome = serving.handler.handle(&self.peer, incoming).await;
        Ok(match outcome {
            Ok(outgoing) if outgoing.payload.len() > limit as usize => {
                let why = format!("the answer of {} bytes is over its limit of {limit}", outgoing.payload.len());
                Err(RemoteError::Unsupported(why))
            }
            outcome => outcome,
        })
    }

    async fn reply(mut self, outcome: Result<Outgoing, RemoteError>, metrics: &Metrics, limit: std::time::Duration) {
        let (reply, payload) = match outcome {
            Ok(Outgoing { reply, payload }) => (Ok(reply), payload),
            Err(error) => (Err(error), bytes::Bytes::new()),
        };
        let length = payload.len() as u64;
        let frame = PayloadHeader::describe(&payload)
            .and_then(|described| Frame::encode(&ReplyHeader { payload: described, reply }, payload));
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return self.refuse(&error.into()),
        };
        let peer = self.peer;
        let written = timeout(limit, async {
            write_frame(&mut self.send, frame).await?;
            // Until the peer has it (or no longer wants it), its bytes are in our memory and count.
            let _ = self.send.stream().stopped().await;
            Ok::<_, StreamError>(())
        });
        match written.await {
            Ok(Ok(())) => metrics.bytes.with_label_values(&["sent"]).inc_by(length),
            Ok(Err(error)) => tracing::debug!(%peer, %error, "an answer was not taken"),
            Err(_) => tracing::debug!(%peer, "an answer was not taken in time"),
        }
    }

    /// Ends this stream only.
    fn refuse(mut self, error: &StreamError) {
        match error {
            StreamError::GivenUp(_) | StreamError::Lost(_) => {
                tracing::debug!(peer = %self.peer, %error, "request given up");
            }
            _ => {
                tracing::warn!(peer = %self.peer, %error, "stream refused");
                self.acceptor.serving.metrics.refuse("stream", error.reason());
            }
        }
        let _ = self.recv.stop(error.code());
        self.send.reset(error.code());
    }
}
