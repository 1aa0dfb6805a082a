//! Multipart uploads under way.

use serde::{Deserialize, Serialize};

use crate::{
    ids::UploadId,
    record::{Attributes, ChecksumAlgorithm, ChecksumKind, Encryption, StoredChecksum},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    pub id: UploadId,
    pub bucket: String,
    pub key: String,
    pub created_ms: u64,
    pub owner: String,
    pub attributes: Attributes,
    /// What CreateMultipartUpload declared.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
    /// How the blobs of all of its parts are sealed.
    #[serde(default)]
    pub encryption: Option<Encryption>,
}

/// A part that was uploaded and not yet completed into an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedPart {
    pub number: u16,
    pub length: u64,
    pub md5: [u8; 16],
    pub checksum: Option<StoredChecksum>,
    pub modified_ms: u64,
}

/// One line of a CompleteMultipartUpload request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedPart {
    pub number: u16,
    pub md5: [u8; 16],
    pub checksum: Option<StoredChecksum>,
}
