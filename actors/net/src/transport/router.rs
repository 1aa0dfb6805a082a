//! Sends each call to the disk it is for: straight to a local one, over QUIC to any other.

use std::{collections::HashMap, ops::Range, sync::Arc, time::Instant};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_fragment::{
    BlobRange, Directory, DiskError, DiskStatus, FragmentInfo, Fragments, LocalDisk, NameDigest, NewFragment, PARTS,
    Probes, Terms, TransportError,
};
use cairn_schema::ids::{DiskId, FragmentName, GroupId, NodeId};
use parking_lot::Mutex;

use super::{
    local::LocalDisks,
    quic::{Call, Client, Peer, Reach},
};
use crate::wire::{
    Reply, Request,
    header::{decode, encode},
    message::{MAX_LISTED, MAX_NAMES, WireDigest, WireInfo},
};

/// Fragments anywhere in the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    routes: Arc<Routes>,
}

/// What it takes to find the way to a disk.
struct Routes {
    node: NodeId,
    locals: LocalDisks,
    client: Client,
    directory: Arc<dyn Directory>,
    /// Nodes that were called, where they were then.
    peers: Mutex<HashMap<NodeId, Arc<Peer>>>,
}

/// Where a disk is.
enum Route {
    Here(Arc<dyn LocalDisk>),
    There(Arc<Peer>),
}

impl Router {
    /// Where the others are is asked of `directory` with every call.
    pub fn new(client: Client, locals: LocalDisks, directory: Arc<dyn Directory>) -> Self {
        let node = client.node().clone();
        Self { routes: Arc::new(Routes { node, locals, client, directory, peers: Mutex::default() }) }
    }

    /// The disks of this node.
    pub fn locals(&self) -> &LocalDisks {
        &self.routes.locals
    }

    /// How calls to the other nodes ended last; of those that were called from here.
    pub fn reach(&self) -> HashMap<NodeId, Reach> {
        self.routes.peers.lock().iter().map(|(node, peer)| (node.clone(), peer.reach())).collect()
    }

    /// Whether a disk is on this node, so that reaching it costs no network.
    pub fn is_local(&self, disk: DiskId) -> bool {
        self.routes.locals.get(disk).is_some()
    }

    fn route(&self, disk: DiskId) -> Result<Route, TransportError> {
        if let Some(local) = self.routes.locals.get(disk) {
            return Ok(Route::Here(local));
        }
        let node = self.routes.directory.node_of(disk).ok_or(TransportError::UnknownDisk(disk))?;
        if node == self.routes.node {
            // It should be here and is not: broken, or not opened.
            return Err(TransportError::Disk(DiskError::Gone(format!("disk {disk} is not open on this node"))));
        }
        self.peer(&node).map(Route::There)
    }

    /// The connection to a node is kept for as long as it stays where it is.
    fn peer(&self, node: &NodeId) -> Result<Arc<Peer>, TransportError> {
        let Routes { client, directory, peers, .. } = &*self.routes;
        let unknown = || TransportError::Unreachable(node.clone(), "its address is not known here".into());
        let address = directory.address_of(node).ok_or_else(unknown)?;
        let mut peers = peers.lock();
        if let Some(peer) = peers.get(node).filter(|peer| peer.address() == address) {
            return Ok(peer.clone());
        }
        // Nodes that left the cluster go when another comes.
        peers.retain(|node, _| directory.address_of(node).is_some());
        let peer = client.peer(node.clone(), address);
        peers.insert(node.clone(), peer.clone());
        Ok(peer)
    }

    /// A call to a local disk, ended by the deadline as a remote one would be.
    async fn here<T>(
        &self,
        terms: Terms,
        call: impl Future<Output = Result<T, DiskError>>,
    ) -> Result<T, TransportError> {
        match tokio::time::timeout_at(terms.deadline.into(), call).await {
            Ok(done) => done.map_err(TransportError::Disk),
            Err(_) => Err(TransportError::Deadline(self.routes.node.clone())),
        }
    }
}

fn unexpected(peer: &Peer, reply: Reply) -> TransportError {
    TransportError::Protocol(peer.node().clone(), format!("it answered with {}, which was not asked for", reply.kind()))
}

fn unreadable(peer: &Peer, error: crate::wire::FrameError) -> TransportError {
    TransportError::Protocol(peer.node().clone(), error.to_string())
}

/// Only what waits for a turn says its priority: nodes of before there were turns understand all the other calls,
/// whoever makes them.
#[async_trait]
impl Fragments for Router {
    async fn put(&self, disk: DiskId, fragment: NewFragment, terms: Terms) -> Result<(), TransportError> {
        match self.route(disk)? {
            Route::Here(local) => {
                self.here(terms, async { local.put(fragment, local.turn(terms.priority).await).await }).await
            }
            Route::There(peer) => {
                let call = Call::new(Request::Put { disk, name: fragment.name }, terms)
                    .with_checked_payload(fragment.payload, fragment.block_checksums);
                match peer.call(call).await? {
                    (Reply::Done, _) => Ok(()),
                    (reply, _) => Err(unexpected(&peer, reply)),
                }
            }
        }
    }

    async fn get(
        &self,
        disk: DiskId,
        name: FragmentName,
        range: Range<u32>,
        terms: Terms,
    ) -> Result<Bytes, TransportError> {
        match self.route(disk)? {
            Route::Here(local) => {
                self.here(terms, async { local.get(name, range, local.turn(terms.priority).await).await }).await
            }
            Route::There(peer) => {
                let Range { start, end } = range;
                match peer.call(Call::new(Request::Get { disk, name, start, end }, terms)).await? {
                    (Reply::Bytes, bytes) if bytes.len() == end.saturating_sub(start) as usize => Ok(bytes),
                    (reply, _) => Err(unexpected(&peer, reply)),
                }
            }
        }
    }

