//! Users, the groups they are in, and the policies that say what they may do. A policy is kept as it was given: what it
//! says is the gateway's business.

use serde::{Deserialize, Serialize};

use crate::{
    codec::CodecError,
    error::{MetaError, Result},
    ids::UserId,
    record::RequestLimits,
};

/// Policies attached to one user or one group.
pub const MAX_ATTACHED: usize = 10;
/// Groups that one user is in.
pub const MAX_GROUPS: usize = 10;
/// Access keys of one user.
pub const MAX_ACCESS_KEYS: usize = 16;
/// Of one policy, and of all that a user or a group has of its own together.
pub const ACCESS_POLICY_MAX_BYTES: usize = 10 << 10;
/// Names of users, groups and policies have so many bytes at most, as IAM has it.
const NAME_MAX_BYTES: usize = 64;

/// Somebody, or some program, that may have access keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub name: String,
    /// Another one for a user of the same name who comes later.
    pub id: UserId,
    /// Whether any access key of the user works.
    pub enabled: bool,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    pub policies: Vec<AttachedPolicy>,
    /// Names of user groups.
    pub groups: Vec<String>,
    /// In the order of their creation.
    pub access_keys: Vec<String>,
    #[serde(default)]
    pub limits: RequestLimits,
}

impl User {
    /// One without policies, groups and keys, whom nothing is allowed.
    pub fn new(name: &str, created_ms: u64) -> Self {
        let (policies, groups, access_keys) = (Vec::new(), Vec::new(), Vec::new());
        let (name, id, limits) = (name.to_owned(), UserId::random(), RequestLimits::default());
        Self { name, id, enabled: true, created_ms, policies, groups, access_keys, limits }
    }
}

/// Rows of before users had limits, which stand where those rows end.
pub(super) fn older_user(version: u8, body: &[u8]) -> Option<Result<User, CodecError>> {
    let read = |body| rmp_serde::from_slice(body).map_err(|error| CodecError::Garbled(error.to_string()));
    (version == 1).then(|| read(body))
}

/// Users who have policies in common. Whom it has is written with the users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserGroup {
    pub name: String,
    pub created_ms: u64,
    pub policies: Vec<AttachedPolicy>,
}

/// A policy that users and groups share by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessPolicy {
    pub name: String,
    pub created_ms: u64,
    pub changed_ms: u64,
    pub text: String,
}

/// A policy of a user or of a group. Two of one have different names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedPolicy {
    pub name: String,
    /// The policy itself, if it is not the [`AccessPolicy`] of that name.
    pub text: Option<String>,
}

/// A key pair of a user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    pub access_key: String,
    /// The secret as only holders of the cluster's key can read it.
    pub secret: SealedSecret,
    pub user: String,
    pub enabled: bool,
    pub created_ms: u64,
    /// When it stops to work.
    pub expires_ms: Option<u64>,
    /// A policy that limits the key to what it allows, whatever else the user may do.
    pub session_policy: Option<String>,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKey")
            .field("access_key", &self.access_key)
            .field("user", &self.user)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

/// An encrypted secret. How it is encrypted is the business of whoever seals and opens it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    /// Tells which key it was sealed by, and nothing else about that.
    #[serde(with = "crate::bytes16")]
    pub key_id: [u8; 16],
    #[serde(with = "crate::bytes16::vec")]
    pub sealed: Vec<u8>,
}

impl std::fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedSecret").finish_non_exhaustive()
    }
}

/// All that must be known of an access key to judge a request that it has signed, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub key: AccessKey,
    pub user: User,
    /// The texts of the user's policies and then of those of the user's groups.
    pub policies: Vec<GrantedPolicy>,
}

/// The text of a policy, and how it came to be the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedPolicy {
    pub name: String,
    /// None if it is attached to the user.
    pub group: Option<String>,
    pub text: String,
}

/// Refuses what is no name of a user, group or policy.
///
/// # Errors
/// Invalid, which names what it is a name of.
pub fn check_access_name(what: &'static str, name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    if name.is_empty() || name.len() > NAME_MAX_BYTES || !name.bytes().all(allowed) {
        let why = format!("want 1 to {NAME_MAX_BYTES} letters, digits or any of + = , . @ _ -");
        return Err(MetaError::Invalid { what, why });
    }
    Ok(())
}

/// Refuses policies that are too long or empty.
///
/// # Errors
/// TooLarge over [`ACCESS_POLICY_MAX_BYTES`]; Invalid for an empty one.
pub fn check_policy_text(text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(MetaError::Invalid { what: "policy", why: "it is empty".to_owned() });
    }
    within_access_limit("policy", text.len(), ACCESS_POLICY_MAX_BYTES)
}

/// Refuses more of something than there may be.
pub(crate) fn within_access_limit(what: &'static str, actual: usize, limit: usize) -> Result<()> {
    if actual > limit {
        return Err(MetaError::TooLarge { what, actual: actual as u64, limit: limit as u64 });
    }
    Ok(())
}
