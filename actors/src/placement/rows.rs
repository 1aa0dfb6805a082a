//! The rows of the metadata that placement and healing work with, read together.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use cairn_schema::{Meta, MetaError, ids::*, record::*};

/// Rows of groups under repair that one transaction reads.
const REPAIRS_PER_PAGE: usize = 1000;

/// Nodes, disks, groups, the policy, the rates and maintenance as they were at one revision, or a little later.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// [`Meta::placement_revision`] before they were read; None while nothing has been read. Who remembers what it saw
    /// last can tell by this whether anything has changed since.
    pub revision: Option<u64>,
    /// None in a store that keeps none.
    pub policy: Option<ClusterPolicy>,
    pub rates: ClusterRates,
    pub maintenance: ClusterMaintenance,
    /// Nodes whose windows of maintenance are not over, as the node judges that read the rows: see
    /// [`super::maintenance`]. Empty where nobody judges.
    pub maintained: HashSet<NodeId>,
    pub nodes: HashMap<NodeId, Node>,
    pub disks: HashMap<DiskId, Disk>,
    pub groups: HashMap<GroupId, Arc<Group>>,
}

impl Rows {
    /// The rows now, or None if they are still those of `known`.
    pub(super) async fn newer(meta: &Meta, known: Option<u64>) -> Result<Option<Self>, MetaError> {
        // Before the rows: those that change meanwhile are at worst read once more.
        let revision = Some(meta.placement_revision().await?);
        if revision == known {
            return Ok(None);
        }
        Ok(Some(Self { revision, ..Self::read(meta).await? }))
    }

    /// The rows now, without their revision.
    pub async fn read(meta: &Meta) -> Result<Self, MetaError> {
        let (policy, rates, maintenance, nodes, disks, groups) = futures::try_join!(
            meta.policy(),
            meta.rates(),
            meta.maintenance(),
            meta.nodes(),
            meta.disks(),
            meta.groups()
        )?;
        Ok(Self {
            revision: None,
            policy,
            rates,
            maintenance,
            maintained: HashSet::new(),
            nodes: nodes.into_iter().map(|node| (node.id.clone(), node)).collect(),
            disks: disks.into_iter().map(|disk| (disk.id, disk)).collect(),
            groups: groups.into_iter().map(|group| (group.id, Arc::new(group))).collect(),
        })
    }

    pub fn state(&self, disk: DiskId) -> Option<DiskState> {
        self.disks.get(&disk).map(|disk| disk.state)
    }

    /// Whether somebody works on a disk's node: nothing is put there that can go elsewhere, and it is not given up.
    pub fn is_maintained(&self, disk: DiskId) -> bool {
        self.disks.get(&disk).is_some_and(|disk| self.maintained.contains(&disk.node))
    }

    /// The groups that a disk is a member of, and where, in order.
    pub fn positions_of(&self, disk: DiskId) -> Vec<(GroupId, u8)> {
        let position = |group: &Group| group.members.iter().position(|member| *member == disk);
        let mut positions: Vec<_> =
            self.groups.values().filter_map(|group| Some((group.id, u8::try_from(position(group)?).ok()?))).collect();
        positions.sort_unstable();
        positions
    }
}

/// All groups under repair, in order of group.
pub(crate) async fn all_group_repairs(meta: &Meta) -> Result<Vec<GroupRepair>, MetaError> {
    let (mut repairs, mut after) = (Vec::new(), None);
    loop {
        let page = meta.group_repairs(after, REPAIRS_PER_PAGE).await?;
        let Some(last) = page.last() else { return Ok(repairs) };
        after = Some(last.group);
        repairs.extend(page);
    }
}
