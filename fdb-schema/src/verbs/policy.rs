//! The policy that all nodes of a cluster go by.

use crate::{
    error::{MetaError, Result},
    ids::AttemptId,
    keyspace::{self, Space},
    record::{ClusterPolicy, Policy, SettingProblem, rows::AttemptRow},
    verbs::{
        Meta, Verb, attempts,
        by_policy::POLICY,
        placement,
        tx::{Outcome, Tx, all, transact},
    },
};

impl Meta {
    /// How data is kept. None in a store of before policies were kept, until [`Meta::cluster`] is called.
    pub fn policy(&self) -> Verb<'_, Option<ClusterPolicy>> {
        Box::pin(async move {
            let key = keyspace::policy();
            transact!(self, "policy", |tx| tx.get(&key))
        })
    }

    /// Changes the policy if its generation still is `expected`, and the placement's revision, by which nodes learn of
    /// it. One that is what it was before changes nothing.
    ///
    /// # Errors
    /// Stale when somebody else changed it meanwhile; Invalid for a policy that no cluster could have, or by which no
    /// stripe could be placed on the disks that there are.
    pub fn set_policy(&self, expected: u64, policy: Policy) -> Verb<'_, ClusterPolicy> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "set_policy", |tx| set(tx, attempt, expected, &policy))
        })
    }
}

/// The policy, which is the one that was told if none has been kept so far.
pub(super) async fn kept_or(tx: &mut Tx, told: &Policy) -> Outcome<ClusterPolicy> {
    if let Some(kept) = tx.get(&keyspace::policy()).await? {
        return Ok(kept);
    }
    first(told.problems())?;
    let first = ClusterPolicy { generation: 1, policy: *told };
    tx.set(keyspace::policy(), &first);
    placement::changed(tx).await?;
    Ok(first)
}

async fn set(tx: &mut Tx, attempt: AttemptId, expected: u64, policy: &Policy) -> Outcome<ClusterPolicy> {
    let key = keyspace::policy();
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    let next = ClusterPolicy { generation: expected.saturating_add(1), policy: *policy };
    if attempts::done_before(tx, attempt).await? {
        return Ok(next);
    }
    let kept: Option<ClusterPolicy> = tx.get(&key).await?;
    let kept = kept.filter(|kept| kept.generation == expected).ok_or(MetaError::Stale(POLICY))?;
    if kept.policy == *policy {
        return Ok(kept);
    }
    first(policy.problems())?;
    // As of one moment near this one: disks come and go, and no rule depends on which of them there are.
    first(policy.problems_with(&all(tx, Space::Disk).await?))?;
    tx.set(key, &next);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    placement::changed(tx).await?;
    Ok(next)
}

pub(super) fn first(problems: Vec<SettingProblem>) -> Result<()> {
    problems.into_iter().next().map_or(Ok(()), |problem| Err(problem.into()))
}
