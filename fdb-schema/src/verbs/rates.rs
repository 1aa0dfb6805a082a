//! The rates of repair and scrub that hold on all nodes of a cluster.

use crate::{
    error::MetaError,
    ids::AttemptId,
    keyspace,
    record::{ClusterRates, RateOverrides, rows::AttemptRow},
    verbs::{
        Meta, Verb, attempts, placement,
        policy::first,
        tx::{Outcome, Tx, transact},
    },
};

impl Meta {
    /// Which rates hold instead of the nodes' own; none, of generation 0, until some are set.
    pub fn rates(&self) -> Verb<'_, ClusterRates> {
        Box::pin(async move { transact!(self, "rates", |tx| kept(tx)) })
    }

    /// Changes them if their generation still is `expected`, and the placement's revision, by which nodes learn of it.
    /// What is not named in `rates` is left to each node's configuration. Rates that are what they were before change
    /// nothing.
    ///
    /// # Errors
    /// Stale when somebody else changed them meanwhile; Invalid for a rate that no node could have.
    pub fn set_rates(&self, expected: u64, rates: RateOverrides) -> Verb<'_, ClusterRates> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "set_rates", |tx| set(tx, attempt, expected, rates))
        })
    }
}

async fn kept(tx: &mut Tx) -> Outcome<ClusterRates> {
    Ok(tx.get(&keyspace::rates()).await?.unwrap_or_default())
}

async fn set(tx: &mut Tx, attempt: AttemptId, expected: u64, rates: RateOverrides) -> Outcome<ClusterRates> {
    tx.prefetch(&[keyspace::attempt(attempt), keyspace::rates()]).await?;
    let next = ClusterRates { generation: expected.saturating_add(1), rates };
    if attempts::done_before(tx, attempt).await? {
        return Ok(next);
    }
    let kept = kept(tx).await?;
    if kept.generation != expected {
        return Err(MetaError::Stale("rates").into());
    }
    if kept.rates == rates {
        return Ok(kept);
    }
    first(rates.problems())?;
    tx.set(keyspace::rates(), &next);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    placement::changed(tx).await?;
    Ok(next)
}
