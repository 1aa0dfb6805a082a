//! What a node does for its peers: fragment operations on its own disks, and probes.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_fragment::{BlobRange, LocalDisk, NewFragment, Priority, Probes, Turn};
use cairn_schema::ids::{DiskId, FragmentName, NodeId};

use super::{
    local::LocalDisks,
    quic::{Handler, Incoming, Outgoing},
};
use crate::wire::{
    RemoteError, Reply, Request,
    header::{decode, encode},
    message::{MAX_LISTED, MAX_NAMES, WireDigest, WireInfo},
};

/// Of a probe's deadline, kept back so that the answer still reaches whoever asked.
const ANSWER_MARGIN: Duration = Duration::from_millis(50);

/// Serves this node's disks. `prober` answers whether a third node can be reached from here.
pub struct FragmentService {
    disks: LocalDisks,
    prober: Arc<dyn Probes>,
}

impl FragmentService {
    pub fn new(disks: LocalDisks, prober: Arc<dyn Probes>) -> Self {
        Self { disks, prober }
    }

    fn disk(&self, id: DiskId) -> Result<Arc<dyn LocalDisk>, RemoteError> {
        self.disks.get(id).ok_or(RemoteError::UnknownDisk(id))
    }
}

fn done(reply: Reply) -> Result<Outgoing, RemoteError> {
    Ok(Outgoing { reply, payload: Bytes::new() })
}

fn unsupported(error: impl ToString) -> RemoteError {
    RemoteError::Unsupported(error.to_string())
}

#[async_trait]
impl Handler for FragmentService {
    async fn turn(&self, request: &Request, priority: Priority) -> Result<Turn, RemoteError> {
        match request {
            Request::Put { disk, .. } | Request::Get { disk, .. } | Request::Verify { disk, .. } => {
                Ok(self.disk(*disk)?.turn(priority).await)
            }
            // They take too little of a disk to wait for a turn, or have a pace of their own.
            _ => Ok(Turn::client()),
        }
    }

    async fn handle(&self, _peer: &NodeId, incoming: Incoming) -> Result<Outgoing, RemoteError> {
        let Incoming { request, payload, checksums, deadline, turn } = incoming;
        match request {
            Request::Put { disk, name } => {
                // The disk verifies the bytes against the checksums that travelled with them from where they were made.
                let fragment = NewFragment { name, payload, block_checksums: checksums };
                self.disk(disk)?.put(fragment, turn).await?;
                done(Reply::Done)
            }
            Request::Get { disk, name, start, end } => {
                if start > end {
                    return Err(unsupported(format!("bytes {start}..{end} are no range")));
                }
                let payload = self.disk(disk)?.get(name, start..end, turn).await?;
                Ok(Outgoing { reply: Reply::Bytes, payload })
            }
            Request::Info { disk, name } => done(Reply::Info(self.disk(disk)?.info(name).await?.into())),
            Request::Delete { disk } => {
                let names: Vec<FragmentName> = decode(&payload).map_err(unsupported)?;
                if names.len() > MAX_NAMES {
                    return Err(unsupported(format!("{} names are over the limit of {MAX_NAMES}", names.len())));
                }
                done(Reply::Deleted(self.disk(disk)?.delete(names).await?))
            }
            Request::List { disk, group, after, limit } => {
                let limit = (limit as usize).min(MAX_LISTED);
                let listed = self.disk(disk)?.list(group, after, limit).await?;
                let listed: Vec<WireInfo> = listed.into_iter().take(limit).map(WireInfo::from).collect();
                Ok(Outgoing { reply: Reply::Listed, payload: encode(&listed).map_err(unsupported)? })
            }
            Request::Digests { disk, group, position, depth, bits } => {
                let no_range = || unsupported(format!("{bits:x} at depth {depth} is no range of blobs"));
                let range = BlobRange::new(depth, bits).ok_or_else(no_range)?;
                let digests = self.disk(disk)?.digests(group, position, range).await?;
                let digests: Vec<WireDigest> = digests.into_iter().map(WireDigest::from).collect();
                Ok(Outgoing { reply: Reply::Digests, payload: encode(&digests).map_err(unsupported)? })
            }
            Request::Verify { disk, name } => done(Reply::Info(self.disk(disk)?.verify(name, turn).await?.into())),
            Request::DiskStatus { disk } => done(Reply::Status(self.disk(disk)?.status().into())),
            Request::Probe => done(Reply::Done),
            Request::ProbeThrough { target } => {
                let deadline = deadline.checked_sub(ANSWER_MARGIN).unwrap_or(deadline);
                done(Reply::Reached(self.prober.probe(&target, deadline).await.is_ok()))
            }
            Request::Meta => Err(unsupported("this node serves no metadata")),
        }
    }
}
