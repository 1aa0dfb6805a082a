//! Who a request is from: nobody, the root, or a user, by an access key of the user's or of a session.

use std::sync::Arc;

use cairn_iam::{Policy, Principal};
use cairn_schema::{Meta, clock::now_ms, record::Grant};
use s3s::{
    S3Error, S3Result,
    auth::{S3Auth, SecretKey},
    s3_error,
};

use super::{
    account::{ACCOUNT, Identity, ROOT_ARN},
    known_user::KnownUser,
    roles::{self, RoleBook, RoleHolder},
};
use crate::{
    error::from_meta,
    recent::Recent,
    secrets::{SecretError, SecretsKey},
    session::{self, OpenedSession, Session, Whose},
    web_identity::{Holder, WebIdentities},
};

/// Longer access keys are unknown without asking.
const ACCESS_KEY_MAX_BYTES: usize = 128;
/// About what an entry takes besides its policies.
const ENTRY_BYTES: usize = 1024;

#[derive(Clone)]
pub(crate) enum Caller {
    Anonymous,
    Root,
    User(Arc<KnownUser>),
    /// The user, by the access key that the session was asked for by, and the session.
    Session(Arc<KnownUser>, Arc<OpenedSession>),
    /// One of a role, whom a provider of identities knows.
    Role(Arc<RoleHolder>),
}

/// What somebody asks a session to be.
pub(crate) struct WantedSession<'a> {
    pub(crate) name: &'a str,
    pub(crate) seconds: u64,
    /// One that can be read.
    pub(crate) policy: Option<&'a str>,
}

/// A session that was made. Nothing of it is kept here.
pub(crate) struct NewSession {
    pub(crate) access_key: String,
    pub(crate) secret_key: SecretKey,
    pub(crate) token: String,
    pub(crate) expires_ms: u64,
    pub(crate) identity: Identity,
}

impl Caller {
    pub(super) fn principal(&self) -> Principal<'_> {
        match self {
            Self::Anonymous => Principal::Anonymous,
            Self::Root => Principal::Root { account: ACCOUNT },
            // A session is the user, also to those who deny something to the user.
            Self::User(user) | Self::Session(user, _) => {
                Principal::User { account: ACCOUNT, arn: &user.arn, id: &user.id }
            }
            Self::Role(holder) => Principal::User { account: ACCOUNT, arn: &holder.arn, id: &holder.id },
        }
    }

    pub(super) fn identity(&self) -> Vec<&Policy> {
        match self {
            Self::User(user) | Self::Session(user, _) => user.identity.iter().collect(),
            Self::Role(holder) => holder.rights.identity.iter().collect(),
            Self::Anonymous | Self::Root => Vec::new(),
        }
    }

    /// What the access key and the session are limited to, each by itself.
    pub(super) fn limits(&self) -> Vec<&Policy> {
        match self {
            Self::User(user) => user.session.iter().collect(),
            Self::Session(user, opened) => user.session.iter().chain(&opened.policy).collect(),
            Self::Role(holder) => holder.opened.policy.iter().collect(),
            Self::Anonymous | Self::Root => Vec::new(),
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        match self {
            Self::User(user) | Self::Session(user, _) => user.broken,
            Self::Role(holder) => holder.rights.broken,
            Self::Anonymous | Self::Root => false,
        }
    }

    /// Who it is, as it is told to the audit log.
    pub(super) fn arn(&self) -> String {
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Root => ROOT_ARN.to_owned(),
            Self::User(user) => user.arn.clone(),
            Self::Session(user, opened) => user.identity_in(&opened.session.name).arn,
            Self::Role(holder) => holder.identity().arn,
        }
    }

    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::User(user) | Self::Session(user, _) => Some(user.name()),
            Self::Anonymous | Self::Root | Self::Role(_) => None,
        }
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
    roles: RoleBook,
}

impl Credentials {
    pub(crate) fn new(
        meta: Meta,
        root_access_key: String,
        root_secret_key: String,
        secrets: Option<SecretsKey>,
        roles: Option<WebIdentities>,
    ) -> Self {
        let root_secret_key = root_secret_key.into();
        let (known, roles) = (Recent::default(), RoleBook::new(roles));
        Self(Arc::new(Keys { root_access_key, root_secret_key, secrets, meta, known, roles }))
    }

    /// Who has a key by which something was signed. A session's key comes with the session's token, and a token with
    /// the key that it is of: a request with another is not what its sender believes.
    pub(super) async fn caller(
        &self,
        access_key: Option<&str>,
        session: Option<&Arc<OpenedSession>>,
    ) -> S3Result<Caller> {
        match (access_key, session) {
            (None, None) => Ok(Caller::Anonymous),
            (Some(root), None) if root == self.0.root_access_key => Ok(Caller::Root),
            (Some(access_key), None) => self.user(access_key).await.map(Caller::User),
            (Some(access_key), Some(opened)) if access_key == opened.session.access_key => {
                let (parent, id) = match &opened.session.of {
                    Whose::User { parent, user } => (parent, user),
                    Whose::WebIdentity(web) => {
                        return self.0.roles.holder(&self.0.meta, web, opened).await.map(Caller::Role);
                    }
                };
                let user = self.user(parent).await?;
                if user.grant.user.id.0 != *id {
                    return Err(s3_error!(InvalidAccessKeyId));
                }
                Ok(Caller::Session(user, opened.clone()))
            }
            (_, Some(_)) => Err(invalid_token()),
        }
    }

