//! Who holds a token of a provider of identities (OpenID Connect), and what that is worth.
//!
//! Operators name *roles* in the configuration: a provider, whom its tokens must be meant for, and which policies and
//! groups whoever holds one gets, by a claim of the token or by the role itself. Whoever asks names the role, so a
//! token is only ever taken for what its role says. Nobody here connects anywhere but to what operators have named and
//! to the key set that this names in turn.

mod error;
mod fetch;
mod keys;
mod provider;
#[cfg(test)]
mod tests;
mod token;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use cairn_schema::record::check_access_name;
use parking_lot::Mutex;
use provider::Provider;
use token::{Claims, Token, is_name};

pub(crate) use error::WebIdentityError;
pub(crate) use token::TOKEN_MAX_BYTES;

const MOST_ROLES: usize = 16;
const MOST_CLIENT_IDS: usize = 32;
/// Names that a token's claim may have which may be policies or groups here (BND-1): each is looked for.
const MOST_NAMES: usize = 128;
/// Tokens that are read and verified at once, and how many of them may come from one address.
const MOST_EXCHANGES: usize = 256;
const MOST_EXCHANGES_OF_ONE: usize = 64;
const KEYS_AGES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
const SESSIONS: std::ops::RangeInclusive<Duration> = Duration::from_secs(900)..=Duration::from_secs(43_200);

/// A role, as an operator names it.
#[derive(Clone, Debug)]
pub struct WebIdentityOptions {
    /// `arn:aws:iam::000000000000:role/NAME` is what clients ask for.
    pub name: String,
    /// `https://…`, or `http://` on this machine, as the provider writes itself.
    pub issuer: String,
    /// Whose certificates are believed, PEM: for https.
    pub ca_pem: Option<String>,
    /// Whom tokens must be meant for (`aud`, and `azp` where it is).
    pub client_ids: Vec<String>,
    /// Shared policies and groups of users that every holder gets.
    pub policies: Vec<String>,
    pub groups: Vec<String>,
    /// Claims that name more of them. What they name that is not here is nothing.
    pub policy_claim: Option<String>,
    pub group_claim: Option<String>,
    /// The longest session.
    pub longest: Duration,
    /// How long keys of the provider are believed when it cannot be asked.
    pub keys_age: Duration,
}

/// Options that make no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    #[error("there are {0} roles, and may be {MOST_ROLES}")]
    TooMany(usize),
    #[error("\"{0}\" is no name of a role: want 1 to 64 letters, digits or any of + = , . @ _ -")]
    Name(String),
    #[error("two roles are called {0}")]
    SameName(String),
    #[error("role {0}: {1}")]
    Role(String, String),
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) audience: String,
    /// What the role gives everybody: each of them must be there.
    pub(crate) of_role: Names,
    /// What the token names, as far as it may be a name here.
    pub(crate) of_claims: Names,
}

/// Of shared policies and of groups of users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) policies: Vec<String>,
    pub(crate) groups: Vec<String>,
}

pub(crate) struct Role {
    options: WebIdentityOptions,
    provider: Arc<Provider>,
}

/// The roles of a node. Cheap to clone.
#[derive(Clone)]
pub struct WebIdentities(Arc<Roles>);

struct Roles {
    by_name: BTreeMap<String, Role>,
    exchanges: Arc<Mutex<Exchanges>>,
}

/// Who is being answered, by address.
#[derive(Default)]
struct Exchanges {
    all: usize,
    by_peer: HashMap<Option<IpAddr>, usize>,
}

/// One token that is being read and verified; it counts until this is dropped.
pub(crate) struct Exchange {
    exchanges: Arc<Mutex<Exchanges>>,
    peer: Option<IpAddr>,
}

impl WebIdentities {
    /// # Errors
    /// For options of which no role can be made.
    pub fn new(options: Vec<WebIdentityOptions>) -> Result<Self, RoleError> {
        if options.len() > MOST_ROLES {
            return Err(RoleError::TooMany(options.len()));
        }
        let mut by_name = BTreeMap::new();
        for options in options {
            let name = options.name.clone();
            if check_access_name("role", &name).is_err() {
                return Err(RoleError::Name(name));
            }
            let role = Role::new(options).map_err(|why| RoleError::Role(name.clone(), why))?;
            if by_name.insert(name.clone(), role).is_some() {
                return Err(RoleError::SameName(name));
            }
        }
        Ok(Self(Arc::new(Roles { by_name, exchanges: Arc::default() })))
    }

