//! A blob between its last durable fragment and its commit.

use std::{collections::HashMap, sync::Arc};

use cairn_fragment::Positions;
use cairn_schema::{ids::*, record::*};

use super::stripe::WriteContext;
use crate::{
    data_path::{Remains, Span},
    error::StoreError,
    placement::Placement,
};

/// A blob whose stripes are all safe and that no metadata names. Dropping it deletes its fragments.
pub(super) struct PendingBlob {
    pub context: Option<Arc<WriteContext>>,
    pub stripe_bytes: u32,
    pub length: u64,
    pub checksum: u64,
    /// The generation of the policy that the write began with.
    pub policy: u64,
    pub written: Vec<Span>,
    pub absent: Vec<(u32, u8)>,
}

impl PendingBlob {
    /// From now on dropping it deletes nothing; what it returns does, given to the cleaner.
    pub(super) fn disarm(&mut self) -> Option<Remains> {
        Some(self.context.take()?.remains(Vec::new(), Vec::new()))
    }

    /// Groups of the blob whose members changed between two of its stripes: the caller must say what they are now.
    pub(super) fn groups_of_two_minds(&self) -> Vec<GroupId> {
        let mut epochs = HashMap::new();
        let mut changed: Vec<_> = self
            .written
            .iter()
            .filter(|span| *epochs.entry(span.group.id).or_insert(span.group.epoch) != span.group.epoch)
            .map(|span| span.group.id)
            .collect();
        changed.sort();
        changed.dedup();
        changed
    }

    pub(super) fn groups(&self) -> Vec<GroupId> {
        let mut groups: Vec<_> = self.written.iter().map(|span| span.group.id).collect();
        groups.sort();
        groups.dedup();
        groups
    }

    /// The blob as it is to be committed, where `now` are the groups as they are now, if other than when they were
    /// written to. A fragment whose position has since moved to another disk counts as missing; if that leaves a stripe
    /// unsafe, or the cluster's policy has changed and one is not safe by that, the answer is an error, and the client
    /// must send the body again.
    pub(super) fn to_commit(
        &self,
        blob: BlobId,
        scheme: Scheme,
        now: &HashMap<GroupId, Arc<Group>>,
        placement: &Placement,
    ) -> Result<NewBlob, StoreError> {
        let mut runs: Vec<StripeRun> = Vec::new();
        let mut epochs: Vec<(GroupId, u64)> = Vec::new();
        let mut missing = Vec::new();
        let mut absent = self.absent.clone();
        absent.sort_unstable();
        let topology = placement.topology();
        let generation = topology.policy.generation;
        let changed = generation != self.policy;
        if changed && !topology.policy().schemes().any(|known| known == scheme) {
            return Err(StoreError::Busy("the cluster's policy, and with it the scheme, changed during the write"));
        }
        for span in &self.written {
            let current = now.get(&span.group.id).unwrap_or(&span.group);
            if !epochs.iter().any(|(id, _)| *id == current.id) {
                epochs.push((current.id, current.epoch));
            }
            match runs.last_mut() {
                Some(run) if run.group == span.group.id => run.stripes += span.stripes,
                _ => runs.push(StripeRun { group: span.group.id, stripes: span.stripes }),
            }
            let moved = moved_positions(&span.group, current);
            let safety = topology.safety(current);
            if changed && topology.is_crowded(current) {
                return Err(StoreError::Busy(
                    "the cluster's policy changed during the write, which is too crowded by it",
                ));
            }
            for stripe in span.first..span.first + span.stripes {
                let from = absent.partition_point(|(other, _)| *other < stripe);
                let mut gone: Vec<u8> =
                    absent[from..].iter().take_while(|(other, _)| *other == stripe).map(|(_, p)| *p).collect();
                gone.extend(&moved);
                gone.sort_unstable();
                gone.dedup();
                // Without moves, by the same policy, it is as safe as it was when it was written.
                if changed || !moved.is_empty() {
                    let positions = (0..scheme.width()).map(|position| position as u8);
                    let durable: Positions = positions.filter(|position| !gone.contains(position)).collect();
                    if !safety.holds(durable) {
                        let what = if changed { "another policy" } else { "other members" };
                        let why = format!("{} was given {what} while it was written to", span.group.id);
                        return Err(safety.refusal(durable, why));
                    }
                }
                let name = |position| FragmentName { group: span.group.id, blob, stripe, position };
                missing.extend(gone.into_iter().map(name));
            }
        }
        let blob = Blob {
            id: blob,
            scheme,
            length: self.length,
            stripe_bytes: self.stripe_bytes,
            runs,
            checksum: self.checksum,
        };
        Ok(NewBlob { blob, epochs, missing, policy: Some(generation) })
    }

    pub(super) fn identity(&self) -> Option<(BlobId, Scheme)> {
        self.context.as_ref().map(|context| (context.blob, context.scheme))
    }
}

impl Drop for PendingBlob {
    fn drop(&mut self) {
        let data = self.context.as_ref().map(|context| context.data.clone());
        if let (Some(data), Some(remains)) = (data, self.disarm()) {
            data.cleaner.clean(remains);
        }
    }
}

/// Positions whose disk is another than when the fragments were written. A group that shrank has lost the rest.
fn moved_positions(then: &Group, now: &Group) -> Vec<u8> {
    let moved = then.members.iter().enumerate().filter(|(position, disk)| now.members.get(*position) != Some(disk));
    moved.map(|(position, _)| position as u8).collect()
}
