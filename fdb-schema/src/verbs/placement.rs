//! Nodes, disks and placement groups.

use std::collections::BTreeSet;

use crate::{
    error::{MetaError, Result},
    ids::{AttemptId, DiskId, GroupId},
    keyspace::{self, Space},
    record::{Disk, DiskState, Group, GroupState, Node, Scheme, rows::AttemptRow},
    verbs::{
        Meta, Verb, attempts, by_policy,
        tx::{Outcome, Tx, all, transact},
    },
};

impl Meta {
    /// Creates or replaces the node's row.
    pub fn register_node(&self, node: Node) -> Verb<'_, ()> {
        Box::pin(async move { transact!(self, "register_node", |tx| register_node(tx, &node)) })
    }

    pub fn nodes(&self) -> Verb<'_, Vec<Node>> {
        Box::pin(async move { transact!(self, "nodes", |tx| all(tx, Space::Node)) })
    }

    /// Creates the disk as Up, or updates where it is and its capacity, keeping its state.
    pub fn register_disk(&self, disk: Disk) -> Verb<'_, Disk> {
        Box::pin(async move { transact!(self, "register_disk", |tx| register_disk(tx, &disk)) })
    }

    pub fn disks(&self) -> Verb<'_, Vec<Disk>> {
        Box::pin(async move { transact!(self, "disks", |tx| all(tx, Space::Disk)) })
    }

    /// Changes the state if it still is `from`; Err(Stale) otherwise. Returns the disk as it is now.
    pub fn set_disk_state(&self, disk: DiskId, from: DiskState, to: DiskState) -> Verb<'_, Disk> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "set_disk_state", |tx| set_disk_state(tx, attempt, disk, from, to))
        })
    }

    /// Changes the states of all of these disks that still are in their first one, in one transaction: what falls
    /// together is seen to. Returns those that are in their second one now.
    pub fn set_disk_states(&self, changes: Vec<(DiskId, DiskState, DiskState)>) -> Verb<'_, Vec<Disk>> {
        Box::pin(async move { transact!(self, "set_disk_states", |tx| set_disk_states(tx, &changes)) })
    }

    /// Creates a group with epoch 1 and the next free id. Err(Stale) when a member is not Up.
    pub fn create_group(&self, scheme: Scheme, members: Vec<DiskId>) -> Verb<'_, Group> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "create_group", |tx| create_group(tx, attempt, scheme, &members, None))
        })
    }

    /// As [`Meta::create_group`], of members that were chosen by the policy of this generation, 0 for one that is not
    /// kept. Err(Stale) also when another policy holds by now.
    pub fn form_group(&self, policy: u64, scheme: Scheme, members: Vec<DiskId>) -> Verb<'_, Group> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "create_group", |tx| create_group(tx, attempt, scheme, &members, Some(policy)))
        })
    }

    pub fn group(&self, id: GroupId) -> Verb<'_, Option<Group>> {
        Box::pin(async move {
            let key = keyspace::group(id);
            transact!(self, "group", |tx| tx.get(&key))
        })
    }

    pub fn groups(&self) -> Verb<'_, Vec<Group>> {
        Box::pin(async move { transact!(self, "groups", |tx| all(tx, Space::Group)) })
    }

    /// Replaces members or state if the epoch still is `epoch`; the new epoch is one more when the members changed.
    pub fn update_group(&self, id: GroupId, epoch: u64, members: Vec<DiskId>, state: GroupState) -> Verb<'_, Group> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "update_group", |tx| update_group(tx, attempt, id, epoch, &members, state))
        })
    }

    /// A number that grows with every change of nodes, disks, groups, the policy, the rates or maintenance: poll it to
    /// know when to read them again.
    pub fn placement_revision(&self) -> Verb<'_, u64> {
        Box::pin(async move { transact!(self, "placement_revision", |tx| revision(tx)) })
    }
}

async fn revision(tx: &mut Tx) -> Outcome<u64> {
    Ok(tx.get(&keyspace::placement_revision()).await?.unwrap_or(0))
}

pub(crate) async fn changed(tx: &mut Tx) -> Outcome<()> {
    let next = revision(tx).await? + 1;
    tx.set(keyspace::placement_revision(), &next);
    Ok(())
}

async fn register_node(tx: &mut Tx, node: &Node) -> Outcome<()> {
    let key = keyspace::node(&node.id);
    if tx.get::<Node>(&key).await?.as_ref() != Some(node) {
        tx.set(key, node);
        changed(tx).await?;
    }
    Ok(())
}

async fn register_disk(tx: &mut Tx, disk: &Disk) -> Outcome<Disk> {
    let key = keyspace::disk(disk.id);
    let before = tx.get::<Disk>(&key).await?;
    let (state, since_ms) = match &before {
        Some(before) => (before.state, before.since_ms),
        None => (DiskState::Up, tx.now_ms),
    };
    let now = Disk { state, since_ms, ..disk.clone() };
    if before.as_ref() != Some(&now) {
        tx.set(key, &now);
        changed(tx).await?;
    }
    Ok(now)
}

