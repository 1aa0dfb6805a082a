//! Users' access keys, and what whoever signs with one may do.

use crate::{
    error::{MetaError, Result},
    ids::AttemptId,
    keyspace,
    record::{
        AccessKey, AccessPolicy, Grant, GrantedPolicy, MAX_ACCESS_KEYS, User, UserGroup, check_policy_text,
        rows::AttemptRow, within_access_limit,
    },
    verbs::{
        Meta, Verb, attempts,
        tx::{Outcome, Tx, transact},
        users,
    },
};

/// As AWS has it, with what AWS itself makes well inside.
const ACCESS_KEY_BYTES: std::ops::RangeInclusive<usize> = 3..=128;

/// What is to be other with an access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessKeyChange {
    Enable(bool),
    /// In milliseconds since the Unix epoch; None: never.
    Expire(Option<u64>),
    /// None: the key may do whatever its user may.
    SessionPolicy(Option<String>),
}

/// An access key whose time ends as another one comes in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplacedKey {
    pub access_key: String,
    /// When it stops to work. One that would have stopped before still does.
    pub expires_ms: u64,
}

impl Meta {
    /// Gives its user another key, and sets an end to the one that it replaces, if any, in the same transaction.
    ///
    /// # Errors
    /// NoSuchEntry for the user, or for a replaced key that is not the user's; EntryExists; TooLarge beyond
    /// [`MAX_ACCESS_KEYS`]; Invalid for what cannot be an access key.
    pub fn create_access_key(&self, key: AccessKey, replaced: Option<ReplacedKey>) -> Verb<'_, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "create_access_key", |tx| create(tx, attempt, &key, replaced.as_ref()))
        })
    }

    pub fn access_key<'a>(&'a self, access_key: &'a str) -> Verb<'a, Option<AccessKey>> {
        Box::pin(async move {
            let key = keyspace::access_key(access_key);
            transact!(self, "access_key", |tx| tx.get(&key))
        })
    }

    /// # Errors
    /// NoSuchEntry; TooLarge or Invalid for the policy.
    pub fn change_access_key<'a>(&'a self, access_key: &'a str, change: AccessKeyChange) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "change_access_key", |tx| change_one(tx, attempt, access_key, &change))
        })
    }

    /// # Errors
    /// NoSuchEntry.
    pub fn delete_access_key<'a>(&'a self, access_key: &'a str) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "delete_access_key", |tx| delete(tx, attempt, access_key))
        })
    }

    /// The key, its user, and all policies of the user and of the user's groups, as of one moment; None if there is no
    /// such key. Whether it may be used is up to the caller.
    pub fn grant<'a>(&'a self, access_key: &'a str) -> Verb<'a, Option<Grant>> {
        Box::pin(async move { transact!(self, "grant", |tx| grant(tx, access_key)) })
    }

    /// The user, and all policies of the user and of the user's groups, as of one moment.
    ///
    /// # Errors
    /// NoSuchEntry.
    pub fn granted<'a>(&'a self, user: &'a str) -> Verb<'a, (User, Vec<GrantedPolicy>)> {
        Box::pin(async move { transact!(self, "granted", |tx| granted(tx, user)) })
    }
}

/// It stands in headers and URLs, between slashes, commas and equals signs.
fn check(access_key: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !ACCESS_KEY_BYTES.contains(&access_key.len()) || !access_key.bytes().all(allowed) {
        let why = "want 3 to 128 letters, digits or any of . _ -".to_owned();
        return Err(MetaError::Invalid { what: "access key", why });
    }
    Ok(())
}

async fn existing(tx: &mut Tx, access_key: &str) -> Outcome<AccessKey> {
    let key = tx.get(&keyspace::access_key(access_key)).await?;
    key.ok_or_else(|| no_such_key(access_key).into())
}

fn no_such_key(access_key: &str) -> MetaError {
    MetaError::NoSuchEntry { what: "access key", name: access_key.to_owned() }
}

