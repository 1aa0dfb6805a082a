//! The blobs of one window of a scrub whose turn it is to be decoded, one after the other.

use std::{collections::BTreeSet, sync::Arc};

use cairn_schema::{ids::*, record::*};

use super::{
    Context,
    deep::{DeepCheck, Verdict, take_away},
    scrub_position::Position,
};
use crate::{data_path::Codecs, placement::Rows, supervisor::StepError};

/// Blobs of one call of the metadata.
const ASKED_AT_ONCE: usize = 64;

/// The last is next.
#[derive(Clone, Default)]
pub(super) struct DeepQueue {
    left: Vec<Arc<Blob>>,
    under_way: Option<DeepCheck>,
}

/// What a step did.
pub(super) enum Decoded {
    /// So many bytes of a stripe.
    Stripe(u64),
    Blob(BlobId, Verdict),
    /// There is none left.
    All,
}

impl DeepQueue {
    pub(super) fn new(blobs: Vec<Arc<Blob>>) -> Self {
        Self { left: blobs, under_way: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty() && self.under_way.is_none()
    }

    pub(super) async fn step(&mut self, ctx: &Context, rows: &Rows, codecs: &Codecs) -> Result<Decoded, StepError> {
        let Some(mut check) = self.under_way.take().or_else(|| self.left.pop().map(DeepCheck::new)) else {
            return Ok(Decoded::All);
        };
        match check.stripe(ctx, rows, codecs).await? {
            Some(bytes) => {
                self.under_way = Some(check);
                Ok(Decoded::Stripe(bytes))
            }
            None => Ok(Decoded::Blob(check.blob(), check.verdict())),
        }
    }
}

/// Does what a verdict asks for, and notes in the position what it says of the blob.
pub(super) async fn settle(
    ctx: &Context,
    disk: DiskId,
    blob: BlobId,
    verdict: Verdict,
    position: &mut Position,
) -> Result<(), StepError> {
    let found = |kind: &str| ctx.metrics.scrub_findings.with_label_values(&[kind]).inc();
    match verdict {
        Verdict::Unread => return Ok(()),
        Verdict::Right => drop(position.inconsistent.remove(&blob)),
        Verdict::Wrong(fragments) => {
            for (fragment, on) in fragments {
                if take_away(ctx, fragment, on).await? {
                    tracing::error!(%fragment, disk = %on, "deep scrub found a fragment that is whole and wrong: it is made anew of the others");
                    found("wrong");
                }
            }
            position.inconsistent.remove(&blob);
        }
        // It may have been deleted while it was read.
        Verdict::Inconsistent if ctx.meta.blobs(&[blob]).await? == [None] => return Ok(()),
        Verdict::Inconsistent => {
            tracing::error!(%blob, %disk, "a blob is not what was written, or its parity is not its data's, and which fragments are wrong cannot be told");
            found("inconsistent");
            position.note_inconsistent(blob);
        }
    }
    ctx.metrics.deep_scrubbed_blobs.inc();
    Ok(())
}

/// Those of the blobs that still exist.
pub(super) async fn existing(ctx: &Context, blobs: &BTreeSet<BlobId>) -> Result<BTreeSet<BlobId>, StepError> {
    let (ids, mut left) = (blobs.iter().copied().collect::<Vec<_>>(), BTreeSet::new());
    for some in ids.chunks(ASKED_AT_ONCE) {
        left.extend(ctx.meta.blobs(some).await?.into_iter().flatten().map(|blob| blob.id));
    }
    Ok(left)
}
