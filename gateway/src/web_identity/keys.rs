//! The keys by which a provider signs (RFC 7517), and signatures by them (RFC 7518, 8037). Each key is of one kind and
//! verifies by the algorithms of that kind and no others, so that no token chooses how it is verified: an RSA key is
//! never taken for the secret of a MAC, and `none` is no algorithm.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;

/// More keys than any provider has (BND-1).
const MOST_KEYS: usize = 64;
const KEY_ID_MAX_BYTES: usize = 256;
const P256_BYTES: usize = 32;
const ED25519_BYTES: usize = 32;
/// Of moduli, as the verifier takes them.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
/// Longer exponents are nobody's, and slow.
const EXPONENT_MAX_BYTES: usize = 4;

/// By what a token may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Ps256,
    Es256,
    EdDsa,
}

impl Algorithm {
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// As a point, uncompressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    id: Option<String>,
    /// The only one that it is for, if it says so.
    algorithm: Option<String>,
    material: Material,
}

/// The keys of one provider, as they were fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeySet(Vec<Key>);

#[derive(Deserialize)]
struct SetDocument {
    keys: Vec<KeyDocument>,
}

#[derive(Deserialize)]
struct KeyDocument {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Why a signature is not one of the provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unverified {
    /// The provider has no such key, at least not for that algorithm.
    NoSuchKey,
    /// It was not made by the key.
    Wrong,
}

impl KeySet {
    /// Reads a set. Keys that are for something else, or of a kind that is not known here, are passed over.
    pub(super) fn read(document: &[u8]) -> Result<Self, String> {
        let read: SetDocument = serde_json::from_slice(document).map_err(|error| error.to_string())?;
        if read.keys.len() > MOST_KEYS {
            return Err(format!("there are {} keys, and may be {MOST_KEYS}", read.keys.len()));
        }
        let keys: Vec<Key> = read.keys.into_iter().filter_map(Key::of).collect();
        if keys.is_empty() {
            return Err("there is no key by which tokens could be verified".to_owned());
        }
        Ok(Self(keys))
    }

    /// Whether some key may be the one that is meant.
    pub(super) fn may_have(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        self.meant(id, algorithm).next().is_some()
    }

    /// The keys of that id. A token without one may be by the only key that there is for its algorithm.
    fn meant(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        let suitable = move |key: &&Key| key.is_for(algorithm);
        let only_one = self.0.iter().filter(suitable).count() == 1;
        let meant = move |key: &&Key| match id {
            Some(id) => key.id.as_deref() == Some(id),
            None => only_one,
        };
        self.0.iter().filter(suitable).filter(meant)
    }

    pub(super) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Unverified> {
        let mut outcome = Err(Unverified::NoSuchKey);
        for key in self.meant(id, algorithm) {
            if key.verifies(algorithm, message, signature) {
                return Ok(());
            }
            outcome = Err(Unverified::Wrong);
        }
        outcome
    }
}

impl Key {
    fn of(document: KeyDocument) -> Option<Self> {
        let signs = document.usage.as_deref().is_none_or(|usage| usage == "sig");
        let verifies = document.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !signs || !verifies || document.kid.as_ref().is_some_and(|id| id.len() > KEY_ID_MAX_BYTES) {
            return None;
        }
        let decoded = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?).ok();
        let of_length = |text: &Option<String>, bytes: usize| decoded(text).filter(|value| value.len() == bytes);
        let number = |text: &Option<String>| {
            let value = decoded(text)?;
            let zeros = value.iter().take_while(|byte| **byte == 0).count();
            Some(value[zeros..].to_vec())
        };
        let material = match (document.kty.as_str(), document.crv.as_deref()) {
            ("RSA", _) => {
                let (modulus, exponent) = (number(&document.n)?, number(&document.e)?);
                let right = RSA_BYTES.contains(&modulus.len()) && (1..=EXPONENT_MAX_BYTES).contains(&exponent.len());
                right.then_some(Material::Rsa { modulus, exponent })?
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (of_length(&document.x, P256_BYTES)?, of_length(&document.y, P256_BYTES)?);
                Material::P256([&[4][..], &x, &y].concat())
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(of_length(&document.x, ED25519_BYTES)?),
            _ => return None,
        };
        Some(Self { id: document.kid, algorithm: document.alg, material })
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        let of_kind = matches!(
            (&self.material, algorithm),
            (Material::Rsa { .. }, Algorithm::Rs256 | Algorithm::Ps256)
                | (Material::P256(_), Algorithm::Es256)
                | (Material::Ed25519(_), Algorithm::EdDsa)
        );
        of_kind && self.algorithm.as_deref().is_none_or(|only| only == algorithm.name())
    }

    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (&self.material, algorithm) {
            (Material::Rsa { modulus: n, exponent: e }, Algorithm::Rs256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            (Material::Rsa { modulus: n, exponent: e }, Algorithm::Ps256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, message, signature).is_ok()
            }
            (Material::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            (Material::Ed25519(point), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}
