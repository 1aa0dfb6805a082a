//! Temporary credentials. Nothing of them is stored: whoever has some shows a token that holds all that there is to
//! know, sealed by a key that is derived from the one for the secrets of users.
//!
//! | Format | After its byte |
//! |---|---|
//! | 1 | salt (32 bytes), then sealed what follows |
//!
//! Sealed are: when it was issued and when it ends (8 bytes each, ms since the Unix epoch), the user's id (16), and,
//! each with its length before it in 2 bytes, the access key, the access key that it was asked for by, the session's
//! name and its policy (empty: none). Numbers are big-endian.
//!
//! A token is that in base64 for URLs, without padding. What seals it is HKDF-SHA256 of the derived key with the salt,
//! and seals once, by AES-256-GCM; the format is bound as associated data. The secret is derived from the access key,
//! so that a signature can be verified before the token is looked at; a signature without its token lets nobody in.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cairn_iam::{Policy, PolicyKind};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
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
const TOKEN_MAX_BYTES: usize = 4096;
const FORMAT: u8 = 1;
const SALT_BYTES: usize = 32;
/// 40 characters, as secrets of users have them.
const SECRET_BYTES: usize = 30;
const TOKEN_DOMAIN: &[u8] = b"cairn session token 1\0";
const SECRET_DOMAIN: &[u8] = b"cairn session secret 1\0";
const CERTAIN: &str = "the lengths are those of the algorithms";

/// One who is a user for a while, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) access_key: String,
    /// The access key of the user by which it was asked for: it ends with that.
    pub(crate) parent: String,
    pub(crate) user: [u8; 16],
    /// Empty for a session of GetSessionToken.
    pub(crate) name: String,
    pub(crate) issued_ms: u64,
    pub(crate) expires_ms: u64,
    /// What the user may is limited to what this allows.
    pub(crate) policy: Option<String>,
}

/// A session as its token shows it.
pub(crate) struct OpenedSession {
    pub(crate) session: Session,
    pub(crate) policy: Option<Policy>,
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

