#![allow(clippy::unwrap_used)]

use cairn_schema::{ids::BlobId, record::StripeRun};
use proptest::prelude::*;

use super::*;

fn blob(scheme: Scheme, length: u64, stripe_bytes: u32, run: u32) -> Blob {
    let mut left = stripe_count(length, stripe_bytes).unwrap();
    let mut runs = Vec::new();
    while left > 0 {
        let stripes = run.min(left);
        runs.push(StripeRun { group: GroupId(runs.len() as u32 + 10), stripes });
        left -= stripes;
    }
    Blob { id: BlobId([7; 16]), scheme, length, stripe_bytes, runs, checksum: 0 }
}

fn schemes() -> impl Strategy<Value = Scheme> {
    prop_oneof![
        (1u8..5).prop_map(|copies| Scheme::Replicated { copies }),
        (1u8..20, 1u8..6).prop_map(|(data, parity)| Scheme::Rs { data, parity, code: ErasureCode::Gf256 }),
    ]
}

proptest! {
    /// Every byte of a range is named exactly once, in order, and lies where the data fragments really have it.
    #[test]
    fn a_range_maps_to_each_of_its_bytes_once(
        scheme in schemes(), length in 1u64..5_000, stripe in 1u32..700, run in 1u32..4, a in any::<u64>(), b in any::<u64>()
    ) {
        let blob = blob(scheme, length, stripe, run);
        let geometry = Geometry::new(&blob).unwrap();
        let (a, b) = (a % (length + 1), b % (length + 1));
        let range = a.min(b)..a.max(b);
        let mut next = range.start;
        for piece in geometry.stripe_pieces(range.clone()).unwrap() {
            prop_assert_eq!(piece.blob_offset, next);
            prop_assert!(piece.range.end <= geometry.stripe_len(piece.stripe).unwrap());
            let f = geometry.fragment_len(piece.stripe).unwrap();
            for part in geometry.fragment_pieces(piece.stripe, piece.range.clone()).unwrap().unwrap() {
                prop_assert!(usize::from(part.position) < scheme.data());
                prop_assert!(!part.range.is_empty() && part.range.end <= f);
                let in_stripe = u32::from(part.position) * f + part.range.start;
                prop_assert_eq!(in_stripe, part.stripe_offset);
                prop_assert_eq!(u64::from(piece.stripe) * u64::from(stripe) + u64::from(in_stripe), next);
                next += part.range.len() as u64;
            }
        }
        prop_assert_eq!(next, range.end);
    }

    #[test]
    fn stripes_add_up_to_the_blob_and_groups_follow_the_runs(
        scheme in schemes(), length in 0u64..5_000, stripe in 1u32..700, run in 1u32..4
    ) {
        let blob = blob(scheme, length, stripe, run);
        let geometry = Geometry::new(&blob).unwrap();
        let mut total = 0u64;
        for i in 0..geometry.stripes() {
            total += u64::from(geometry.stripe_len(i).unwrap());
            prop_assert_eq!(geometry.group(i).unwrap(), GroupId(10 + i / run));
            prop_assert_eq!(geometry.fragment(i, 3).unwrap().stripe, i);
        }
        prop_assert_eq!(total, length);
        prop_assert!(geometry.group(geometry.stripes()).is_err());
        prop_assert!(geometry.stripe_pieces(0..length + 1).is_err());
    }

    #[test]
    fn the_fragments_needed_hold_the_stripe(scheme in schemes(), len in 1u32..u32::MAX) {
        let room = needed_fragments(scheme) as u64 * u64::from(fragment_len(scheme, len));
        prop_assert!(room >= u64::from(len));
        prop_assert!(room < u64::from(len) + needed_fragments(scheme) as u64);
    }
}

#[test]
fn the_largest_stripe_maps_without_overflow() {
    let scheme = "200+55".parse().unwrap();
    let blob = blob(scheme, u64::from(u32::MAX) + 5, u32::MAX, 1);
    let geometry = Geometry::new(&blob).unwrap();
    assert_eq!(geometry.stripes(), 2);
    let last = geometry.fragment_pieces(0, u32::MAX - 1..u32::MAX).unwrap().unwrap();
    assert_eq!(last.len(), 1);
    assert_eq!(last[0].position, 199);
    assert_eq!(geometry.stripe_len(1).unwrap(), 5);
}

#[test]
fn novelpoly_rounds_its_fragments_to_symbols_of_a_power_of_two() {
    let scheme: Scheme = "10+4/novelpoly".parse().unwrap();
    assert_eq!(needed_fragments(scheme), 8);
    assert_eq!(fragment_len(scheme, 1), 2);
    assert_eq!(fragment_len(scheme, 16), 2);
    assert_eq!(fragment_len(scheme, 17), 4);
    let blob = blob(scheme, 100, 100, 1);
    assert_eq!(Geometry::new(&blob).unwrap().fragment_pieces(0, 1..2).unwrap(), None);
}

#[test]
fn records_that_contradict_themselves_are_refused() {
    let mut wrong = blob(Scheme::Replicated { copies: 3 }, 100, 10, 4);
    wrong.runs[0].stripes += 1;
    assert!(matches!(Geometry::new(&wrong), Err(GeometryError::Runs { runs: 11, stripes: 10 })));
    wrong.stripe_bytes = 0;
    assert!(matches!(Geometry::new(&wrong), Err(GeometryError::StripeBytes { .. })));
    let none = Blob { scheme: Scheme::Replicated { copies: 0 }, ..blob(Scheme::Replicated { copies: 1 }, 1, 1, 1) };
    assert!(matches!(Geometry::new(&none), Err(GeometryError::Scheme(_))));
}
