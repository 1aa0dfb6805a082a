//! Compares what a disk should hold of a group with what it holds, and writes down what it lacks. Names only: no data
//! is read.

use std::collections::HashSet;

use cairn_fragment::BlobRange;
use cairn_schema::{clock::now_ms, ids::*, record::*};

use super::Context;
use crate::supervisor::StepError;

/// Blobs of one page; a large blob may have many stripes, which are then compared in chunks.
const BLOBS_PER_PAGE: usize = 64;
const NAMES_PER_CHUNK: usize = 1024;
const LISTED_AT_ONCE: usize = 1024;
/// Rows of one transaction.
const ROWS_AT_ONCE: usize = 256;

/// What one page of the comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub expected: u64,
    pub missing: u64,
}

/// One disk against one group, or a range of its blobs, a page at a time.
pub struct GroupCheck {
    disk: DiskId,
    group: GroupId,
    position: u8,
    range: BlobRange,
    after: Option<BlobId>,
    done: bool,
}

impl GroupCheck {
    pub fn new(disk: DiskId, group: GroupId, position: u8) -> Self {
        Self::within(disk, group, position, BlobRange::ALL)
    }

    pub(super) fn within(disk: DiskId, group: GroupId, position: u8, range: BlobRange) -> Self {
        let after = u128::from_be_bytes(range.first().0).checked_sub(1).map(|id| BlobId(id.to_be_bytes()));
        Self { disk, group, position, range, after, done: false }
    }

    /// Compares the next page; None after the last.
    pub async fn page(&mut self, ctx: &Context) -> Result<Option<Page>, StepError> {
        if self.done {
            return Ok(None);
        }
        // The metadata first: a fragment is durable before its blob is committed, so what is expected must be there by
        // now.
        let blobs = ctx.meta.group_blobs(self.group, self.after, BLOBS_PER_PAGE).await?;
        self.done = blobs.last().is_none_or(|blob| blob.id >= self.range.last());
        let mut page = Page::default();
        let within = blobs.iter().filter(|blob| self.range.contains(blob.id));
        let mut names = within.flat_map(|blob| names_in(blob, self.group, self.position));
        loop {
            let chunk: Vec<FragmentName> = names.by_ref().take(NAMES_PER_CHUNK).collect();
            if chunk.is_empty() {
                break;
            }
            page.expected += chunk.len() as u64;
            page.missing += self.compare(ctx, &chunk).await?;
        }
        self.after = blobs.last().map(|blob| blob.id).or(self.after);
        Ok(Some(page))
    }

    async fn compare(&self, ctx: &Context, expected: &[FragmentName]) -> Result<u64, StepError> {
        let (Some(first), Some(last)) = (expected.first(), expected.last()) else { return Ok(0) };
        debug_assert!(expected.is_sorted(), "the list is read from the first name to the last");
        let mut present = HashSet::new();
        let mut after = before(*first);
        loop {
            let list = ctx.fragments.list(self.disk, Some(self.group), after, LISTED_AT_ONCE, ctx.deadline()).await?;
            after = list.last().map(|info| info.name);
            present.extend(list.iter().map(|info| info.name));
            if after.is_none_or(|name| name >= *last) {
                break;
            }
        }
        let since_ms = now_ms();
        let missing: Vec<LedgerEntry> = expected
            .iter()
            .filter(|name| !present.contains(name))
            .map(|name| LedgerEntry { fragment: *name, cause: MissingCause::NotFound, since_ms })
            .collect();
        for rows in missing.chunks(ROWS_AT_ONCE) {
            ctx.meta.ledger_add(rows).await?;
        }
        Ok(missing.len() as u64)
    }
}

/// The names of a blob's fragments in one position of one group, in order.
pub(super) fn names_in(blob: &Blob, group: GroupId, position: u8) -> impl Iterator<Item = FragmentName> + use<> {
    let (blob_id, mut next) = (blob.id, 0u32);
    let mut ranges = Vec::new();
    for run in &blob.runs {
        let end = next.saturating_add(run.stripes);
        if run.group == group {
            ranges.push(next..end);
        }
        next = end;
    }
    ranges.into_iter().flatten().map(move |stripe| FragmentName { group, blob: blob_id, stripe, position })
}

/// A name that no fragment of the group lies between and `name`: lists are asked for what comes after.
pub(super) fn before(name: FragmentName) -> Option<FragmentName> {
    if name.stripe > 0 {
        return Some(FragmentName { stripe: name.stripe - 1, position: u8::MAX, ..name });
    }
    let blob = u128::from_be_bytes(name.blob.0).checked_sub(1)?;
    Some(FragmentName { blob: BlobId(blob.to_be_bytes()), stripe: u32::MAX, position: u8::MAX, ..name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_runs_of_the_group() {
        let run = |group, stripes| StripeRun { group: GroupId(group), stripes };
        let blob = Blob {
            id: BlobId([7; 16]),
            scheme: Scheme::Replicated { copies: 2 },
            length: 60,
            stripe_bytes: 10,
            runs: vec![run(1, 2), run(2, 1), run(1, 3)],
            checksum: 0,
        };
        let stripes = |group| names_in(&blob, GroupId(group), 1).map(|name| name.stripe).collect::<Vec<_>>();
        assert_eq!(stripes(1), [0, 1, 3, 4, 5]);
        assert_eq!(stripes(2), [2]);
        assert!(stripes(3).is_empty());
        let names: Vec<_> = names_in(&blob, GroupId(1), 1).collect();
        assert!(names.is_sorted());
        for name in names {
            assert!(before(name).is_none_or(|earlier| earlier < name));
        }
    }
}
