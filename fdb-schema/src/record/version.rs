//! Versions of objects: the manifests.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{BlobId, VersionId},
    record::{Blob, Encryption, Lock},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionKind {
    Object,
    DeleteMarker,
}

/// The checksum algorithms of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChecksumAlgorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

/// Whether a checksum covers the object's bytes or the parts' checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChecksumKind {
    FullObject,
    Composite,
}

/// A checksum that the client sent or asked for, kept to be returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredChecksum {
    pub algorithm: ChecksumAlgorithm,
    pub kind: ChecksumKind,
    /// The raw digest; for `Composite`, the digest of the parts' digests.
    #[serde(with = "crate::bytes16::vec")]
    pub value: Vec<u8>,
}

/// What a client says about an object and gets back with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub content_disposition: Option<String>,
    pub cache_control: Option<String>,
    pub expires: Option<String>,
    pub website_redirect: Option<String>,
    /// Names in lower case without the `x-amz-meta-` prefix.
    pub user_metadata: Vec<(String, String)>,
    pub tags: Vec<(String, String)>,
    /// S3's name of the class, `STANDARD` when the client gave none.
    pub storage_class: String,
    #[serde(default)]
    pub lock: Lock,
}

/// The entity tag: the MD5 of the bytes, or of the parts' MD5s with their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Etag {
    #[serde(with = "crate::bytes16")]
    pub md5: [u8; 16],
    /// Number of parts when uploaded in parts.
    pub parts: Option<u16>,
}

impl std::fmt::Display for Etag {
    /// Without the quotes that HTTP puts around it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.parts {
            None => f.write_str(&hex::encode(self.md5)),
            Some(parts) => write!(f, "{}-{parts}", hex::encode(self.md5)),
        }
    }
}

/// A run of an object's bytes with a number and digests of its own, made of slices of blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The part's number in a multipart upload; 1 for an object put whole.
    pub number: u16,
    pub length: u64,
    pub md5: [u8; 16],
    pub checksum: Option<StoredChecksum>,
    /// In order; their lengths add up to `length`. One, from its blob's beginning to its end, unless the part was
    /// copied from other objects.
    pub slices: Vec<Slice>,
}

/// A run of a blob's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub blob_offset: u64,
    pub length: u64,
    /// Shared: many slices may be of one blob.
    pub blob: Arc<Blob>,
}

impl Slice {
    pub fn name(&self) -> SliceName {
        SliceName { blob: self.blob.id, blob_offset: self.blob_offset, length: self.length }
    }
}

/// Which bytes a slice has. Blobs never change, so slices of the same name are the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceName {
    pub blob: BlobId,
    pub blob_offset: u64,
    pub length: u64,
}

/// A version as it is read back: everything but its parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub id: VersionId,
    pub kind: VersionKind,
    pub etag: Etag,
    pub size: u64,
    /// Milliseconds since the Unix epoch; never earlier than that of the version it follows.
    pub modified_ms: u64,
    pub owner: String,
    pub attributes: Attributes,
    pub checksum: Option<StoredChecksum>,
    /// Number of parts if it was uploaded in parts.
    pub part_count: Option<u16>,
    /// How its blobs are sealed; None if they are not.
    #[serde(default)]
    pub encryption: Option<Encryption>,
}

/// A version about to be committed by a whole PUT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVersion {
    pub etag: Etag,
    pub size: u64,
    pub owner: String,
    pub attributes: Attributes,
    pub checksum: Option<StoredChecksum>,
    /// How its blob is sealed; the blob then has as many bytes as `size` are when they are sealed.
    pub encryption: Option<Encryption>,
}
