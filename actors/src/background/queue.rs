//! Reads the ledger's rows of single fragments, and picks the stripes that are nearest to being lost. Rows that stand
//! for many are the business of `groups`.

use std::collections::BTreeMap;

use cairn_schema::{MetaError, ids::*, record::*};

use super::{
    Context,
    groups::{Filled, margin, serves},
};
use crate::placement::Rows;

const ROWS_PER_PAGE: usize = 1000;

/// A stripe's name.
pub(super) type StripeName = (GroupId, BlobId, u32);

/// A stripe with fragments in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endangered {
    /// Fragments more than needed that are thought to be readable; below 0 the stripe cannot be read now.
    pub margin: i32,
    pub name: StripeName,
    /// Its rows whose disk can take the fragment back now.
    pub entries: Vec<LedgerEntry>,
}

/// What a pass over the ledger found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Most endangered first.
    pub stripes: Vec<Endangered>,
    /// All rows, by how many fragments more than needed their stripes have.
    pub by_margin: BTreeMap<i32, u64>,
}

/// One pass over the whole ledger, keeping only the `limit` most endangered stripes that can be repaired now, so that
/// memory is bounded however long it is.
pub(super) async fn scan(
    ctx: &Context,
    rows: &Rows,
    filled: &Filled,
    limit: usize,
    skip: impl Fn(&StripeName) -> bool,
) -> Result<Scan, MetaError> {
    let mut scan = Scan::default();
    let mut gathering: Vec<LedgerEntry> = Vec::new();
    let mut after = None;
    loop {
        let page = ctx.meta.ledger(after, ROWS_PER_PAGE).await?;
        after = page.last().map(|entry| entry.fragment);
        if page.is_empty() {
            break;
        }
        for entry in page {
            // In order of name, so that a stripe's rows follow each other.
            if gathering.last().is_some_and(|before| stripe_of(before) != stripe_of(&entry)) {
                scan.keep(rows, filled, std::mem::take(&mut gathering), limit, &skip);
            }
            gathering.push(entry);
        }
    }
    scan.keep(rows, filled, gathering, limit, &skip);
    scan.trim(limit);
    Ok(scan)
}

impl Scan {
    fn keep(
        &mut self,
        rows: &Rows,
        filled: &Filled,
        entries: Vec<LedgerEntry>,
        limit: usize,
        skip: impl Fn(&StripeName) -> bool,
    ) {
        let count = entries.len() as u64;
        let Some(stripe) = assess(rows, filled, entries) else { return };
        *self.by_margin.entry(stripe.margin).or_default() += count;
        if !stripe.entries.is_empty() && !skip(&stripe.name) {
            self.stripes.push(stripe);
        }
        if self.stripes.len() >= limit.max(1) * 2 {
            self.trim(limit);
        }
    }

    fn trim(&mut self, limit: usize) {
        self.stripes.sort_by_key(|stripe| (stripe.margin, stripe.name));
        self.stripes.truncate(limit);
    }
}

fn stripe_of(entry: &LedgerEntry) -> StripeName {
    (entry.fragment.group, entry.fragment.blob, entry.fragment.stripe)
}

/// How endangered a stripe is; None of a group that is not known. Its entries are those that something can be done
/// about now.
fn assess(rows: &Rows, filled: &Filled, mut entries: Vec<LedgerEntry>) -> Option<Endangered> {
    let name = stripe_of(entries.first()?);
    let group = rows.groups.get(&name.0)?;
    let listed = |position: u8| {
        filled.has(group.id, position) || entries.iter().any(|entry| entry.fragment.position == position)
    };
    let margin = margin(rows, group, listed);
    entries.retain(|entry| serves(rows, group, entry.fragment.position));
    Some(Endangered { margin, name, entries })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn disk(id: u8, state: DiskState) -> Disk {
        Disk {
            id: DiskId([id; 16]),
            node: format!("n{id}").parse().unwrap(),
            rack: format!("r{id}"),
            zone: "z".into(),
            capacity_bytes: 1,
            state,
            since_ms: 0,
        }
    }

    fn entry(blob: u8, position: u8) -> LedgerEntry {
        let fragment = FragmentName { group: GroupId(1), blob: BlobId([blob; 16]), stripe: 0, position };
        LedgerEntry { fragment, cause: MissingCause::WriteAbsent, since_ms: 0 }
    }

    #[test]
    fn the_fewer_survivors_the_sooner_and_rows_of_absent_disks_wait() {
        let mut rows = Rows::default();
        for (id, state) in
            (0..6).zip([DiskState::Up, DiskState::Up, DiskState::Up, DiskState::Up, DiskState::Up, DiskState::Down])
        {
            rows.disks.insert(DiskId([id; 16]), disk(id, state));
        }
        let members = (0..6).map(|id| DiskId([id; 16])).collect();
        let scheme = "4+2".parse().unwrap();
        let group = Group { id: GroupId(1), scheme, members, epoch: 1, state: GroupState::Open };
        rows.groups.insert(group.id, group.into());

        let one = assess(&rows, &Filled::default(), vec![entry(1, 0)]).unwrap();
        assert_eq!(one.margin, 0, "four of the five that are up");
        let two = assess(&rows, &Filled::default(), vec![entry(2, 0), entry(2, 1)]).unwrap();
        assert_eq!((two.margin, two.entries.len()), (-1, 2));
        let away = assess(&rows, &Filled::default(), vec![entry(3, 5)]).unwrap();
        assert_eq!((away.margin, away.entries.len()), (1, 0), "its disk is away");
        let half = assess(&rows, &Filled::default(), vec![entry(4, 0), entry(4, 5)]).unwrap();
        assert_eq!((half.margin, half.entries.len()), (0, 1));

        let mut scan = Scan::default();
        for blob in 1..=9 {
            let entries = if blob == 7 { vec![entry(7, 0), entry(7, 1)] } else { vec![entry(blob, 2)] };
            scan.keep(&rows, &Filled::default(), entries, 3, |name| name.1 == BlobId([1; 16]));
        }
        scan.trim(3);
        let order: Vec<u8> = scan.stripes.iter().map(|stripe| stripe.name.1.0[0]).collect();
        assert_eq!(order, [7, 2, 3]);
        assert_eq!(scan.by_margin, BTreeMap::from([(-1, 2), (0, 8)]));
    }
}
