//! Readiness: can a small write be made durable on this cluster now, and be read back?

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use cairn_schema::{ids::BlobId, record::Scheme};

use super::Inner;
use crate::{
    error::StoreError,
    fan_out::{EncodedStripe, Sending},
    placement::write_quorum,
    put::Remains,
};

/// Writes one stripe of every scheme that objects are written with to its quorum, reads a fragment back, deletes it. No metadata row ever
/// names it, so even if this node dies half-way scrub takes it for the orphan that it is.
pub(super) async fn probe_write(inner: &Arc<Inner>) -> Result<(), StoreError> {
    inner.meta.ping().await?;
    for scheme in &inner.placement.policy().schemes {
        probe_scheme(inner, *scheme).await?;
    }
    Ok(())
}

async fn probe_scheme(inner: &Arc<Inner>, scheme: Scheme) -> Result<(), StoreError> {
    let group = inner.placement.choose(scheme, &[]).await?;
    let blob = BlobId::random();
    let payload = Bytes::copy_from_slice(blob.to_string().as_bytes());
    let stripe = EncodedStripe::encode(&inner.codecs.of(scheme)?, blob, 0, payload)?;
    let mut sending = Sending::start(inner, &group, &stripe);
    // From here on whatever happens, dropped future included, what was written is deleted.
    let written = sending.quorum(write_quorum(scheme, inner.policy.write_margin)).await;
    let durable = sending.durable().first();
    let mut remains =
        Guard { inner: inner.clone(), remains: Some(Remains::of_stripe(blob, group.clone(), 0, sending)) };
    written?;

    let Some(position) = durable else {
        return Err(StoreError::NotEnoughFragments { durable: 0, needed: 1, why: "nothing was written".into() });
    };
    let (name, expected) = stripe.fragment(&group, position);
    let deadline = Instant::now() + inner.timings.fragment_deadline;
    let length = expected.len() as u32;
    let read = inner.fragments.get(group.members[usize::from(position)], name, 0..length, deadline);
    let read = read.await;
    let same = matches!(&read, Ok(bytes) if *bytes == expected);
    if let Some(remains) = remains.remains.take() {
        inner.cleaner.clean_now(remains).await;
    }
    if same {
        return Ok(());
    }
    let why = match read {
        Ok(_) => "what was read back differs from what was written".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(StoreError::NotEnoughFragments { durable: 0, needed: 1, why: format!("a probe could not be read back: {why}") })
}

struct Guard {
    inner: Arc<Inner>,
    remains: Option<Remains>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(remains) = self.remains.take() {
            self.inner.cleaner.clean(remains);
        }
    }
}
