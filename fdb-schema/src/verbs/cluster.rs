//! The cluster's identity, and its birth.

use bytes::Bytes;

use crate::{
    error::{MetaError, Result, unfinished_import},
    ids::ClusterId,
    keyspace,
    record::{Policy, rows::ClusterRow},
    verbs::{
        ClusterInfo, Meta, Verb, policy,
        tx::{Outcome, Tx, transact},
    },
};

impl Meta {
    /// The cluster's identity and policy; created by the first caller, with the policy that it was told. A cluster of
    /// before policies were kept gets that of whoever comes first. Err(Corrupt) while an import is unfinished;
    /// Err(Invalid) for a policy that no cluster could have.
    pub fn cluster(&self, told: Policy) -> Verb<'_, ClusterInfo> {
        Box::pin(async move { transact!(self, "cluster", |tx| cluster(tx, &told)) })
    }

    /// The cluster's identity, if it has one: changes nothing. Err(Corrupt) while an import is unfinished.
    pub fn existing_cluster(&self) -> Verb<'_, Option<ClusterId>> {
        Box::pin(async move {
            let row = transact!(self, "existing_cluster", |tx| existing(tx))?;
            Ok(row.map(|row| row.id))
        })
    }

    /// A cheap read: whether the store answers at all.
    pub fn ping(&self) -> Verb<'_, ()> {
        Box::pin(async move { transact!(self, "ping", |tx| ping(tx)) })
    }

    /// Commits a row and reads it back: whether the store takes changes and keeps them. A process has one row, under
    /// its name.
    ///
    /// # Errors
    /// Stale when what is read is not what was written.
    pub fn prove<'a>(&'a self, name: &'a str) -> Verb<'a, ()> {
        Box::pin(async move {
            // A second time, because a late commit of an earlier call may have come between.
            for _ in 0..2 {
                let written = Bytes::copy_from_slice(&rand::random::<[u8; 16]>());
                transact!(self, "prove", |tx| write_proof(tx, name, &written))?;
                if transact!(self, "prove", |tx| read_proof(tx, name))? == Some(written) {
                    return Ok(());
                }
            }
            Err(MetaError::Stale("a row reads back otherwise than it was committed"))
        })
    }
}

async fn existing(tx: &mut Tx) -> Outcome<Option<ClusterRow>> {
    let key = keyspace::cluster();
    tx.prefetch(&[key.clone(), keyspace::importing(), keyspace::policy()]).await?;
    if tx.raw(&keyspace::importing()).await?.is_some() {
        return Err(unfinished_import().into());
    }
    tx.get(&key).await
}

async fn cluster(tx: &mut Tx, told: &Policy) -> Outcome<ClusterInfo> {
    let row = match existing(tx).await? {
        Some(row) => row,
        None => born(tx),
    };
    let policy = policy::kept_or(tx, told).await?;
    Ok(ClusterInfo { id: row.id, created_ms: row.created_ms, policy })
}

fn born(tx: &mut Tx) -> ClusterRow {
    let row = ClusterRow { id: ClusterId::random(), created_ms: tx.now_ms };
    tx.set(keyspace::cluster(), &row);
    // No blob can be older than the cluster.
    tx.set_raw(keyspace::stripes_are_counted(), Bytes::new());
    row
}

/// Writes without reading, so that nothing conflicts: of two processes of one name both succeed, and the later row
/// stands.
async fn write_proof(tx: &mut Tx, name: &str, proof: &Bytes) -> Outcome<()> {
    tx.set_raw(keyspace::proof(name), proof.clone());
    Ok(())
}

async fn read_proof(tx: &mut Tx, name: &str) -> Outcome<Option<Bytes>> {
    tx.raw(&keyspace::proof(name)).await
}

async fn ping(tx: &mut Tx) -> Outcome<()> {
    tx.raw(&keyspace::cluster()).await?;
    Ok(())
}
