//! The facade the gateway calls: objects in, objects out, as plain async functions.

mod codecs;
mod metrics;
mod probe;

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use cairn_schema::{Meta, ids::*, record::*, verbs::*};
use futures::Stream;

pub(crate) use metrics::Metrics;

use codecs::Codecs;

use crate::{
    budget::Budget,
    checksum::{DigestPlan, Digests},
    error::{BoxError, StoreError},
    fragment::Bounded,
    get::{self, DamageReports, Latencies},
    placement::Placement,
    policy::{Policy, Timings},
    put::{self, Cleaner},
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

/// A part of bytes that another object has.
pub struct CopyUploadPart {
    pub source: (String, String, VersionSelector),
    /// The bytes, as [`Store::locate`] found them.
    pub located: Located,
    pub bucket: String,
    pub key: String,
    pub upload: UploadId,
    pub number: u16,
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

/// An object's version and the bytes asked for.
pub struct GotObject {
    pub version: Version,
    /// Half open, resolved and clamped.
    pub range: std::ops::Range<u64>,
    pub body: BodyOut,
}

/// What a store is made of.
pub struct StoreParts {
    pub meta: Meta,
    pub fragments: Bounded,
    /// Kept current by whoever runs the node; see [`Placement`].
    pub placement: Arc<Placement>,
    pub policy: Policy,
    pub timings: Timings,
    /// Bytes that all stripes in flight may take together.
    pub memory_bytes: u64,
    pub limits: StoreLimits,
    pub metrics: prometheus::Registry,
}

/// Bounds of single requests; the defaults suit every cluster.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Stripes of one PUT that are being encoded and sent while the next is filled.
    pub put_stripes: usize,
    /// Pieces of at most a stripe that one GET holds: the one being sent to the client and those read ahead.
    pub get_pieces: usize,
    /// How long a request waits for memory before it is refused as busy.
    pub memory_wait: Duration,
    /// How long fragments that are not needed for the quorum are waited for at the end of a body.
    pub straggler_grace: Duration,
    /// A read is hedged after the 95th percentile of recent reads, but never sooner or later than these.
    pub hedge_floor: Duration,
    pub hedge_ceiling: Duration,
    /// Consecutive stripes that stay in one group while it is healthy.
    pub run_stripes: u32,
    /// Groups tried for one stripe.
    pub stripe_tries: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            put_stripes: 2,
            get_pieces: 2,
            memory_wait: Duration::from_secs(5),
            straggler_grace: Duration::from_millis(500),
            hedge_floor: Duration::from_millis(20),
            hedge_ceiling: Duration::from_secs(1),
            run_stripes: 64,
            stripe_tries: 4,
        }
    }
}

/// The store as a gateway sees it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What every request shares.
pub(crate) struct Inner {
    pub meta: Meta,
    pub fragments: Bounded,
    pub placement: Arc<Placement>,
    pub policy: Policy,
    pub timings: Timings,
    pub limits: StoreLimits,
    pub budget: Budget,
    pub codecs: Codecs,
    pub metrics: Metrics,
    pub latencies: Latencies,
    pub damage: DamageReports,
    pub cleaner: Cleaner,
}

impl Store {
    /// Must be called within a tokio runtime: it starts the task that writes what reads find damaged to the ledger.
    pub fn new(parts: StoreParts) -> Self {
        let metrics = Metrics::new(&parts.metrics);
        let damage = DamageReports::start(parts.meta.clone(), metrics.clone());
        let cleaner = Cleaner::new(parts.fragments.clone(), parts.timings.fragment_deadline, metrics.clone());
        let StoreParts { meta, fragments, placement, policy, timings, memory_bytes, limits, .. } = parts;
        let budget = Budget::new(memory_bytes, limits.memory_wait);
        let inner = Inner {
            codecs: Codecs::default(),
            latencies: Latencies::default(),
            meta,
            fragments,
            placement,
            policy,
            timings,
            limits,
            budget,
            metrics,
            damage,
            cleaner,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Buckets, listings, copies, deletes, multipart bookkeeping: metadata only, so the gateway calls it directly.
    pub fn meta(&self) -> &Meta {
        &self.inner.meta
    }

    /// Streams a body into fragments and commits it. Durable when it returns. Dropping the future stores nothing, unless the
    /// commit was under way already.
    pub async fn put(&self, request: PutObject) -> Result<Committed, StoreError> {
        put::put(&self.inner, request).await
    }

    /// As [`Store::put`], for one part of a multipart upload.
    pub async fn put_part(&self, request: PutUploadPart) -> Result<UploadedPart, StoreError> {
        put::put_part(&self.inner, request).await
    }

    /// A part that shares the blobs of its source. `Err(Meta(Stale))` when the source's bytes are others by now: locate it again.
    pub async fn copy_part(&self, request: CopyUploadPart) -> Result<UploadedPart, StoreError> {
        put::copy_part(&self.inner, request).await
    }

    /// Metadata first: the gateway decides preconditions on it (and answers HEAD from it), then calls [`Store::open`].
    pub async fn locate(
        &self,
        bucket: &str,
        key: &str,
        selector: VersionSelector,
        range: RangeRequest,
    ) -> Result<Located, StoreError> {
        Ok(self.inner.meta.locate(bucket, key, selector, range).await?)
    }

    /// Returns once the first bytes are verified; an unreadable object is an error here, not a broken body.
    pub async fn open(&self, located: Located) -> Result<GotObject, StoreError> {
        get::open(self.inner.clone(), located).await
    }

    /// Proves that a small write can be made durable on this cluster and be read back, for readiness. Leaves nothing behind.
    pub async fn probe_write(&self) -> Result<(), StoreError> {
        probe::probe_write(&self.inner).await
    }

    /// The memory in flight now and its bound, in bytes.
    pub fn memory(&self) -> (u64, u64) {
        (self.inner.budget.in_use(), self.inner.budget.capacity())
    }

    /// Waits until what failed writes left behind is deleted and what reads found damaged is reported, for at most `grace`. Call it
    /// after the last request has ended.
    pub async fn settle(&self, grace: Duration) {
        let all = async {
            self.inner.cleaner.idle().await;
            self.inner.damage.flushed().await;
        };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!("stopped before all that failed writes left behind was deleted; scrub will find it");
        }
    }
}
