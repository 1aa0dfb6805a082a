//! Whom a read asks next, without anybody to ask.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use cairn_fragment::codec::Codec;
use cairn_schema::{
    ids::{BlobId, GroupId},
    record::ErasureCode,
};
use proptest::prelude::*;

use super::*;

const FRAGMENT_LEN: u32 = 1000;

fn rs(data: u8, parity: u8, code: ErasureCode) -> Scheme {
    Scheme::Rs { data, parity, code }
}

/// A piece that lies in the given ranges of the data fragments.
fn piece(scheme: Scheme, fragments: &[(u8, Range<u32>)]) -> Piece {
    let direct = fragments.iter().map(|(position, range)| {
        let stripe_offset = u32::from(*position) * FRAGMENT_LEN + range.start;
        FragmentPiece { position: *position, range: range.clone(), stripe_offset }
    });
    let interleaved = matches!(scheme, Scheme::Rs { code: ErasureCode::Novelpoly, .. });
    Piece {
        blob: BlobId([7; 16]),
        scheme,
        stripe: 0,
        group: GroupId(1),
        range: 0..FRAGMENT_LEN,
        stripe_len: FRAGMENT_LEN * scheme.data() as u32,
        fragment_len: FRAGMENT_LEN,
        fragments: (!interleaved).then(|| direct.collect()),
        promise: None,
        sealed: None,
    }
}

fn sources(scheme: Scheme, fragments: &[(u8, Range<u32>)]) -> Sources {
    let codec = Codec::new(scheme).unwrap();
    Sources::new(&piece(scheme, fragments), codec.needed(), codec.width())
}

fn zeros(ask: &Ask) -> Result<Bytes, Unread> {
    Ok(vec![0; ask.range.len()].into())
}

fn positions(asks: &[Ask]) -> Vec<u8> {
    asks.iter().map(|ask| ask.position).collect()
}

#[test]
fn only_the_fragments_that_hold_the_bytes_are_asked_while_all_answer() {
    let mut sources = sources(rs(4, 2, ErasureCode::Gf256), &[(1, 900..1000), (2, 0..50)]);
    assert_eq!(sources.longest(), 100);
    let asks = sources.begin(|_| true);
    assert_eq!(asks, [Ask { position: 1, range: 900..1000 }, Ask { position: 2, range: 0..50 }]);
    assert_eq!((sources.ask_window(|position| position), sources.rebuild_bytes()), (vec![], None));
    for ask in asks {
        assert!(!sources.is_complete());
        let answer = zeros(&ask);
        sources.take(ask, answer);
    }
    assert!(sources.is_complete() && sources.lost().is_empty());
    let bytes = sources.in_order(&HashMap::new()).unwrap();
    assert_eq!(bytes.iter().map(Bytes::len).collect::<Vec<_>>(), [100, 50]);
}

#[test]
fn a_failure_asks_as_many_others_as_rebuild_it_the_best_first() {
    let mut sources = sources(rs(3, 2, ErasureCode::Gf256), &[(0, 0..10)]);
    let mut asks = sources.begin(|_| true);
    sources.take(asks.pop().unwrap(), Err(Unread::Unreachable));
    assert_eq!((sources.rebuild_bytes(), sources.readable()), (Some(10 * 4), 4));
    let asks = sources.ask_window(std::cmp::Reverse);
    assert_eq!(positions(&asks), [4, 3, 2]);
    assert_eq!(sources.ask_window(|position| position), [], "they are asked already");
    for ask in asks {
        let answer = zeros(&ask);
        sources.take(ask, answer);
    }
    assert!(sources.is_complete());
    assert_eq!((sources.lost(), sources.present().len()), (vec![0], 3));
}

#[test]
fn a_disk_that_is_silent_is_asked_last_and_a_late_one_besides_others() {
    let mut sources = sources(rs(2, 1, ErasureCode::Gf256), &[(0, 0..10), (1, 0..10)]);
    let own = sources.begin(|position| position != 0);
    assert_eq!(positions(&own), [1]);
    // The other data fragment is coming anyway, and one more rebuilds.
    let others = sources.ask_window(|position| position == 0);
    assert_eq!(positions(&others), [2]);
    assert!(sources.can_hedge());
    sources.hedge();
    assert!(!sources.can_hedge(), "everybody is late already");
    let last = sources.ask_window(|position| position);
    assert_eq!(positions(&last), [0], "late reads are no longer counted on");
    // What is late still serves when it comes.
    for ask in own.into_iter().chain(others) {
        let answer = zeros(&ask);
        sources.take(ask, answer);
    }
    assert!(sources.is_complete());
    assert_eq!(sources.lost(), [0]);
}

