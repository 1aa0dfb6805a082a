//! quinn's UDP socket, with a receive buffer of the size that can be filled.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

/// What the kernel hands over at once: an IP packet's length, however many datagrams it has joined to one.
const MOST_RECEIVED: usize = 64 << 10;

/// quinn makes room for 64 joined datagrams of the largest size 32 times over: 8 MiB for each endpoint at 4,000 bytes a
/// datagram. The kernel joins no more than 64 KiB of them, for which 2 MiB suffice.
#[derive(Debug)]
pub(super) struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    segments: usize,
}

impl Socket {
    /// For datagrams of at most `largest` bytes.
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, largest: u16) -> Self {
        let segments = MOST_RECEIVED.div_ceil(usize::from(largest.max(1)));
        Self { segments: segments.min(inner.max_receive_segments()), inner }
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.segments
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
