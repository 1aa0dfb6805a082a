//! Quotas of buckets, before bodies are asked for. What counts is decided where objects become visible; this only
//! spares clients from sending what will be refused.

use cairn_schema::{
    MetaError,
    record::{Bucket, Versioning},
    verbs::{RangeRequest, VersionSelector},
};
use s3s::S3Result;

use super::Api;
use crate::error::from_meta;

impl Api {
    /// # Errors
    /// QuotaExceeded for an object that cannot come to be unless others go.
    pub(super) async fn expect_room(&self, bucket: &Bucket, key: &str, length: u64) -> S3Result<()> {
        if bucket.quota.is_none() {
            return Ok(());
        }
        match self.meta().expect_room(&bucket.name, length).await {
            // What is overwritten makes room, and how much is known at the end.
            Err(error @ MetaError::QuotaExceeded { .. }) if self.overwrites_nothing(bucket, key).await => {
                Err(from_meta(error))
            }
            Err(MetaError::QuotaExceeded { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(from_meta(error)),
        }
    }

    /// False where that is not known.
    async fn overwrites_nothing(&self, bucket: &Bucket, key: &str) -> bool {
        let current = VersionSelector::Current;
        bucket.versioning == Versioning::Enabled
            || matches!(
                self.meta().locate(&bucket.name, key, current, RangeRequest::Nothing).await,
                Err(MetaError::NoSuchKey(_))
            )
    }
}
