//! Which group takes the next stripe.

use std::{cmp::Reverse, sync::Arc};

use cairn_schema::{ids::*, record::*};
use rand::{Rng, seq::SliceRandom};

use super::{DiskView, Placement, Topology, write_quorum};
use crate::error::StoreError;

impl Placement {
    /// A group for the next stripe of a scheme, not among `avoid`.
    ///
    /// In this order: one of two random healthy groups (the less burdened); a group formed now from the disks that
    /// live; an old group whose members that live can make the stripe safe; the same with members on nodes that
    /// somebody works on; at first, one whose members could that may only have been slow; else
    /// [`StoreError::NoPlacement`] that says what is lacking.
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
            .or_else(|| self.pick_degraded(scheme, avoid, |disk| disk.fit_but_for_maintenance().is_ok()))
            .or_else(late)
            .ok_or_else(|| StoreError::NoPlacement { scheme: scheme.to_string(), why })
    }

    /// One of the open groups that such members can make a stripe safe in: of those with the most members that are fit
    /// as far as is known, any.
    fn pick_degraded(&self, scheme: Scheme, avoid: &[GroupId], such: impl Fn(&DiskView) -> bool) -> Option<Arc<Group>> {
        let topology = self.topology();
        let quorum = write_quorum(scheme, topology.policy().write_margin);
        let mut groups = topology.open_groups(scheme);
        groups.retain(|group| !avoid.contains(&group.id) && topology.members_that(group, &such).len() >= quorum);
        groups.shuffle(&mut rand::rng());
        groups.sort_by_cached_key(|group| Reverse(topology.fit_members(group)));
        // Not by their number alone: a group whose fit members lie in too few domains would only cost a deadline.
        groups.into_iter().find(|group| topology.safety(group).holds(topology.members_that(group, &such)))
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