    fn seal_with(&self, by: &SecretsKey, salt: [u8; SALT_BYTES]) -> String {
        let mut sealed = self.encode();
        let tag = sealing_key(by, &salt).seal_in_place_separate_tag(once(), Aad::from([FORMAT]), &mut sealed);
        let token = [&[FORMAT][..], &salt, &sealed, tag.expect(CERTAIN).as_ref()].concat();
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Whether it has expired is looked at elsewhere.
    pub(crate) fn open(token: &str, by: &SecretsKey) -> Result<OpenedSession, TokenError> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(TokenError::TooLong);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Malformed)?;
        let (format, rest) = bytes.split_first().ok_or(TokenError::Malformed)?;
        if *format != FORMAT {
            return Err(TokenError::UnknownFormat(*format));
        }
        let (salt, sealed) = rest.split_at_checked(SALT_BYTES).ok_or(TokenError::Malformed)?;
        let mut sealed = sealed.to_vec();
        let opened = sealing_key(by, salt).open_in_place(once(), Aad::from([FORMAT]), &mut sealed);
        let session = Self::decode(opened.map_err(|_| TokenError::NotOpened)?).ok_or(TokenError::Malformed)?;
        let policy = session.policy.as_deref().map(|text| Policy::parse(PolicyKind::Session, text.as_bytes()));
        let policy = policy.transpose().map_err(|error| TokenError::Policy(error.to_string()))?;
        Ok(OpenedSession { session, policy })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.issued_ms.to_be_bytes());
        out.extend_from_slice(&self.expires_ms.to_be_bytes());
        out.extend_from_slice(&self.user);
        for text in [&self.access_key, &self.parent, &self.name, self.policy.as_deref().unwrap_or_default()] {
            // Each is bounded where sessions are made; one that is not is cut, and its token does not open.
            out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    /// None for what no session encodes to.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (issued, rest) = bytes.split_first_chunk::<8>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (user, mut rest) = rest.split_first_chunk::<16>()?;
        let mut text = || {
            let (length, after) = rest.split_first_chunk::<2>()?;
            let (text, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            rest = after;
            String::from_utf8(text.to_vec()).ok()
        };
        let (access_key, parent, name, policy) = (text()?, text()?, text()?, text()?);
        let session = Self {
            access_key,
            parent,
            user: *user,
            name,
            issued_ms: u64::from_be_bytes(*issued),
            expires_ms: u64::from_be_bytes(*expires),
            policy: Some(policy).filter(|policy| !policy.is_empty()),
        };
        rest.is_empty().then_some(session)
    }
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
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const POLICY: &str =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#;

    fn key(byte: u8) -> SecretsKey {
        SecretsKey::parse(&hex::encode([byte; 32])).unwrap()
    }

    fn session() -> Session {
        Session {
            access_key: "ASIAABCDEFGHIJKLMNOP".into(),
            parent: "AKIAABCDEFGHIJKLMNOP".into(),
            user: [7; 16],
            name: "job-1".into(),
            issued_ms: 1_700_000_000_000,
            expires_ms: 1_700_000_900_000,
            policy: Some(POLICY.into()),
        }
    }

    fn opened(token: &str, by: &SecretsKey) -> Result<Session, TokenError> {
        Session::open(token, by).map(|opened| opened.session)
    }

    proptest! {
        #[test]
        fn whatever_a_session_is_its_token_tells(
            (access_key, parent, name) in ("[!-~]{0,128}", "[!-~]{0,128}", "[a-z=,.@-]{0,64}"),
            (issued_ms, expires_ms, user) in any::<(u64, u64, [u8; 16])>(),
            limited in any::<bool>(),
        ) {
            let policy = limited.then(|| POLICY.to_owned());
            let session = Session { access_key, parent, user, name, issued_ms, expires_ms, policy };
            let token = session.seal(&key(1)).unwrap();
            prop_assert!(token.len() <= TOKEN_MAX_BYTES);
            let opened = Session::open(&token, &key(1)).unwrap();
            prop_assert_eq!(opened.policy.is_some(), limited);
            prop_assert_eq!(opened.session, session);
        }

        #[test]
        fn a_token_with_any_bit_another_or_cut_or_longer_does_not_open(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut bytes = URL_SAFE_NO_PAD.decode(session().seal(&key(1)).unwrap()).unwrap();
            let at = at.index(bytes.len());
            prop_assert!(opened(&URL_SAFE_NO_PAD.encode(&bytes[..at]), &key(1)).is_err());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(opened(&URL_SAFE_NO_PAD.encode(&bytes), &key(1)).is_err());
            bytes[at] ^= 1_u8 << bit;
            prop_assert_eq!(opened(&URL_SAFE_NO_PAD.encode(&bytes), &key(1)), Ok(session()));
            bytes.push(0);
            prop_assert!(opened(&URL_SAFE_NO_PAD.encode(&bytes), &key(1)).is_err());
        }

        #[test]
        fn no_text_is_a_token_by_chance(text in ".{0,200}") {
            prop_assert!(opened(&text, &key(1)).is_err());
        }
    }

    #[test]
    fn a_token_opens_by_its_clusters_key_alone_and_in_its_own_spelling() {
        let token = session().seal(&key(1)).unwrap();
        assert_eq!(opened(&token, &key(2)), Err(TokenError::NotOpened));
        assert_eq!(opened(&format!("{token}="), &key(1)), Err(TokenError::Malformed));
        assert_eq!(opened("", &key(1)), Err(TokenError::Malformed));
        assert_eq!(opened(&URL_SAFE_NO_PAD.encode([2; 100]), &key(1)), Err(TokenError::UnknownFormat(2)));
        assert_ne!(token, session().seal(&key(1)).unwrap(), "salts differ");
    }

    #[test]
    fn bnd_1_the_largest_session_has_a_token_and_a_longer_text_is_not_looked_at() {
        let largest = Session {
            parent: "p".repeat(128),
            name: "n".repeat(64),
            policy: Some(format!("{POLICY}{}", " ".repeat(POLICY_MAX_BYTES - POLICY.len()))),
            ..session()
        };
        let token = largest.seal(&key(1)).unwrap();
        assert_eq!(opened(&token, &key(1)), Ok(largest));
        assert_eq!(opened(&"A".repeat(TOKEN_MAX_BYTES + 1), &key(1)), Err(TokenError::TooLong));
    }

    #[test]
    fn a_policy_that_cannot_be_read_makes_a_token_none() {
        let later = Session { policy: Some(r#"{"Version":"2040-01-01"}"#.into()), ..session() };
        assert!(matches!(opened(&later.seal(&key(1)).unwrap(), &key(1)), Err(TokenError::Policy(_))));
    }

    #[test]
    fn secrets_are_of_one_access_key_and_one_cluster() {
        let secret = |access_key: &str, by: u8| secret_of(access_key, &key(by)).expose().to_owned();
        assert_eq!(secret("ASIAA", 1), secret("ASIAA", 1));
        assert_ne!(secret("ASIAA", 1), secret("ASIAB", 1));
        assert_ne!(secret("ASIAA", 1), secret("ASIAA", 2));
        assert_eq!(secret("ASIAA", 1).len(), 40);
        assert!(is_temporary(&new_access_key().unwrap()));
        assert!(!is_temporary("AKIAABCDEFGHIJKLMNOP") && !is_temporary("ASIA"));
    }

    /// Made by another implementation: tokens of earlier programs open, and so do signatures by their secrets.
    #[test]
    fn tokens_of_format_1_open() {
        assert_eq!(opened(GOLDEN, &key(1)), Ok(session()));
        assert_eq!(session().seal_with(&key(1), [9; SALT_BYTES]), GOLDEN);
        assert_eq!(secret_of(&session().access_key, &key(1)).expose(), GOLDEN_SECRET);
    }

    const GOLDEN: &str = "AQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJH67BqkIR9oIJyi6HBLn6TWEKJblcjM4RpXITRXhB3MLYcMB789956P9ppQDoAsIxc39pQp9hHKuXrsUsAIbIRSEhVlFZ7zbM1Xx5RqrlLndGqAqMMVj1lE5NPos6ab3UQFGJY0nPcFvxCFZ1mEcxeEA4hAX4I-MqnHR1avY0Z315OqD_8W5EOk6rEysB7MdMFQAR61-b6zd11XCEPQhIHC0THuzW5egrnoDxhJikWrUgUYk2HBYC01X1wr47SC5jsqfwO4Q";
    const GOLDEN_SECRET: &str = "FVBgnK0_jbBHFofVZt7CnFv1KldSzPWaBtozwI8R";
}
