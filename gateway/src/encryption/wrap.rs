//! Keys of versions, wrapped: as they are kept with the metadata.
//!
//! | Format | After its byte |
//! |---|---|
//! | 1 | salt (32 bytes), the sealed key (48): by the master key, or by the customer's |
//! | 2 | length of what is next (2 bytes, big-endian), the data key as the key management has it, then as in 1, by it |
//!
//! What wraps is HKDF-SHA256 of the wrapping key with the salt, and seals once, by AES-256-GCM. Kind, name and version
//! of the wrapping key and the encryption context are bound as associated data, so that no row can pass one off as
//! another.

use cairn_schema::record::{Encryption, EncryptionKind};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};

use super::{
    blocks::VersionKey,
    error::KeyError,
    secret::{KEY_BYTES, Secret, random},
};

const BY_KEY: u8 = 1;
const BY_DATA_KEY: u8 = 2;
const SALT_BYTES: usize = 32;
const WRAPPED_BYTES: usize = SALT_BYTES + KEY_BYTES + 16;
const DOMAIN: &[u8] = b"cairn wrapping key 1";
const CERTAIN: &str = "the lengths are those of the algorithms";

/// What is kept of a version's key, in its parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrapped<'a> {
    /// None if it is wrapped by the master key, or by the customer's.
    pub(super) data_key: Option<&'a str>,
    key: &'a [u8],
}

impl<'a> Wrapped<'a> {
    pub(super) fn of(encryption: &'a Encryption) -> Result<Self, KeyError> {
        let (format, rest) = encryption.wrapped.split_first().ok_or(KeyError::NotOpened)?;
        let (data_key, key) = match *format {
            BY_KEY => (None, rest),
            BY_DATA_KEY => {
                let (length, rest) = rest.split_at_checked(2).ok_or(KeyError::NotOpened)?;
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                let (data_key, key) = rest.split_at_checked(length).ok_or(KeyError::NotOpened)?;
                (Some(std::str::from_utf8(data_key).map_err(|_| KeyError::NotOpened)?), key)
            }
            format => return Err(KeyError::UnknownFormat(format)),
        };
        if key.len() != WRAPPED_BYTES {
            return Err(KeyError::NotOpened);
        }
        Ok(Self { data_key, key })
    }

    /// Opens the version's key. `encryption` is what it is of.
    pub(super) fn open(&self, by: &Secret, encryption: &Encryption) -> Result<Secret, KeyError> {
        let (salt, sealed) = self.key.split_at(SALT_BYTES);
        let mut sealed = zeroize::Zeroizing::new(sealed.to_vec());
        let opened = wrapping_key(by, salt).open_in_place(once(), bound(encryption), &mut sealed);
        opened.ok().and_then(|key| Secret::of(key)).ok_or(KeyError::NotOpened)
    }
}

/// Fills in what is kept of a version's key: by `by`, which is the data key that the key management knows as `data_key`
/// if there is one. All else must be there already.
pub(super) fn wrap(
    encryption: &mut Encryption,
    key: &Secret,
    by: &Secret,
    data_key: Option<&str>,
) -> Result<(), KeyError> {
    let salt = random::<SALT_BYTES>()?;
    let mut sealed = key.bytes().to_vec();
    let tag = wrapping_key(by, &salt).seal_in_place_separate_tag(once(), bound(encryption), &mut sealed);
    let tag = tag.expect(CERTAIN);
    let mut wrapped = Vec::new();
    match data_key {
        None => wrapped.push(BY_KEY),
        Some(data_key) => {
            let length = u16::try_from(data_key.len()).map_err(|_| KeyError::NotOpened)?;
            wrapped.push(BY_DATA_KEY);
            wrapped.extend_from_slice(&length.to_be_bytes());
            wrapped.extend_from_slice(data_key.as_bytes());
        }
    }
    wrapped.extend_from_slice(&salt);
    wrapped.extend_from_slice(&sealed);
    wrapped.extend_from_slice(tag.as_ref());
    encryption.wrapped = wrapped;
    Ok(())
}

/// A new key of a version, wrapped by a customer's.
pub(crate) fn wrap_customer(customer: &Secret) -> Result<(Encryption, VersionKey), KeyError> {
    let kind = EncryptionKind::Customer;
    let mut encryption = Encryption {
        kind,
        key_id: String::new(),
        key_version: 0,
        context: None,
        bucket_key: false,
        wrapped: Vec::new(),
    };
    let key = Secret::draw()?;
    wrap(&mut encryption, &key, customer, None)?;
    Ok((encryption, VersionKey::new(&key, false)))
}

