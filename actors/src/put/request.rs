//! What is asked of a write.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use cairn_fragment::{
    checksum::{DigestPlan, Digests},
    sealing::Sealer,
};
use cairn_schema::{ids::*, record::*, verbs::*};
use futures::Stream;

use crate::{data_path::Requester, error::BoxError};

/// A body as it comes from a client.
pub type BodyIn = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// Called when a body has ended, with its digests; decides whether it may be committed, and what checksum is kept with
/// it. Runs after trailers have arrived.
pub type Verify = Box<dyn FnOnce(&Digests) -> Result<Option<StoredChecksum>, BoxError> + Send>;

/// An object to be stored, with what the client said of it.
pub struct PutObject {
    /// Whose share of the memory it takes.
    pub requester: Requester,
    pub bucket: String,
    pub key: String,
    /// Exact length if declared; a body of another length is `StoreError::Body`.
    pub length: Option<u64>,
    pub body: BodyIn,
    /// MD5 is always computed; these are besides.
    pub digests: DigestPlan,
    pub verify: Verify,
    pub owner: String,
    pub attributes: Attributes,
    pub precondition: Precondition,
    /// What events tell of it.
    pub cause: Cause,
    /// How its bytes are sealed; None stores them as they are.
    pub sealing: Option<Sealing>,
}

/// What seals a new version, and what is kept with it to open it again.
#[derive(Clone)]
pub struct Sealing {
    pub sealer: Arc<dyn Sealer>,
    pub kept: Encryption,
}

/// A part of an upload to be stored.
pub struct PutUploadPart {
    pub requester: Requester,
    pub bucket: String,
    pub key: String,
    pub upload: UploadId,
    pub number: u16,
    pub length: Option<u64>,
    pub body: BodyIn,
    pub digests: DigestPlan,
    pub verify: Verify,
    /// That of the upload: its parts are sealed if it is to be, and only then.
    pub sealer: Option<Arc<dyn Sealer>>,
}

/// A part of bytes that another object has.
pub struct CopyUploadPart {
    pub requester: Requester,
    pub source: (String, String, VersionSelector),
    /// The bytes, as [`crate::Store::locate`] found them.
    pub located: Located,
    pub bucket: String,
    pub key: String,
    pub upload: UploadId,
    pub number: u16,
    /// What opens the source's bytes, if they are sealed, and what seals the part's. If there is either the bytes are
    /// written again.
    pub opener: Option<Arc<dyn Sealer>>,
    pub sealer: Option<Arc<dyn Sealer>>,
    /// The bytes' digests, if the source has them; else the bytes are read.
    pub known: Option<KnownDigests>,
    pub digests: DigestPlan,
    pub verify: Verify,
}

/// Digests that are kept with a part.
#[derive(Clone, Debug)]
pub struct KnownDigests {
    pub md5: [u8; 16],
    pub checksum: Option<StoredChecksum>,
}
