//! `/v1/access`: users, groups, policies and access keys. Everything is asked by POST and only from this machine, what
//! changes nothing too: it tells who may do what.

use cairn_gateway::{AccessDesk, DeskError, Question};
use cairn_schema::{
    MetaError,
    clock::now_ms,
    record::{AccessKey, AccessPolicy, AttachedPolicy, User, UserGroup},
    verbs::{AccessKeyChange, ReplacedKey, UserChange, UserGroupChange},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    desk::{self, Desk, Refusal},
    limits::{self, LimitsOrder},
};

/// A policy of 10 KiB, however it is escaped, fits.
pub(super) const MAX_ORDER_BYTES: usize = 64 << 10;
/// Of one answer; the next ones are asked for by the name of the last.
const PAGE: usize = 1000;

/// What is to be done or told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum AccessOrder {
    CreateUser { name: String },
    Users { after: Option<String> },
    User { name: String },
    EnableUser { name: String, enabled: bool },
    LimitUser { name: String, limits: LimitsOrder },
    DeleteUser { name: String },
    AttachToUser { name: String, policy: String, text: Option<String> },
    DetachFromUser { name: String, policy: String },
    Join { user: String, group: String },
    Leave { user: String, group: String },
    CreateGroup { name: String },
    Groups { after: Option<String> },
    Group { name: String },
    DeleteGroup { name: String },
    AttachToGroup { name: String, policy: String, text: Option<String> },
    DetachFromGroup { name: String, policy: String },
    PutPolicy { name: String, text: String },
    Policies { after: Option<String> },
    Policy { name: String },
    DeletePolicy { name: String },
    CreateKey { user: String, expires_seconds: Option<u64>, session_policy: Option<String> },
    RotateKey { access_key: String, grace_seconds: u64 },
    EnableKey { access_key: String, enabled: bool },
    ExpireKey { access_key: String, seconds: Option<u64> },
    DeleteKey { access_key: String },
    Explain { user: String, action: String, resource: String, context: Vec<(String, String)> },
}

