//! How the bytes of a version are sealed, as far as the metadata know it.
//!
//! A sealed blob is made of blocks of [`BLOCK_BYTES`], of which the last may be shorter; each is stored with
//! [`TAG_BYTES`] more. Lengths of parts and versions are those of the bytes that clients see; a blob's length is that
//! of what is stored. What is in `wrapped` is the business of whoever wrapped it.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::codec::CodecError;

/// Of what clients see, in a block.
pub const BLOCK_BYTES: u64 = 64 << 10;
/// What a block takes more when it is sealed.
pub const TAG_BYTES: u64 = 16;
/// A whole block as it is stored.
pub const SEALED_BLOCK_BYTES: u64 = BLOCK_BYTES + TAG_BYTES;

/// Whose key a version's own key is wrapped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncryptionKind {
    /// The cluster's (SSE-S3).
    Cluster,
    /// One of the key management's that was named, or its default (SSE-KMS).
    Kms,
    /// The client's, who sends it with each request (SSE-C).
    Customer,
}

/// How a version's blobs are sealed: all of them by keys that are derived from one, which is kept here, wrapped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    pub kind: EncryptionKind,
    /// The wrapping key by name; empty for a client's.
    pub key_id: String,
    /// Its version; 0 for a client's.
    pub key_version: u32,
    /// The encryption context that the client gave, as it gave it.
    pub context: Option<String>,
    /// Whether other versions may have been wrapped by the same data key of the key management.
    pub bucket_key: bool,
    #[serde(with = "crate::bytes16::vec")]
    pub wrapped: Vec<u8>,
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, key_id, key_version, bucket_key, .. } = self;
        let mut shown = f.debug_struct("Encryption");
        shown.field("kind", kind).field("key_id", key_id).field("key_version", key_version);
        shown.field("bucket_key", bucket_key).finish_non_exhaustive()
    }
}

/// Bytes that so many are stored as when they are sealed. None for more than can be.
pub fn sealed_length(plain: u64) -> Option<u64> {
    plain.div_ceil(BLOCK_BYTES).checked_mul(TAG_BYTES)?.checked_add(plain)
}

/// Bytes that were sealed into so many. None for a length that nothing is sealed into.
pub fn plain_length(sealed: u64) -> Option<u64> {
    let plain = sealed.checked_sub(sealed.div_ceil(SEALED_BLOCK_BYTES) * TAG_BYTES)?;
    (sealed_length(plain) == Some(sealed)).then_some(plain)
}

/// Bytes that a part of so many is stored as.
pub fn stored_length(encryption: Option<&Encryption>, plain: u64) -> Option<u64> {
    if encryption.is_some() { sealed_length(plain) } else { Some(plain) }
}

/// Reads rows of formats before versions could be sealed, which were `FIRST` to `LAST`. What seals them stands where
/// those rows end, as locks do.
pub(super) fn of_before<const FIRST: u8, const LAST: u8, R: DeserializeOwned>(
    version: u8,
    body: &[u8],
) -> Option<Result<R, CodecError>> {
    let read = |body| rmp_serde::from_slice(body).map_err(|error| CodecError::Garbled(error.to_string()));
    (FIRST..=LAST).contains(&version).then(|| read(body))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_of_sealed_bytes() {
        let whole = SEALED_BLOCK_BYTES;
        for (plain, sealed) in
            [(0, 0), (1, 17), (BLOCK_BYTES, whole), (BLOCK_BYTES + 1, whole + 17), (3 * BLOCK_BYTES - 1, 3 * whole - 1)]
        {
            assert_eq!(sealed_length(plain), Some(sealed));
            assert_eq!(plain_length(sealed), Some(plain));
        }
        for nothing in [1, 16, whole + 1, whole + 16] {
            assert_eq!(plain_length(nothing), None, "{nothing}");
        }
        assert_eq!(sealed_length(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn lengths_go_both_ways(plain in 0u64..1 << 50) {
            prop_assert_eq!(plain_length(sealed_length(plain).unwrap()), Some(plain));
        }
    }
}
