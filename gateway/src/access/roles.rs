//! Those who have sessions of roles: whom a provider of identities knows. A session's token says which policies and
//! groups it has; what these say is read with each request, as it is of users.

use std::sync::Arc;

use cairn_iam::{Policy, PolicyKind};
use cairn_schema::{
    Meta,
    record::{MAX_ATTACHED, MAX_GROUPS},
    verbs::NamedPolicies,
};
use s3s::{S3Error, S3Result, s3_error};

use super::{
    account::{Identity, role_arn},
    known_user::READ_TIMES,
};
use crate::{
    error::from_meta,
    recent::Recent,
    session::{OpenedSession, WebSession},
    web_identity::{Holder, Names, WebIdentities},
};

/// About what an entry takes besides its policies.
const ENTRY_BYTES: usize = 1024;

/// One of a role.
pub(crate) struct RoleHolder {
    /// The role's: bucket policies name all who have it, for sessions are called as whoever asks for them likes.
    pub(super) arn: String,
    /// Of the subject.
    pub(super) id: String,
    pub(super) rights: Arc<Rights>,
    pub(super) opened: Arc<OpenedSession>,
}

/// What policies and groups of some names come to.
pub(crate) struct Rights {
    /// As it was read: when it is read again and is the same, nothing else need be done again.
    named: NamedPolicies,
    pub(super) identity: Vec<Policy>,
    /// Some of these could not be read, or are gone: they may have denied anything.
    pub(super) broken: bool,
}

/// Finds what sessions of roles may do.
pub(super) struct RoleBook {
    roles: Option<WebIdentities>,
    rights: Recent<Arc<Rights>>,
}

impl RoleHolder {
    pub(super) fn identity(&self) -> Identity {
        let session = &self.opened.session.name;
        let role = self.arn.rsplit('/').next().unwrap_or_default();
        Identity::of_role(role, &self.id, session)
    }
}

impl RoleBook {
    pub(super) fn new(roles: Option<WebIdentities>) -> Self {
        Self { roles, rights: Recent::default() }
    }

    /// # Errors
    /// InvalidAccessKeyId for a role that is there no more, or is another provider's now: its sessions end with it.
    pub(super) async fn holder(
        &self,
        meta: &Meta,
        web: &WebSession,
        opened: &Arc<OpenedSession>,
    ) -> S3Result<Arc<RoleHolder>> {
        let role = self.roles.as_ref().and_then(|roles| roles.role(&web.role));
        if role.is_none_or(|role| role.issuer() != web.issuer) {
            return Err(s3_error!(InvalidAccessKeyId));
        }
        let name = format!("{}\n\n{}", web.policies.join("\n"), web.groups.join("\n"));
        let read = async |before: Option<Arc<Rights>>| {
            let named = meta.named_policies(&web.policies, &web.groups).await.map_err(from_meta)?;
            match before {
                Some(before) if before.named == named => Ok::<_, S3Error>(before),
                _ => Ok(Arc::new(Rights::of(named, web))),
            }
        };
        let rights = self.rights.get(&name, |rights| rights.weight(), read).await?;
        Ok(Arc::new(RoleHolder { arn: role_arn(&web.role), id: web.unique_id(), rights, opened: opened.clone() }))
    }
}

impl Rights {
    fn of(named: NamedPolicies, web: &WebSession) -> Self {
        let mut broken = (named.policies.len(), named.groups.len()) != (web.policies.len(), web.groups.len());
        if broken {
            tracing::warn!(role = web.role, "a policy or group of sessions is gone: these may do nothing");
        }
        let mut identity = Vec::with_capacity(named.granted.len());
        for granted in &named.granted {
            match Policy::parse(PolicyKind::Identity, granted.text.as_bytes()) {
                Ok(policy) => identity.push(policy),
                Err(error) => {
                    let (role, policy) = (&web.role, &granted.name);
                    tracing::error!(role, policy, %error, "a policy cannot be read: whoever has it may do nothing");
                    broken = true;
                }
            }
        }
        Self { named, identity, broken }
    }

    fn weight(&self) -> usize {
        ENTRY_BYTES + self.named.granted.iter().map(|granted| granted.text.len()).sum::<usize>() * READ_TIMES
    }
}

/// What a session of a role has: all that the role gives, and of what the token names what there is.
///
/// # Errors
/// AccessDenied if something that the role gives is gone, which may have denied something; if nothing is left; and for
/// more policies or groups than a user may have.
pub(super) async fn session_of(meta: &Meta, role: &str, holder: Holder) -> S3Result<WebSession> {
    let Holder { issuer, subject, audience, of_role, of_claims } = holder;
    let both = |given: &[String], named: &[String]| [given, named].concat();
    let policies = both(&of_role.policies, &of_claims.policies);
    let groups = both(&of_role.groups, &of_claims.groups);
    let found = meta.named_policies(&policies, &groups).await.map_err(from_meta)?;
    let found = Names { policies: found.policies, groups: found.groups };
    let gone = of_role.policies.iter().find(|name| !found.policies.contains(name));
    let gone = gone.or_else(|| of_role.groups.iter().find(|name| !found.groups.contains(name)));
    if let Some(name) = gone {
        tracing::error!(role, name, "a role names a policy or group that does not exist: nobody gets the role");
        return Err(s3_error!(AccessDenied, "The role {role} names {name}, which does not exist."));
    }
    if found.policies.is_empty() && found.groups.is_empty() {
        let message = "Not authorized to perform sts:AssumeRoleWithWebIdentity: the token names no policy or group.";
        return Err(s3_error!(AccessDenied, "{message}"));
    }
    let Names { policies, groups } = found;
    if policies.len() > MAX_ATTACHED || groups.len() > MAX_GROUPS {
        let (of, have) = (policies.len(), groups.len());
        let message = format!(
            "The token names {of} policies and {have} groups; a session has {MAX_ATTACHED} and {MAX_GROUPS} at most."
        );
        return Err(s3_error!(AccessDenied, "{message}"));
    }
    Ok(WebSession { role: role.to_owned(), issuer, subject, audience, policies, groups })
}
