//! What keeps a half-done exchange from looking like a whole one, and one peer from taking everything.

use std::{collections::HashMap, sync::Arc};

use cairn_schema::ids::NodeId;
use parking_lot::Mutex;
use quinn::{SendStream, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{QuicOptions, code};

/// A sending half that is reset when dropped unfinished. quinn would finish it, and a cancelled write would look
/// complete.
pub(super) struct SendGuard {
    stream: SendStream,
    finished: bool,
}

impl SendGuard {
    pub(super) fn new(stream: SendStream) -> Self {
        Self { stream, finished: false }
    }

    pub(super) fn stream(&mut self) -> &mut SendStream {
        &mut self.stream
    }

    /// Everything is written. (Not: has arrived.)
    pub(super) fn finish(&mut self) {
        self.finished = true;
        // Fails only when the stream is over already.
        let _ = self.stream.finish();
    }

    /// Gives up, saying why.
    pub(super) fn reset(mut self, code: VarInt) {
        self.finished = true;
        let _ = self.stream.reset(code);
    }
}

impl Drop for SendGuard {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.stream.reset(code::CANCELLED);
        }
    }
}

/// Permits for payload bytes. One request larger than all of them passes alone.
#[derive(Clone)]
pub(super) struct BytePermits {
    semaphore: Arc<Semaphore>,
    total: u32,
}

impl BytePermits {
    pub(super) fn new(total: u32) -> Self {
        let total = total.max(1);
        Self { semaphore: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits; the caller bounds the time. `None` for no bytes.
    pub(super) async fn acquire(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        if bytes == 0 {
            return None;
        }
        // The semaphore is never closed.
        self.semaphore.clone().acquire_many_owned(bytes.min(self.total)).await.ok()
    }
}

/// What each peer that is connected may hold here, shared by all its connections.
pub(super) struct PeerTable {
    peers: Mutex<HashMap<NodeId, Entry>>,
    max_connections: usize,
    max_requests: u32,
    max_bytes: u32,
    /// What all peers may hold together.
    all_bytes: BytePermits,
}

struct Entry {
    connections: usize,
    requests: Arc<Semaphore>,
    bytes: BytePermits,
}

/// What a request may take of its peer's bytes, and of those of all peers.
#[derive(Clone)]
pub(super) struct ServedBytes {
    of_peer: BytePermits,
    of_all: BytePermits,
}

impl ServedBytes {
    /// Waits; the caller bounds the time. First for the peer's own: one that has none left must not hold what others
    /// could use.
    pub(super) async fn acquire(&self, bytes: u32) -> (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>) {
        let own = self.of_peer.acquire(bytes).await;
        (own, self.of_all.acquire(bytes).await)
    }
}

impl PeerTable {
    pub(super) fn new(options: &QuicOptions) -> Arc<Self> {
        let QuicOptions { max_connections, max_requests, max_bytes, max_served_bytes, .. } = *options;
        let all_bytes = BytePermits::new(max_served_bytes);
        // One peer that takes its answers slowly must leave something to the others.
        let max_bytes = max_bytes.min(max_served_bytes.div_ceil(2));
        Arc::new(Self { peers: Mutex::default(), max_connections, max_requests, max_bytes, all_bytes })
    }

    /// `None` when the peer has as many connections as it may.
    pub(super) fn admit(self: &Arc<Self>, peer: &NodeId) -> Option<Admitted> {
        let mut peers = self.peers.lock();
        let entry = peers.entry(peer.clone()).or_insert_with(|| Entry {
            connections: 0,
            requests: Arc::new(Semaphore::new(self.max_requests as usize)),
            bytes: BytePermits::new(self.max_bytes),
        });
        if entry.connections >= self.max_connections {
            return None;
        }
        entry.connections += 1;
        let bytes = ServedBytes { of_peer: entry.bytes.clone(), of_all: self.all_bytes.clone() };
        let requests = entry.requests.clone();
        Some(Admitted { table: self.clone(), peer: peer.clone(), requests, bytes })
    }
}

/// One connection of a peer, counted until dropped.
pub(super) struct Admitted {
    table: Arc<PeerTable>,
    pub peer: NodeId,
    /// Requests of all its connections together.
    pub requests: Arc<Semaphore>,
    pub bytes: ServedBytes,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut peers = self.table.peers.lock();
        if let Some(entry) = peers.get_mut(&self.peer) {
            entry.connections -= 1;
            if entry.connections == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn bnd_1_a_peer_has_no_more_connections_than_it_may() {
        let options = QuicOptions { max_connections: 2, max_requests: 5, max_bytes: 10, ..QuicOptions::default() };
        let table = PeerTable::new(&options);
        let peer: NodeId = "a".parse().unwrap();
        let first = table.admit(&peer).unwrap();
        let _second = table.admit(&peer).unwrap();
        assert!(table.admit(&peer).is_none());
        assert!(table.admit(&"b".parse().unwrap()).is_some());
        drop(first);
        assert!(table.admit(&peer).is_some());
        assert_eq!(table.peers.lock().len(), 1);
    }

    #[tokio::test]
    async fn bnd_1_bytes_wait_for_their_permits() {
        use futures::FutureExt;
        let permits = BytePermits::new(10);
        let six = permits.acquire(6).await;
        assert!(six.is_some());
        assert!(permits.acquire(6).now_or_never().is_none());
        assert!(permits.acquire(0).await.is_none());
        drop(six);
        // More than all: alone, but not never.
        assert!(permits.acquire(1000).now_or_never().flatten().is_some());
    }
    #[tokio::test]
    async fn bnd_1_all_peers_together_hold_no_more_than_they_may_and_one_not_all_of_it() {
        use futures::FutureExt;
        let options = QuicOptions { max_served_bytes: 20, ..QuicOptions::default() };
        let table = PeerTable::new(&options);
        let peers: Vec<_> = ["a", "b", "c"].map(|name| table.admit(&name.parse().unwrap()).unwrap()).into();
        let first = peers[0].bytes.acquire(8).await;
        assert!(peers[0].bytes.acquire(8).now_or_never().is_none(), "half of the bytes is left to others");
        let _second = peers[1].bytes.acquire(8).await;
        assert!(peers[2].bytes.acquire(8).now_or_never().is_none(), "all have no more than 20");
        drop(first);
        assert!(peers[2].bytes.acquire(8).now_or_never().is_some());
    }
}
