//! Puts the missing fragments of one stripe back where they belong.

use std::collections::HashSet;

use bytes::Bytes;
use cairn_fragment::{
    Bounded, DiskError, NewFragment, TransportError, block_checksums,
    codec::{Codec, CodecError},
    geometry::{Geometry, GeometryError},
};
use cairn_schema::{MetaError, clock::now_ms, ids::*, record::*};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{Context, queue::StripeName};
use crate::{data_path::Codecs, placement::Rows};

/// Why a stripe was not rebuilt.
#[derive(Debug, thiserror::Error)]
pub(super) enum RebuildError {
    #[error(transparent)]
    Meta(#[from] MetaError),
    #[error("the blob's record is inconsistent: {0}")]
    Geometry(#[from] GeometryError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("{readable} of the {needed} fragments needed are readable now, {unanswered} gave no answer")]
    TooFew { readable: usize, needed: usize, unanswered: usize },
    #[error("fragment {0}: {1}")]
    Fragment(FragmentName, TransportError),
    #[error("the rebuilding task failed: {0}")]
    Task(String),
    #[error("the lease ran out")]
    LeaseOver,
}

impl RebuildError {
    /// Whether it is this stripe's own: the next may well succeed. Not when others give no answer.
    pub(super) fn is_of_the_stripe(&self) -> bool {
        match self {
            Self::Geometry(_) | Self::Codec(_) => true,
            Self::TooFew { unanswered, .. } => *unanswered == 0,
            Self::Fragment(_, TransportError::Disk(error)) => {
                error.is_damage() || matches!(error, DiskError::Conflict(_) | DiskError::BadChecksum)
            }
            Self::Meta(_) | Self::Fragment(..) | Self::Task(_) | Self::LeaseOver => false,
        }
    }

    /// The position whose disk takes nothing more, though it answers.
    pub(super) fn full_position(&self) -> Option<u8> {
        match self {
            Self::Fragment(name, TransportError::Disk(DiskError::Full { .. } | DiskError::ReadOnly(_))) => {
                Some(name.position)
            }
            _ => None,
        }
    }
}

/// What came of stripes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mended {
    /// Fragments that were put where they belong.
    pub fragments: u64,
    /// Of those, how many were copied from where they had been.
    pub copied: u64,
    pub bytes: u64,
}

impl std::ops::AddAssign for Mended {
    fn add_assign(&mut self, other: Self) {
        self.fragments += other.fragments;
        self.copied += other.copied;
        self.bytes += other.bytes;
    }
}

/// A fragment of a stripe that is to be where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub position: u8,
    /// A disk that may have it still.
    pub from: Option<DiskId>,
}

/// A fragment that is not where it should be.
struct Wanted {
    name: FragmentName,
    disk: DiskId,
    from: Option<DiskId>,
    /// Something else of its name is there and must go first.
    replace: bool,
}

/// Rebuilds stripes with what one holder of a lease has at hand.
pub(super) struct Rebuild<'a> {
    pub ctx: &'a Context,
    /// The cluster's, called as urgently as the stripe is endangered.
    pub fragments: Bounded,
    pub rows: &'a Rows,
    pub codecs: &'a Codecs,
    /// False once the group's lease may have run out: nothing is deleted from then on.
    pub lease_holds: &'a (dyn Fn() -> bool + Sync),
}