#[test]
fn bnd_1_busy_disks_are_asked_again_a_few_times_and_no_more() {
    let mut sources = sources(Scheme::Replicated { copies: 2 }, &[(0, 0..FRAGMENT_LEN)]);
    assert_eq!(sources.begin(|_| true), []);
    for _ in 0..2 {
        let mut asks = sources.ask_window(|position| position);
        assert_eq!(asks.len(), 1);
        sources.take(asks.pop().unwrap(), Err(Unread::Busy));
    }
    let mut pauses = Vec::new();
    while let Some((pause, asks)) = sources.ask_busy_again() {
        pauses.push(pause);
        assert_eq!(positions(&asks), [0, 1]);
        asks.into_iter().for_each(|ask| sources.take(ask, Err(Unread::Busy)));
        assert_eq!(sources.ask_window(|position| position), []);
    }
    assert_eq!(pauses.len() as u32, BUSY_ROUNDS);
    assert!(pauses.is_sorted_by(|a, b| a < b) && !sources.is_complete());
}

/// What becomes of every read of one fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    BusyAtFirst,
    Lost,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![3 => Just(Fate::Whole), 1 => Just(Fate::BusyAtFirst), 2 => Just(Fate::Lost)]
}

proptest! {
    /// Whatever fails, whatever is late and in whatever order answers come: as long as enough fragments are whole the
    /// read ends with their bytes, it never asks a fragment for the same bytes while it waits for them, and with fewer
    /// it ends too, without bytes.
    #[test]
    fn dur_1_a_read_ends_with_its_bytes_exactly_if_enough_fragments_are_whole(
        (data, parity) in (1u8..6, 1u8..4),
        interleaved in any::<bool>(),
        fates in prop::collection::vec(fate(), 9),
        silent in prop::collection::vec(any::<bool>(), 9),
        starts in prop::collection::vec((0u32..500, 1u32..500), 5),
        chances in prop::collection::vec(any::<u8>(), 200),
    ) {
        let code = if interleaved { ErasureCode::Novelpoly } else { ErasureCode::Gf256 };
        let scheme = rs(data, parity, code);
        let codec = Codec::new(scheme).unwrap();
        let needed = codec.needed();
        let stripe: Bytes = (0..u32::from(data) * FRAGMENT_LEN).map(|n| (n * 31 % 251) as u8).collect::<Vec<_>>().into();
        let fragments = codec.encode(stripe.clone()).unwrap();
        let len = fragments[0].len() as u32;
        let direct: Vec<(u8, Range<u32>)> =
            (0..data).zip(&starts).map(|(position, (start, len))| (position, *start..start + len)).collect();
        let mut piece = piece(scheme, &direct);
        piece.fragment_len = len;
        let mut sources = Sources::new(&piece, needed, codec.width());
        let mut chances = chances.into_iter().cycle();
        let mut busy_asked = [0; 9];
        let mut pending: Vec<Ask> = sources.begin(|position| !silent[usize::from(position)]);
        let mut asked: BTreeMap<u8, usize> = BTreeMap::new();
        let complete = loop {
            pending.extend(sources.ask_window(|position| (silent[usize::from(position)], chances.next())));
            if sources.is_complete() {
                break true;
            }
            if pending.is_empty() {
                let Some((_, asks)) = sources.ask_busy_again() else { break false };
                pending.extend(asks);
            }
            let chance = usize::from(chances.next().unwrap());
            if chance % 5 == 0 && sources.can_hedge() {
                sources.hedge();
                continue;
            }
            let ask = pending.swap_remove(chance % pending.len());
            let position = usize::from(ask.position);
            *asked.entry(ask.position).or_default() += 1;
            prop_assert!(asked[&ask.position] <= 20, "{ask:?} again and again");
            let answer = match fates[position] {
                Fate::Lost => Err(Unread::Unreachable),
                Fate::BusyAtFirst if busy_asked[position] < 2 => {
                    busy_asked[position] += 1;
                    Err(Unread::Busy)
                }
                _ => Ok(fragments[position].slice(ask.range.start as usize..ask.range.end as usize)),
            };
            sources.take(ask, answer);
        };
        let whole = fates[..codec.width()].iter().filter(|fate| **fate != Fate::Lost).count();
        let data_whole = !interleaved && direct.iter().all(|(position, _)| fates[usize::from(*position)] != Fate::Lost);
        prop_assert_eq!(complete, whole >= needed || data_whole);
        if complete && sources.any_serve() {
            let pieces = codec.decode_stripe(&sources.present(), stripe.len()).unwrap();
            prop_assert_eq!(pieces.concat(), stripe.to_vec());
        } else if complete {
            let lost = sources.lost();
            let rebuilt = codec.reconstruct(&sources.present(), &lost, sources.window_len());
            let rebuilt = if lost.is_empty() { HashMap::new() } else { lost.into_iter().zip(rebuilt.unwrap()).collect() };
            let bytes = sources.in_order(&rebuilt).unwrap();
            for ((position, range), bytes) in direct.iter().zip(bytes) {
                prop_assert_eq!(bytes, fragments[usize::from(*position)].slice(range.start as usize..range.end as usize));
            }
        }
    }
}
