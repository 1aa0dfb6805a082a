//! What operators do with users: whatever makes a key or takes a text for a policy, and questions about decisions.

use cairn_iam::{Context, Decision, Ground, Missing, Policies, Policy, PolicyError, PolicyKind, Principal, Request};
use cairn_schema::{
    Meta, MetaError,
    clock::now_ms,
    record::{AccessKey, AttachedPolicy, BucketDocument, GrantedPolicy},
    verbs::ReplacedKey,
};

use super::account::{ACCOUNT, user_arn};
use crate::secrets::{ACCESS_KEY_CHARS, SecretError, SecretsKey, random_text};

/// Those of AWS look like these, and tools that find leaked keys know them by that.
const ACCESS_KEY_PREFIX: &str = "AKIA";
/// 64 of them, none of which needs care in a shell, a URL or a file.
const SECRET_CHARS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Why an operator was refused.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    #[error(transparent)]
    Meta(#[from] MetaError),
    #[error("this is no policy: {0}")]
    Policy(Box<PolicyError>),
    #[error(
        "secrets of users are kept encrypted, and this node has no key for that: give all nodes the same s3.secrets_key_file"
    )]
    NoSecretsKey,
    #[error("no secret can be made: {0}")]
    Secret(String),
    #[error("the policy {name} cannot be read: {error}")]
    Stored { name: String, error: Box<PolicyError> },
}

impl From<PolicyError> for DeskError {
    fn from(error: PolicyError) -> Self {
        Self::Policy(Box::new(error))
    }
}

impl From<SecretError> for DeskError {
    fn from(error: SecretError) -> Self {
        Self::Secret(error.to_string())
    }
}

/// A key that was made. Its secret is told this once.
pub struct NewAccessKey {
    pub access_key: String,
    pub secret_key: String,
}

/// Whether a user might do something.
#[derive(Clone, Debug, Default)]
pub struct Question {
    pub user: String,
    /// As in `s3:GetObject`.
    pub action: String,
    /// As in `arn:aws:s3:::bucket/key`.
    pub resource: String,
    /// Condition keys and their values.
    pub context: Vec<(String, String)>,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub allowed: bool,
    /// The statement that decided, or what is missing, in words.
    pub why: String,
}

/// Where operators are served. Cheap to clone.
#[derive(Clone)]
pub struct AccessDesk {
    meta: Meta,
    secrets: Option<SecretsKey>,
}

impl AccessDesk {
    pub fn new(meta: Meta, secrets: Option<SecretsKey>) -> Self {
        Self { meta, secrets }
    }

    /// For everything that needs neither a key nor a policy's text.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Users are of no use without keys, so none is created where none can have any.
    ///
    /// # Errors
    /// NoSecretsKey.
    pub fn ready(&self) -> Result<(), DeskError> {
        self.secrets.as_ref().map(drop).ok_or(DeskError::NoSecretsKey)
    }

    /// Another key for a user, perhaps in the place of one that works on until a time.
    ///
    /// # Errors
    /// NoSecretsKey; Policy for the session policy; what [`Meta::create_access_key`] refuses.
    pub async fn create_key(
        &self,
        user: &str,
        expires_ms: Option<u64>,
        session_policy: Option<String>,
        replaced: Option<ReplacedKey>,
    ) -> Result<NewAccessKey, DeskError> {
        let secrets = self.secrets.as_ref().ok_or(DeskError::NoSecretsKey)?;
        if let Some(text) = &session_policy {
            Policy::parse(PolicyKind::Session, text.as_bytes())?;
        }
        let access_key = format!("{ACCESS_KEY_PREFIX}{}", random_text::<16>(ACCESS_KEY_CHARS)?);
        let secret_key = random_text::<40>(SECRET_CHARS)?;
        let key = AccessKey {
            secret: secrets.seal(&access_key, &secret_key)?,
            access_key: access_key.clone(),
            user: user.to_owned(),
            enabled: true,
            created_ms: now_ms(),
            expires_ms,
            session_policy,
        };
        self.meta.create_access_key(key, replaced).await?;
        Ok(NewAccessKey { access_key, secret_key })
    }

    /// # Errors
    /// Policy for what is none; what [`Meta::put_access_policy`] refuses.
    pub async fn put_policy(&self, name: &str, text: &str) -> Result<(), DeskError> {
        Policy::parse(PolicyKind::Identity, text.as_bytes())?;
        Ok(self.meta.put_access_policy(name, text).await?)
    }