impl From<DeskError> for Refusal {
    fn from(error: DeskError) -> Self {
        let status = match &error {
            DeskError::Meta(MetaError::NoSuchEntry { .. }) => StatusCode::NOT_FOUND,
            DeskError::Meta(MetaError::EntryExists { .. } | MetaError::InUse { .. }) => StatusCode::CONFLICT,
            DeskError::Meta(MetaError::Invalid { .. } | MetaError::TooLarge { .. }) | DeskError::Policy(_) => {
                StatusCode::BAD_REQUEST
            }
            DeskError::NoSecretsKey => StatusCode::CONFLICT,
            DeskError::Meta(_) | DeskError::Secret(_) | DeskError::Stored { .. } => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl Desk<'_> {
    pub(super) async fn access(&self, body: &[u8]) -> Result<Value, Refusal> {
        let order: AccessOrder = desk::change(body)?;
        Ok(obey(self.access, order).await?)
    }
}

fn done() -> Value {
    json!({"done": true})
}

async fn obey(desk: &AccessDesk, order: AccessOrder) -> Result<Value, DeskError> {
    use AccessOrder as Order;
    match order {
        Order::CreateUser { .. }
        | Order::Users { .. }
        | Order::User { .. }
        | Order::EnableUser { .. }
        | Order::LimitUser { .. }
        | Order::DeleteUser { .. }
        | Order::AttachToUser { .. }
        | Order::DetachFromUser { .. }
        | Order::Join { .. }
        | Order::Leave { .. } => of_users(desk, order).await,
        Order::CreateGroup { .. }
        | Order::Groups { .. }
        | Order::Group { .. }
        | Order::DeleteGroup { .. }
        | Order::AttachToGroup { .. }
        | Order::DetachFromGroup { .. } => of_groups(desk, order).await,
        Order::CreateKey { .. }
        | Order::RotateKey { .. }
        | Order::EnableKey { .. }
        | Order::ExpireKey { .. }
        | Order::DeleteKey { .. } => of_keys(desk, order).await,
        Order::PutPolicy { name, text } => desk.put_policy(&name, &text).await.map(|()| done()),
        Order::Policies { after } => {
            let found = desk.meta().access_policies(after.as_deref(), PAGE).await?;
            Ok(page("policies", found, |policy: &AccessPolicy| policy.name.clone()))
        }
        Order::Policy { name } => {
            let policy = desk.meta().access_policy(&name).await?.ok_or_else(|| missing("policy", &name))?;
            let AccessPolicy { name, created_ms, changed_ms, text } = policy;
            Ok(json!({"name": name, "created_ms": created_ms, "changed_ms": changed_ms, "text": text}))
        }
        Order::DeletePolicy { name } => {
            desk.meta().delete_access_policy(&name).await?;
            Ok(done())
        }
        Order::Explain { user, action, resource, context } => {
            let answer = desk.explain(&Question { user, action, resource, context }).await?;
            Ok(json!({"allowed": answer.allowed, "why": answer.why}))
        }
    }
}

async fn of_users(desk: &AccessDesk, order: AccessOrder) -> Result<Value, DeskError> {
    let meta = desk.meta();
    let (name, change) = match order {
        AccessOrder::CreateUser { name } => {
            desk.ready()?;
            meta.create_user(User::new(&name, now_ms())).await?;
            return Ok(done());
        }
        AccessOrder::Users { after } => {
            let found = meta.users(after.as_deref(), PAGE).await?;
            return Ok(page("users", found, |user: &User| user.name.clone()));
        }
        AccessOrder::User { name } => return shown_user(desk, &name).await,
        AccessOrder::DeleteUser { name } => {
            meta.delete_user(&name).await?;
            return Ok(done());
        }
        AccessOrder::EnableUser { name, enabled } => (name, UserChange::Enable(enabled)),
        AccessOrder::LimitUser { name, limits } => (name, UserChange::Limit(limits.into())),
        AccessOrder::AttachToUser { name, policy, text } => {
            (name, UserChange::Attach(AccessDesk::attachable(&policy, text)?))
        }
        AccessOrder::DetachFromUser { name, policy } => (name, UserChange::Detach(policy)),
        AccessOrder::Join { user, group } => (user, UserChange::Join(group)),
        AccessOrder::Leave { user, group } => (user, UserChange::Leave(group)),
        _ => return Ok(Value::Null),
    };
    meta.change_user(&name, change).await?;
    Ok(done())
}

async fn of_groups(desk: &AccessDesk, order: AccessOrder) -> Result<Value, DeskError> {
    let meta = desk.meta();
    let (name, change) = match order {
        AccessOrder::CreateGroup { name } => {
            meta.create_user_group(&name).await?;
            return Ok(done());
        }
        AccessOrder::Groups { after } => {
            let found = meta.user_groups(after.as_deref(), PAGE).await?;
            return Ok(page("groups", found, |group: &UserGroup| group.name.clone()));
        }
        AccessOrder::Group { name } => {
            let group = meta.user_group(&name).await?.ok_or_else(|| missing("user group", &name))?;
            let members = meta.group_members(&name, None, PAGE).await?;
            let (created_ms, policies) = (group.created_ms, attached(&group.policies));
            return Ok(json!({"name": name, "created_ms": created_ms, "policies": policies, "members": members}));
        }
        AccessOrder::DeleteGroup { name } => {
            meta.delete_user_group(&name).await?;
            return Ok(done());
        }
        AccessOrder::AttachToGroup { name, policy, text } => {
            (name, UserGroupChange::Attach(AccessDesk::attachable(&policy, text)?))
        }
        AccessOrder::DetachFromGroup { name, policy } => (name, UserGroupChange::Detach(policy)),
        _ => return Ok(Value::Null),
    };
    meta.change_user_group(&name, change).await?;
    Ok(done())
}

async fn of_keys(desk: &AccessDesk, order: AccessOrder) -> Result<Value, DeskError> {
    let meta = desk.meta();
    let after = |seconds: u64| now_ms().saturating_add(seconds.saturating_mul(1000));
    let (access_key, change) = match order {
        AccessOrder::CreateKey { user, expires_seconds, session_policy } => {
            let made = desk.create_key(&user, expires_seconds.map(after), session_policy, None).await?;
            return Ok(json!({"access_key": made.access_key, "secret_key": made.secret_key}));
        }
        AccessOrder::RotateKey { access_key, grace_seconds } => {
            let old = meta.access_key(&access_key).await?.ok_or_else(|| missing("access key", &access_key))?;
            let replaced = Some(ReplacedKey { access_key, expires_ms: after(grace_seconds) });
            // As long as the old one was given.
            let expires_ms = old.expires_ms.map(|end| now_ms() + end.saturating_sub(old.created_ms));
            let made = desk.create_key(&old.user, expires_ms, old.session_policy, replaced).await?;
            return Ok(json!({"access_key": made.access_key, "secret_key": made.secret_key}));
        }
        AccessOrder::DeleteKey { access_key } => {
            meta.delete_access_key(&access_key).await?;
            return Ok(done());
        }
        AccessOrder::EnableKey { access_key, enabled } => (access_key, AccessKeyChange::Enable(enabled)),
        AccessOrder::ExpireKey { access_key, seconds } => (access_key, AccessKeyChange::Expire(seconds.map(after))),
        _ => return Ok(Value::Null),
    };
    meta.change_access_key(&access_key, change).await?;
    Ok(done())
}

async fn shown_user(desk: &AccessDesk, name: &str) -> Result<Value, DeskError> {
    let user = desk.meta().user(name).await?.ok_or_else(|| missing("user", name))?;
    let mut keys = Vec::with_capacity(user.access_keys.len());
    for access_key in &user.access_keys {
        // One that was deleted meanwhile is not told of.
        if let Some(key) = desk.meta().access_key(access_key).await? {
            keys.push(shown_key(&key));
        }
    }
    Ok(json!({
        "name": user.name, "id": user.id.to_string(), "enabled": user.enabled, "created_ms": user.created_ms,
        "policies": attached(&user.policies), "groups": user.groups, "access_keys": keys,
        "limits": limits::shown(user.limits),
    }))
}

/// All but the secret.
fn shown_key(key: &AccessKey) -> Value {
    json!({
        "access_key": key.access_key, "enabled": key.enabled, "created_ms": key.created_ms,
        "expires_ms": key.expires_ms, "session_policy": key.session_policy,
    })
}

/// A policy without a text is the shared one of its name.
fn attached(policies: &[AttachedPolicy]) -> Value {
    policies.iter().map(|policy| json!({"name": policy.name, "text": policy.text})).collect()
}

fn page<T>(what: &str, found: Vec<T>, name: impl Fn(&T) -> String) -> Value {
    let names: Vec<String> = found.iter().map(name).collect();
    let next = names.last().filter(|_| names.len() == PAGE).cloned();
    json!({what: names, "next": next})
}

fn missing(what: &'static str, name: &str) -> DeskError {
    DeskError::Meta(MetaError::NoSuchEntry { what, name: name.to_owned() })
}
