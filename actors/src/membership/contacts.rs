//! What this node finds out about the others by asking them itself. That is what counts: gossip, which anybody can
//! forge, only says whom to ask first. Pure, so that every case is a line of a test.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use cairn_schema::ids::NodeId;

use crate::placement::Liveness;

/// Gossip needs a few rounds before silence means anything.
const START_ROUNDS: u32 = 12;
const LEAST_START_GRACE: Duration = Duration::from_secs(3);
/// An answer stands for so many rounds of gossip; whoever is in doubt still is asked again when half of them are over.
const ROUNDS_AFTER_ANSWER: u32 = 5;
/// Each of the others is asked in its turn, whatever is said of it, one in so many rounds of gossip.
const ROUNDS_OF_A_TURN: u32 = 10;
const LEAST_TURN: Duration = Duration::from_secs(1);
/// A node that gossip calls alive has to leave probes unanswered for so long: it may just be busy.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is said of another node, before it is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signs {
    /// By gossip.
    pub alive: bool,
    /// It has disks that count as up: if it is gone, somebody has to say so.
    pub has_up: bool,
    /// Requests to a disk of it failed lately.
    pub failing: bool,
}

/// Who answers this node.
pub(super) struct Contacts {
    started: Instant,
    interval: Duration,
    heard: HashSet<NodeId>,
    /// When each answered last.
    answered: HashMap<NodeId, Instant>,
    /// Since when each has answered nothing that it was asked.
    unanswered: HashMap<NodeId, Instant>,
    /// Found to answer nobody. Gossip does not make them alive again; an answer does.
    silent: HashSet<NodeId>,
    next_turn: Instant,
    last_turn: Option<NodeId>,
}

