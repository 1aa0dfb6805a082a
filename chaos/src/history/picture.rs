//! A small history drawn in letters: a line for each request, time from left to right.

use std::fmt::Write as _;

use super::model::{Need, Op, State};

/// More are not drawn: nobody looks at them.
pub const MOST: usize = 24;
const STEP: usize = 4;

/// Each beginning and end has a column of its own, so that the order can be read, not the time between.
pub fn picture(ops: &[Op]) -> String {
    let mut ops: Vec<&Op> = ops.iter().collect();
    ops.sort_by_key(|op| op.begun);
    let left_out = ops.len().saturating_sub(MOST);
    ops.truncate(MOST);
    let mut times: Vec<u64> = ops.iter().flat_map(|op| [Some(op.begun), op.ended]).flatten().collect();
    times.sort_unstable();
    times.dedup();
    let column = |time: u64| times.partition_point(|other| *other < time) * STEP;
    let width = times.len() * STEP;
    let mut text = String::new();
    for op in &ops {
        let (from, to) = (column(op.begun), op.ended.map_or(width, column));
        let end = if op.ended.is_some() { '|' } else { '?' };
        let bar = format!("{}|{}{end}", " ".repeat(from), "-".repeat((to - from).saturating_sub(1)));
        let ms = op.begun as f64 / 1000.0;
        let _ = writeln!(text, "{bar:<w$}  {}  (client {}, at {ms:.1} ms)", words(op), op.client, w = width + 1);
    }
    if left_out > 0 {
        let _ = writeln!(text, "and {left_out} more");
    }
    text
}

/// What a request did, in a few words.
pub fn words(op: &Op) -> String {
    let wrote = op.writes.map(|state| format!(" writes {}", name(state))).unwrap_or_default();
    let saw = match op.need {
        Need::Anything => String::new(),
        Need::Is(state) => format!(" saw {}", name(state)),
        Need::IsNot(None) => " saw something".into(),
        Need::IsNot(state) => format!(" saw other than {}", name(state)),
    };
    let unknown = if op.ended.is_none() { ", outcome unknown" } else { "" };
    format!("{}{saw}{wrote}{unknown}", op.name)
}

fn name(state: State) -> String {
    state.map_or_else(|| "nothing".into(), |number| format!("{number:x}"))
}
