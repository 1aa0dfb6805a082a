//! The facade the gateway calls: objects in, objects out, as plain async functions.
#![allow(unused_variables)]

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use cairn_schema::{Meta, ids::*, record::*, verbs::*};
use futures::Stream;

use crate::{
    checksum::{DigestPlan, Digests},
    error::{BoxError, StoreError},
};

/// A body as it comes from a client.
pub type BodyIn = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;
/// A body as it goes to a client: every byte verified. An error in it means the connection must be aborted.
pub type BodyOut = Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>;

/// Called when a body has ended, with its digests; decides whether it may be committed, and what checksum is kept with it.
/// Runs after trailers have arrived.
pub type Verify = Box<dyn FnOnce(&Digests) -> Result<Option<StoredChecksum>, BoxError> + Send>;

pub struct PutObject {
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
}

pub struct PutUploadPart {
    pub bucket: String,
    pub key: String,
    pub upload: UploadId,
    pub number: u16,
    pub length: Option<u64>,
    pub body: BodyIn,
    pub digests: DigestPlan,
    pub verify: Verify,
}

/// An object's version and the bytes asked for.
pub struct GotObject {
    pub version: Version,
    /// Half open, resolved and clamped.
    pub range: std::ops::Range<u64>,
    pub body: BodyOut,
}

/// The store as a gateway sees it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    _inner: Arc<()>,
}

impl Store {
    /// Buckets, listings, copies, deletes, multipart bookkeeping: metadata only, so the gateway calls it directly.
    pub fn meta(&self) -> &Meta {
        todo!()
    }

    /// Streams a body into fragments and commits it. Durable when it returns.
    pub async fn put(&self, request: PutObject) -> Result<Committed, StoreError> {
        todo!()
    }
    pub async fn put_part(&self, request: PutUploadPart) -> Result<UploadedPart, StoreError> {
        todo!()
    }

    /// Metadata first: the gateway decides preconditions on it (and answers HEAD from it), then calls [`Store::open`].
    pub async fn locate(
        &self,
        bucket: &str,
        key: &str,
        selector: VersionSelector,
        range: RangeRequest,
    ) -> Result<Located, StoreError> {
        todo!()
    }
    /// Returns once the first bytes are verified; an unreadable object is an error here, not a broken body.
    pub async fn open(&self, located: Located) -> Result<GotObject, StoreError> {
        todo!()
    }

    /// Proves that a small write can be made durable on this cluster and be read back, for readiness.
    pub async fn probe_write(&self) -> Result<(), StoreError> {
        todo!()
    }
}
