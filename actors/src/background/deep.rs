//! Deep scrub: whole blobs are decoded and compared with their own checksums, and their parity with their data. It
//! finds what no fragment's checksum can: fragments that were made of wrong bytes, or put where others belong.

use std::sync::Arc;

use bytes::Bytes;
use cairn_fragment::{
    DiskError, TransportError,
    codec::{Codec, CodecError, Fragment},
    geometry::{Geometry, GeometryError, is_range_local, needed_fragments},
};
use cairn_schema::{MetaError, clock::now_ms, ids::*, record::*};
use futures::FutureExt;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::{Context, evidence::explain};
use crate::{data_path::Codecs, placement::Rows, supervisor::StepError};

/// Ways to read a blob that are followed to its end at once.
const MOST_READINGS: usize = 64;

/// Whether it is the blob's turn: each has it once in so many passes. Never if that is none.
pub(super) fn has_turn(blob: BlobId, pass: u64, passes: u32) -> bool {
    let passes = u64::from(passes);
    passes > 0 && xxh3_64(&blob.0) % passes == pass % passes
}

/// What came of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    /// The blob is what was written if these fragments, each on that disk, are taken for wrong; they are.
    Wrong(Vec<(FragmentName, DiskId)>),
    /// It is not what was written, or its parity is not its data's, and which fragments are to blame cannot be said.
    Inconsistent,
    /// It cannot be read now, or is gone.
    Unread,
}

/// One blob, a stripe at a time.
#[derive(Clone)]
pub(super) struct DeepCheck {
    blob: Arc<Blob>,
    next: u32,
    /// Empty: none explains the stripes so far.
    readings: Vec<Reading>,
    unread: bool,
}

/// One way to read the stripes so far.
#[derive(Clone, Default)]
struct Reading {
    hash: Xxh3Default,
    /// What is wrong by it.
    wrong: Vec<(FragmentName, DiskId)>,
    /// Nothing but this reading itself speaks for parity being what is wrong.
    doubtful: bool,
}

/// Why a stripe was not judged.
#[derive(Debug, thiserror::Error)]
enum Unjudged {
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("group {0} does not exist")]
    NoGroup(GroupId),
    #[error("{readable} of the {needed} fragments needed were read")]
    TooFew { readable: usize, needed: usize },
    #[error("the task that judges it failed: {0}")]
    Task(String),
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl DeepCheck {
    pub(super) fn new(blob: Arc<Blob>) -> Self {
        Self { blob, next: 0, readings: vec![Reading::default()], unread: false }
    }

    pub(super) fn blob(&self) -> BlobId {
        self.blob.id
    }

    /// Reads the next stripe; how many bytes that were. None after the last, or when there is no use in going on.
    pub(super) async fn stripe(
        &mut self,
        ctx: &Context,
        rows: &Rows,
        codecs: &Codecs,
    ) -> Result<Option<u64>, StepError> {
        let stripes: u64 = self.blob.runs.iter().map(|run| u64::from(run.stripes)).sum();
        if u64::from(self.next) >= stripes || self.readings.is_empty() || self.unread {
            return Ok(None);
        }
        match self.judge(ctx, rows, codecs).await {
            Ok(bytes) => {
                self.next += 1;
                Ok(Some(bytes))
            }
            Err(Unjudged::Meta(error)) => Err(error.into()),
            Err(error) => {
                tracing::debug!(blob = %self.blob.id, stripe = self.next, %error, "deep scrub leaves a blob for another time");
                self.unread = true;
                Ok(Some(0))
            }
        }
    }

    /// Once all stripes were read.
    pub(super) fn verdict(self) -> Verdict {
        if self.unread {
            return Verdict::Unread;
        }
        let right = self.readings.into_iter().find(|reading| reading.hash.digest() == self.blob.checksum);
        match right {
            Some(Reading { wrong, .. }) if wrong.is_empty() => Verdict::Right,
            Some(Reading { wrong, doubtful: false, .. }) => Verdict::Wrong(wrong),
            Some(_) | None => Verdict::Inconsistent,
        }
    }

    async fn judge(&mut self, ctx: &Context, rows: &Rows, codecs: &Codecs) -> Result<u64, Unjudged> {
        let blob = self.blob.clone();
        let geometry = Geometry::new(&blob)?;
        let (stripe_len, fragment_len) = (geometry.stripe_len(self.next)?, geometry.fragment_len(self.next)?);
        let id = geometry.group(self.next)?;
        let group = rows.groups.get(&id).ok_or(Unjudged::NoGroup(id))?;
        let codec = codecs.of(blob.scheme)?;
        // As they are read, and as they should be.
        let _memory = ctx.memory.take(2 * codec.width() as u64 * u64::from(fragment_len)).await;
        let present = read(ctx, group, |position| geometry.fragment(self.next, position), fragment_len).await?;
        let bytes: u64 = present.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        if present.len() < codec.needed() {
            return Err(Unjudged::TooFew { readable: present.len(), needed: codec.needed() });
        }
        let readings = std::mem::take(&mut self.readings);
        let task = tokio::task::spawn_blocking(move || follow(&codec, &present, stripe_len as usize, &readings));
        let (followed, wrong) = task.await.map_err(|error| Unjudged::Task(error.to_string()))??;
        let place = |position: u8| {
            Some((geometry.fragment(self.next, position).ok()?, *group.members.get(usize::from(position))?))
        };
        self.readings = followed;
        for (reading, wrong) in self.readings.iter_mut().zip(wrong) {
            reading.wrong.extend(wrong.into_iter().filter_map(place));
        }
        Ok(bytes)
    }
}

