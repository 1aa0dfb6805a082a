//! Fragments with rows of their own: those of one group, read a window at a time, and mended most endangered first.

use cairn_schema::{MetaError, ids::*, record::*};

use super::{
    Context,
    groups::Filled,
    queue::{Endangered, StripeName, assess, cut_short, stripe_of},
    rebuild::{Mended, Rebuild, RebuildError, Wish},
};
use crate::placement::Rows;

const ROWS_PER_PAGE: usize = 1000;
/// Rows that are kept at a time.
const WINDOW: usize = 4 * ROWS_PER_PAGE;

/// The rows of a group whose lease is held.
pub(super) struct Singles {
    pub group: GroupId,
    /// After the rows of the window.
    pub after: Option<FragmentName>,
    /// There are no more behind it.
    pub ended: bool,
    /// What is to be mended of the window, most endangered last.
    stripes: Vec<Endangered>,
}

impl Singles {
    /// Those after a row.
    pub(super) fn new(group: GroupId, after: Option<FragmentName>) -> Self {
        Self { group, after, ended: false, stripes: Vec::new() }
    }

    /// How endangered the next stripe is; None when the window is done.
    pub(super) fn margin(&self) -> Option<i32> {
        self.stripes.last().map(|stripe| stripe.margin)
    }

    pub(super) fn take(&mut self, most: usize) -> Vec<Endangered> {
        self.stripes.split_off(self.stripes.len().saturating_sub(most)).into_iter().rev().collect()
    }

    /// Stripes that were taken and not begun.
    pub(super) fn put_back(&mut self, rest: Vec<Endangered>) {
        self.stripes.extend(rest.into_iter().rev());
    }

    /// Reads the next window, leaving away stripes that failed not long ago.
    pub(super) async fn look(
        &mut self,
        ctx: &Context,
        rows: &Rows,
        waits: impl Fn(&StripeName) -> bool,
    ) -> Result<(), MetaError> {
        let filled = Filled::of(ctx.meta.group_repair(self.group).await?.as_ref());
        let (mut entries, mut after) = (Vec::with_capacity(ROWS_PER_PAGE), self.after);
        while entries.len() < WINDOW && !self.ended {
            let page = ctx.meta.ledger_of(self.group, after, ROWS_PER_PAGE).await?;
            self.ended = page.len() < ROWS_PER_PAGE;
            after = page.last().map(|entry| entry.fragment).or(after);
            entries.extend(page);
        }
        if !self.ended {
            cut_short(&mut entries);
        }
        self.after = entries.last().map(|entry| entry.fragment).or(self.after);
        let stripes = entries.chunk_by(|a, b| stripe_of(a) == stripe_of(b));
        let stripes = stripes.filter_map(|entries| assess(rows, &filled, entries.to_vec()));
        self.stripes = stripes.filter(|stripe| !stripe.entries.is_empty() && !waits(&stripe.name)).collect();
        self.stripes.sort_by_key(|stripe| std::cmp::Reverse((stripe.margin, stripe.name)));
        Ok(())
    }
}

/// Mends what a stripe's rows say, and takes those away. Of a blob that was reclaimed meanwhile nobody needs it.
pub(super) async fn mend(
    rebuild: &Rebuild<'_>,
    stripe: &Endangered,
    blob: Option<&Blob>,
) -> Result<Mended, RebuildError> {
    let Some(group) = rebuild.rows.groups.get(&stripe.name.0) else { return Err(MetaError::Stale("group").into()) };
    let wish = |entry: &LedgerEntry| Wish { position: entry.fragment.position, from: None };
    let wishes: Vec<Wish> = stripe.entries.iter().map(wish).collect();
    let mended = match blob {
        Some(blob) => rebuild.stripe(stripe.name, &wishes, blob).await?,
        None => Mended::default(),
    };
    for entry in &stripe.entries {
        rebuild.ctx.meta.ledger_clear(entry.fragment, group.epoch).await?;
    }
    Ok(mended)
}

#[cfg(test)]
#[path = "singles_tests.rs"]
mod tests;
