//! Whether a history of one register is linearizable: Wing and Gong's search (Testing and Verifying Concurrent Objects,
//! 1993) with Lowe's memory of what was tried (Testing for linearizability, 2017).
//!
//! Requests whose outcome nobody knows would double the search each. They are used only where an answer needs them:
//! such a write has no end before which it must take effect, so if it is not seen it may be left out, and if it is, it
//! may as well take effect right before whoever sees it first.

use std::collections::HashSet;

use super::model::{Need, Op, State};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Some order explains every answer.
    Linear,
    /// None does.
    NotLinear,
    /// The search was given up.
    Undecided,
}

/// What was put in order so far, and what the key holds then.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Node {
    /// All requests before this one, in order of their beginnings, and those of `ahead`, sorted.
    base: usize,
    ahead: Vec<u32>,
    /// Which of the unknown ones, sorted.
    used: Vec<u32>,
    state: State,
}

/// Looks for an order, through at most `most` states.
pub fn judge(ops: &[Op], most: usize) -> Answer {
    let search = Search::of(ops);
    let start = Node { base: 0, ahead: Vec::new(), used: Vec::new(), state: None };
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(node) = open.pop() {
        if node.base == search.known.len() {
            return Answer::Linear;
        }
        for next in search.after(&node) {
            if seen.len() >= most {
                return Answer::Undecided;
            }
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    Answer::NotLinear
}

/// Both sorted by their beginnings.
struct Search<'a> {
    known: Vec<(&'a Op, u64)>,
    unknown: Vec<&'a Op>,
}

impl<'a> Search<'a> {
    fn of(ops: &'a [Op]) -> Self {
        let mut known: Vec<(&Op, u64)> = ops.iter().filter_map(|op| Some((op, op.ended?))).collect();
        let mut unknown: Vec<&Op> = ops.iter().filter(|op| op.ended.is_none() && op.writes.is_some()).collect();
        known.sort_by_key(|(op, _)| op.begun);
        unknown.sort_by_key(|op| op.begun);
        Self { known, unknown }
    }

    fn after(&self, node: &Node) -> Vec<Node> {
        let (next, first_end) = self.next(node);
        // What only looks, and sees what is there, can go first without harm to any other.
        let plain = |index: &&usize| {
            let op = self.known[**index].0;
            op.writes.is_none() && op.need.holds(node.state)
        };
        if let Some(index) = next.iter().find(plain) {
            return vec![self.with(node, *index, node.used.clone(), node.state)];
        }
        let mut nodes = Vec::new();
        for index in next {
            let op = self.known[index].0;
            for (used, state) in self.ways(&node.used, node.state, op.need, first_end) {
                nodes.push(self.with(node, index, used, op.writes.unwrap_or(state)));
            }
        }
        nodes
    }

    /// Which requests may take effect next: those that began before the first of the others ended, and that end.
    fn next(&self, node: &Node) -> (Vec<usize>, u64) {
        let (mut next, mut first_end) = (Vec::new(), u64::MAX);
        for (index, (op, ended)) in self.known.iter().enumerate().skip(node.base) {
            if op.begun > first_end {
                break;
            }
            if node.ahead.binary_search(&(index as u32)).is_err() {
                next.push(index);
                first_end = first_end.min(*ended);
            }
        }
        (next, first_end)
    }

    /// How the key can come to hold what is needed, by as many of the unknown requests as that takes.
    fn ways(&self, used: &[u32], state: State, need: Need, before: u64) -> Vec<(Vec<u32>, State)> {
        if need.holds(state) {
            return vec![(used.to_vec(), state)];
        }
        let mut ways = Vec::new();
        for (index, op) in self.unknown.iter().enumerate().take_while(|(_, op)| op.begun <= before) {
            let Some(written) = op.writes.filter(|written| need.holds(*written)) else { continue };
            let Err(at) = used.binary_search(&(index as u32)) else { continue };
            let mut with = used.to_vec();
            with.insert(at, index as u32);
            let before_it = self.ways(&with, state, op.need, before);
            ways.extend(before_it.into_iter().map(|(used, _)| (used, written)));
        }
        ways
    }

    fn with(&self, node: &Node, index: usize, used: Vec<u32>, state: State) -> Node {
        let (mut base, mut ahead) = (node.base, node.ahead.clone());
        if let Err(at) = ahead.binary_search(&(index as u32)) {
            ahead.insert(at, index as u32);
        }
        let run = ahead.iter().enumerate().take_while(|(at, index)| **index as usize == base + at).count();
        base += run;
        ahead.drain(..run);
        Node { base, ahead, used, state }
    }
}
