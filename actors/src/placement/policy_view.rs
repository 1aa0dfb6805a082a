//! The cluster's policy as this node goes by it, and where the node was told otherwise.

use cairn_schema::{ids::NodeId, record::*};

use crate::policy::NodeMemory;

/// What a node's own configuration says.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub policy: Policy,
    pub memory: NodeMemory,
}

/// Of a node whose memory is no matter.
impl From<Policy> for Told {
    fn from(policy: Policy) -> Self {
        Self { policy, memory: NodeMemory::UNBOUNDED }
    }
}

/// The policy that holds on this node. The metadata decide; what the node was told itself holds only as long as they
/// were not read, or keep none.
#[derive(Clone, Debug)]
pub struct PolicyView {
    /// 0 while it is what the node was told itself.
    pub generation: u64,
    pub policy: Policy,
    /// Where the node was told otherwise.
    pub differences: Vec<PolicyDifference>,
    /// Why this node could not hold what it would write by it, and so writes nothing (BND-1).
    pub too_large: Option<String>,
}

impl PolicyView {
    pub(super) fn new(told: &Told, kept: Option<ClusterPolicy>) -> Self {
        let ClusterPolicy { generation, policy } = kept.unwrap_or(ClusterPolicy { generation: 0, policy: told.policy });
        let (differences, too_large) = (told.policy.differences(&policy), told.memory.too_small_for(&policy));
        Self { generation, policy, differences, too_large }
    }

    /// Says what an operator has to put right.
    pub(super) fn tell(&self, node: &NodeId) {
        if !self.differences.is_empty() {
            let differences: Vec<_> = self.differences.iter().map(ToString::to_string).collect();
            tracing::warn!(
                %node,
                generation = self.generation,
                "the configuration of this node is not the cluster's policy, which it obeys: {}; put the cluster's \
                 values into the configuration, or change the cluster's with `cairn admin policy set`",
                differences.join("; ")
            );
        }
        if let Some(why) = &self.too_large {
            tracing::error!(
                %node,
                generation = self.generation,
                %why,
                "this node has too little memory for the cluster's policy and takes no writes: raise limits.memory and \
                 restart it"
            );
        }
    }
}
