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

/// Groups 1 and 2 of 4+2 over six disks, the last of which is down.
fn rows() -> Rows {
    let mut rows = Rows::default();
    for id in 0..6 {
        let state = if id == 5 { DiskState::Down } else { DiskState::Up };
        rows.disks.insert(DiskId([id; 16]), disk(id, state));
    }
    let members: Vec<DiskId> = (0..6).map(|id| DiskId([id; 16])).collect();
    for id in 1..=2 {
        let (id, scheme, members) = (GroupId(id), "4+2".parse().unwrap(), members.clone());
        let group = Group { id, scheme, members, epoch: 1, state: GroupState::Open };
        rows.groups.insert(group.id, group.into());
    }
    rows
}

fn entry_in(group: u32, blob: u8, position: u8) -> LedgerEntry {
    let fragment = FragmentName { group: GroupId(group), blob: BlobId([blob; 16]), stripe: 0, position };
    LedgerEntry { fragment, cause: MissingCause::WriteAbsent, since_ms: 0 }
}

fn entry(blob: u8, position: u8) -> LedgerEntry {
    entry_in(1, blob, position)
}

/// `failed` is a blob whose stripe failed a moment ago; group 2 was looked at in vain.
fn taken(first: Vec<GroupLedger>, failed: Option<u8>) -> Scan {
    let (mut scan, now) = (Scan::default(), Instant::now());
    let (mut waits, mut barren) = (Backoff::new(), Backoff::new());
    if let Some(blob) = failed {
        waits.failed((GroupId(1), BlobId([blob; 16]), 0));
    }
    barren.failed(GroupId(2));
    let node = "n1".parse().unwrap();
    let terms = Terms { limit: 10, node: &node, nodes: &[], failed: &waits, barren: &barren, now };
    first.into_iter().for_each(|first| scan.take(&rows(), &Filled::default(), first, &terms));
    scan
}

fn first_of(group: u32, entries: Vec<LedgerEntry>, more: bool) -> GroupLedger {
    GroupLedger { group: GroupId(group), entries, more }
}

#[test]
fn the_fewer_survivors_the_sooner_and_rows_of_absent_disks_wait() {
    let rows = rows();
    let assess = |entries| assess(&rows, &Filled::default(), entries).unwrap();
    assert_eq!(assess(vec![entry(1, 0)]).margin, 0, "four of the five that are up");
    let two = assess(vec![entry(2, 0), entry(2, 1)]);
    assert_eq!((two.margin, two.entries.len()), (-1, 2));
    let away = assess(vec![entry(3, 5)]);
    assert_eq!((away.margin, away.entries.len()), (1, 0), "its disk is away");
    let half = assess(vec![entry(4, 0), entry(4, 5)]);
    assert_eq!((half.margin, half.entries.len()), (0, 1));
}

#[test]
fn a_group_is_as_endangered_as_the_worst_of_its_stripes_that_can_be_mended() {
    let both = vec![entry(1, 0), entry(2, 0), entry(2, 1), entry(3, 5)];
    let scan = taken(vec![first_of(1, both.clone(), false), first_of(2, vec![entry_in(2, 9, 1)], false)], None);
    let found: Vec<_> = scan.groups.iter().map(|group| (group.id.0, group.margin, group.bytes)).collect();
    assert_eq!(found, [(1, -1, 4), (2, 0, 1)]);
    assert_eq!(scan.by_margin(5), BTreeMap::from([(-1, 2), (0, 2), (1, 1)]));
    let scan = taken(vec![first_of(1, both, false)], Some(2));
    assert_eq!(scan.groups[0].margin, 0, "the worst failed a moment ago");
    let scan = taken(vec![first_of(1, vec![entry(3, 5)], false)], None);
    assert!(scan.groups.is_empty(), "its disk is away");
}

#[test]
fn of_a_group_with_more_rows_than_were_read_the_rest_is_not_forgotten() {
    // The rows that were read can wait; what comes after them may not. The last stripe may have more rows.
    let away = |group| vec![entry_in(group, 3, 5), entry_in(group, 4, 5), entry_in(group, 5, 0)];
    let scan = taken(vec![first_of(1, away(1), true), first_of(2, away(2), true)], None);
    let found: Vec<_> = scan.groups.iter().map(|group| (group.id.0, group.margin)).collect();
    assert_eq!(found, [(1, 0)], "the other was looked at in vain not long ago");
    // 100 rows, of which two in each group were looked at; those of a third group are known.
    let mut scan = taken(vec![first_of(1, away(1), true), first_of(2, away(2), true)], None);
    scan.whole.insert(-1, 10);
    assert_eq!(scan.by_margin(100), BTreeMap::from([(-1, 10), (1, 90)]));
    scan.partly.insert(0, 4);
    assert_eq!(scan.by_margin(100), BTreeMap::from([(-1, 10), (0, 45), (1, 45)]));
    assert_eq!(scan.by_margin(3), BTreeMap::from([(-1, 10), (0, 4), (1, 4)]), "the ledger shrinks meanwhile");
}

#[test]
fn a_stripe_that_may_have_more_rows_is_left_away_unless_it_is_all_there_is() {
    let mut entries = vec![entry(1, 0), entry(2, 0), entry(2, 1)];
    cut_short(&mut entries);
    assert_eq!(entries, [entry(1, 0)]);
    cut_short(&mut entries);
    assert_eq!(entries, [entry(1, 0)]);
}
