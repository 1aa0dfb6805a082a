//! The leases of groups that a node repairs.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use cairn_schema::{MetaError, ids::*, record::*};

use super::Context;

const LEASE: Duration = Duration::from_secs(30);
/// A lease is renewed, and deletes refused, when it is older than this.
const FRESH: Duration = Duration::from_secs(12);

#[derive(Default)]
pub(super) struct Leases {
    held: HashMap<GroupId, (Lease, Instant)>,
}

impl Leases {
    /// Takes a group's, or renews it in time; false when another node has it.
    pub(super) async fn hold(&mut self, ctx: &Context, group: GroupId) -> Result<bool, MetaError> {
        if self.held.get(&group).is_some_and(|(_, since)| since.elapsed() < FRESH / 2) {
            return Ok(true);
        }
        let asked = Instant::now();
        match ctx.lease(&format!("repair/{group}"), LEASE).await? {
            Some(lease) => {
                self.held.insert(group, (lease, asked));
                Ok(true)
            }
            None => {
                self.held.remove(&group);
                Ok(false)
            }
        }
    }

    /// Whether a group's lease surely holds, asked at any time after.
    pub(super) fn watch(&self, group: GroupId) -> impl Fn() -> bool + Sync + use<> {
        let held = self.held.get(&group).map(|(_, since)| *since);
        move || held.is_some_and(|since| since.elapsed() < FRESH)
    }

    pub(super) async fn release_all(&mut self, ctx: &Context) {
        for (_, (lease, _)) in self.held.drain() {
            ctx.release(lease).await;
        }
    }
}
