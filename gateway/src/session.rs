//! Temporary credentials. Nothing of them is stored: whoever has some shows a token that holds all that there is to
//! know, sealed by a key that is derived from the one for the secrets of users.
//!
//! | Format | Of whom | After its byte |
//! |---|---|---|
//! | 1 | a user | salt (32 bytes), then sealed what follows |
//! | 2 | one who holds a web identity | likewise |
//!
//! Sealed are: when it was issued and when it ends (8 bytes each, ms since the Unix epoch); of a user the id (16); and,
//! each with its length before it in 2 bytes, texts: the access key, the access key of the user that it was asked for
//! by, the session's name and its policy (empty: none). In format 2 these are the access key, the role, the issuer, the
//! subject, the audience, the session's name and its policy, and then the names of policies and those of groups, each
//! with their number before them in a byte. Numbers are big-endian.
//!
//! A token is that in base64 for URLs, without padding. What seals it is HKDF-SHA256 of the derived key with the salt,
//! and seals once, by AES-256-GCM; the format is bound as associated data. The secret is derived from the access key,
//! so that a signature can be verified before the token is looked at; a signature without its token lets nobody in.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cairn_iam::{Policy, PolicyKind};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
    hkdf::KeyType,
};
use s3s::auth::SecretKey;

use crate::secrets::{ACCESS_KEY_CHARS, SecretError, SecretsKey, random, random_text};

/// Those of AWS look like these. Keys of users begin otherwise.
const ACCESS_KEY_PREFIX: &str = "ASIA";
const ACCESS_KEY_LENGTH: usize = ACCESS_KEY_PREFIX.len() + 16;
/// As much as STS lets a policy have.
pub(crate) const POLICY_MAX_BYTES: usize = 2048;
/// More than any token has (BND-1).
const TOKEN_MAX_BYTES: usize = 6144;
const OF_USER: u8 = 1;
const OF_WEB_IDENTITY: u8 = 2;
const SALT_BYTES: usize = 32;
/// 40 characters, as secrets of users have them.
const SECRET_BYTES: usize = 30;
const TOKEN_DOMAIN: &[u8] = b"cairn session token 1\0";
const SECRET_DOMAIN: &[u8] = b"cairn session secret 1\0";
const WEB_DOMAIN: &[u8] = b"cairn web identity 1\0";
const CERTAIN: &str = "the lengths are those of the algorithms";

/// One who is a user for a while, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) access_key: String,
    pub(crate) of: Whose,
    /// Empty for a session of GetSessionToken.
    pub(crate) name: String,
    pub(crate) issued_ms: u64,
    pub(crate) expires_ms: u64,
    /// What the user may is limited to what this allows.
    pub(crate) policy: Option<String>,
}

/// Whose rights a session has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    User {
        /// The access key of the user by which it was asked for: it ends with that.
        parent: String,
        user: [u8; 16],
    },
    WebIdentity(WebSession),
}

/// Somebody whom a provider of identities knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WebSession {
    pub(crate) role: String,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) audience: String,
    /// Names of shared policies and of groups of users, all of which there were.
    pub(crate) policies: Vec<String>,
    pub(crate) groups: Vec<String>,
}

impl WebSession {
    /// One for each subject of an issuer, as unique ids of users are: 32 letters and digits.
    pub(crate) fn unique_id(&self) -> String {
        let told = [WEB_DOMAIN, self.issuer.as_bytes(), b"\0", self.subject.as_bytes()].concat();
        hex::encode(&digest(&SHA256, &told).as_ref()[..16])
    }
}

/// A session as its token shows it.
pub(crate) struct OpenedSession {
    pub(crate) session: Session,
    pub(crate) policy: Option<Policy>,
}

impl OpenedSession {
    /// Who has it, for what is shared out among those who ask: there may be any number of sessions of one.
    pub(crate) fn holder(&self) -> String {
        match &self.session.of {
            Whose::User { parent, .. } => parent.clone(),
            Whose::WebIdentity(web) => format!("role/{}/{}", web.role, web.unique_id()),
        }
    }
}

/// Why a text is no token. Clients are told only that it is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("it is longer than any token")]
    TooLong,
    #[error("it is not in base64, or cut")]
    Malformed,
    #[error("its format {0} is unknown")]
    UnknownFormat(u8),
    #[error("it was not sealed by this cluster's key, or is damaged")]
    NotOpened,
    #[error("its policy cannot be read: {0}")]
    Policy(String),
}

/// Whether an access key is of a session: its secret is derived, not kept.
pub(crate) fn is_temporary(access_key: &str) -> bool {
    access_key.len() == ACCESS_KEY_LENGTH && access_key.starts_with(ACCESS_KEY_PREFIX)
}

pub(crate) fn new_access_key() -> Result<String, SecretError> {
    Ok(format!("{ACCESS_KEY_PREFIX}{}", random_text::<16>(ACCESS_KEY_CHARS)?))
}