    pub(crate) fn role(&self, name: &str) -> Option<&Role> {
        self.0.by_name.get(name)
    }

    /// None if too many are answered already.
    pub(crate) fn enter(&self, peer: Option<IpAddr>) -> Option<Exchange> {
        let mut exchanges = self.0.exchanges.lock();
        let of_peer = exchanges.by_peer.get(&peer).copied().unwrap_or_default();
        if exchanges.all >= MOST_EXCHANGES || of_peer >= MOST_EXCHANGES_OF_ONE {
            return None;
        }
        exchanges.all += 1;
        exchanges.by_peer.insert(peer, of_peer + 1);
        Some(Exchange { exchanges: self.0.exchanges.clone(), peer })
    }
}

impl std::fmt::Debug for WebIdentities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.by_name.keys()).finish()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut exchanges = self.exchanges.lock();
        exchanges.all -= 1;
        if let Some(of_peer) = exchanges.by_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                exchanges.by_peer.remove(&self.peer);
            }
        }
    }
}

impl Role {
    fn new(options: WebIdentityOptions) -> Result<Self, String> {
        let WebIdentityOptions { issuer, client_ids, policies, groups, policy_claim, group_claim, .. } = &options;
        if !is_name(issuer) || issuer.contains('?') {
            return Err("the issuer must be an address without a query, of 255 characters at most".to_owned());
        }
        if !(1..=MOST_CLIENT_IDS).contains(&client_ids.len()) || !client_ids.iter().all(|id| is_name(id)) {
            return Err(format!("client_ids must name 1 to {MOST_CLIENT_IDS} that tokens may be meant for"));
        }
        if let Some(name) = policies.iter().chain(groups).find(|name| check_access_name("name", name).is_err()) {
            return Err(format!("\"{name}\" is no name of a policy or a group"));
        }
        let claims = [policy_claim, group_claim];
        if claims.into_iter().flatten().any(|claim| !is_name(claim)) {
            return Err("a claim's name must have 1 to 255 characters".to_owned());
        }
        if policies.is_empty() && groups.is_empty() && claims.into_iter().all(Option::is_none) {
            return Err(
                "nobody would be allowed anything: give policies, groups, policy_claim or group_claim".to_owned()
            );
        }
        if !SESSIONS.contains(&options.longest) {
            return Err("longest_session must be 15 min to 12 h".to_owned());
        }
        if !KEYS_AGES.contains(&options.keys_age) {
            return Err("keys_age must be 1 s to 24 h".to_owned());
        }
        let provider = Provider::new(issuer, options.ca_pem.as_deref(), options.keys_age)?;
        Ok(Self { options, provider })
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.options.issuer
    }

    pub(crate) fn longest_seconds(&self) -> u64 {
        self.options.longest.as_secs()
    }

    /// Who holds a token, if it is one of the role's provider.
    pub(crate) async fn holder(&self, text: &str, now_ms: u64) -> Result<Holder, WebIdentityError> {
        let token = Token::read(text)?;
        self.provider.verify(&token).await?;
        let WebIdentityOptions { issuer, client_ids, policies, groups, policy_claim, group_claim, .. } = &self.options;
        let claims = token.claims(issuer, client_ids, now_ms)?;
        let names = |claim: &Option<String>, given: &[String]| names_in(&claims, claim.as_deref(), given);
        let of_claims = Names { policies: names(policy_claim, policies)?, groups: names(group_claim, groups)? };
        let of_role = Names { policies: policies.clone(), groups: groups.clone() };
        let Claims { subject, audience, .. } = claims;
        Ok(Holder { issuer: issuer.clone(), subject, audience, of_role, of_claims })
    }
}

/// What a claim names besides what is given anyway. Providers name much that is nothing here.
fn names_in(claims: &Claims, claim: Option<&str>, given: &[String]) -> Result<Vec<String>, WebIdentityError> {
    let Some(claim) = claim else { return Ok(Vec::new()) };
    let mut names: Vec<String> = Vec::new();
    for text in claims.texts(claim) {
        let is_new = !given.iter().chain(&names).any(|name| name == text);
        if is_new && check_access_name("name", text).is_ok() {
            if names.len() == MOST_NAMES {
                return Err(WebIdentityError::Rejected(format!("the claim {claim} has more than {MOST_NAMES} names")));
            }
            names.push(text.to_owned());
        }
    }
    Ok(names)
}
