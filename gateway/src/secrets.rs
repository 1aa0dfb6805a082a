//! Secrets of users, encrypted with AES-256-GCM by a key that every node of the cluster is given and the metadata do
//! not have. Nonces are random: of 2^32 secrets, more than anybody will ever seal by one key, two share one with a
//! probability of 2^-33. The access key is bound as associated data, so that no row's secret can be put into another.

use std::sync::Arc;

use cairn_schema::record::SealedSecret;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
    hkdf::{HKDF_SHA256, Prk, Salt},
    rand::{SecureRandom, SystemRandom},
};
use s3s::auth::SecretKey;

const KEY_BYTES: usize = 32;
/// Before the access key: what is sealed elsewhere by the same key is no user's secret.
const DOMAIN: &[u8] = b"cairn user secret 1\0";
const ID_DOMAIN: &[u8] = b"cairn secrets key id 1\0";
/// What is of sessions comes of a key of its own.
const SESSIONS_DOMAIN: &[u8] = b"cairn sessions 1\0";
pub(crate) const ACCESS_KEY_CHARS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The cluster's key for secrets of users. Cheap to clone.
#[derive(Clone)]
pub struct SecretsKey(Arc<Inner>);

struct Inner {
    key: LessSafeKey,
    sessions: Prk,
    id: [u8; 16],
}

impl std::fmt::Debug for SecretsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretsKey").finish_non_exhaustive()
    }
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want 64 hexadecimal digits, as `openssl rand -hex 32` prints them")]
pub struct SecretsKeyError;

/// Why a secret cannot be read or made. No message has anything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("the secret was sealed by another key than this node has")]
    OtherKey,
    #[error("the sealed secret is damaged, or of another access key")]
    Damaged,
    #[error("the system gives no random numbers")]
    Random,
}

impl SecretsKey {
    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// For everything else.
    pub fn parse(text: &str) -> Result<Self, SecretsKeyError> {
        let mut bytes = [0; KEY_BYTES];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| SecretsKeyError)?;
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| SecretsKeyError)?;
        let hash = digest(&SHA256, &[ID_DOMAIN, &bytes].concat());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_ref()[..16]);
        let sessions = Salt::new(HKDF_SHA256, SESSIONS_DOMAIN).extract(&bytes);
        Ok(Self(Arc::new(Inner { key: LessSafeKey::new(key), sessions, id })))
    }

    /// From which the keys and secrets of sessions are derived.
    pub(crate) fn sessions(&self) -> &Prk {
        &self.0.sessions
    }

    /// A new one as [`SecretsKey::parse`] reads it; None if the system gives no random numbers.
    pub fn generate() -> Option<String> {
        random::<KEY_BYTES>().ok().map(hex::encode)
    }

    pub(crate) fn seal(&self, access_key: &str, secret: &str) -> Result<SealedSecret, SecretError> {
        let nonce = random::<NONCE_LEN>()?;
        let mut sealed = secret.as_bytes().to_vec();
        let bound = Aad::from([DOMAIN, access_key.as_bytes()].concat());
        let done = self.0.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound, &mut sealed);
        done.map_err(|_| SecretError::Damaged)?;
        Ok(SealedSecret { key_id: self.0.id, sealed: [&nonce[..], &sealed].concat() })
    }

    pub(crate) fn open(&self, access_key: &str, secret: &SealedSecret) -> Result<SecretKey, SecretError> {
        if secret.key_id != self.0.id {
            return Err(SecretError::OtherKey);
        }
        let (nonce, sealed) = secret.sealed.split_at_checked(NONCE_LEN).ok_or(SecretError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SecretError::Damaged)?;
        let bound = Aad::from([DOMAIN, access_key.as_bytes()].concat());
        let mut sealed = sealed.to_vec();
        let opened = self.0.key.open_in_place(nonce, bound, &mut sealed).map_err(|_| SecretError::Damaged)?;
        let text = std::str::from_utf8(opened).map_err(|_| SecretError::Damaged)?;
        Ok(SecretKey::from(text.to_owned()))
    }
}

/// Letters and digits that nobody can guess: 6 bits of chance in each of them, or a little less.
pub(crate) fn random_text<const LENGTH: usize>(alphabet: &[u8]) -> Result<String, SecretError> {
    let bytes = random::<LENGTH>()?;
    Ok(bytes.into_iter().map(|byte| char::from(alphabet[usize::from(byte) % alphabet.len()])).collect())
}

pub(crate) fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], SecretError> {
    let mut bytes = [0; LENGTH];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SecretError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn secrets_are_opened_by_the_key_and_for_the_access_key_they_were_sealed_with() {
        let (key, other) = (SecretsKey::generate().unwrap(), SecretsKey::generate().unwrap());
        let (again, key) = (SecretsKey::parse(&format!("{key}\n")).unwrap(), SecretsKey::parse(&key).unwrap());
        let sealed = key.seal("alice", "secret").unwrap();
        assert_eq!(again.open("alice", &sealed).unwrap().expose(), "secret");
        assert_ne!(sealed, key.seal("alice", "secret").unwrap(), "nonces differ");
        assert_eq!(again.open("bob", &sealed).err(), Some(SecretError::Damaged));
        assert_eq!(SecretsKey::parse(&other).unwrap().open("alice", &sealed).err(), Some(SecretError::OtherKey));
        for at in 0..sealed.sealed.len() {
            let mut changed = sealed.clone();
            changed.sealed[at] ^= 1;
            assert_eq!(key.open("alice", &changed).err(), Some(SecretError::Damaged), "byte {at}");
            changed.sealed.truncate(at);
            assert_eq!(key.open("alice", &changed).err(), Some(SecretError::Damaged), "cut to {at}");
        }
        for wrong in ["", "00", &"0".repeat(63), &"g".repeat(64), &"0".repeat(66)] {
            assert!(SecretsKey::parse(wrong).is_err(), "{wrong}");
        }
        assert!(!format!("{key:?} {sealed:?}").contains("secret\""));
    }
}
