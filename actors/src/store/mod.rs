//! The facade the gateway calls: objects in, objects out. Its futures are boxed, so that the data path is compiled in
//! this crate, once, and not in every crate and test that awaits it (the body of an `async fn` is compiled where it is
//! awaited).

mod probe;

use std::{sync::Arc, time::Duration};

use cairn_fragment::sealing::Sealer;
use cairn_schema::{Meta, record::*, verbs::*};
use futures::future::BoxFuture;

pub use crate::{
    data_path::{Requester, StoreLimits, StoreParts},
    get::{BodyOut, GotObject},
    put::{BodyIn, CopyUploadPart, KnownDigests, PutObject, PutUploadPart, Sealing, Verify},
};

use crate::{data_path::DataPath, error::StoreError, get, put};

/// The store as a gateway sees it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    data: Arc<DataPath>,
}

impl Store {
    /// Must be called within a tokio runtime: it starts the task that writes what reads find damaged to the ledger.
    pub fn new(parts: StoreParts) -> Self {
        Self { data: DataPath::new(parts) }
    }

    /// Buckets, listings, copies, deletes, multipart bookkeeping: metadata only, so the gateway calls it directly.
    pub fn meta(&self) -> &Meta {
        &self.data.meta
    }

    /// Streams a body into fragments and commits it. Durable when it returns. Dropping the future stores nothing,
    /// unless the commit was under way already.
    pub fn put(&self, request: PutObject) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(put::put(&self.data, request))
    }

    /// As [`Store::put`], for one part of a multipart upload.
    pub fn put_part(&self, request: PutUploadPart) -> BoxFuture<'_, Result<UploadedPart, StoreError>> {
        Box::pin(put::put_part(&self.data, request))
    }

    /// A part that shares the blobs of its source. `Err(Meta(Stale))` when the source's bytes are others by now: locate
    /// it again.
    pub fn copy_part(&self, request: CopyUploadPart) -> BoxFuture<'_, Result<UploadedPart, StoreError>> {
        Box::pin(put::copy_part(&self.data, request))
    }

    /// Metadata first: the gateway decides preconditions on it (and answers HEAD from it), then calls [`Store::open`].
    pub fn locate<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        selector: VersionSelector,
        range: RangeRequest,
    ) -> BoxFuture<'a, Result<Located, StoreError>> {
        Box::pin(async move { Ok(self.data.meta.locate(bucket, key, selector, range).await?) })
    }

    /// Returns once the first bytes are verified; an unreadable object is an error here, not a broken body.
    pub fn open<'a>(
        &'a self,
        requester: &'a Requester,
        located: Located,
    ) -> BoxFuture<'a, Result<GotObject, StoreError>> {
        Box::pin(get::open(self.data.clone(), requester, located, None))
    }

    /// The same of a version whose bytes may be sealed, with what opens them.
    pub fn open_sealed<'a>(
        &'a self,
        requester: &'a Requester,
        located: Located,
        opener: Option<Arc<dyn Sealer>>,
    ) -> BoxFuture<'a, Result<GotObject, StoreError>> {
        Box::pin(get::open(self.data.clone(), requester, located, opener))
    }

    /// Proves that a small write can be made durable on this cluster and be read back, for readiness. Leaves nothing
    /// behind.
    pub fn probe_write(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(probe::probe_write(&self.data))
    }

    /// The memory in flight now and its bound, in bytes.
    pub fn memory(&self) -> (u64, u64) {
        (self.data.budget.in_use(), self.data.budget.capacity())
    }

    /// Waits until what failed writes left behind is deleted and what reads found damaged is reported, for at most
    /// `grace`. Call it after the last request has ended.
    pub fn settle(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let all = async {
                self.data.cleaner.idle().await;
                self.data.damage.flushed().await;
            };
            if tokio::time::timeout(grace, all).await.is_err() {
                tracing::warn!("stopped before all that failed writes left behind was deleted; scrub will find it");
            }
        })
    }
}