    /// What is to be attached, if its own text is a policy.
    ///
    /// # Errors
    /// Policy.
    pub fn attachable(name: &str, text: Option<String>) -> Result<AttachedPolicy, DeskError> {
        if let Some(text) = &text {
            Policy::parse(PolicyKind::Identity, text.as_bytes())?;
        }
        Ok(AttachedPolicy { name: name.to_owned(), text })
    }

    /// By the policies of the user, of the user's groups and of the bucket, as they are now. Of a request nothing is
    /// known but what the question says.
    ///
    /// # Errors
    /// Stored for a policy that cannot be read, because of which every request would be refused; NoSuchEntry.
    pub async fn explain(&self, question: &Question) -> Result<Explanation, DeskError> {
        let (user, granted) = self.meta.granted(&question.user).await?;
        let read = |granted: &GrantedPolicy| stored(PolicyKind::Identity, &granted.name, granted.text.as_bytes());
        let identity = granted.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let bucket = self.bucket_policy(&question.resource).await?;
        let (arn, id) = (user_arn(&user.name), user.id.to_string());
        let mut context = Context::new();
        context.add("aws:username", user.name.as_str());
        context.add("aws:userid", id.as_str());
        context.add("aws:PrincipalArn", arn.as_str());
        context.add("aws:PrincipalType", "User");
        context.add("aws:PrincipalAccount", ACCOUNT);
        for (key, value) in &question.context {
            context.add(key.as_str(), value.as_str());
        }
        let identity: Vec<&Policy> = identity.iter().collect();
        let policies = Policies { identity: &identity, bucket: bucket.as_ref(), ..Policies::default() };
        let request = Request {
            principal: Principal::User { account: ACCOUNT, arn: &arn, id: &id },
            action: &question.action,
            resource: &question.resource,
            context: &context,
        };
        let decision = cairn_iam::decide(&policies, &request);
        let mut why = in_words(&decision, &granted);
        if !user.enabled {
            why.push_str("; but the user is disabled");
        }
        Ok(Explanation { allowed: decision.is_allowed() && user.enabled, why })
    }

    async fn bucket_policy(&self, resource: &str) -> Result<Option<Policy>, DeskError> {
        let named = resource.strip_prefix("arn:aws:s3:::").and_then(|path| path.split('/').next());
        let Some(bucket) = named.filter(|bucket| *bucket != "*" && !bucket.is_empty()) else { return Ok(None) };
        match self.meta.bucket_document(bucket, BucketDocument::Policy).await {
            Ok(Some(text)) => {
                stored(PolicyKind::Bucket { name: bucket }, &format!("of bucket {bucket}"), &text).map(Some)
            }
            Ok(None) | Err(MetaError::NoSuchBucket(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn stored(kind: PolicyKind<'_>, name: &str, text: &[u8]) -> Result<Policy, DeskError> {
    Policy::parse(kind, text).map_err(|error| DeskError::Stored { name: name.to_owned(), error: Box::new(error) })
}

fn in_words(decision: &Decision<'_>, granted: &[GrantedPolicy]) -> String {
    let named = |statement: &cairn_iam::StatementRef<'_>| {
        let cairn_iam::Source::Identity(place) = statement.source else { return statement.to_string() };
        let Some(GrantedPolicy { name, group, .. }) = granted.get(place) else { return statement.to_string() };
        let whose = group.as_ref().map_or_else(|| "the user".to_owned(), |group| format!("group {group}"));
        format!("{statement}: policy {name} of {whose}")
    };
    match decision {
        Decision::Allowed(Ground::Statement(statement)) => format!("allowed by {}", named(statement)),
        Decision::Allowed(Ground::Root) => "allowed: the root may".to_owned(),
        Decision::Allowed(Ground::Owner) => "allowed: the bucket's owner may".to_owned(),
        Decision::Denied(statement) => format!("denied by {}", named(statement)),
        Decision::NotAllowed(Missing::Grant) => "not allowed: no statement allows it".to_owned(),
        Decision::NotAllowed(Missing::SessionGrant) => "not allowed: the session policy does not allow it".to_owned(),
        Decision::NotAllowed(Missing::PublicAccess) => "not allowed: public policies are restricted".to_owned(),
        Decision::NotAllowed(Missing::Action) => "not allowed: there is no such action".to_owned(),
    }
}