async fn set_disk_state(tx: &mut Tx, attempt: AttemptId, id: DiskId, from: DiskState, to: DiskState) -> Outcome<Disk> {
    let key = keyspace::disk(id);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    if let Some(AttemptRow::Disk(disk)) = attempts::earlier(tx, attempt).await? {
        return Ok(disk);
    }
    let mut disk = tx.get::<Disk>(&key).await?.ok_or(MetaError::Stale("disk"))?;
    if disk.state != from {
        return Err(MetaError::Stale("disk state").into());
    }
    if from != to {
        disk.state = to;
        disk.since_ms = tx.now_ms;
        tx.set(key, &disk);
        attempts::remember(tx, attempt, &AttemptRow::Disk(disk.clone()));
        changed(tx).await?;
    }
    Ok(disk)
}

/// Made twice, the second does nothing: no attempt needs to be remembered.
async fn set_disk_states(tx: &mut Tx, changes: &[(DiskId, DiskState, DiskState)]) -> Outcome<Vec<Disk>> {
    let keys: Vec<_> = changes.iter().map(|(id, ..)| keyspace::disk(*id)).collect();
    tx.prefetch(&keys).await?;
    let (mut any, mut now) = (false, Vec::new());
    for ((_, from, to), key) in changes.iter().zip(keys) {
        let Some(mut disk) = tx.get::<Disk>(&key).await? else { continue };
        if disk.state == *from && from != to {
            disk.state = *to;
            disk.since_ms = tx.now_ms;
            tx.set(key, &disk);
            any = true;
        }
        if disk.state == *to {
            now.push(disk);
        }
    }
    if any {
        changed(tx).await?;
    }
    Ok(now)
}

/// A stripe has one fragment on each member.
pub(crate) fn check_members(scheme: Scheme, members: &[DiskId]) -> Result<()> {
    let invalid = |why| Err(MetaError::Invalid { what: "group members", why });
    if members.len() != scheme.width() {
        return invalid(format!("scheme {scheme} wants {} disks, not {}", scheme.width(), members.len()));
    }
    if members.iter().collect::<BTreeSet<_>>().len() != members.len() {
        return invalid("a disk is named twice".to_owned());
    }
    Ok(())
}

async fn create_group(
    tx: &mut Tx,
    attempt: AttemptId,
    scheme: Scheme,
    members: &[DiskId],
    policy: Option<u64>,
) -> Outcome<Group> {
    if let Some(AttemptRow::Group(group)) = attempts::earlier(tx, attempt).await? {
        return Ok(group);
    }
    check_members(scheme, members)?;
    if let Some(generation) = policy {
        by_policy::check(tx, generation).await?;
    }
    let keys: Vec<_> = members.iter().map(|disk| keyspace::disk(*disk)).collect();
    let up = |disk: &Option<Disk>| disk.as_ref().is_some_and(|disk| disk.state == DiskState::Up);
    if !tx.get_many::<Disk>(&keys).await?.iter().all(up) {
        return Err(MetaError::Stale("group member").into());
    }
    let next = tx.get::<u64>(&keyspace::next_group()).await?.unwrap_or(1);
    let Ok(id) = u32::try_from(next).map(GroupId) else {
        return Err(MetaError::TooLarge { what: "group id", actual: next, limit: u32::MAX.into() }.into());
    };
    let group = Group { id, scheme, members: members.to_vec(), epoch: 1, state: GroupState::Open };
    tx.set(keyspace::group(id), &group);
    tx.set(keyspace::next_group(), &(next + 1));
    attempts::remember(tx, attempt, &AttemptRow::Group(group.clone()));
    changed(tx).await?;
    Ok(group)
}

async fn update_group(
    tx: &mut Tx,
    attempt: AttemptId,
    id: GroupId,
    epoch: u64,
    members: &[DiskId],
    state: GroupState,
) -> Outcome<Group> {
    let key = keyspace::group(id);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    if let Some(AttemptRow::Group(group)) = attempts::earlier(tx, attempt).await? {
        return Ok(group);
    }
    let group = tx.get::<Group>(&key).await?.ok_or(MetaError::Stale("group"))?;
    if group.epoch != epoch {
        return Err(MetaError::Stale("group epoch").into());
    }
    check_members(group.scheme, members)?;
    let epoch = if group.members == members { epoch } else { epoch + 1 };
    let now = Group { members: members.to_vec(), epoch, state, ..group.clone() };
    if now != group {
        tx.set(key, &now);
        attempts::remember(tx, attempt, &AttemptRow::Group(now.clone()));
        changed(tx).await?;
    }
    Ok(now)
}
