//! Policies attached to users and groups, with a row for each shared one that says so: what is attached somewhere is
//! not deleted.

use bytes::Bytes;

use crate::{
    error::MetaError,
    keyspace::{self, LinkKind},
    record::{
        ACCESS_POLICY_MAX_BYTES, AccessPolicy, AttachedPolicy, MAX_ATTACHED, check_access_name, check_policy_text,
        within_access_limit,
    },
    verbs::tx::{Outcome, Tx},
};

/// Whom something is attached to: a user's or a group's name, and the kind of its links to policies.
pub(super) type Holder<'a> = (LinkKind, &'a str);

/// Puts `policy` in the place of that of the same name, or behind the others.
pub(super) async fn attach(
    tx: &mut Tx,
    (kind, holder): Holder<'_>,
    policies: &mut Vec<AttachedPolicy>,
    policy: &AttachedPolicy,
) -> Outcome<()> {
    check_access_name("policy name", &policy.name)?;
    match &policy.text {
        Some(text) => check_policy_text(text)?,
        None => {
            // Read, so that a deletion beside this conflicts.
            let kept: Option<AccessPolicy> = tx.get(&keyspace::access_policy(&policy.name)).await?;
            kept.ok_or_else(|| MetaError::NoSuchEntry { what: "policy", name: policy.name.clone() })?;
        }
    }
    match policies.iter_mut().find(|other| other.name == policy.name) {
        Some(other) => other.clone_from(policy),
        None => policies.push(policy.clone()),
    }
    within_access_limit("the number of attached policies", policies.len(), MAX_ATTACHED)?;
    let own = policies.iter().filter_map(|policy| policy.text.as_ref()).map(String::len).sum();
    within_access_limit("the length of own policies", own, ACCESS_POLICY_MAX_BYTES)?;
    let link = keyspace::link(kind, &policy.name, holder);
    if policy.text.is_none() {
        tx.set_raw(link, Bytes::new())
    } else {
        tx.clear(link)
    }
    Ok(())
}

pub(super) fn detach(
    tx: &mut Tx,
    (kind, holder): Holder<'_>,
    policies: &mut Vec<AttachedPolicy>,
    name: &str,
) -> Outcome<()> {
    let before = policies.len();
    policies.retain(|policy| policy.name != name);
    if policies.len() == before {
        return Err(MetaError::NoSuchEntry { what: "attached policy", name: name.to_owned() }.into());
    }
    tx.clear(keyspace::link(kind, name, holder));
    Ok(())
}

/// Takes the links away, with the user or group itself.
pub(super) fn detach_all(tx: &mut Tx, (kind, holder): Holder<'_>, policies: &[AttachedPolicy]) {
    for policy in policies {
        tx.clear(keyspace::link(kind, &policy.name, holder));
    }
}
