//! The decision.

use crate::request::{Decision, Missing, Policies, Request};

/// Decides by the logic of requests within one account: a statement that denies wins, wherever it is; then whoever owns
/// the account or the bucket may, and whom any policy of the user or of the bucket allows it, as long as the session
/// policy, if there is one, allows it too. Anonymous requests have only the bucket's policy. The root may read, replace
/// and delete a bucket's policy whatever that says, so that nobody is locked out for good.
pub fn decide<'a>(_policies: &Policies<'a>, _request: &Request<'_>) -> Decision<'a> {
    Decision::NotAllowed(Missing::Grant)
}
