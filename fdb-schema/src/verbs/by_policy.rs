//! What is decided by a policy is refused when another holds by now: it reads the policy in the transaction that makes
//! it true, for the node that decided may not have learnt of a change yet.

use crate::{
    error::MetaError,
    keyspace,
    record::ClusterPolicy,
    verbs::tx::{Outcome, Tx},
};

/// What is [`MetaError::Stale`] when the policy has changed.
pub const POLICY: &str = "policy";

/// Stale unless the policy is of this generation; 0: none is kept.
pub(super) async fn check(tx: &mut Tx, generation: u64) -> Outcome<()> {
    let kept: Option<ClusterPolicy> = tx.get(&keyspace::policy()).await?;
    match kept.map_or(0, |kept| kept.generation) == generation {
        true => Ok(()),
        false => Err(MetaError::Stale(POLICY).into()),
    }
}