    /// The session that a token is of.
    ///
    /// # Errors
    /// InvalidToken, ExpiredToken.
    pub(crate) fn open_session(&self, token: &str) -> S3Result<OpenedSession> {
        let secrets = self.0.secrets.as_ref().ok_or_else(invalid_token)?;
        let opened = Session::open(token, secrets).map_err(|error| {
            tracing::debug!(%error, "a session token is refused");
            invalid_token()
        })?;
        if opened.session.expires_ms <= self.0.meta.now_ms() {
            return Err(expired_token());
        }
        Ok(opened)
    }

    /// Who signed a request to the token service, in the words of its answers.
    pub(crate) async fn identity(&self, access_key: &str, session: Option<&Arc<OpenedSession>>) -> S3Result<Identity> {
        Ok(match self.caller(Some(access_key), session).await? {
            Caller::Root | Caller::Anonymous => {
                Identity { user: None, id: ACCOUNT.to_owned(), arn: ROOT_ARN.to_owned() }
            }
            Caller::User(user) => user.identity_in(""),
            Caller::Session(user, opened) => user.identity_in(&opened.session.name),
            Caller::Role(holder) => holder.identity(),
        })
    }

    /// A new session of the user who has this access key. It ends no later than the key.
    ///
    /// # Errors
    /// NotImplemented where there is no key for secrets; AccessDenied for the root, whose rights nothing could take
    /// back from a session.
    pub(crate) async fn new_session(&self, access_key: &str, wanted: WantedSession<'_>) -> S3Result<NewSession> {
        if access_key == self.0.root_access_key {
            return Err(s3_error!(AccessDenied, "The root may have no temporary credentials; make a user for that."));
        }
        let secrets = self.sealing()?;
        let user = self.user(access_key).await?;
        let issued_ms = self.0.meta.now_ms();
        let ends_ms = issued_ms.saturating_add(wanted.seconds.saturating_mul(1000));
        let expires_ms = user.grant.key.expires_ms.map_or(ends_ms, |key_ends_ms| key_ends_ms.min(ends_ms));
        let of = Whose::User { parent: access_key.to_owned(), user: user.grant.user.id.0 };
        made(secrets, of, &wanted, (issued_ms, expires_ms), user.assumed(wanted.name))
    }

    /// A new session of one who holds a token of a role's provider, and whom both give something here.
    ///
    /// # Errors
    /// NotImplemented as above; AccessDenied if there is nothing that the holder would be allowed.
    pub(crate) async fn role_session(
        &self,
        role: &str,
        holder: Holder,
        wanted: WantedSession<'_>,
    ) -> S3Result<NewSession> {
        let secrets = self.sealing()?;
        let web = roles::session_of(&self.0.meta, role, holder).await?;
        let issued_ms = self.0.meta.now_ms();
        let expires_ms = issued_ms.saturating_add(wanted.seconds.saturating_mul(1000));
        let identity = Identity::of_role(role, &web.unique_id(), wanted.name);
        made(secrets, Whose::WebIdentity(web), &wanted, (issued_ms, expires_ms), identity)
    }

    fn sealing(&self) -> S3Result<&SecretsKey> {
        self.0.secrets.as_ref().ok_or_else(|| {
            s3_error!(
                NotImplemented,
                "This node gives no temporary credentials: it has no key for secrets (s3.secrets_key_file)."
            )
        })
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
            return Err(expired_token());
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

fn made(
    secrets: &SecretsKey,
    of: Whose,
    wanted: &WantedSession<'_>,
    (issued_ms, expires_ms): (u64, u64),
    identity: Identity,
) -> S3Result<NewSession> {
    let access_key = session::new_access_key().map_err(not_made)?;
    let (name, policy) = (wanted.name.to_owned(), wanted.policy.map(ToOwned::to_owned));
    let session = Session { access_key, of, name, issued_ms, expires_ms, policy };
    Ok(NewSession {
        secret_key: session::secret_of(&session.access_key, secrets),
        token: session.seal(secrets).map_err(not_made)?,
        access_key: session.access_key,
        expires_ms,
        identity,
    })
}

/// One that is of no session, or of another than the access key is.
pub(crate) fn invalid_token() -> S3Error {
    s3_error!(InvalidToken)
}

fn expired_token() -> S3Error {
    s3_error!(ExpiredToken, "The provided token has expired.")
}

fn not_made(error: SecretError) -> S3Error {
    tracing::error!(%error, "temporary credentials cannot be made");
    s3_error!(InternalError)
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
        // Whether there is such a session its token tells, without which its key is unknown.
        if let Some(secrets) = self.0.secrets.as_ref().filter(|_| session::is_temporary(access_key)) {
            return Ok(session::secret_of(access_key, secrets));
        }
        self.user(access_key).await?.secret.clone().map_err(|_| no_secret())
    }
}
