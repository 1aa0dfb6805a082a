#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::{super::redundancy::Singles, *};

fn disk(number: u8) -> DiskId {
    DiskId([number; 16])
}

/// 4+2 on disks 0 to 5, three copies on 0 to 2, and two groups without stripes.
fn rows() -> Rows {
    let mut rows = Rows::default();
    for (id, scheme, width) in [(1, "4+2", 6), (2, "replicated(3)", 3), (3, "4+2", 6), (4, "replicated(1)", 1)] {
        let members = (0..width).map(disk).collect();
        let group =
            Group { id: GroupId(id), scheme: scheme.parse().unwrap(), members, epoch: 1, state: GroupState::Open };
        rows.groups.insert(group.id, Arc::new(group));
    }
    rows
}

fn stands(stripes: &[(u32, u64)], presence: impl Fn(u8) -> Presence, ledger: &[LedgerEntry]) -> Standing {
    let rows = rows();
    let stripes = stripes.iter().map(|(id, count)| (GroupId(*id), *count)).collect();
    let mut singles = Singles::default();
    singles.take(None, ledger);
    let redundancy = Redundancy::of(&rows, Some(&stripes), &[], &singles, |_| true);
    standing(&rows, &redundancy, |disk| presence(disk.0[0]))
}

fn exactly(stripes: u64) -> Count {
    Count { stripes, at_least: false }
}

#[test]
fn what_is_tolerated_is_used_up_by_degrees() {
    let away =
        |gone: &'static [u8]| move |number: u8| if gone.contains(&number) { Presence::Away } else { Presence::There };
    let grades = |gone| {
        let standing = stands(&[(1, 10), (2, 3)], away(gone), &[]);
        (standing.at_worst, standing.used, standing.tolerated, standing.stripes_up_to(0).stripes)
    };
    assert_eq!(grades(&[]), (Grade::Safe, 0, 0, 0));
    assert_eq!(grades(&[5]), (Grade::Degraded, 1, 2, 0));
    assert_eq!(grades(&[4, 5]), (Grade::AtRisk, 2, 2, 10));
    assert_eq!(grades(&[0, 1]), (Grade::AtRisk, 2, 2, 13));
    assert_eq!(grades(&[3, 4, 5]), (Grade::Unavailable, 3, 2, 10));
    let standing = stands(&[(1, 10), (2, 3)], away(&[0, 1]), &[]);
    assert_eq!(standing.by_margin, BTreeMap::from([(0, exactly(13))]));
}

#[test]
fn groups_without_stripes_and_schemes_without_redundancy_stand_for_nothing() {
    let none = |_| Presence::Away;
    let nothing = stands(&[], none, &[]);
    assert!(nothing.empty && nothing.at_worst == Grade::Safe);
    let there = |_| Presence::There;
    let single = stands(&[(4, 7)], there, &[]);
    assert!(!single.empty && single.at_worst == Grade::Safe, "it has no redundancy to lose");
    assert_eq!(stands(&[(4, 7)], none, &[]).at_worst, Grade::Unavailable);
}

#[test]
fn what_does_not_answer_is_told_apart_from_what_is_away() {
    let silent = |number: u8| if number < 2 { Presence::Unknown } else { Presence::There };
    let standing = stands(&[(1, 10)], silent, &[]);
    assert_eq!(
        (standing.at_least, standing.at_worst_if_there, standing.at_worst),
        (Grade::Safe, Grade::Safe, Grade::AtRisk)
    );
    let fragment = FragmentName { group: GroupId(1), blob: BlobId([1; 16]), stripe: 0, position: 5 };
    let missing = LedgerEntry { fragment, cause: MissingCause::Corrupt, since_ms: 0 };
    let standing = stands(&[(1, 10)], silent, &[missing]);
    assert_eq!((standing.at_least, standing.at_worst), (Grade::Degraded, Grade::Unavailable));
    assert_eq!(standing.by_margin, BTreeMap::from([(-1, exactly(1)), (0, exactly(9))]));
}
