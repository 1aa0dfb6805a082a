//! Whether a node may judge others. Pure, so that every case is a line of a test.

/// What a node sees of the cluster when it considers calling another dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Nodes with a disk that counts as up, this one included.
    pub voters: usize,
    /// Those of them that gossip calls alive, this one included.
    pub alive: usize,
    /// This node has disks, and others have called all of them down: it is the one suspected.
    pub accused: bool,
}

/// A node cut off from the rest sees everybody dead. It may decide only while it sees more than half of those that
/// count, and is not accused itself. Nodes already decided down do not count, so a cluster may shrink step by step. Of
/// two nodes neither ever sees more than half when the other is gone: there the store that both reach decides, and the
/// first to ask wins.
pub fn may_judge(sight: Sight) -> bool {
    !sight.accused && in_company(sight)
}

/// Whether this node sees enough of the cluster to say that it is part of it: asked before it calls its own disks up
/// again.
pub fn in_company(sight: Sight) -> bool {
    sight.voters <= 2 || sight.alive * 2 > sight.voters
}

/// The whole cluster, for decisions that start moving data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Nodes that have not lost all of their disks.
    pub all: usize,
    /// Those of them that have a disk which counts as up, and seem alive.
    pub alive: usize,
}

/// Half a cluster does not give up the other half: that is a power cut or a broken switch, not so many broken machines,
/// and the data could not be rebuilt from what is left anyway. An operator may.
pub fn may_give_up(tally: Tally) -> bool {
    tally.all <= 2 || tally.alive * 2 > tally.all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_cluster_gives_nobody_up() {
        assert!(may_give_up(Tally { all: 6, alive: 4 }));
        assert!(!may_give_up(Tally { all: 6, alive: 3 }));
        assert!(!may_give_up(Tally { all: 6, alive: 1 }));
        assert!(may_give_up(Tally { all: 2, alive: 1 }));
    }

    #[test]
    fn the_larger_side_of_a_split_judges_and_the_smaller_never() {
        let sight = |voters, alive| Sight { voters, alive, accused: false };
        for voters in 3..20 {
            for alive in 1..=voters {
                let other_side = voters - alive;
                let both = may_judge(sight(voters, alive)) && may_judge(sight(voters, other_side));
                assert!(!both, "{alive} and {other_side} of {voters} both judge");
                assert_eq!(may_judge(sight(voters, alive)), alive > other_side);
            }
        }
        assert!(may_judge(sight(1, 1)) && may_judge(sight(2, 1)));
        assert!(!may_judge(Sight { accused: true, ..sight(6, 6) }));
    }
}
