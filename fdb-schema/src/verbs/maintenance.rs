//! Nodes that operators work on.

use crate::{
    error::MetaError,
    ids::AttemptId,
    keyspace,
    record::{ClusterMaintenance, MaintenanceWindow, Node, rows::AttemptRow},
    verbs::{
        Meta, Verb, attempts, placement,
        policy::first,
        tx::{Outcome, Tx, transact},
    },
};

impl Meta {
    /// Which nodes are under maintenance; none, of serial 0, until some are.
    pub fn maintenance(&self) -> Verb<'_, ClusterMaintenance> {
        Box::pin(async move { transact!(self, "maintenance", |tx| kept(tx)) })
    }

    /// Says which nodes are under maintenance if the serial still is `expected`, and changes the placement's revision,
    /// by which nodes learn of it. What was so before changes nothing.
    ///
    /// # Errors
    /// Stale when somebody else changed it meanwhile; NoSuchEntry for a new window of a node that is not registered;
    /// Invalid for windows that no cluster could have.
    pub fn set_maintenance(&self, expected: u64, windows: Vec<MaintenanceWindow>) -> Verb<'_, ClusterMaintenance> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "set_maintenance", |tx| set(tx, attempt, expected, &windows))
        })
    }
}

async fn kept(tx: &mut Tx) -> Outcome<ClusterMaintenance> {
    Ok(tx.get(&keyspace::maintenance()).await?.unwrap_or_default())
}

async fn set(
    tx: &mut Tx,
    attempt: AttemptId,
    expected: u64,
    windows: &[MaintenanceWindow],
) -> Outcome<ClusterMaintenance> {
    tx.prefetch(&[keyspace::attempt(attempt), keyspace::maintenance()]).await?;
    let next = ClusterMaintenance { serial: expected.saturating_add(1), windows: windows.to_vec() };
    if attempts::done_before(tx, attempt).await? {
        return Ok(next);
    }
    let kept = kept(tx).await?;
    if kept.serial != expected {
        return Err(MetaError::Stale("maintenance").into());
    }
    if kept.windows == windows {
        return Ok(kept);
    }
    first(next.problems())?;
    for window in windows.iter().filter(|window| !kept.windows.contains(window)) {
        if tx.get::<Node>(&keyspace::node(&window.node)).await?.is_none() {
            return Err(MetaError::NoSuchEntry { what: "node", name: window.node.to_string() }.into());
        }
    }
    tx.set(keyspace::maintenance(), &next);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    placement::changed(tx).await?;
    Ok(next)
}