/// Every fragment of a stripe that can be read; one that is damaged is told to the ledger (RED-1).
async fn read(
    ctx: &Context,
    group: &Group,
    name: impl Fn(u8) -> Result<FragmentName, GeometryError>,
    len: u32,
) -> Result<Vec<Fragment>, Unjudged> {
    let mut reads = Vec::new();
    for (position, disk) in (0u8..).zip(group.members.iter().copied()) {
        let name = name(position)?;
        reads.push(async move { (name, ctx.fragments.get(disk, name, 0..len, ctx.deadline()).await) }.boxed());
    }
    let mut present = Vec::with_capacity(reads.len());
    for (fragment, result) in futures::future::join_all(reads).await {
        match result {
            Ok(bytes) => present.push((fragment.position, bytes)),
            Err(TransportError::Disk(error)) if error.is_damage() || matches!(error, DiskError::OutOfRange { .. }) => {
                let entry = LedgerEntry { fragment, cause: MissingCause::Corrupt, since_ms: now_ms() };
                ctx.meta.ledger_add(&[entry]).await?;
            }
            // What is not there the second half of the pass finds, and what gives no answer another pass.
            Err(_) => {}
        }
    }
    Ok(present)
}

type Followed = (Vec<Reading>, Vec<Vec<u8>>);

/// The readings with the stripe's explanations, and the positions that are wrong by each.
fn follow(codec: &Codec, present: &[Fragment], stripe_len: usize, before: &[Reading]) -> Result<Followed, CodecError> {
    let (mut after, mut positions, mut too_many) = (Vec::new(), Vec::new(), false);
    explain(codec, present, stripe_len, |stripe: &[Bytes], wrong| {
        let doubtful = is_doubtful(codec, present.len(), wrong);
        for reading in before {
            if after.len() == MOST_READINGS {
                too_many = true;
                return;
            }
            let mut reading = reading.clone();
            stripe.iter().for_each(|bytes| reading.hash.update(bytes));
            reading.doubtful |= doubtful;
            after.push(reading);
            positions.push(wrong.to_vec());
        }
    })?;
    if too_many {
        after.clear();
    }
    Ok((after, positions))
}

/// Whether nothing that was read shows that the code makes the parity that it should: then it may as well be the code
/// that is wrong, and the fragments the only good ones. Either another parity fragment agrees, or the data was decoded
/// with parity and comes to the blob's checksum.
fn is_doubtful(codec: &Codec, present: usize, wrong: &[u8]) -> bool {
    let scheme = codec.scheme();
    let needed = needed_fragments(scheme);
    let data_is_wrong = is_range_local(scheme) && wrong.iter().any(|position| usize::from(*position) < needed);
    let copies = matches!(scheme, Scheme::Replicated { .. });
    !(wrong.is_empty() || copies || data_is_wrong || present - wrong.len() > needed)
}

/// Takes a wrong fragment away, so that repair makes it anew of the others, and tells the ledger that it is missing.
/// False if it is not known to be wrong any more.
pub(super) async fn take_away(ctx: &Context, name: FragmentName, disk: DiskId) -> Result<bool, StepError> {
    let group = ctx.meta.group(name.group).await?;
    let place = group.as_ref().and_then(|group| group.members.get(usize::from(name.position)));
    if place != Some(&disk) || ctx.meta.blobs(&[name.blob]).await? == [None] {
        return Ok(false);
    }
    // GC-1: it is not what it should be, proven by those that are, and of no use to anybody. First it goes: a row that
    // repair took up before would be found whole and dropped.
    ctx.fragments.delete(disk, vec![name], ctx.deadline()).await?;
    ctx.meta.ledger_add(&[LedgerEntry { fragment: name, cause: MissingCause::Corrupt, since_ms: now_ms() }]).await?;
    Ok(true)
}

#[cfg(test)]
#[path = "deep_tests.rs"]
mod tests;