impl Rebuild<'_> {
    /// Sees to it that every fragment that is wished for is where it belongs, whole and synced: one that is there
    /// stays, one that its old disk still has is copied, the others are rebuilt. `blob` is the stripe's as the metadata
    /// has it now.
    pub(super) async fn stripe(
        &self,
        stripe: StripeName,
        wishes: &[Wish],
        blob: &Blob,
    ) -> Result<Mended, RebuildError> {
        let Some(group) = self.rows.groups.get(&stripe.0) else { return Err(MetaError::Stale("group").into()) };
        let mut mended = Mended::default();
        let geometry = Geometry::new(blob)?;
        let len = geometry.fragment_len(stripe.2)?;
        let mut wanted = self.look(group, stripe, wishes, len).await?;
        if wanted.is_empty() {
            return Ok(mended);
        }
        if !self.fragments.priority().is_client() {
            self.ctx.courtesy.wait(len).await;
        }
        let codec = self.codecs.of(blob.scheme)?;
        let fragments = codec.needed() + wanted.len();
        let _memory = self.ctx.memory.take(fragments as u64 * u64::from(len)).await;
        wanted = self.copy(wanted, len, &mut mended).await?;
        if wanted.is_empty() {
            return Ok(mended);
        }
        let present = self.read(group, stripe, &wanted, codec.needed(), len).await?;
        let positions: Vec<u8> = wanted.iter().map(|fragment| fragment.name.position).collect();
        let rebuilt = tokio::task::spawn_blocking(move || reconstruct(&codec, &present, &positions, len as usize))
            .await
            .map_err(|error| RebuildError::Task(error.to_string()))??;
        for (fragment, (payload, block_checksums)) in wanted.iter().zip(rebuilt) {
            self.put(fragment, payload, block_checksums, len).await?;
            mended += Mended { fragments: 1, copied: 0, bytes: u64::from(len) };
        }
        Ok(mended)
    }

    /// Which of the fragments are really missing.
    async fn look(
        &self,
        group: &Group,
        (group_id, blob, stripe): StripeName,
        wishes: &[Wish],
        len: u32,
    ) -> Result<Vec<Wanted>, RebuildError> {
        let mut wanted = Vec::new();
        for Wish { position, from } in wishes.iter().copied() {
            let name = FragmentName { group: group_id, blob, stripe, position };
            let Some(disk) = group.members.get(usize::from(position)).copied() else { continue };
            match self.fragments.verify(disk, name, self.ctx.deadline()).await {
                Ok(info) if info.length == len => {}
                // A put replaces a damaged copy; only a whole one of wrong contents must be taken away first.
                Ok(_) => wanted.push(Wanted { name, disk, from, replace: true }),
                Err(TransportError::Disk(DiskError::NotFound(_))) => {
                    wanted.push(Wanted { name, disk, from, replace: false });
                }
                Err(TransportError::Disk(error)) if error.is_damage() => {
                    wanted.push(Wanted { name, disk, from, replace: false });
                }
                Err(error) => return Err(RebuildError::Fragment(name, error)),
            }
        }
        Ok(wanted)
    }

    fn is_here(&self, disk: DiskId) -> bool {
        self.rows.disks.get(&disk).is_some_and(|disk| disk.node == self.ctx.node)
    }

    fn answers(&self, disk: DiskId) -> bool {
        self.rows.state(disk).is_some_and(DiskState::serves)
    }

    /// Copies what the disks before still have, which costs one read instead of as many as the code needs; returns what
    /// is still wanted.
    async fn copy(&self, wanted: Vec<Wanted>, len: u32, mended: &mut Mended) -> Result<Vec<Wanted>, RebuildError> {
        let mut rest = Vec::new();
        for fragment in wanted {
            let from = fragment.from.filter(|from| *from != fragment.disk && self.answers(*from));
            let bytes = match from {
                Some(from) => self.fragments.get(from, fragment.name, 0..len, self.ctx.deadline()).await.ok(),
                None => None,
            };
            let Some(payload) = bytes else {
                rest.push(fragment);
                continue;
            };
            let checked = tokio::task::spawn_blocking(move || (block_checksums(&payload), payload)).await;
            let (checksums, payload) = checked.map_err(|error| RebuildError::Task(error.to_string()))?;
            self.put(&fragment, payload, checksums, len).await?;
            *mended += Mended { fragments: 1, copied: 1, bytes: u64::from(len) };
        }
        Ok(rest)
    }

    /// Any `needed` of the stripe's other fragments, verified.
    async fn read(
        &self,
        group: &Group,
        (id, blob, number): StripeName,
        wanted: &[Wanted],
        needed: usize,
        len: u32,
    ) -> Result<Vec<(u8, Bytes)>, RebuildError> {
        let missing: HashSet<u8> = wanted.iter().map(|fragment| fragment.name.position).collect();
        let mut sources: Vec<(u8, DiskId)> = (0u8..)
            .zip(group.members.iter().copied())
            .filter(|(position, disk)| !missing.contains(position) && self.answers(*disk))
            .collect();
        // What is here costs no transfer.
        sources.sort_by_key(|(_, disk)| !self.is_here(*disk));
        let mut sources = sources.into_iter();
        let get = |(position, disk): (u8, DiskId)| {
            let name = FragmentName { group: id, blob, stripe: number, position };
            async move { (name, self.fragments.get(disk, name, 0..len, self.ctx.deadline()).await) }.boxed()
        };
        let mut reads: FuturesUnordered<BoxFuture<'_, _>> = sources.by_ref().take(needed).map(get).collect();
        let (mut present, mut unanswered) = (Vec::with_capacity(needed), 0);
        while let Some((name, result)) = reads.next().await {
            match result {
                Ok(bytes) => present.push((name.position, bytes)),
                Err(error) => {
                    unanswered += usize::from(!self.report(name, &error).await?);
                    reads.extend(sources.next().map(get));
                }
            }
        }
        if present.len() < needed {
            return Err(RebuildError::TooFew { readable: present.len(), needed, unanswered });
        }
        Ok(present)
    }

    /// A source that turns out to be missing or damaged is itself a row of the ledger (RED-1). False if it is neither:
    /// its disk did not tell.
    async fn report(&self, fragment: FragmentName, error: &TransportError) -> Result<bool, RebuildError> {
        let cause = match error {
            TransportError::Disk(DiskError::NotFound(_)) => MissingCause::NotFound,
            TransportError::Disk(error) if error.is_damage() => MissingCause::Corrupt,
            _ => return Ok(false),
        };
        match cause {
            MissingCause::Corrupt => tracing::warn!(%fragment, "repair found another fragment damaged"),
            _ => tracing::warn!(%fragment, "repair found another fragment missing"),
        }
        self.ctx.meta.ledger_add(&[LedgerEntry { fragment, cause, since_ms: now_ms() }]).await?;
        Ok(true)
    }

    async fn put(
        &self,
        fragment: &Wanted,
        payload: Bytes,
        block_checksums: Vec<u64>,
        len: u32,
    ) -> Result<(), RebuildError> {
        let (name, disk, fragments) = (fragment.name, fragment.disk, &self.fragments);
        let failed = |error| RebuildError::Fragment(name, error);
        if fragment.replace {
            // Another node may have repaired it already if the lease is over: then this would delete a good one.
            if !(self.lease_holds)() {
                return Err(RebuildError::LeaseOver);
            }
            fragments.delete(disk, vec![name], self.ctx.deadline()).await.map_err(failed)?;
        }
        let new = NewFragment { name, payload, block_checksums };
        fragments.put(disk, new, self.ctx.deadline()).await.map_err(failed)?;
        let info = fragments.verify(disk, name, self.ctx.deadline()).await.map_err(failed)?;
        if info.length == len {
            return Ok(());
        }
        let what = format!("{} bytes where {len} were put", info.length);
        Err(failed(DiskError::Corrupt { name, what }.into()))
    }
}

type Checked = (Bytes, Vec<u64>);

fn reconstruct(
    codec: &Codec,
    present: &[(u8, Bytes)],
    wanted: &[u8],
    len: usize,
) -> Result<Vec<Checked>, RebuildError> {
    let rebuilt = codec.reconstruct(present, wanted, len)?;
    let checked = rebuilt.into_iter().map(|payload| {
        let checksums = block_checksums(&payload);
        (payload, checksums)
    });
    Ok(checked.collect())
}
