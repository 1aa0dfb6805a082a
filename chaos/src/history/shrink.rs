//! The least of a history that no order explains: what a person looks at.

use super::{
    model::{Need, Op},
    search::{Answer, judge},
};

/// Leaves out whatever can be left out without hiding the fault. Every step only takes constraints away, so what is
/// left is a fault of the whole history too.
pub fn smallest(ops: &[Op], most: usize) -> Vec<Op> {
    let is_bad = |ops: &[Op]| judge(ops, most) == Answer::NotLinear;
    let mut bad = ops.to_vec();
    // What comes after the first answer that nothing explains is not needed.
    let mut ends: Vec<u64> = bad.iter().filter_map(|op| op.ended).collect();
    ends.sort_unstable();
    let (mut low, mut high) = (0, ends.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match is_bad(&until(ops, ends[middle])) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    if let Some(end) = ends.get(low) {
        bad = until(ops, *end);
    }
    for index in (0..bad.len()).rev() {
        let mut without = bad.clone();
        if bad[index].writes.is_none() {
            without.remove(index);
        } else {
            without[index].ended = None;
        }
        if is_bad(&without) {
            bad = without;
        }
    }
    unneeded(bad)
}

/// What had been told when a client was told at `time`.
fn until(ops: &[Op], time: u64) -> Vec<Op> {
    let begun = ops.iter().filter(|op| op.begun <= time).cloned();
    let cut = begun.map(|op| Op { ended: op.ended.filter(|ended| *ended <= time), ..op });
    cut.filter(Op::counts).collect()
}

/// Without the unknown writes of which no answer that is left tells.
fn unneeded(ops: Vec<Op>) -> Vec<Op> {
    if ops.iter().any(|op| matches!(op.need, Need::IsNot(_))) {
        return ops;
    }
    let wanted: Vec<Need> = ops.iter().map(|op| op.need).collect();
    let is_seen = |op: &Op| op.ended.is_some() || op.writes.is_some_and(|state| wanted.contains(&Need::Is(state)));
    ops.into_iter().filter(is_seen).collect()
}
