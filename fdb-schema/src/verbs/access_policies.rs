//! Policies that users and groups share by their names.

use crate::{
    error::MetaError,
    ids::AttemptId,
    keyspace::{self, LinkKind, Space},
    kv::RangeQuery,
    record::{AccessPolicy, check_access_name, check_policy_text, rows::AttemptRow},
    verbs::{
        Meta, Verb, attempts,
        tx::{Outcome, Tx, page, transact},
        user_groups::linked_from,
    },
};

impl Meta {
    /// Creates or replaces. Whether it is a policy is up to the caller.
    ///
    /// # Errors
    /// Invalid for a name that is none; TooLarge over [`crate::record::ACCESS_POLICY_MAX_BYTES`].
    pub fn put_access_policy<'a>(&'a self, name: &'a str, text: &'a str) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "put_access_policy", |tx| put(tx, attempt, name, text))
        })
    }

    pub fn access_policy<'a>(&'a self, name: &'a str) -> Verb<'a, Option<AccessPolicy>> {
        Box::pin(async move {
            let key = keyspace::access_policy(name);
            transact!(self, "access_policy", |tx| tx.get(&key))
        })
    }

    /// In order of name.
    pub fn access_policies<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Verb<'a, Vec<AccessPolicy>> {
        Box::pin(async move {
            let after = after.map(keyspace::access_policy);
            transact!(self, "access_policies", |tx| page(tx, Space::AccessPolicy, after.as_ref(), limit))
        })
    }

    /// # Errors
    /// InUse while it is attached: what it denies would be allowed at once.
    pub fn delete_access_policy<'a>(&'a self, name: &'a str) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "delete_access_policy", |tx| delete(tx, attempt, name))
        })
    }
}

async fn put(tx: &mut Tx, attempt: AttemptId, name: &str, text: &str) -> Outcome<()> {
    check_access_name("policy name", name)?;
    check_policy_text(text)?;
    let key = keyspace::access_policy(name);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    let before: Option<AccessPolicy> = tx.get(&key).await?;
    let created_ms = before.map_or(tx.now_ms, |before| before.created_ms);
    let policy = AccessPolicy { name: name.to_owned(), created_ms, changed_ms: tx.now_ms, text: text.to_owned() };
    tx.set(key, &policy);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

async fn delete(tx: &mut Tx, attempt: AttemptId, name: &str) -> Outcome<()> {
    let key = keyspace::access_policy(name);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    if tx.raw(&key).await?.is_none() {
        return Err(MetaError::NoSuchEntry { what: "policy", name: name.to_owned() }.into());
    }
    for (kind, whom) in [(LinkKind::PolicyOfUser, "user"), (LinkKind::PolicyOfGroup, "user group")] {
        // Read, so that whoever attaches it beside this conflicts.
        let page = tx.range(RangeQuery::prefix(keyspace::links(kind, name), 1)).await?;
        if let Some(holder) = page.rows.first().and_then(|(key, _)| linked_from(key)) {
            let by = format!("{whom} {holder}: detach it first");
            return Err(MetaError::InUse { what: "policy", name: name.to_owned(), by }.into());
        }
    }
    tx.clear(key);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}