    async fn info(&self, disk: DiskId, name: FragmentName, terms: Terms) -> Result<FragmentInfo, TransportError> {
        match self.route(disk)? {
            Route::Here(local) => self.here(terms, local.info(name)).await,
            Route::There(peer) => match peer.call(Call::new(Request::Info { disk, name }, terms.deadline)).await? {
                (Reply::Info(info), _) if info.name == name => Ok(info.into()),
                (reply, _) => Err(unexpected(&peer, reply)),
            },
        }
    }

    async fn delete(&self, disk: DiskId, names: Vec<FragmentName>, terms: Terms) -> Result<u64, TransportError> {
        let peer = match self.route(disk)? {
            Route::Here(local) => return self.here(terms, local.delete(names)).await,
            Route::There(peer) => peer,
        };
        let mut deleted = 0;
        for names in names.chunks(MAX_NAMES) {
            let payload = encode(&names).map_err(|error| unreadable(&peer, error))?;
            let call = Call::new(Request::Delete { disk }, terms.deadline).with_payload(payload);
            match peer.call(call).await? {
                (Reply::Deleted(count), _) => deleted += count.min(names.len() as u64),
                (reply, _) => return Err(unexpected(&peer, reply)),
            }
        }
        Ok(deleted)
    }

    async fn list(
        &self,
        disk: DiskId,
        group: Option<GroupId>,
        after: Option<FragmentName>,
        limit: usize,
        terms: Terms,
    ) -> Result<Vec<FragmentInfo>, TransportError> {
        let limit = limit.min(MAX_LISTED);
        let peer = match self.route(disk)? {
            Route::Here(local) => return self.here(terms, local.list(group, after, limit)).await,
            Route::There(peer) => peer,
        };
        let request = Request::List { disk, group, after, limit: limit as u32 };
        match peer.call(Call::new(request, terms.deadline)).await? {
            (Reply::Listed, payload) => {
                let listed: Vec<WireInfo> = decode(&payload).map_err(|error| unreadable(&peer, error))?;
                if listed.len() > limit {
                    return Err(TransportError::Protocol(peer.node().clone(), "it listed more than asked".into()));
                }
                Ok(listed.into_iter().map(FragmentInfo::from).collect())
            }
            (reply, _) => Err(unexpected(&peer, reply)),
        }
    }

    async fn digests(
        &self,
        disk: DiskId,
        group: GroupId,
        position: u8,
        range: BlobRange,
        terms: Terms,
    ) -> Result<Vec<NameDigest>, TransportError> {
        let peer = match self.route(disk)? {
            Route::Here(local) => return self.here(terms, local.digests(group, position, range)).await,
            Route::There(peer) => peer,
        };
        let request = Request::Digests { disk, group, position, depth: range.depth(), bits: range.bits() };
        match peer.call(Call::new(request, terms.deadline)).await? {
            (Reply::Digests, payload) => {
                let digests: Vec<WireDigest> = decode(&payload).map_err(|error| unreadable(&peer, error))?;
                if digests.len() != PARTS {
                    return Err(TransportError::Protocol(
                        peer.node().clone(),
                        "its digests are not one for each part".into(),
                    ));
                }
                Ok(digests.into_iter().map(NameDigest::from).collect())
            }
            (reply, _) => Err(unexpected(&peer, reply)),
        }
    }

    async fn verify(&self, disk: DiskId, name: FragmentName, terms: Terms) -> Result<FragmentInfo, TransportError> {
        match self.route(disk)? {
            Route::Here(local) => {
                self.here(terms, async { local.verify(name, local.turn(terms.priority).await).await }).await
            }
            Route::There(peer) => match peer.call(Call::new(Request::Verify { disk, name }, terms)).await? {
                (Reply::Info(info), _) if info.name == name => Ok(info.into()),
                (reply, _) => Err(unexpected(&peer, reply)),
            },
        }
    }

    async fn disk_status(&self, disk: DiskId, terms: Terms) -> Result<DiskStatus, TransportError> {
        match self.route(disk)? {
            Route::Here(local) => Ok(local.status()),
            Route::There(peer) => match peer.call(Call::new(Request::DiskStatus { disk }, terms.deadline)).await? {
                (Reply::Status(status), _) => Ok(status.into()),
                (reply, _) => Err(unexpected(&peer, reply)),
            },
        }
    }
}

#[async_trait]
impl Probes for Router {
    async fn probe(&self, node: &NodeId, deadline: Instant) -> Result<(), TransportError> {
        if *node == self.routes.node {
            return Ok(());
        }
        let peer = self.peer(node)?;
        // A probe asks how things are now: it does not wait out the pause after a failed dial.
        match peer.call(Call::new(Request::Probe, deadline).at_once()).await? {
            (Reply::Done, _) => Ok(()),
            (reply, _) => Err(unexpected(&peer, reply)),
        }
    }

    async fn probe_through(
        &self,
        through: &NodeId,
        target: &NodeId,
        deadline: Instant,
    ) -> Result<bool, TransportError> {
        if *through == self.routes.node {
            return Ok(self.probe(target, deadline).await.is_ok());
        }
        let peer = self.peer(through)?;
        let request = Request::ProbeThrough { target: target.clone() };
        match peer.call(Call::new(request, deadline).at_once()).await? {
            (Reply::Reached(reached), _) => Ok(reached),
            (reply, _) => Err(unexpected(&peer, reply)),
        }
    }
}
