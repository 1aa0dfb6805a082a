//! A body's digests, computed beside what else is done with its bytes.

use bytes::Bytes;
use cairn_fragment::checksum::{BodyDigests, DigestError, DigestPipeline, DigestPlan};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::error::StoreError;

/// A stripe shorter than this is copied for the digests, which keep what is too short to be worth a thread; else they
/// would keep the stripe's grant of memory with it.
const KEPT_BY_DIGESTS: usize = 64 * 1024;

/// The digests, fed in order by a task of their own so that hashing a stripe, sending it and filling the next go on
/// together.
pub(super) struct Hashing {
    stripes: mpsc::Sender<Bytes>,
    digests: JoinHandle<Result<BodyDigests, DigestError>>,
}

impl Hashing {
    pub(super) fn start(plan: DigestPlan) -> Self {
        let (stripes, mut coming) = mpsc::channel::<Bytes>(1);
        let digests = tokio::spawn(async move {
            // No lag: what was pushed has been hashed, so it keeps no memory while nothing more comes.
            let mut pipeline = DigestPipeline::new(plan, 0);
            while let Some(stripe) = coming.recv().await {
                pipeline.push(stripe).await?;
            }
            pipeline.finish().await
        });
        Self { stripes, digests }
    }

    pub(super) async fn push(&self, stripe: &Bytes) {
        let stripe = if stripe.len() < KEPT_BY_DIGESTS { Bytes::copy_from_slice(stripe) } else { stripe.clone() };
        // Fails only if the task has ended early, which `finish` tells.
        let _ = self.stripes.send(stripe).await;
    }

    pub(super) async fn finish(self) -> Result<BodyDigests, StoreError> {
        drop(self.stripes);
        match self.digests.await {
            Ok(Ok(digests)) => Ok(digests),
            Ok(Err(error)) => Err(StoreError::Body(error.into())),
            Err(_) => Err(StoreError::ShuttingDown),
        }
    }
}