impl Contacts {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            started: now,
            interval,
            heard: HashSet::new(),
            answered: HashMap::new(),
            unanswered: HashMap::new(),
            silent: HashSet::new(),
            next_turn: now,
            // Each node begins with another.
            last_turn: None,
        }
    }

    /// Takes note of what gossip says; forgets who is not there any more.
    pub(super) fn hear(&mut self, alive: impl Iterator<Item = NodeId>, is_there: impl Fn(&NodeId) -> bool) {
        self.heard.extend(alive);
        self.heard.retain(&is_there);
        self.silent.retain(&is_there);
        self.answered.retain(|node, _| is_there(node));
        self.unanswered.retain(|node, _| is_there(node));
    }

    fn has_settled(&self, now: Instant) -> bool {
        now.duration_since(self.started) > (self.interval * START_ROUNDS).max(LEAST_START_GRACE)
    }

    fn answered_within(&self, node: &NodeId, rounds: Duration, now: Instant) -> bool {
        self.answered.get(node).is_some_and(|when| now.duration_since(*when) < rounds)
    }

    /// Silence in gossip, of a node that was never heard, means something only after gossip has had time.
    fn is_suspect(&self, node: &NodeId, alive: bool, now: Instant) -> bool {
        !alive && (self.heard.contains(node) || self.has_settled(now))
    }

    /// Whether it counts as present when this node asks how much of the cluster it sees.
    pub(super) fn counts(&self, node: &NodeId, alive: bool, now: Instant) -> bool {
        let answered = self.answered_within(node, self.interval * ROUNDS_AFTER_ANSWER, now);
        answered || alive && !self.silent.contains(node)
    }

    pub(super) fn seems(&self, node: &NodeId, alive: bool, now: Instant) -> Liveness {
        if self.silent.contains(node) {
            Liveness::Dead
        } else if self.counts(node, alive, now) || !self.is_suspect(node, alive, now) {
            Liveness::Alive
        } else {
            Liveness::Suspect
        }
    }

    /// Whether it may be asked for its opinion about another.
    pub(super) fn may_know(&self, node: &NodeId, alive: bool, now: Instant) -> bool {
        self.counts(node, alive, now) && !self.unanswered.contains_key(node)
    }

    /// Whom to ask now: who is in doubt, by gossip, by requests or by earlier probes, and one more in its turn.
    pub(super) fn ask_now(&mut self, others: &[(NodeId, Signs)], now: Instant) -> Vec<NodeId> {
        let fresh = self.interval * ROUNDS_AFTER_ANSWER / 2;
        let settled = self.has_settled(now);
        let in_doubt = |(node, signs): &&(NodeId, Signs)| {
            if self.silent.contains(node) {
                // It may have come back.
                return signs.alive || signs.has_up;
            }
            let doubted = match signs.has_up {
                true => self.is_suspect(node, signs.alive, now) || settled && signs.failing,
                // Only gossip speaks for it.
                false => settled && signs.alive,
            };
            signs.has_up && self.unanswered.contains_key(node) || doubted && !self.answered_within(node, fresh, now)
        };
        let mut asked: Vec<NodeId> = others.iter().filter(in_doubt).map(|(node, _)| node.clone()).collect();
        if settled && now >= self.next_turn {
            self.next_turn = now + (self.interval * ROUNDS_OF_A_TURN).max(LEAST_TURN);
            asked.extend(self.turn(others).filter(|node| !asked.contains(node)));
        }
        asked
    }

    /// The next in order of those with disks that are up; at first any, so that not all nodes ask the same.
    fn turn(&mut self, others: &[(NodeId, Signs)]) -> Option<NodeId> {
        let mut with_up: Vec<&NodeId> = others.iter().filter(|(_, signs)| signs.has_up).map(|(node, _)| node).collect();
        with_up.sort_unstable();
        let next = match &self.last_turn {
            Some(last) => with_up.iter().find(|node| **node > last).or(with_up.first()).copied(),
            None if with_up.is_empty() => None,
            None => Some(with_up[rand::random_range(0..with_up.len())]),
        };
        self.last_turn = next.cloned();
        self.last_turn.clone()
    }

    /// It answered this node, or another that told so.
    pub(super) fn answers(&mut self, node: &NodeId, now: Instant) {
        self.answered.insert(node.clone(), now);
        self.unanswered.remove(node);
        self.silent.remove(node);
    }

    pub(super) fn leaves_unanswered(&mut self, node: &NodeId, now: Instant) {
        self.unanswered.entry(node.clone()).or_insert(now);
    }

    /// Whether it has left enough unanswered for others to be asked about it.
    pub(super) fn is_overdue(&self, node: &NodeId, alive: bool, now: Instant) -> bool {
        self.unanswered.get(node).is_some_and(|since| !alive || now.duration_since(*since) >= PATIENCE)
    }

    /// It answers nobody.
    pub(super) fn found_silent(&mut self, node: &NodeId) {
        self.answered.remove(node);
        self.silent.insert(node.clone());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn node(index: u8) -> NodeId {
        format!("n{index}").parse().unwrap()
    }

    fn signs(alive: bool, failing: bool) -> Signs {
        Signs { alive, has_up: true, failing }
    }

    /// Contacts of a node that has run for a minute, and has asked in every turn.
    fn settled(now: Instant) -> Contacts {
        let mut contacts = Contacts::new(SECOND, now - 60 * SECOND);
        contacts.next_turn = now + 60 * SECOND;
        contacts
    }

    #[test]
    fn who_is_in_doubt_is_asked_and_others_in_their_turn() {
        let now = Instant::now();
        let mut contacts = settled(now);
        let others = [(node(1), signs(true, false)), (node(2), signs(false, false)), (node(3), signs(true, true))];
        assert_eq!(contacts.ask_now(&others, now), [node(2), node(3)]);
        contacts.answers(&node(2), now);
        contacts.leaves_unanswered(&node(3), now);
        assert_eq!(contacts.ask_now(&others, now + SECOND), [node(3)], "an answer stands for a while");
        assert_eq!(contacts.ask_now(&others, now + 3 * SECOND), [node(2), node(3)]);
        // All of them, one after another, whatever is said of them.
        let calm = [1, 2, 3].map(|index| (node(index), signs(true, false)));
        let mut contacts = settled(now);
        contacts.next_turn = now;
        let mut turns: Vec<_> = (0..3).flat_map(|turn| contacts.ask_now(&calm, now + turn * 10 * SECOND)).collect();
        turns.sort();
        assert_eq!(turns, [node(1), node(2), node(3)]);
    }

    #[test]
    fn gossip_revives_nobody_and_kills_nobody() {
        let now = Instant::now();
        let mut contacts = settled(now);
        // Forged alive.
        contacts.leaves_unanswered(&node(1), now);
        assert!(
            !contacts.is_overdue(&node(1), true, now + SECOND) && contacts.is_overdue(&node(1), true, now + PATIENCE)
        );
        assert!(contacts.is_overdue(&node(1), false, now), "gossip had its own patience");
        contacts.found_silent(&node(1));
        assert_eq!(contacts.seems(&node(1), true, now), Liveness::Dead);
        assert!(!contacts.counts(&node(1), true, now) && !contacts.may_know(&node(1), true, now));
        assert_eq!(contacts.ask_now(&[(node(1), Signs { has_up: false, ..signs(true, false) })], now), [node(1)]);
        contacts.answers(&node(1), now);
        assert_eq!(contacts.seems(&node(1), true, now), Liveness::Alive);
        // Called down by others, and gossip goes on to call it alive: it is asked for this node's own picture.
        let down = [(node(1), Signs { has_up: false, ..signs(true, false) })];
        assert_eq!(contacts.ask_now(&down, now + SECOND), []);
        assert_eq!(contacts.ask_now(&down, now + 3 * SECOND), [node(1)]);
        // Forged dead.
        assert_eq!(contacts.seems(&node(2), false, now), Liveness::Suspect);
        contacts.answers(&node(2), now);
        assert_eq!(contacts.seems(&node(2), false, now + 4 * SECOND), Liveness::Alive);
        assert!(contacts.counts(&node(2), false, now) && contacts.may_know(&node(2), false, now));
        // A node of which nothing was heard yet, at first.
        let young = Contacts::new(SECOND, now);
        assert_eq!(young.seems(&node(3), false, now + SECOND), Liveness::Alive);
        assert!(!young.counts(&node(3), false, now + SECOND));
    }
}
