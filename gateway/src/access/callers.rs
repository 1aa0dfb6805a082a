//! Who a request is from: nobody, the root, or a user by an access key.

use std::sync::Arc;

use cairn_iam::{Policy, PolicyKind, Principal};
use cairn_schema::{
    Meta,
    clock::now_ms,
    record::{Grant, RequestLimits},
};
use s3s::{
    S3Error, S3Result,
    auth::{S3Auth, SecretKey},
    s3_error,
};

use super::account::{ACCOUNT, user_arn};
use crate::{
    error::from_meta,
    recent::Recent,
    secrets::{SecretError, SecretsKey},
};

/// Longer access keys are unknown without asking.
const ACCESS_KEY_MAX_BYTES: usize = 128;
/// About what an entry takes besides its policies.
const ENTRY_BYTES: usize = 1024;
/// A policy that has been read takes about so many times as much as its text, which is kept, too.
const READ_TIMES: usize = 8;

#[derive(Clone)]
pub(crate) enum Caller {
    Anonymous,
    Root,
    User(Arc<KnownUser>),
}

/// A user, as one of the user's access keys shows.
pub(crate) struct KnownUser {
    /// As it was read: when it is read again and is the same, nothing else need be done again.
    grant: Grant,
    arn: String,
    id: String,
    /// Of the user and the groups.
    identity: Vec<Policy>,
    session: Option<Policy>,
    /// Some of these could not be read: they may have denied anything.
    broken: bool,
    secret: Result<SecretKey, NoSecret>,
}

#[derive(Clone, Copy, Debug, thiserror::Error)]
enum NoSecret {
    #[error("this node has no key for secrets: give it s3.secrets_key_file")]
    NoKey,
    #[error(transparent)]
    Unreadable(#[from] SecretError),
}

impl Caller {
    pub(super) fn principal(&self) -> Principal<'_> {
        match self {
            Self::Anonymous => Principal::Anonymous,
            Self::Root => Principal::Root { account: ACCOUNT },
            Self::User(user) => Principal::User { account: ACCOUNT, arn: &user.arn, id: &user.id },
        }
    }

    pub(super) fn identity(&self) -> Vec<&Policy> {
        match self {
            Self::User(user) => user.identity.iter().collect(),
            Self::Anonymous | Self::Root => Vec::new(),
        }
    }

    pub(super) fn session(&self) -> Option<&Policy> {
        match self {
            Self::User(user) => user.session.as_ref(),
            Self::Anonymous | Self::Root => None,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::User(user) if user.broken)
    }

    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::User(user) => Some(user.name()),
            Self::Anonymous | Self::Root => None,
        }
    }
}

impl KnownUser {
    pub(super) fn name(&self) -> &str {
        &self.grant.user.name
    }

    /// Of all the user's requests together.
    pub(super) fn limits(&self) -> RequestLimits {
        self.grant.user.limits
    }
}

/// Finds who has an access key, and its secret. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Credentials(Arc<Keys>);

struct Keys {
    root_access_key: String,
    root_secret_key: SecretKey,
    secrets: Option<SecretsKey>,
    meta: Meta,
    /// None: there is no such key.
    known: Recent<Option<Arc<KnownUser>>>,
}

impl Credentials {
    pub(crate) fn new(
        meta: Meta,
        root_access_key: String,
        root_secret_key: String,
        secrets: Option<SecretsKey>,
    ) -> Self {
        let root_secret_key = root_secret_key.into();
        Self(Arc::new(Keys { root_access_key, root_secret_key, secrets, meta, known: Recent::default() }))
    }

    /// Who has a key by which something was signed.
    pub(super) async fn caller(&self, access_key: Option<&str>) -> S3Result<Caller> {
        match access_key {
            None => Ok(Caller::Anonymous),
            Some(root) if root == self.0.root_access_key => Ok(Caller::Root),
            Some(access_key) => self.user(access_key).await.map(Caller::User),
        }
    }

    /// A key that is unknown or disabled is answered as IAM does it, and one of a user who is disabled likewise. One
    /// that has expired is answered as IAM's temporary ones, which are the only ones that expire there: clients fetch
    /// others then.
    async fn user(&self, access_key: &str) -> S3Result<Arc<KnownUser>> {
        let unknown = || s3_error!(InvalidAccessKeyId);
        if access_key.len() > ACCESS_KEY_MAX_BYTES {
            return Err(unknown());
        }
        let weigh = |known: &Option<Arc<KnownUser>>| known.as_ref().map_or(0, |known| known.weight()) + ENTRY_BYTES;
        let read = async |before: Option<Option<Arc<KnownUser>>>| self.read(access_key, before.flatten()).await;
        let known = self.0.known.get(access_key, weigh, read).await?.ok_or_else(unknown)?;
        let Grant { key, user, .. } = &known.grant;
        if !(key.enabled && user.enabled) {
            return Err(unknown());
        }
        if key.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms()) {
            return Err(s3_error!(ExpiredToken, "The provided token has expired."));
        }
        Ok(known)
    }

    async fn read(&self, access_key: &str, before: Option<Arc<KnownUser>>) -> S3Result<Option<Arc<KnownUser>>> {
        let Some(grant) = self.0.meta.grant(access_key).await.map_err(from_meta)? else { return Ok(None) };
        if let Some(before) = before.filter(|before| before.grant == grant) {
            return Ok(Some(before));
        }
        Ok(Some(Arc::new(KnownUser::of(grant, self.0.secrets.as_ref()))))
    }
}

impl KnownUser {
    fn of(grant: Grant, secrets: Option<&SecretsKey>) -> Self {
        let (access_key, user) = (&grant.key.access_key, &grant.user.name);
        let mut broken = false;
        let mut read = |kind, name: &str, text: &str| {
            let policy = Policy::parse(kind, text.as_bytes());
            if let Err(error) = &policy {
                tracing::error!(user, policy = name, %error, "a policy cannot be read: its user may do nothing");
                broken = true;
            }
            policy.ok()
        };
        let identity = grant.policies.iter();
        let identity =
            identity.filter_map(|granted| read(PolicyKind::Identity, &granted.name, &granted.text)).collect();
        let session = grant.key.session_policy.as_deref();
        let session = session.and_then(|text| read(PolicyKind::Session, "of the access key", text));
        let secret = match secrets {
            None => Err(NoSecret::NoKey),
            Some(secrets) => secrets.open(access_key, &grant.key.secret).map_err(NoSecret::from),
        };
        if let Err(error) = &secret {
            tracing::error!(access_key, user, %error, "the secret of an access key cannot be read");
        }
        let (arn, id) = (user_arn(user), grant.user.id.to_string());
        Self { grant, arn, id, identity, session, broken, secret }
    }

    fn weight(&self) -> usize {
        let policies = self.grant.policies.iter().map(|granted| granted.text.len()).sum::<usize>();
        let session = self.grant.key.session_policy.as_ref().map_or(0, String::len);
        (policies + session) * READ_TIMES
    }
}

fn no_secret() -> S3Error {
    s3_error!(InternalError, "The secret of this access key cannot be read; please tell the operator.")
}

#[async_trait::async_trait]
impl S3Auth for Credentials {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.0.root_access_key {
            return Ok(self.0.root_secret_key.clone());
        }
        self.user(access_key).await?.secret.clone().map_err(|_| no_secret())
    }
}
