//! A user, as one of the user's access keys shows, read once for many requests.

use cairn_iam::{Policy, PolicyKind};
use cairn_schema::record::{Grant, RequestLimits};
use s3s::auth::SecretKey;

use super::account::{Identity, session_arn, user_arn};
use crate::secrets::{SecretError, SecretsKey};

/// A policy that has been read takes about so many times as much as its text, which is kept, too.
pub(super) const READ_TIMES: usize = 8;

/// A user, as one of the user's access keys shows.
pub(crate) struct KnownUser {
    /// As it was read: when it is read again and is the same, nothing else need be done again.
    pub(super) grant: Grant,
    pub(super) arn: String,
    pub(super) id: String,
    /// Of the user and the groups.
    pub(super) identity: Vec<Policy>,
    pub(super) session: Option<Policy>,
    /// Some of these could not be read: they may have denied anything.
    pub(super) broken: bool,
    pub(super) secret: Result<SecretKey, NoSecret>,
}

#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum NoSecret {
    #[error("this node has no key for secrets: give it s3.secrets_key_file")]
    NoKey,
    #[error(transparent)]
    Unreadable(#[from] SecretError),
}

impl KnownUser {
    pub(super) fn name(&self) -> &str {
        &self.grant.user.name
    }

    /// Of all the user's requests together.
    pub(super) fn limits(&self) -> RequestLimits {
        self.grant.user.limits
    }

    pub(super) fn of(grant: Grant, secrets: Option<&SecretsKey>) -> Self {
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

    /// In a session, or in none, which has no name.
    pub(super) fn identity_in(&self, session: &str) -> Identity {
        match session {
            "" => Identity { user: Some(self.name().to_owned()), id: self.id.clone(), arn: self.arn.clone() },
            name => self.assumed(name),
        }
    }

    /// As one who took a session of that name.
    pub(super) fn assumed(&self, session: &str) -> Identity {
        let name = self.name();
        Identity { user: Some(name.to_owned()), id: format!("{}:{session}", self.id), arn: session_arn(name, session) }
    }

    pub(super) fn weight(&self) -> usize {
        let policies = self.grant.policies.iter().map(|granted| granted.text.len()).sum::<usize>();
        let session = self.grant.key.session_policy.as_ref().map_or(0, String::len);
        (policies + session) * READ_TIMES
    }
}
