#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::{Answer, Need, Op, State, judge, picture, smallest};

const MOST: usize = 1 << 20;

fn op(name: &'static str, need: Need, writes: Option<State>, begun: u64, ended: Option<u64>) -> Op {
    Op { client: 0, name, need, writes, begun, ended }
}

fn put(value: u64, begun: u64, ended: impl Into<Option<u64>>) -> Op {
    op("PUT", Need::Anything, Some(Some(value)), begun, ended.into())
}

fn get(state: State, begun: u64, ended: u64) -> Op {
    op("GET", Need::Is(state), None, begun, Some(ended))
}

fn delete(begun: u64, ended: impl Into<Option<u64>>) -> Op {
    op("DELETE", Need::Anything, Some(None), begun, ended.into())
}

#[test]
fn con_1_a_read_after_an_acknowledged_write_must_see_it() {
    assert_eq!(judge(&[put(1, 0, 1), get(Some(1), 2, 3)], MOST), Answer::Linear);
    assert_eq!(judge(&[put(1, 0, 1), get(None, 2, 3)], MOST), Answer::NotLinear);
    assert_eq!(judge(&[put(1, 0, 2), get(None, 1, 3)], MOST), Answer::Linear);
    assert_eq!(judge(&[put(1, 0, 1), put(2, 2, 3), get(Some(1), 4, 5)], MOST), Answer::NotLinear);
}

#[test]
fn con_1_what_was_seen_stays_seen() {
    // The write is under way; one reader sees it, and a later one does not.
    assert_eq!(judge(&[put(1, 0, 9), get(Some(1), 1, 2), get(None, 3, 4)], MOST), Answer::NotLinear);
    assert_eq!(judge(&[put(1, 0, None), get(Some(1), 1, 2), get(None, 3, 4)], MOST), Answer::NotLinear);
}

#[test]
fn what_nobody_was_told_of_may_happen_late_or_never_but_once() {
    let unknown = put(1, 0, None);
    assert_eq!(judge(&[unknown.clone(), get(None, 5, 6)], MOST), Answer::Linear);
    assert_eq!(judge(&[unknown.clone(), get(None, 5, 6), get(Some(1), 7, 8)], MOST), Answer::Linear);
    let twice = [unknown.clone(), get(Some(1), 1, 2), delete(3, 4), get(None, 5, 6), get(Some(1), 7, 8)];
    assert_eq!(judge(&twice, MOST), Answer::NotLinear);
    assert_eq!(judge(&[get(Some(1), 0, 1), put(1, 2, None)], MOST), Answer::NotLinear);
    let chain = [
        put(1, 0, 1),
        op("PUT if-match", Need::Is(Some(2)), Some(Some(3)), 2, None),
        op("PUT if-match", Need::Is(Some(1)), Some(Some(2)), 2, None),
        get(Some(3), 5, 6),
    ];
    assert_eq!(judge(&chain, MOST), Answer::Linear);
    assert_eq!(judge(&[&chain[..2], &chain[3..]].concat(), MOST), Answer::NotLinear);
}

#[test]
fn two_conditional_writes_cannot_both_have_found_nothing() {
    let first = |value, begun| op("PUT if-none-match", Need::Is(None), Some(Some(value)), begun, Some(begun + 2));
    assert_eq!(judge(&[first(1, 0), first(2, 1)], MOST), Answer::NotLinear);
    let refused = op("PUT if-none-match", Need::IsNot(None), None, 1, Some(3));
    assert_eq!(judge(&[first(1, 0), refused.clone()], MOST), Answer::Linear);
    assert_eq!(judge(&[refused], MOST), Answer::NotLinear);
}

#[test]
fn a_search_that_is_too_long_is_given_up_and_not_called_good() {
    let ops: Vec<Op> = (0..12).map(|number| put(number, 0, 100)).collect();
    assert_eq!(judge(&[&ops[..], &[get(Some(99), 200, 201)]].concat(), 50), Answer::Undecided);
}

