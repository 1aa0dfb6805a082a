//! Which group takes the next stripe.

use std::sync::Arc;

use cairn_schema::{ids::*, record::*};
use rand::Rng;

use super::{DiskView, Placement, Topology};
use crate::error::StoreError;

/// Durable fragments at which a stripe is safe: the data's number plus the margin, never more than there are; copies
/// need at least one besides the first wherever there is a second.
pub fn write_quorum(scheme: Scheme, margin: u8) -> usize {
    let wanted = scheme.data() + usize::from(margin);
    let least = if matches!(scheme, Scheme::Replicated { .. }) { 2 } else { 0 };
    wanted.max(least).min(scheme.width())
}

impl Placement {
    /// A group for the next stripe of a scheme, not among `avoid`.
    ///
    /// In this order: one of two random healthy groups (the less burdened); a group formed now from the disks that
    /// live; an old group of which enough members for the write quorum live; at first, one of which enough members may
    /// only have been slow; else [`StoreError::NoPlacement`] that says what is lacking.
    pub async fn choose(&self, scheme: Scheme, avoid: &[GroupId]) -> Result<Arc<Group>, StoreError> {
        if let Some(group) = pick_healthy(&self.topology(), scheme, avoid) {
            return Ok(group);
        }
        let why = match self.form_for(scheme, avoid).await {
            Ok(group) => return Ok(group),
            Err(why) => why,
        };
        // A busy node avoids disks for their slowness until too few are left: late is better than refused. Once only,
        // or a write to disks that really are gone would wait for one deadline after the other.
        let late = || avoid.is_empty().then(|| self.pick_degraded(scheme, avoid, DiskView::may_be_fit)).flatten();
        self.pick_degraded(scheme, avoid, |disk| disk.fit().is_ok())
            .or_else(late)
            .ok_or_else(|| StoreError::NoPlacement { scheme: scheme.to_string(), why })
    }

    /// One of the open groups with the most such members, if they are enough for the write quorum.
    fn pick_degraded(&self, scheme: Scheme, avoid: &[GroupId], such: impl Fn(&DiskView) -> bool) -> Option<Arc<Group>> {
        let topology = self.topology();
        let quorum = write_quorum(scheme, self.policy.write_margin);
        let groups = topology.open_groups(scheme).into_iter().filter(|group| !avoid.contains(&group.id));
        let enough =
            groups.map(|group| (topology.members_that(&group, &such), group)).filter(|(fit, _)| *fit >= quorum);
        let enough: Vec<_> = enough.collect();
        let most = enough.iter().map(|(fit, _)| *fit).max()?;
        let best: Vec<_> = enough.into_iter().filter(|(fit, _)| *fit == most).map(|(_, group)| group).collect();
        Some(best[rand::rng().random_range(0..best.len())].clone())
    }
}

/// Power of two choices among the healthy groups.
pub(super) fn pick_healthy(topology: &Topology, scheme: Scheme, avoid: &[GroupId]) -> Option<Arc<Group>> {
    let healthy = topology.healthy_groups(scheme);
    if !healthy.is_empty() && avoid.is_empty() {
        return Some(less_burdened(topology, healthy).clone());
    }
    let left: Vec<_> = healthy.iter().filter(|group| !avoid.contains(&group.id)).cloned().collect();
    if left.is_empty() { None } else { Some(less_burdened(topology, &left).clone()) }
}

/// `groups` is not empty.
fn less_burdened<'a>(topology: &Topology, groups: &'a [Arc<Group>]) -> &'a Arc<Group> {
    let mut rng = rand::rng();
    let first = rng.random_range(0..groups.len());
    if groups.len() == 1 {
        return &groups[first];
    }
    // Another than the first, each as likely.
    let second = (first + rng.random_range(1..groups.len())) % groups.len();
    let (first, second) = (&groups[first], &groups[second]);
    if topology.burden(second) < topology.burden(first) { second } else { first }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn quorum_is_data_plus_margin_and_copies_need_a_second() {
        let quorum = |scheme: &str, margin| write_quorum(scheme.parse().unwrap(), margin);
        assert_eq!(quorum("4+2", 1), 5);
        assert_eq!(quorum("4+2", 0), 4);
        assert_eq!(quorum("4+2", 9), 6);
        assert_eq!(quorum("replicated(1)", 1), 1);
        assert_eq!(quorum("replicated(2)", 0), 2);
        assert_eq!(quorum("replicated(3)", 1), 2);
        assert_eq!(quorum("replicated(3)", 2), 3);
    }
}
