//! Users.

use crate::{
    error::MetaError,
    ids::AttemptId,
    keyspace::{self, LinkKind, Space},
    record::{
        AccessKey, AttachedPolicy, LimitsChange, MAX_GROUPS, User, UserGroup, check_access_name, rows::AttemptRow,
        within_access_limit,
    },
    verbs::{
        Meta, Verb, attached, attempts,
        tx::{Outcome, Tx, page, transact},
    },
};

/// What is to be other with a user. What is so already stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserChange {
    Enable(bool),
    /// In the place of the policy of the same name, if the user has one.
    Attach(AttachedPolicy),
    /// By its name.
    Detach(String),
    /// A user group.
    Join(String),
    Leave(String),
    Limit(LimitsChange),
}

impl Meta {
    /// Creates one whom nothing is allowed so far: as [`User::new`] makes it.
    ///
    /// # Errors
    /// EntryExists; Invalid for a name that is none.
    pub fn create_user(&self, user: User) -> Verb<'_, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "create_user", |tx| create(tx, attempt, &user))
        })
    }

    pub fn user<'a>(&'a self, name: &'a str) -> Verb<'a, Option<User>> {
        Box::pin(async move {
            let key = keyspace::user(name);
            transact!(self, "user", |tx| tx.get(&key))
        })
    }

    /// In order of name.
    pub fn users<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Verb<'a, Vec<User>> {
        Box::pin(async move {
            let after = after.map(keyspace::user);
            transact!(self, "users", |tx| page(tx, Space::User, after.as_ref(), limit))
        })
    }

    /// # Errors
    /// NoSuchEntry for the user, a policy to attach that is not kept, or a group to join; TooLarge over the bounds of
    /// [`crate::record`].
    pub fn change_user<'a>(&'a self, name: &'a str, change: UserChange) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "change_user", |tx| change_one(tx, attempt, name, &change))
        })
    }

    /// Its policies are detached and its groups left.
    ///
    /// # Errors
    /// InUse while it has access keys: whoever works with them must be cut off by name, as IAM has it.
    pub fn delete_user<'a>(&'a self, name: &'a str) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "delete_user", |tx| delete(tx, attempt, name))
        })
    }
}

/// The user of that name, who must exist.
pub(super) async fn existing(tx: &mut Tx, name: &str) -> Outcome<User> {
    let user = tx.get(&keyspace::user(name)).await?;
    user.ok_or_else(|| MetaError::NoSuchEntry { what: "user", name: name.to_owned() }.into())
}

async fn create(tx: &mut Tx, attempt: AttemptId, user: &User) -> Outcome<()> {
    check_access_name("user name", &user.name)?;
    if !(user.policies.is_empty() && user.groups.is_empty() && user.access_keys.is_empty()) {
        let why = "it has policies, groups or keys before it exists".to_owned();
        return Err(MetaError::Invalid { what: "user", why }.into());
    }
    let key = keyspace::user(&user.name);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    if tx.raw(&key).await?.is_some() {
        return Err(MetaError::EntryExists { what: "user", name: user.name.clone() }.into());
    }
    tx.set(key, user);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

async fn change_one(tx: &mut Tx, attempt: AttemptId, name: &str, change: &UserChange) -> Outcome<()> {
    let key = keyspace::user(name);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    let mut user = existing(tx, name).await?;
    match change {
        UserChange::Enable(enabled) => user.enabled = *enabled,
        UserChange::Limit(change) => user.limits = change.of(user.limits),
        UserChange::Attach(policy) => {
            attached::attach(tx, (LinkKind::PolicyOfUser, name), &mut user.policies, policy).await?;
        }
        UserChange::Detach(policy) => {
            attached::detach(tx, (LinkKind::PolicyOfUser, name), &mut user.policies, policy)?;
        }
        UserChange::Join(group) => join(tx, &mut user, group).await?,
        UserChange::Leave(group) => {
            user.groups.retain(|other| other != group);
            tx.clear(keyspace::link(LinkKind::MemberOfGroup, group, name));
        }
    }
    tx.set(key, &user);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

async fn join(tx: &mut Tx, user: &mut User, group: &str) -> Outcome<()> {
    if tx.get::<UserGroup>(&keyspace::user_group(group)).await?.is_none() {
        return Err(MetaError::NoSuchEntry { what: "user group", name: group.to_owned() }.into());
    }
    if !user.groups.iter().any(|other| other == group) {
        within_access_limit("the number of a user's groups", user.groups.len() + 1, MAX_GROUPS)?;
        user.groups.push(group.to_owned());
        tx.set_raw(keyspace::link(LinkKind::MemberOfGroup, group, &user.name), bytes::Bytes::new());
    }
    Ok(())
}

async fn delete(tx: &mut Tx, attempt: AttemptId, name: &str) -> Outcome<()> {
    let key = keyspace::user(name);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    let user = existing(tx, name).await?;
    if let Some(access_key) = user.access_keys.first() {
        let by = format!("access key {access_key}: delete its keys first");
        return Err(MetaError::InUse { what: "user", name: name.to_owned(), by }.into());
    }
    attached::detach_all(tx, (LinkKind::PolicyOfUser, name), &user.policies);
    for group in &user.groups {
        tx.clear(keyspace::link(LinkKind::MemberOfGroup, group, name));
    }
    tx.clear(key);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

/// The user of an access key, who exists as long as the key.
pub(super) async fn owner(tx: &mut Tx, key: &AccessKey) -> Outcome<User> {
    let user = tx.get(&keyspace::user(&key.user)).await?;
    user.ok_or_else(|| {
        let why = format!("its user {} does not exist", key.user);
        MetaError::Corrupt { what: "access key row", why }.into()
    })
}