/// The secret of an access key of a session. There is one for every text: that it exists the token tells.
pub(crate) fn secret_of(access_key: &str, by: &SecretsKey) -> SecretKey {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            SECRET_BYTES
        }
    }
    let mut bytes = zeroize::Zeroizing::new([0; SECRET_BYTES]);
    let info = [SECRET_DOMAIN, access_key.as_bytes()];
    let derived = by.sessions().expand(&info, Length).and_then(|derived| derived.fill(&mut *bytes));
    derived.expect(CERTAIN);
    SecretKey::from(URL_SAFE_NO_PAD.encode(*bytes))
}

impl Session {
    /// The token.
    pub(crate) fn seal(&self, by: &SecretsKey) -> Result<String, SecretError> {
        Ok(self.seal_with(by, random::<SALT_BYTES>()?))
    }

    fn format(&self) -> u8 {
        match self.of {
            Whose::User { .. } => OF_USER,
            Whose::WebIdentity(_) => OF_WEB_IDENTITY,
        }
    }

    fn seal_with(&self, by: &SecretsKey, salt: [u8; SALT_BYTES]) -> String {
        let (mut sealed, format) = (self.encode(), self.format());
        let tag = sealing_key(by, &salt).seal_in_place_separate_tag(once(), Aad::from([format]), &mut sealed);
        let token = [&[format][..], &salt, &sealed, tag.expect(CERTAIN).as_ref()].concat();
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Whether it has expired is looked at elsewhere.
    pub(crate) fn open(token: &str, by: &SecretsKey) -> Result<OpenedSession, TokenError> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(TokenError::TooLong);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Malformed)?;
        let (format, rest) = bytes.split_first().ok_or(TokenError::Malformed)?;
        if ![OF_USER, OF_WEB_IDENTITY].contains(format) {
            return Err(TokenError::UnknownFormat(*format));
        }
        let (salt, sealed) = rest.split_at_checked(SALT_BYTES).ok_or(TokenError::Malformed)?;
        let mut sealed = sealed.to_vec();
        let opened = sealing_key(by, salt).open_in_place(once(), Aad::from([*format]), &mut sealed);
        let session = Self::decode(*format, opened.map_err(|_| TokenError::NotOpened)?).ok_or(TokenError::Malformed)?;
        let policy = session.policy.as_deref().map(|text| Policy::parse(PolicyKind::Session, text.as_bytes()));
        let policy = policy.transpose().map_err(|error| TokenError::Policy(error.to_string()))?;
        Ok(OpenedSession { session, policy })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.issued_ms.to_be_bytes());
        out.extend_from_slice(&self.expires_ms.to_be_bytes());
        let policy = self.policy.as_deref().unwrap_or_default();
        match &self.of {
            Whose::User { parent, user } => {
                out.extend_from_slice(user);
                put_texts(&mut out, &[&self.access_key, parent, &self.name, policy]);
            }
            Whose::WebIdentity(web) => {
                let WebSession { role, issuer, subject, audience, policies, groups } = web;
                put_texts(&mut out, &[&self.access_key, role, issuer, subject, audience, &self.name, policy]);
                for names in [policies, groups] {
                    out.push(u8::try_from(names.len()).unwrap_or(u8::MAX));
                    put_texts(&mut out, names);
                }
            }
        }
        out
    }

    /// None for what no session encodes to.
    fn decode(format: u8, bytes: &[u8]) -> Option<Self> {
        let (issued, rest) = bytes.split_first_chunk::<8>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let mut rest = rest;
        let (access_key, of, name, policy) = if format == OF_USER {
            let (user, after) = rest.split_first_chunk::<16>()?;
            rest = after;
            let [access_key, parent, name, policy] = take_texts(&mut rest)?;
            (access_key, Whose::User { parent, user: *user }, name, policy)
        } else {
            let [access_key, role, issuer, subject, audience, name, policy] = take_texts(&mut rest)?;
            let (policies, groups) = (take_names(&mut rest)?, take_names(&mut rest)?);
            let web = WebSession { role, issuer, subject, audience, policies, groups };
            (access_key, Whose::WebIdentity(web), name, policy)
        };
        let session = Self {
            access_key,
            of,
            name,
            issued_ms: u64::from_be_bytes(*issued),
            expires_ms: u64::from_be_bytes(*expires),
            policy: Some(policy).filter(|policy| !policy.is_empty()),
        };
        rest.is_empty().then_some(session)
    }
}

/// Each is bounded where sessions are made; one that is not is cut, and its token does not open.
fn put_texts(out: &mut Vec<u8>, texts: &[impl AsRef<str>]) {
    for text in texts {
        let text = text.as_ref();
        out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    let (text, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

fn take_texts<const COUNT: usize>(rest: &mut &[u8]) -> Option<[String; COUNT]> {
    let texts: Option<Vec<String>> = (0..COUNT).map(|_| take_text(rest)).collect();
    texts?.try_into().ok()
}

fn take_names(rest: &mut &[u8]) -> Option<Vec<String>> {
    let (count, after) = rest.split_first()?;
    *rest = after;
    (0..*count).map(|_| take_text(rest)).collect()
}

/// Used once, because the salt is drawn anew each time.
fn sealing_key(by: &SecretsKey, salt: &[u8]) -> LessSafeKey {
    let key = by.sessions().expand(&[TOKEN_DOMAIN, salt], &AES_256_GCM).map(UnboundKey::from);
    LessSafeKey::new(key.expect(CERTAIN))
}

fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
