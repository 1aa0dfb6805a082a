//! The decision.

use crate::{
    actions::ActionSet,
    conditions::Effect,
    decision::{Decision, Ground, Missing, Policies, Source, StatementRef},
    policy::Policy,
    request::{Principal, Request},
};

/// What the account's root may do even if the bucket's policy denies it, so that nobody is locked out for good.
const NEVER_LOCKED: [&str; 3] = ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"];

/// Decides by the logic of requests within one account: a statement that denies wins, wherever it is; then whoever owns
/// the account or the bucket may, and whom any policy of the user or of the bucket allows it, as long as the session
/// policy, if there is one, allows it too. Anonymous requests have only the bucket's policy. The root may read, replace
/// and delete a bucket's policy whatever that says.
pub fn decide<'a>(policies: &Policies<'a>, request: &Request<'_>) -> Decision<'a> {
    let Some(action) = ActionSet::one(request.action) else { return Decision::NotAllowed(Missing::Action) };
    let is_root = matches!(request.principal, Principal::Root { .. });
    let is_anonymous = request.principal == Principal::Anonymous;
    let first = |source, policy: &'a Policy, effect| {
        let statements = policy.statements().iter().enumerate();
        let mut of_effect = statements.filter(|(_, statement)| statement.effect == effect);
        let (index, statement) = of_effect.find(|(_, statement)| statement.applies(action, request))?;
        Some(StatementRef { source, index, sid: statement.sid.as_deref() })
    };
    // Nobody attaches policies to nobody.
    let identity = if is_anonymous { &[] } else { policies.identity };
    let of_identity = |effect| {
        let numbered = identity.iter().enumerate();
        numbered.map(|(index, policy)| (Source::Identity(index), *policy)).find_map(|(s, p)| first(s, p, effect))
    };
    let of_session = |effect| policies.session.and_then(|policy| first(Source::Session, policy, effect));
    let of_bucket = |effect| policies.bucket.and_then(|policy| first(Source::Bucket, policy, effect));

    let never_locked = is_root && NEVER_LOCKED.iter().any(|name| name.eq_ignore_ascii_case(request.action));
    let denied = if never_locked { None } else { of_bucket(Effect::Deny) };
    if let Some(statement) = denied.or_else(|| of_session(Effect::Deny)).or_else(|| of_identity(Effect::Deny)) {
        return Decision::Denied(statement);
    }
    let ground = if is_root {
        Ground::Root
    } else if policies.owner_is_principal && !is_anonymous {
        Ground::Owner
    } else if let Some(statement) = of_identity(Effect::Allow).or_else(|| of_bucket(Effect::Allow)) {
        Ground::Statement(statement)
    } else {
        return Decision::NotAllowed(Missing::Grant);
    };
    if policies.session.is_some() && of_session(Effect::Allow).is_none() {
        return Decision::NotAllowed(Missing::SessionGrant);
    }
    // Only the bucket's policy can have allowed it.
    if is_anonymous && policies.restrict_public && policies.bucket.is_some_and(Policy::is_public) {
        return Decision::NotAllowed(Missing::PublicAccess);
    }
    Decision::Allowed(ground)
}
