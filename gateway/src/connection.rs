//! What the socket, the requests and the task of one client connection tell each other.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::pace::{LeastPace, Pace, TooSlow};

/// How long a connection may stay in the phases that only the client can end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PhaseLimits {
    /// From the first byte of a request to the end of its headers.
    pub(crate) headers: Duration,
    /// Without a request.
    pub(crate) idle: Duration,
}

/// One connection, as all that works on it sees it.
pub(crate) struct Connection {
    peer: SocketAddr,
    /// The version of TLS; unset over plain HTTP.
    tls: OnceLock<&'static str>,
    limits: PhaseLimits,
    facts: Mutex<Facts>,
    /// A copy of `Facts::continue_wanted.is_some()` that costs no lock at every flush.
    continue_wanted: AtomicBool,
    idle_too_long: Notify,
}

struct Facts {
    phase: Phase,
    http2: bool,
    /// Answered when "100 Continue" is on the wire.
    continue_wanted: Option<oneshot::Sender<()>>,
    /// The rest of a body was given up: the client may be sending it still.
    body_given_up: bool,
    /// Answers under way over HTTP/2, where one that is not read does not show at the socket.
    streams: Vec<Arc<Mutex<Pace>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No request, and none begun.
    Idle { since: Instant },
    /// Bytes have come that are no whole request yet.
    Headers { since: Instant },
    /// So many requests are being answered, or their bodies read to the end.
    Busy { requests: usize },
    /// Was idle too long and was asked to end.
    Leaving { since: Instant },
}

/// Why a connection is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CutOff {
    #[error("the headers of a request took too long")]
    Headers,
    #[error("no request came for too long")]
    Idle,
    #[error("an answer was read too slowly")]
    Answer,
    #[error("a balancer did not say whom it speaks for")]
    Proxy,
}

impl CutOff {
    /// As the metric names it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Idle => "idle",
            Self::Answer => "answer",
            Self::Proxy => "proxy",
        }
    }
}

impl Connection {
    pub(crate) fn new(peer: SocketAddr, limits: PhaseLimits) -> Arc<Self> {
        Arc::new(Self {
            peer,
            tls: OnceLock::new(),
            limits,
            facts: Mutex::new(Facts {
                phase: Phase::Idle { since: Instant::now() },
                http2: false,
                continue_wanted: None,
                body_given_up: false,
                streams: Vec::new(),
            }),
            continue_wanted: AtomicBool::new(false),
            idle_too_long: Notify::new(),
        })
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn speaks_tls(&self, version: &'static str) {
        let _ = self.tls.set(version);
    }

    pub(crate) fn tls(&self) -> Option<&'static str> {
        self.tls.get().copied()
    }

    /// The client speaks HTTP/2, where bytes that are no request are ordinary.
    pub(crate) fn speaks_http2(&self) {
        let mut facts = self.facts.lock();
        facts.http2 = true;
        if let Phase::Headers { since } = facts.phase {
            facts.phase = Phase::Idle { since };
        }
    }

