//! The cluster's identity.

use crate::{
    error::{Result, unfinished_import},
    ids::ClusterId,
    keyspace,
    record::rows::ClusterRow,
    verbs::{
        ClusterInfo, Meta,
        tx::{Outcome, Tx, transact},
    },
};

impl Meta {
    /// The cluster's identity; created by the first caller. Err(Corrupt) while an import is unfinished.
    pub async fn cluster(&self) -> Result<ClusterInfo> {
        transact!(self, "cluster", |tx| cluster(tx))
    }

    /// A cheap read of the store, for readiness.
    pub async fn ping(&self) -> Result<()> {
        transact!(self, "ping", |tx| ping(tx))
    }
}

async fn cluster(tx: &mut Tx) -> Outcome<ClusterInfo> {
    let key = keyspace::cluster();
    tx.prefetch(&[key.clone(), keyspace::importing()]).await?;
    if tx.raw(&keyspace::importing()).await?.is_some() {
        return Err(unfinished_import().into());
    }
    if let Some(ClusterRow { id, created_ms }) = tx.get(&key).await? {
        return Ok(ClusterInfo { id, created_ms });
    }
    let row = ClusterRow { id: ClusterId::random(), created_ms: tx.now_ms };
    tx.set(key, &row);
    Ok(ClusterInfo { id: row.id, created_ms: row.created_ms })
}

async fn ping(tx: &mut Tx) -> Outcome<()> {
    tx.raw(&keyspace::cluster()).await?;
    Ok(())
}
