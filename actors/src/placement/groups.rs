//! Forming groups: enough of them in quiet times, and new ones from what lives when the old ones have lost members.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cairn_schema::{MetaError, ids::*, record::*};
use rand::{SeedableRng, rngs::StdRng};

use super::{
    Placement, Topology,
    choose::pick_healthy,
    members::{Candidate, pick_members},
    share_out::{groups_per_disk, share_out},
};
use crate::error::StoreError;

/// A former of groups keeps others out for at most this long; forming takes far less.
const LEASE_MS: u64 = 10_000;

/// How often and how long a request waits for another node that is forming groups.
const TURNS: u32 = 20;
const TURN: Duration = Duration::from_millis(100);

/// Groups that a disk that lives gets when a failure left no healthy group: enough to spread the load, few enough to
/// form at once.
const EMERGENCY_PER_DISK: usize = 2;

/// Groups made for one plan, within the lease: there are more plans.
const MOST_AT_ONCE: usize = 512;

impl Placement {
    /// Sees to it that every disk that can take writes is in about [`groups_per_disk`] groups of every scheme, in
    /// proportion to its size. Returns how many groups were made: 0 as well when another node is at it, or when there
    /// are too few disks for a scheme.
    pub async fn ensure_groups(&self) -> Result<usize, StoreError> {
        self.refresh().await?;
        let mut made = 0;
        for scheme in self.policy().schemes() {
            let topology = self.topology();
            let per_disk = groups_per_disk(topology.may_enter(scheme).count());
            if self.plan(&topology, scheme, per_disk).is_none_or(|plan| plan.is_empty()) {
                continue;
            }
            let _one = self.forming.lock().await;
            if let Some(lease) = self.lease(scheme).await? {
                let result = self.form(scheme, per_disk).await;
                self.release(&lease).await;
                made += result?;
            }
        }
        Ok(made)
    }

    /// A healthy group where there was none, or why there cannot be one, in an operator's words.
    pub(super) async fn form_for(&self, scheme: Scheme, avoid: &[GroupId]) -> Result<Arc<Group>, String> {
        let picture = self.topology().number;
        if let Some((hopeless, why)) = self.hopeless.lock().get(&scheme)
            && *hopeless == picture
        {
            return Err(why.clone());
        }
        let _one = self.forming.lock().await;
        let unreadable = |error: MetaError| format!("the placement rows cannot be read: {error}");
        for _ in 0..TURNS {
            self.refresh_soon().await.map_err(unreadable)?;
            let topology = self.topology();
            if let Some(group) = pick_healthy(&topology, scheme, avoid) {
                return Ok(group);
            }
            if let Err(why) = self.could_form(&topology, scheme) {
                // Of the picture that was looked at: there may be a better one by now.
                self.hopeless.lock().insert(scheme, (topology.number, why.clone()));
                return Err(why);
            }
            let Some(lease) = self.lease(scheme).await.map_err(unreadable)? else {
                tokio::time::sleep(TURN).await;
                continue;
            };
            let formed = self.form_avoiding(scheme, avoid).await;
            self.release(&lease).await;
            formed.map_err(|error| error.to_string())?;
            tracing::info!(%scheme, "a write found no healthy group: there are more now");
            return pick_healthy(&self.topology(), scheme, avoid)
                .ok_or_else(|| "groups were formed but lost a member at once; try again".to_owned());
        }
        Err("another node is forming groups; try again".to_owned())
    }

    /// Under the lease: what others formed in the meantime counts.
    async fn form_avoiding(&self, scheme: Scheme, avoid: &[GroupId]) -> Result<(), StoreError> {
        self.refresh().await?;
        if pick_healthy(&self.topology(), scheme, avoid).is_some() {
            return Ok(());
        }
        if self.form(scheme, EMERGENCY_PER_DISK).await? == 0 {
            // Every disk is in enough healthy groups, all of which the caller has tried in vain: one more, of other
            // company.
            let topology = self.topology();
            let candidates = self.candidates(&topology, scheme);
            let members = self.pick(&topology, scheme, &candidates)?;
            self.create(&topology, scheme, members).await?;
        }
        Ok(())
    }

