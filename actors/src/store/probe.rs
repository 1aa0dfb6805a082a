//! Readiness: does the metadata take a change, and can a small write be made durable on this cluster now, and be read
//! back?

use std::sync::Arc;

use bytes::Bytes;
use cairn_schema::{
    ids::BlobId,
    record::{Group, Scheme},
};

use crate::{
    data_path::{DataPath, Remains},
    error::StoreError,
    put::{EncodedStripe, Sending},
};

/// Writes one stripe of every scheme that objects are written with to its quorum, reads a fragment back, deletes it. No
/// metadata row ever names it, so even if this node dies half-way scrub takes it for the orphan that it is.
pub(super) async fn probe_write(data: &Arc<DataPath>) -> Result<(), StoreError> {
    data.meta.prove(data.placement.node().as_str()).await?;
    for scheme in data.policy_to_write_by()?.policy.schemes() {
        probe_scheme(data, scheme).await?;
    }
    Ok(())
}

async fn probe_scheme(data: &Arc<DataPath>, scheme: Scheme) -> Result<(), StoreError> {
    let group = data.placement.choose(scheme, &[]).await?;
    let blob = BlobId::random();
    let payload = Bytes::copy_from_slice(blob.to_string().as_bytes());
    let stripe = EncodedStripe::encode(&data.codec(scheme)?, blob, 0, payload)?;
    let sending = Sending::start(&data.reach, &group, &stripe);
    let mut probe = Probe { data: data.clone(), blob, group: group.clone(), sending: Some(sending) };
    let position = probe.written().await?;

    let (name, expected) = stripe.fragment(&group, position);
    let read = data.reach.get(group.members[usize::from(position)], name, 0..expected.len() as u32).await;
    if let Some(remains) = probe.remains() {
        data.cleaner.clean_now(remains).await;
    }
    let why = match read {
        Ok(bytes) if bytes == expected => return Ok(()),
        Ok(_) => "what was read back differs from what was written".to_owned(),
        Err(unread) => unread.to_string(),
    };
    Err(StoreError::NotEnoughFragments { durable: 0, needed: 1, why: format!("a probe could not be read back: {why}") })
}

/// A stripe that only proves something: whatever happens, dropped future included, what was written of it is deleted.
struct Probe {
    data: Arc<DataPath>,
    blob: BlobId,
    group: Arc<Group>,
    sending: Option<Sending>,
}

impl Probe {
    /// Waits until the stripe is safe; returns a position that is durable.
    async fn written(&mut self) -> Result<u8, StoreError> {
        let nothing = || StoreError::NotEnoughFragments { durable: 0, needed: 1, why: "nothing was written".into() };
        let sending = self.sending.as_mut().ok_or_else(nothing)?;
        sending.safe().await?;
        sending.durable().first().ok_or_else(nothing)
    }

    fn remains(&mut self) -> Option<Remains> {
        Some(self.sending.take()?.into_remains(self.blob, self.group.clone(), 0))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(remains) = self.remains() {
            self.data.cleaner.clean(remains);
        }
    }
}