    /// Bytes came from the client.
    pub(crate) fn received(&self) {
        let mut facts = self.facts.lock();
        if !facts.http2 && matches!(facts.phase, Phase::Idle { .. }) {
            facts.phase = Phase::Headers { since: Instant::now() };
        }
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn begin_request(self: &Arc<Self>) -> RequestUnderWay {
        let mut facts = self.facts.lock();
        facts.phase = match facts.phase {
            Phase::Busy { requests } => Phase::Busy { requests: requests + 1 },
            Phase::Idle { .. } | Phase::Headers { .. } | Phase::Leaving { .. } => Phase::Busy { requests: 1 },
        };
        RequestUnderWay(self.clone())
    }

    fn end_request(&self) {
        let mut facts = self.facts.lock();
        if let Phase::Busy { requests } = facts.phase {
            facts.phase = match requests.saturating_sub(1) {
                0 => Phase::Idle { since: Instant::now() },
                requests => Phase::Busy { requests },
            };
        }
    }

    /// When [`Connection::look`] has to be asked again; None while requests are answered.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.facts.lock().phase {
            Phase::Idle { since } => Some(since + self.limits.idle),
            Phase::Headers { since } | Phase::Leaving { since } => Some(since + self.limits.headers),
            Phase::Busy { .. } => None,
        }
    }

    /// Whether the connection must be cut off now. One that is idle is asked to end first, so that HTTP/2 says goodbye.
    pub(crate) fn look(&self, now: Instant) -> Result<(), CutOff> {
        let mut facts = self.facts.lock();
        match facts.phase {
            Phase::Idle { since } if now >= since + self.limits.idle => {
                facts.phase = Phase::Leaving { since: now };
                self.idle_too_long.notify_one();
                Ok(())
            }
            Phase::Headers { since } if now >= since + self.limits.headers => Err(CutOff::Headers),
            Phase::Leaving { since } if now >= since + self.limits.headers => Err(CutOff::Idle),
            _ => Ok(()),
        }
    }

    /// Ends when the connection was idle for too long.
    pub(crate) async fn idle_too_long(&self) {
        self.idle_too_long.notified().await;
    }

    /// Has "100 Continue" sent, and waits until it is. hyper sends one when a body is read, and never reads a body
    /// without bytes; but clients that ask for it wait for it whatever the body's length.
    pub(crate) async fn send_continue(&self) {
        let (sent, told) = oneshot::channel();
        self.facts.lock().continue_wanted = Some(sent);
        self.continue_wanted.store(true, Ordering::Release);
        // The socket goes away only together with the request that waits here.
        let _ = told.await;
    }

    pub(crate) fn wants_continue(&self) -> bool {
        self.continue_wanted.load(Ordering::Acquire)
    }

    pub(crate) fn continue_sent(&self) {
        self.continue_wanted.store(false, Ordering::Release);
        if let Some(told) = self.facts.lock().continue_wanted.take() {
            let _ = told.send(());
        }
    }

    /// The rest of a body will not be read. The connection must end, but not before the client could read its answer.
    pub(crate) fn give_up_body(&self) {
        self.facts.lock().body_given_up = true;
    }

    pub(crate) fn body_given_up(&self) -> bool {
        self.facts.lock().body_given_up
    }

    /// Watches an answer's stream until the guard is dropped.
    pub(crate) fn watch_stream(self: &Arc<Self>, least: LeastPace) -> WatchedStream {
        let pace = Arc::new(Mutex::new(Pace::new(least)));
        self.facts.lock().streams.push(pace.clone());
        WatchedStream { connection: self.clone(), pace }
    }

    /// Whether an answer is read too slowly.
    pub(crate) fn look_at_streams(&self, now: Instant) -> Result<(), CutOff> {
        let slow = self.facts.lock().streams.iter().any(|pace| pace.lock().judge(now) == Err(TooSlow));
        if slow { Err(CutOff::Answer) } else { Ok(()) }
    }
}

/// A request that is being answered.
pub(crate) struct RequestUnderWay(Arc<Connection>);

impl RequestUnderWay {
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for RequestUnderWay {
    fn drop(&mut self) {
        self.0.end_request();
    }
}

/// One HTTP/2 stream's answer. Between a frame that was handed out and the next one asked for, the client is waited
/// for.
pub(crate) struct WatchedStream {
    connection: Arc<Connection>,
    pace: Arc<Mutex<Pace>>,
}

impl WatchedStream {
    pub(crate) fn handed_out(&self, bytes: usize) {
        let mut pace = self.pace.lock();
        pace.count(bytes);
        pace.wait(Instant::now());
    }

    pub(crate) fn asked_for_more(&self) -> Result<(), TooSlow> {
        self.pace.lock().moved(0, Instant::now())
    }
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        self.connection.facts.lock().streams.retain(|pace| !Arc::ptr_eq(pace, &self.pace));
    }
}