async fn create(tx: &mut Tx, attempt: AttemptId, new: &AccessKey, replaced: Option<&ReplacedKey>) -> Outcome<()> {
    check(&new.access_key)?;
    new.session_policy.as_deref().map(check_policy_text).transpose()?;
    let key = keyspace::access_key(&new.access_key);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone(), keyspace::user(&new.user)]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    let mut user = users::existing(tx, &new.user).await?;
    if tx.raw(&key).await?.is_some() {
        return Err(MetaError::EntryExists { what: "access key", name: new.access_key.clone() }.into());
    }
    within_access_limit("the number of a user's access keys", user.access_keys.len() + 1, MAX_ACCESS_KEYS)?;
    if let Some(replaced) = replaced {
        let mut old = existing(tx, &replaced.access_key).await?;
        if old.user != new.user {
            return Err(no_such_key(&replaced.access_key).into());
        }
        let before = old.expires_ms.unwrap_or(u64::MAX);
        old.expires_ms = Some(before.min(replaced.expires_ms));
        tx.set(keyspace::access_key(&replaced.access_key), &old);
    }
    user.access_keys.push(new.access_key.clone());
    tx.set(keyspace::user(&new.user), &user);
    tx.set(key, new);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

async fn change_one(tx: &mut Tx, attempt: AttemptId, access_key: &str, change: &AccessKeyChange) -> Outcome<()> {
    let key = keyspace::access_key(access_key);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    let mut found = existing(tx, access_key).await?;
    match change {
        AccessKeyChange::Enable(enabled) => found.enabled = *enabled,
        AccessKeyChange::Expire(expires_ms) => found.expires_ms = *expires_ms,
        AccessKeyChange::SessionPolicy(policy) => {
            policy.as_deref().map(check_policy_text).transpose()?;
            found.session_policy.clone_from(policy);
        }
    }
    tx.set(key, &found);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

async fn delete(tx: &mut Tx, attempt: AttemptId, access_key: &str) -> Outcome<()> {
    let key = keyspace::access_key(access_key);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    let found = existing(tx, access_key).await?;
    let mut user = users::owner(tx, &found).await?;
    user.access_keys.retain(|other| other != access_key);
    tx.set(keyspace::user(&user.name), &user);
    tx.clear(key);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

/// In four exchanges at most: the key, the user, the groups, the policies.
async fn grant(tx: &mut Tx, access_key: &str) -> Outcome<Option<Grant>> {
    let Some(key) = tx.get::<AccessKey>(&keyspace::access_key(access_key)).await? else { return Ok(None) };
    let user = users::owner(tx, &key).await?;
    let policies = policies(tx, &user).await?;
    Ok(Some(Grant { key, user, policies }))
}

async fn granted(tx: &mut Tx, user: &str) -> Outcome<(User, Vec<GrantedPolicy>)> {
    let user = users::existing(tx, user).await?;
    let policies = policies(tx, &user).await?;
    Ok((user, policies))
}

async fn policies(tx: &mut Tx, user: &User) -> Outcome<Vec<GrantedPolicy>> {
    let rows: Vec<_> = user.groups.iter().map(|group| keyspace::user_group(group)).collect();
    let groups: Vec<Option<UserGroup>> = tx.get_many(&rows).await?;
    let of_user = user.policies.iter().map(|policy| (None, policy));
    let of_groups = groups.iter().flatten();
    let of_groups = of_groups.flat_map(|group| group.policies.iter().map(|policy| (Some(group.name.clone()), policy)));
    let attached: Vec<_> = of_user.chain(of_groups).collect();
    let shared = attached.iter().filter(|(_, policy)| policy.text.is_none());
    let rows: Vec<_> = shared.map(|(_, policy)| keyspace::access_policy(&policy.name)).collect();
    let mut shared = tx.get_many::<AccessPolicy>(&rows).await?.into_iter();
    if groups.iter().any(Option::is_none) {
        return Err(dangling("user row", &user.name).into());
    }
    let mut policies = Vec::with_capacity(attached.len());
    for (group, policy) in attached {
        let text = match &policy.text {
            Some(text) => text.clone(),
            // One that is missing might have denied something.
            None => shared.next().flatten().ok_or_else(|| dangling("policy", &policy.name))?.text,
        };
        policies.push(GrantedPolicy { name: policy.name.clone(), group, text });
    }
    Ok(policies)
}

fn dangling(what: &'static str, name: &str) -> MetaError {
    MetaError::Corrupt { what, why: format!("{name} names what does not exist") }
}