/// The key of a version that a customer's key wraps.
///
/// # Errors
/// NotOpened for another key.
pub(crate) fn open_customer(encryption: &Encryption, customer: &Secret) -> Result<VersionKey, KeyError> {
    Ok(VersionKey::new(&Wrapped::of(encryption)?.open(customer, encryption)?, false))
}

/// Used once, because the salt is drawn anew each time.
fn wrapping_key(by: &Secret, salt: &[u8]) -> LessSafeKey {
    let derive = Salt::new(HKDF_SHA256, salt).extract(by.bytes());
    let key = derive.expand(&[DOMAIN], &AES_256_GCM).expect(CERTAIN);
    LessSafeKey::new(UnboundKey::from(key))
}

fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// What a wrapped key is of, unambiguously.
fn bound(encryption: &Encryption) -> Aad<Vec<u8>> {
    let Encryption { kind, key_id, key_version, context, .. } = encryption;
    let kind = match kind {
        EncryptionKind::Cluster => 1,
        EncryptionKind::Kms => 2,
        EncryptionKind::Customer => 3,
    };
    let mut bound = vec![kind];
    bound.extend_from_slice(&key_version.to_be_bytes());
    bound.extend_from_slice(&(key_id.len() as u64).to_be_bytes());
    bound.extend_from_slice(key_id.as_bytes());
    bound.push(context.is_some().into());
    bound.extend_from_slice(context.as_deref().unwrap_or_default().as_bytes());
    Aad::from(bound)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn encryption() -> Encryption {
        Encryption {
            kind: EncryptionKind::Kms,
            key_id: "k".into(),
            key_version: 2,
            context: Some("c".into()),
            bucket_key: true,
            wrapped: Vec::new(),
        }
    }

    fn secret(byte: u8) -> Secret {
        Secret::of(&[byte; KEY_BYTES]).unwrap()
    }

    #[test]
    fn a_key_is_opened_by_what_wrapped_it_and_for_what_it_is_of() {
        for data_key in [None, Some("vault:v1:abc")] {
            let mut kept = encryption();
            wrap(&mut kept, &secret(1), &secret(2), data_key).unwrap();
            let open = |kept: &Encryption, by: &Secret| {
                let wrapped = Wrapped::of(kept)?;
                Ok::<_, KeyError>(*wrapped.open(by, kept)?.bytes())
            };
            assert_eq!(Wrapped::of(&kept).unwrap().data_key, data_key);
            assert_eq!(open(&kept, &secret(2)).unwrap(), [1; KEY_BYTES]);
            assert_eq!(open(&kept, &secret(3)), Err(KeyError::NotOpened));
            let others = [
                Encryption { kind: EncryptionKind::Cluster, ..kept.clone() },
                Encryption { key_id: "l".into(), ..kept.clone() },
                Encryption { key_version: 3, ..kept.clone() },
                Encryption { context: None, ..kept.clone() },
                Encryption { context: Some("d".into()), ..kept.clone() },
            ];
            for other in others {
                assert_eq!(open(&other, &secret(2)), Err(KeyError::NotOpened), "{other:?}");
            }
            for at in 0..kept.wrapped.len() {
                let mut changed = kept.clone();
                changed.wrapped[at] ^= 1;
                // What a data key is called is the key management's, which refuses another.
                let is_name = data_key.is_some_and(|name| (3..3 + name.len()).contains(&at));
                assert!(is_name || open(&changed, &secret(2)).is_err(), "byte {at}");
                changed.wrapped.truncate(at);
                assert!(open(&changed, &secret(2)).is_err(), "cut to {at}");
            }
            // Wrapped again it looks different.
            let mut again = encryption();
            wrap(&mut again, &secret(1), &secret(2), data_key).unwrap();
            assert_ne!(again.wrapped, kept.wrapped);
        }
        let unknown = Encryption { wrapped: vec![9], ..encryption() };
        assert_eq!(Wrapped::of(&unknown).err(), Some(KeyError::UnknownFormat(9)));
    }

    /// Made by another implementation: what was kept by earlier programs opens.
    #[test]
    fn wrapped_keys_of_format_1_open() {
        let kept = Encryption { wrapped: hex::decode(GOLDEN).unwrap(), ..encryption() };
        assert_eq!(*Wrapped::of(&kept).unwrap().open(&secret(2), &kept).unwrap().bytes(), [1; KEY_BYTES]);
    }

    const GOLDEN: &str = "01000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f4aca4d662505a8a2f4479736c18d49c15100e6e2824773598b2cae71638f4c8ae7874fc047fa21d8b880827cb229d2e9";
}
