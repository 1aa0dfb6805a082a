//! What somebody may do who is no user of ours: the policies of some names, and those of some groups of users.

use crate::{
    error::MetaError,
    keyspace,
    record::{AccessPolicy, GrantedPolicy, UserGroup},
    verbs::{
        Meta, Verb,
        tx::{Outcome, Tx, transact},
    },
};

/// What names come to, as of one moment. Names that there are not are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedPolicies {
    /// Shared policies, in the order in which they were asked for.
    pub policies: Vec<String>,
    /// Groups of users, likewise.
    pub groups: Vec<String>,
    /// The texts of the policies, then of those of the groups.
    pub granted: Vec<GrantedPolicy>,
}

impl Meta {
    /// The shared policies of these names and the policies of the groups of these names, in three exchanges at most.
    /// How many are asked for is up to the caller.
    pub fn named_policies<'a>(&'a self, policies: &'a [String], groups: &'a [String]) -> Verb<'a, NamedPolicies> {
        Box::pin(async move { transact!(self, "named_policies", |tx| read(tx, policies, groups)) })
    }
}

async fn read(tx: &mut Tx, policies: &[String], groups: &[String]) -> Outcome<NamedPolicies> {
    let rows: Vec<_> = policies.iter().map(|name| keyspace::access_policy(name)).collect();
    let shared: Vec<AccessPolicy> = tx.get_many(&rows).await?.into_iter().flatten().collect();
    let rows: Vec<_> = groups.iter().map(|name| keyspace::user_group(name)).collect();
    let groups: Vec<UserGroup> = tx.get_many(&rows).await?.into_iter().flatten().collect();
    let attached = || groups.iter().flat_map(|group| group.policies.iter().map(move |policy| (group, policy)));
    let by_name = attached().filter(|(_, policy)| policy.text.is_none());
    let rows: Vec<_> = by_name.map(|(_, policy)| keyspace::access_policy(&policy.name)).collect();
    let mut of_groups = tx.get_many::<AccessPolicy>(&rows).await?.into_iter();
    let mut found = NamedPolicies {
        policies: shared.iter().map(|policy| policy.name.clone()).collect(),
        groups: groups.iter().map(|group| group.name.clone()).collect(),
        granted: shared
            .into_iter()
            .map(|policy| GrantedPolicy { name: policy.name, group: None, text: policy.text })
            .collect(),
    };
    for (group, policy) in attached() {
        let text = match &policy.text {
            Some(text) => text.clone(),
            // One that is missing might have denied something.
            None => of_groups.next().flatten().ok_or_else(|| dangling(group, &policy.name))?.text,
        };
        found.granted.push(GrantedPolicy { name: policy.name.clone(), group: Some(group.name.clone()), text });
    }
    Ok(found)
}

fn dangling(group: &UserGroup, policy: &str) -> MetaError {
    MetaError::Corrupt { what: "user group row", why: format!("{} names {policy}, which does not exist", group.name) }
}
