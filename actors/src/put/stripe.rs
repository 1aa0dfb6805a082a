//! What the stripes of one blob share: how they are encoded, and which group they go to.

use std::sync::{Arc, atomic::AtomicBool};

use bytes::Bytes;
use cairn_fragment::codec::Codec;
use cairn_schema::{ids::*, record::*};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::fan_out::{EncodedStripe, Sending};
use crate::{
    data_path::{DataPath, Remains, Span},
    error::StoreError,
};

/// Stripes up to this size are encoded where they stand: handing them to another thread would take longer.
const INLINE_BYTES: usize = 64 * 1024;

/// What the stripes of one blob share.
pub(super) struct WriteContext {
    pub data: Arc<DataPath>,
    pub blob: BlobId,
    pub scheme: Scheme,
    pub codec: Codec,
    /// Set when the write is given up: stripes in flight then stop trying.
    pub cancelled: AtomicBool,
    /// Where fragments may have been written, noted before they are sent.
    touched: Mutex<Vec<Span>>,
    current: Mutex<Option<(Arc<Group>, u32)>>,
}

/// A stripe being made safe.
pub(super) type StripeTask = JoinHandle<Result<SentStripe, StoreError>>;

/// A stripe that is safe; some of its fragments may still be under way.
pub(super) struct SentStripe {
    pub stripe: u32,
    pub group: Arc<Group>,
    pub sending: Sending,
}

impl WriteContext {
    pub(super) fn new(data: &Arc<DataPath>, scheme: Scheme) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self {
            codec: data.codec(scheme)?,
            data: data.clone(),
            blob: BlobId::random(),
            scheme,
            cancelled: AtomicBool::new(false),
            touched: Mutex::default(),
            current: Mutex::default(),
        }))
    }

    pub(super) async fn encode(&self, stripe: u32, bytes: Bytes) -> Result<EncodedStripe, StoreError> {
        if bytes.len() <= INLINE_BYTES {
            return EncodedStripe::encode(&self.codec, self.blob, stripe, bytes);
        }
        let (codec, blob) = (self.codec.clone(), self.blob);
        let work = tokio::task::spawn_blocking(move || EncodedStripe::encode(&codec, blob, stripe, bytes));
        work.await.unwrap_or(Err(StoreError::ShuttingDown))
    }

    /// The group that the blob's last stripes went to, while it is healthy and its run not too long; else a new choice.
    pub(super) async fn group(&self, tried: &[GroupId]) -> Result<Arc<Group>, StoreError> {
        if let Some((group, stripes)) = &mut *self.current.lock()
            && *stripes < self.data.limits.run_stripes
            && !tried.contains(&group.id)
            && self.is_healthy(group)
        {
            *stripes += 1;
            return Ok(group.clone());
        }
        let group = self.data.placement.choose(self.scheme, tried).await?;
        *self.current.lock() = Some((group.clone(), 1));
        Ok(group)
    }

    fn is_healthy(&self, group: &Arc<Group>) -> bool {
        let topology = self.data.placement.topology();
        let healthy = topology.healthy_groups(self.scheme);
        debug_assert!(healthy.is_sorted_by_key(|group| group.id));
        let at = healthy.binary_search_by_key(&group.id, |group| group.id);
        at.is_ok_and(|index| healthy[index].epoch == group.epoch)
    }

    /// The blob's next stripes choose anew.
    pub(super) fn leave(&self, group: &Group) {
        let mut current = self.current.lock();
        if current.as_ref().is_some_and(|(current, _)| current.id == group.id) {
            *current = None;
        }
    }

    /// What to clean up if the blob is given up, with the stripes and fragments that are still under way.
    pub(super) fn remains(self: Arc<Self>, stripes: Vec<StripeTask>, mut sendings: Vec<Sending>) -> Remains {
        let blob = self.blob;
        let quiet = async move {
            for stripe in stripes {
                if let Ok(Ok(sent)) = stripe.await {
                    sendings.push(sent.sending);
                }
            }
            for sending in &mut sendings {
                sending.all().await;
            }
            std::mem::take(&mut *self.touched.lock())
        };
        Remains { blob, quiet: Box::pin(quiet) }
    }

    /// Notes that fragments of the stripe may be in the group from now on.
    pub(super) fn touch(&self, group: &Arc<Group>, stripe: u32) {
        Span::push(&mut self.touched.lock(), group, stripe);
    }
}
