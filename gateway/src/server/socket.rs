//! A client's socket: bounds what only the client can end, and writes what hyper does not.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use crate::{
    connection::{Connection, CutOff},
    metrics::Metrics,
    pace::{LeastPace, Pace, TooSlow},
};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// What a client of HTTP/2 says first (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// After an answer to a request whose body was given up, the socket is read this far before it is closed: bytes that
/// nobody has read would make the kernel reset the connection, and with it the answer that the client has not read yet.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 64 << 20;

/// The socket below hyper, and below it TLS if there is any.
pub(super) struct ClientSocket<S> {
    inner: S,
    connection: Arc<Connection>,
    metrics: Metrics,
    /// The first bytes of the connection, as far as they have come.
    opening: [u8; HTTP2_PREFACE.len()],
    opening_bytes: usize,
    /// Of the deadline of the connection's phase.
    phase_timer: Pin<Box<Sleep>>,
    writes: Pace,
    write_timer: Pin<Box<Sleep>>,
    /// Of "100 Continue".
    continue_bytes: usize,
    lingering: Option<Lingering>,
}

struct Lingering {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl<S> ClientSocket<S> {
    pub(super) fn new(inner: S, connection: Arc<Connection>, least: LeastPace, metrics: Metrics) -> Self {
        Self {
            inner,
            connection,
            metrics,
            opening: [0; HTTP2_PREFACE.len()],
            opening_bytes: 0,
            phase_timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            writes: Pace::new(least),
            write_timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            continue_bytes: 0,
            lingering: None,
        }
    }

    fn cut_off(&self, why: CutOff) -> io::Error {
        tracing::debug!(peer = %self.connection.peer(), %why, "cut a connection off");
        self.metrics.cut_off_connections.with_label_values(&[why.label()]).inc();
        io::Error::new(io::ErrorKind::TimedOut, why)
    }

    fn received(&mut self, bytes: &[u8]) {
        self.connection.received();
        let wanted = &mut self.opening[self.opening_bytes..];
        if wanted.is_empty() {
            return;
        }
        let count = wanted.len().min(bytes.len());
        wanted[..count].copy_from_slice(&bytes[..count]);
        self.opening_bytes += count;
        if self.opening == *HTTP2_PREFACE {
            self.connection.speaks_http2();
        }
    }

    /// While nothing comes: is it the turn of a client that takes too long?
    fn poll_phase(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let Some(deadline) = self.connection.deadline() else { return Poll::Pending };
            if self.phase_timer.deadline() != deadline {
                self.phase_timer.as_mut().reset(deadline);
            }
            ready!(self.phase_timer.as_mut().poll(cx));
            if let Err(why) = self.connection.look(Instant::now()) {
                return Poll::Ready(self.cut_off(why));
            }
        }
    }

    /// Judges how fast the client takes what is written to it.
    fn written(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Ready(Ok(bytes)) => match self.writes.moved(bytes, Instant::now()) {
                Ok(()) => Poll::Ready(Ok(bytes)),
                Err(TooSlow) => Poll::Ready(Err(self.cut_off(CutOff::Answer))),
            },
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => loop {
                let deadline = self.writes.wait(Instant::now());
                if self.write_timer.deadline() != deadline {
                    self.write_timer.as_mut().reset(deadline);
                }
                ready!(self.write_timer.as_mut().poll(cx));
                if self.writes.judge(Instant::now()).is_err() {
                    return Poll::Ready(Err(self.cut_off(CutOff::Answer)));
                }
            },
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientSocket<S> {
    /// hyper flushes only when it has nothing left to write: no other bytes can stand before or amid these.
    fn poll_continue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.continue_bytes < CONTINUE.len() {
            let outcome = Pin::new(&mut self.inner).poll_write(cx, &CONTINUE[self.continue_bytes..]);
            match ready!(self.written(cx, outcome))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.continue_bytes += bytes,
            }
        }
        ready!(self.poll_flush_inner(cx))?;
        self.continue_bytes = 0;
        self.connection.continue_sent();
        Poll::Ready(Ok(()))
    }

    fn poll_flush_inner(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx).map_ok(|()| 0);
        self.written(cx, outcome).map_ok(|_| ())
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(lingering) = &mut self.lingering else { return Poll::Ready(()) };
        let mut waste = [0; 16 << 10];
        while lingering.bytes_left > 0 {
            let mut buffer = ReadBuf::new(&mut waste);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => break,
                Poll::Ready(Ok(())) => {
                    lingering.bytes_left = lingering.bytes_left.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(Err(_)) => break,
                Poll::Pending => {
                    ready!(lingering.until.as_mut().poll(cx));
                    break;
                }
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buffer) {
            Poll::Pending => self.poll_phase(cx).map(Err),
            Poll::Ready(Ok(())) => {
                if let Some(bytes) = buffer.filled().get(before..).filter(|bytes| !bytes.is_empty()) {
                    self.received(bytes);
                }
                Poll::Ready(Ok(()))
            }
            failed => failed,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.written(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        self.written(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.connection.wants_continue() {
            ready!(self.poll_continue(cx))?;
        }
        self.poll_flush_inner(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            let outcome = Pin::new(&mut self.inner).poll_shutdown(cx).map_ok(|()| 0);
            ready!(self.written(cx, outcome))?;
            if !self.connection.body_given_up() {
                return Poll::Ready(Ok(()));
            }
            let until = Box::pin(tokio::time::sleep(LINGER));
            self.lingering = Some(Lingering { until, bytes_left: LINGER_BYTES });
        }
        self.poll_linger(cx).map(Ok)
    }
}