#[test]
fn the_smallest_bad_history_has_just_what_shows_the_fault() {
    let mut ops = vec![put(1, 0, 1), get(Some(1), 2, 3), put(2, 4, 5), get(Some(2), 6, 7)];
    ops.extend([put(3, 8, 9), get(Some(2), 10, 11), put(4, 12, 13), get(Some(4), 14, 15)]);
    let least = smallest(&ops, MOST);
    assert_eq!(judge(&least, MOST), Answer::NotLinear);
    assert_eq!(least.len(), 3, "{}", picture(&least));
    let drawn = picture(&least);
    assert!(drawn.contains("GET saw 2") && drawn.contains("PUT writes 3") && !drawn.contains("writes 4"), "{drawn}");
}

/// What clients would have seen of a register that takes each request at one moment between its beginning and end.
fn observed(kinds: &[(u8, u64, u64, bool)]) -> Vec<Op> {
    let mut state = None;
    let mut ops = Vec::new();
    for (turn, (kind, before, after, told)) in kinds.iter().enumerate() {
        let (now, number) = (100 * turn as u64 + 1000, turn as u64 + 1);
        let (begun, ended) = (now - before, told.then_some(now + after));
        let mut op = match kind {
            0 | 1 => put(number, begun, ended),
            2 => delete(begun, ended),
            3 if state.is_none() => op("PUT if-none-match", Need::Is(None), Some(Some(number)), begun, ended),
            3 => op("PUT if-none-match", Need::IsNot(None), None, begun, ended),
            4 => op("LIST", if state.is_none() { Need::Is(None) } else { Need::IsNot(None) }, None, begun, ended),
            _ => op("GET", Need::Is(state), None, begun, ended),
        };
        op.client = turn % 3;
        state = op.writes.unwrap_or(state);
        if op.counts() {
            ops.push(op);
        }
    }
    ops
}

fn kinds(most: usize) -> impl Strategy<Value = Vec<(u8, u64, u64, bool)>> {
    // Wide enough to overlap with several others.
    prop::collection::vec((0u8..9, 0u64..350, 0u64..350, prop::bool::weighted(0.85)), 1..most)
}

/// All orders of all choices of the unknown ones, one after another.
fn any_order(ops: &[Op], done: &mut Vec<bool>, state: State) -> bool {
    let open = |done: &[bool]| (0..ops.len()).filter(|index| !done[*index]).collect::<Vec<_>>();
    let left = open(done);
    if left.iter().all(|index| ops[*index].ended.is_none()) {
        return true;
    }
    for index in left.clone() {
        let op = &ops[index];
        let too_early = left.iter().any(|other| ops[*other].ended.is_some_and(|ended| ended < op.begun));
        if too_early || !op.need.holds(state) {
            continue;
        }
        done[index] = true;
        if any_order(ops, done, op.writes.unwrap_or(state)) {
            return true;
        }
        done[index] = false;
    }
    false
}

proptest! {
    #[test]
    fn con_1_histories_of_a_register_are_accepted(kinds in kinds(60)) {
        prop_assert_eq!(judge(&observed(&kinds), MOST), Answer::Linear);
    }

    #[test]
    fn small_histories_are_judged_as_by_trying_every_order(kinds in kinds(8), changed in 0usize..8, sees in 0u64..9) {
        let mut ops = observed(&kinds);
        let count = ops.len().max(1);
        if let Some(op) = ops.get_mut(changed % count) {
            // Any answer but the one that was given.
            op.need = match sees {
                0 => Need::Is(None),
                8 => Need::IsNot(None),
                number => Need::Is(Some(number)),
            };
        }
        ops.retain(Op::counts);
        let expected = any_order(&ops, &mut vec![false; ops.len()], None);
        let found = judge(&ops, MOST);
        prop_assert_eq!(found, if expected { Answer::Linear } else { Answer::NotLinear }, "{}", picture(&ops));
        if found == Answer::NotLinear {
            prop_assert_eq!(judge(&smallest(&ops, MOST), MOST), Answer::NotLinear);
        }
    }

    #[test]
    fn con_1_a_value_read_after_it_was_overwritten_is_refused(kinds in kinds(40)) {
        let mut ops = observed(&kinds);
        ops.extend([put(901, 90_000, 90_001), put(902, 90_002, 90_003), get(Some(901), 90_004, 90_005)]);
        prop_assert_eq!(judge(&ops, MOST), Answer::NotLinear);
    }
}
