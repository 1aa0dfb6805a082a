//! Groups of users.

use crate::{
    error::MetaError,
    ids::AttemptId,
    keyspace::{self, LinkKind, Space},
    kv::{RangeQuery, key_after, prefix_end},
    record::{AttachedPolicy, UserGroup, check_access_name, rows::AttemptRow},
    verbs::{
        Meta, Verb, attached, attempts,
        tx::{Outcome, Tx, page, transact},
    },
};

/// What is to be other with a group of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserGroupChange {
    /// In the place of the policy of the same name, if the group has one.
    Attach(AttachedPolicy),
    /// By its name.
    Detach(String),
}

impl Meta {
    /// # Errors
    /// EntryExists; Invalid for a name that is none.
    pub fn create_user_group<'a>(&'a self, name: &'a str) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "create_user_group", |tx| create(tx, attempt, name))
        })
    }

    pub fn user_group<'a>(&'a self, name: &'a str) -> Verb<'a, Option<UserGroup>> {
        Box::pin(async move {
            let key = keyspace::user_group(name);
            transact!(self, "user_group", |tx| tx.get(&key))
        })
    }

    /// In order of name.
    pub fn user_groups<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Verb<'a, Vec<UserGroup>> {
        Box::pin(async move {
            let after = after.map(keyspace::user_group);
            transact!(self, "user_groups", |tx| page(tx, Space::UserGroup, after.as_ref(), limit))
        })
    }

    /// Names of users, in order.
    pub fn group_members<'a>(&'a self, group: &'a str, after: Option<&'a str>, limit: usize) -> Verb<'a, Vec<String>> {
        Box::pin(async move { transact!(self, "group_members", |tx| members(tx, group, after, limit)) })
    }

    /// # Errors
    /// NoSuchEntry for the group or a policy that is not kept; TooLarge over the bounds of [`crate::record`].
    pub fn change_user_group<'a>(&'a self, name: &'a str, change: UserGroupChange) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "change_user_group", |tx| change_one(tx, attempt, name, &change))
        })
    }

    /// # Errors
    /// InUse while it has members: they would lose what it allows, or what it denies, without being named.
    pub fn delete_user_group<'a>(&'a self, name: &'a str) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "delete_user_group", |tx| delete(tx, attempt, name))
        })
    }
}

async fn existing(tx: &mut Tx, name: &str) -> Outcome<UserGroup> {
    let group = tx.get(&keyspace::user_group(name)).await?;
    group.ok_or_else(|| MetaError::NoSuchEntry { what: "user group", name: name.to_owned() }.into())
}

async fn create(tx: &mut Tx, attempt: AttemptId, name: &str) -> Outcome<()> {
    check_access_name("group name", name)?;
    let key = keyspace::user_group(name);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    if tx.raw(&key).await?.is_some() {
        return Err(MetaError::EntryExists { what: "user group", name: name.to_owned() }.into());
    }
    tx.set(key, &UserGroup { name: name.to_owned(), created_ms: tx.now_ms, policies: Vec::new() });
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

async fn change_one(tx: &mut Tx, attempt: AttemptId, name: &str, change: &UserGroupChange) -> Outcome<()> {
    let key = keyspace::user_group(name);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    let mut group = existing(tx, name).await?;
    let holder = (LinkKind::PolicyOfGroup, name);
    match change {
        UserGroupChange::Attach(policy) => attached::attach(tx, holder, &mut group.policies, policy).await?,
        UserGroupChange::Detach(policy) => attached::detach(tx, holder, &mut group.policies, policy)?,
    }
    tx.set(key, &group);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

async fn delete(tx: &mut Tx, attempt: AttemptId, name: &str) -> Outcome<()> {
    let key = keyspace::user_group(name);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    let group = existing(tx, name).await?;
    // Read, so that somebody who joins beside this conflicts.
    let links = RangeQuery::prefix(keyspace::links(LinkKind::MemberOfGroup, name), 1);
    if let Some(member) = tx.range(links).await?.rows.first().and_then(|(key, _)| linked_from(key)) {
        let by = format!("user {member}, who is in it");
        return Err(MetaError::InUse { what: "user group", name: name.to_owned(), by }.into());
    }
    attached::detach_all(tx, (LinkKind::PolicyOfGroup, name), &group.policies);
    tx.clear(key);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

async fn members(tx: &mut Tx, group: &str, after: Option<&str>, limit: usize) -> Outcome<Vec<String>> {
    existing(tx, group).await?;
    let first = keyspace::links(LinkKind::MemberOfGroup, group);
    let end = prefix_end(&first);
    let begin = after.map_or(first, |after| key_after(&keyspace::link(LinkKind::MemberOfGroup, group, after)));
    let page = tx.range(RangeQuery::new(begin, end, limit).snapshot()).await?;
    Ok(page.rows.iter().filter_map(|(key, _)| linked_from(key)).collect())
}

/// The user or group of a link's key.
pub(super) fn linked_from(key: &[u8]) -> Option<String> {
    keyspace::split_link(key).map(|(_, _, from)| from.to_owned())
}