    fn could_form(&self, topology: &Topology, scheme: Scheme) -> Result<(), String> {
        if !topology.policy().schemes().any(|known| known == scheme) {
            return Err("the cluster's policy has changed, and has no such scheme any more".to_owned());
        }
        self.pick(topology, scheme, &self.candidates(topology, scheme)).map(drop).map_err(|error| match error {
            StoreError::NoPlacement { why, .. } => why,
            other => other.to_string(),
        })
    }

    /// Makes the groups that are lacking. The caller holds the lease, so what it sees is what there is.
    async fn form(&self, scheme: Scheme, per_disk: usize) -> Result<usize, StoreError> {
        self.refresh().await?;
        let mut made = 0;
        // A member that went down since the picture was taken, or a policy that is over, makes the rest of the plan
        // stale: plan again, a few times.
        for _ in 0..3 {
            let topology = self.topology();
            if !topology.policy().schemes().any(|known| known == scheme) {
                break;
            }
            let Some(plan) = self.plan(&topology, scheme, per_disk) else { return Ok(made) };
            let mut stale = false;
            for members in plan {
                match self.create(&topology, scheme, members).await {
                    Ok(()) => made += 1,
                    Err(StoreError::Meta(MetaError::Stale(_))) => {
                        stale = true;
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            self.refresh().await?;
            if !stale {
                break;
            }
        }
        Ok(made)
    }

    /// Of members that were chosen in this picture: by a policy that is over no group is formed.
    async fn create(&self, topology: &Topology, scheme: Scheme, members: Vec<DiskId>) -> Result<(), StoreError> {
        let group = Arc::new(self.meta.form_group(topology.policy.generation, scheme, members).await?);
        tracing::debug!(group = %group.id, %scheme, members = ?group.members, "formed a placement group");
        self.take_group(group.id, Some(&group));
        Ok(())
    }

    /// The member lists of the groups to make next so that each fit disk comes to its share; None when the scheme
    /// cannot be placed at all.
    fn plan(&self, topology: &Topology, scheme: Scheme, per_disk: usize) -> Option<Vec<Vec<DiskId>>> {
        let mut candidates = self.candidates(topology, scheme);
        let level = topology.policy().failure_domain;
        let mut rng = self.rng(topology, scheme);
        share_out(scheme, level, &mut candidates, per_disk, MOST_AT_ONCE, &mut rng).ok()
    }

    fn pick(&self, topology: &Topology, scheme: Scheme, candidates: &[Candidate]) -> Result<Vec<DiskId>, StoreError> {
        pick_members(scheme, topology.policy().failure_domain, candidates, &mut StdRng::from_os_rng())
            .map_err(|error| StoreError::NoPlacement { scheme: scheme.to_string(), why: error.to_string() })
    }

    /// Two nodes that see the same make the same plan.
    fn rng(&self, topology: &Topology, scheme: Scheme) -> StdRng {
        let seed = (topology.rows.groups.len() as u64) << 16 | (scheme.width() as u64) << 8 | scheme.data() as u64;
        StdRng::seed_from_u64(seed)
    }

    /// Disks that may enter a new group, with the number of healthy groups that they are in.
    fn candidates(&self, topology: &Topology, scheme: Scheme) -> Vec<Candidate> {
        let mut healthy: HashMap<DiskId, usize> = HashMap::new();
        for member in topology.healthy_groups(scheme).iter().flat_map(|group| &group.members) {
            *healthy.entry(*member).or_default() += 1;
        }
        let mut candidates: Vec<_> = topology
            .may_enter(scheme)
            .map(|view| Candidate {
                id: view.disk.id,
                node: view.domain(FailureDomain::Node),
                rack: view.domain(FailureDomain::Rack),
                zone: view.domain(FailureDomain::Zone),
                // In MiB, so that sums stay far from overflow.
                weight: (view.capacity() >> 20).max(1),
                groups: healthy.get(&view.disk.id).copied().unwrap_or(0),
            })
            .collect();
        candidates.sort_by_key(|candidate| candidate.id);
        candidates
    }

    async fn lease(&self, scheme: Scheme) -> Result<Option<Lease>, MetaError> {
        self.meta.lease(&format!("placement/{scheme}"), self.node.as_str(), LEASE_MS).await
    }

    async fn release(&self, lease: &Lease) {
        if let Err(error) = self.meta.release(lease).await {
            tracing::debug!(%error, "a placement lease was not released; it runs out by itself");
        }
    }
}
