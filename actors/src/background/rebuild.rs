//! Puts the missing fragments of one stripe back where they belong.

use std::collections::HashSet;

use bytes::Bytes;
use cairn_fragment::{
    DiskError, NewFragment, TransportError, block_checksums,
    codec::{Codec, CodecError},
    geometry::{Geometry, GeometryError},
};
use cairn_schema::{MetaError, clock::now_ms, ids::*, record::*};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{Context, queue::Endangered};
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
    #[error("{readable} of the {needed} fragments needed are readable now")]
    TooFew { readable: usize, needed: usize },
    #[error("fragment {0}: {1}")]
    Fragment(FragmentName, TransportError),
    #[error("the rebuilding task failed: {0}")]
    Task(String),
    #[error("the lease ran out")]
    LeaseOver,
}

/// What came of one stripe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mended {
    /// Rows cleared, rebuilt or found to be there after all.
    pub cleared: u64,
    pub rebuilt: u64,
    pub bytes: u64,
}

/// A fragment that is not where it should be.
struct Wanted {
    name: FragmentName,
    disk: DiskId,
    /// Something else of its name is there and must go first.
    replace: bool,
}

/// Rebuilds stripes with what one holder of a lease has at hand.
pub(super) struct Rebuild<'a> {
    pub ctx: &'a Context,
    pub rows: &'a Rows,
    pub codecs: &'a Codecs,
    /// False once the group's lease may have run out: nothing is deleted from then on.
    pub lease_holds: &'a (dyn Fn() -> bool + Sync),
}

impl Rebuild<'_> {
    /// `blob` is the stripe's blob as the metadata has it now.
    pub(super) async fn stripe(&self, stripe: &Endangered, blob: Option<&Blob>) -> Result<Mended, RebuildError> {
        let Some(group) = self.rows.groups.get(&stripe.name.0) else { return Ok(Mended::default()) };
        let mut mended = Mended::default();
        let Some(blob) = blob else {
            // Reclaimed meanwhile: nobody needs it.
            for entry in &stripe.entries {
                self.clear(group, entry.fragment, &mut mended).await?;
            }
            return Ok(mended);
        };
        let geometry = Geometry::new(blob)?;
        let len = geometry.fragment_len(stripe.name.2)?;
        let wanted = self.look(group, stripe, len, &mut mended).await?;
        if wanted.is_empty() {
            return Ok(mended);
        }
        let codec = self.codecs.of(blob.scheme)?;
        let fragments = codec.needed() + wanted.len();
        let _memory = self.ctx.memory.take(fragments as u64 * u64::from(len)).await;
        let present = self.read(group, stripe, &wanted, codec.needed(), len).await?;
        let positions: Vec<u8> = wanted.iter().map(|fragment| fragment.name.position).collect();
        let rebuilt = tokio::task::spawn_blocking(move || reconstruct(&codec, &present, &positions, len as usize))
            .await
            .map_err(|error| RebuildError::Task(error.to_string()))??;
        for (fragment, (payload, block_checksums)) in wanted.iter().zip(rebuilt) {
            self.put(fragment, payload, block_checksums, len).await?;
            mended.rebuilt += 1;
            mended.bytes += u64::from(len);
            self.clear(group, fragment.name, &mut mended).await?;
        }
        Ok(mended)
    }

    async fn clear(&self, group: &Group, name: FragmentName, mended: &mut Mended) -> Result<(), RebuildError> {
        self.ctx.meta.ledger_clear(name, group.epoch).await?;
        mended.cleared += 1;
        Ok(())
    }

    /// Which of the rows are really missing; the others are cleared.
    async fn look(
        &self,
        group: &Group,
        stripe: &Endangered,
        len: u32,
        mended: &mut Mended,
    ) -> Result<Vec<Wanted>, RebuildError> {
        let mut wanted = Vec::new();
        for entry in &stripe.entries {
            let name = entry.fragment;
            let Some(disk) = group.members.get(usize::from(name.position)).copied() else { continue };
            match self.ctx.fragments.verify(disk, name, self.ctx.deadline()).await {
                Ok(info) if info.length == len => self.clear(group, name, mended).await?,
                // A put replaces a damaged copy; only a whole one of wrong contents must be taken away first.
                Ok(_) => wanted.push(Wanted { name, disk, replace: true }),
                Err(TransportError::Disk(DiskError::NotFound(_))) => {
                    wanted.push(Wanted { name, disk, replace: false });
                }
                Err(TransportError::Disk(error)) if error.is_damage() => {
                    wanted.push(Wanted { name, disk, replace: false });
                }
                Err(error) => return Err(RebuildError::Fragment(name, error)),
            }
        }
        Ok(wanted)
    }

    /// Any `needed` of the stripe's other fragments, verified.
    async fn read(
        &self,
        group: &Group,
        stripe: &Endangered,
        wanted: &[Wanted],
        needed: usize,
        len: u32,
    ) -> Result<Vec<(u8, Bytes)>, RebuildError> {
        let missing: HashSet<u8> = wanted.iter().map(|fragment| fragment.name.position).collect();
        let answers = |disk: DiskId| matches!(self.rows.state(disk), Some(DiskState::Up | DiskState::Draining));
        let (id, blob, number) = stripe.name;
        let mut sources = (0u8..)
            .zip(group.members.iter().copied())
            .filter(|(position, disk)| !missing.contains(position) && answers(*disk));
        let get = |(position, disk): (u8, DiskId)| {
            let name = FragmentName { group: id, blob, stripe: number, position };
            async move { (name, self.ctx.fragments.get(disk, name, 0..len, self.ctx.deadline()).await) }.boxed()
        };
        let mut reads: FuturesUnordered<BoxFuture<'_, _>> = sources.by_ref().take(needed).map(get).collect();
        let mut present = Vec::with_capacity(needed);
        while let Some((name, result)) = reads.next().await {
            match result {
                Ok(bytes) => present.push((name.position, bytes)),
                Err(error) => {
                    self.report(name, &error).await?;
                    reads.extend(sources.next().map(get));
                }
            }
        }
        if present.len() < needed {
            return Err(RebuildError::TooFew { readable: present.len(), needed });
        }
        Ok(present)
    }

    /// A source that turns out to be missing or damaged is itself a row of the ledger (RED-1).
    async fn report(&self, fragment: FragmentName, error: &TransportError) -> Result<(), RebuildError> {
        let cause = match error {
            TransportError::Disk(DiskError::NotFound(_)) => MissingCause::NotFound,
            TransportError::Disk(error) if error.is_damage() => MissingCause::Corrupt,
            _ => return Ok(()),
        };
        match cause {
            MissingCause::Corrupt => tracing::warn!(%fragment, "repair found another fragment damaged"),
            _ => tracing::warn!(%fragment, "repair found another fragment missing"),
        }
        self.ctx.meta.ledger_add(&[LedgerEntry { fragment, cause, since_ms: now_ms() }]).await?;
        Ok(())
    }

    async fn put(
        &self,
        fragment: &Wanted,
        payload: Bytes,
        block_checksums: Vec<u64>,
        len: u32,
    ) -> Result<(), RebuildError> {
        let (name, disk, fragments) = (fragment.name, fragment.disk, &self.ctx.fragments);
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
