//! Lifecycles: ends versions and uploads as the rules of their buckets say, and uploads that no rule speaks of at the
//! age that the configuration says, if it does.
//!
//! One node at a time walks over all buckets, of those with something to end a page of versions or uploads in a step,
//! and begins again when it is through. Where it is it keeps in memory: whoever takes over begins at the first bucket,
//! and finds ended what was ended. The rules are read anew for each page, and each end is decided once more in its
//! transaction.

use std::time::Duration;

use async_trait::async_trait;
use cairn_schema::{MetaError, codec::Stored, ids::*, record::*, verbs::*};
use futures::{FutureExt, StreamExt, future::BoxFuture};

use super::Context;
use crate::supervisor::{Step, StepError, Worker};

/// One for all buckets: what there is to do is little beside what clients do.
const LEASE_NAME: &str = "lifecycle";
const LEASE: Duration = Duration::from_secs(60);
const PAGE: usize = 500;
/// Transactions that are under way together.
const AT_ONCE: usize = 16;
/// Between two pages, so that clients' reads of the metadata hardly notice.
const REST: Duration = Duration::from_millis(100);

/// Where the walk is in a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Among its versions.
    #[default]
    Beginning,
    Versions(After),
    Uploads(Option<(String, Option<UploadId>)>),
}

/// The last version that was seen, and what it means for the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct After {
    key: String,
    version: VersionId,
    /// When it was made.
    made_ms: u64,
    /// Noncurrent versions of its key up to it.
    noncurrent: u32,
}

/// What a step came to.
enum Walked {
    Page,
    /// A bucket is done, and there are others.
    Bucket,
    /// All are done, and the next walk begins at the first.
    End,
}

/// Carries out the lifecycles of buckets.
pub struct Lifecycles {
    ctx: Context,
    /// The bucket that is done last, by name.
    after_bucket: Option<String>,
    /// The bucket that is walked over.
    at: Option<(String, Place)>,
}

impl Lifecycles {
    pub fn new(ctx: Context) -> Self {
        Self { ctx, after_bucket: None, at: None }
    }

    /// One page, or on to the next bucket.
    async fn walk(&mut self) -> Result<Walked, MetaError> {
        let Some((bucket, place)) = self.at.take() else { return self.next_bucket().await };
        let lifecycle = match self.lifecycle(&bucket).await {
            Ok(lifecycle) => lifecycle,
            // It was deleted meanwhile.
            Err(MetaError::NoSuchBucket(_)) => return self.next_bucket().await,
            Err(error) => return self.cannot(bucket, place, error).await,
        };
        let next = self.page(&bucket, &lifecycle, place.clone()).await;
        match next {
            Ok(Some(next)) => {
                self.at = Some((bucket, next));
                Ok(Walked::Page)
            }
            Ok(None) | Err(MetaError::NoSuchBucket(_)) => self.next_bucket().await,
            Err(error) => self.cannot(bucket, place, error).await,
        }
    }

    /// What may be otherwise the next time is tried again. A bucket with a row that cannot be read must not keep those
    /// after it from their ends: it is left until the next walk.
    async fn cannot(&mut self, bucket: String, place: Place, error: MetaError) -> Result<Walked, MetaError> {
        if matches!(error, MetaError::Corrupt { .. }) {
            tracing::error!(bucket, %error, "the lifecycle of a bucket cannot be carried out");
            return self.next_bucket().await;
        }
        self.at = Some((bucket, place));
        Err(error)
    }

    async fn next_bucket(&mut self) -> Result<Walked, MetaError> {
        let found = self.ctx.meta.list_buckets("", self.after_bucket.as_deref(), 1).await?;
        self.after_bucket = found.first().map(|bucket| bucket.name.clone());
        self.at = self.after_bucket.clone().map(|bucket| (bucket, Place::Beginning));
        Ok(if self.at.is_some() { Walked::Bucket } else { Walked::End })
    }

    /// No rules for a bucket without.
    async fn lifecycle(&self, bucket: &str) -> Result<Lifecycle, MetaError> {
        let stored = self.ctx.meta.bucket_document(bucket, BucketDocument::Lifecycle).await?;
        match stored {
            Some(stored) => Lifecycle::read(bucket.as_bytes(), &stored),
            None => Ok(Lifecycle { document: String::new(), minimum_size: String::new(), rules: Vec::new() }),
        }
    }

    /// What a page has to end is ended; where the next one begins.
    async fn page(&self, bucket: &str, lifecycle: &Lifecycle, place: Place) -> Result<Option<Place>, MetaError> {
        let (versions, uploads) = lifecycle.concerns();
        let uploads = uploads || self.ctx.timings.abort_uploads_after.is_some();
        match place {
            Place::Beginning if versions => self.versions(bucket, lifecycle, None).await.map(Some),
            Place::Versions(after) if versions => self.versions(bucket, lifecycle, Some(after)).await.map(Some),
            Place::Uploads(after) if uploads => self.uploads(bucket, lifecycle, after).await,
            Place::Beginning | Place::Versions(_) if uploads => self.uploads(bucket, lifecycle, None).await,
            Place::Beginning | Place::Versions(_) | Place::Uploads(_) => Ok(None),
        }
    }

    async fn versions(&self, bucket: &str, lifecycle: &Lifecycle, after: Option<After>) -> Result<Place, MetaError> {
        let query = ListVersionsQuery {
            bucket: bucket.to_owned(),
            key_marker: after.as_ref().map(|after| after.key.clone()),
            version_marker: after.as_ref().map(|after| after.version),
            limit: PAGE,
            ..ListVersionsQuery::default()
        };
        let page = self.ctx.meta.list_versions(&query).await?;
        let (now_ms, more) = (self.ctx.meta.now_ms(), page.next.is_some());
        let mut entries = page.entries.into_iter().filter_map(|entry| match entry {
            ListVersionsEntry::Version { key, version, latest } => Some((key, version, latest)),
            ListVersionsEntry::CommonPrefix(_) => None,
        });
        let mut ends = Vec::new();
        let mut before = after;
        let mut following = entries.next();
        while let Some((key, version, latest)) = following {
            following = entries.next();
            let newer = before.take().filter(|before| before.key == key && !latest);
            let noncurrent = newer.as_ref().map_or(0, |newer| newer.noncurrent + 1);
            let standing = match &newer {
                Some(newer) => Some(Standing::Noncurrent { since_ms: newer.made_ms, newer: newer.noncurrent }),
                // If its key goes on with the next page, the transaction finds that it is not alone.
                None if latest => {
                    Some(Standing::Current { alone: following.as_ref().is_none_or(|(next, _, _)| *next != key) })
                }
                // Its newer version went meanwhile: it is judged when the walk comes again.
                None => None,
            };
            before = Some(After { key: key.clone(), version: version.id, made_ms: version.modified_ms, noncurrent });
            let kept = version.attributes.lock.holds(now_ms, false);
            let Some(standing) = standing else { continue };
            match lifecycle.ending(&key, &version, standing, now_ms) {
                // A marker takes nothing away.
                Some(ending) if !kept || ending == Ending::Current => ends.push((key, version, ending)),
                Some(_) | None => {}
            }
        }
        self.end_versions(bucket, ends).await?;
        Ok(match before.filter(|_| more) {
            Some(after) => Place::Versions(after),
            None => Place::Uploads(None),
        })
    }

    async fn end_versions(&self, bucket: &str, ends: Vec<(String, Version, Ending)>) -> Result<(), MetaError> {
        let calls: Vec<BoxFuture<'_, _>> = ends
            .into_iter()
            .map(|(key, version, ending)| {
                let (attempt, bucket) = (AttemptId::random(), bucket.to_owned());
                self.ctx.meta.end_version(EndVersion { attempt, bucket, key, version, ending }).boxed()
            })
            .collect();
        let mut outcomes = futures::stream::iter(calls).buffer_unordered(AT_ONCE);
        let mut ended = 0;
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(true) => ended += 1,
                // It changed, or was locked, since it was seen.
                Ok(false) | Err(MetaError::Locked { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if ended > 0 {
            tracing::info!(bucket, versions = ended, "ended versions by the bucket's lifecycle");
        }
        Ok(())
    }

    async fn uploads(
        &self,
        bucket: &str,
        lifecycle: &Lifecycle,
        after: Option<(String, Option<UploadId>)>,
    ) -> Result<Option<Place>, MetaError> {
        let (key_marker, upload_marker) = after.map_or((None, None), |(key, upload)| (Some(key), upload));
        let bucket_name = bucket.to_owned();
        let query =
            ListUploadsQuery { bucket: bucket_name, key_marker, upload_marker, limit: PAGE, ..Default::default() };
        let page = self.ctx.meta.list_uploads(&query).await?;
        let now_ms = self.ctx.meta.now_ms();
        let usual = self.ctx.timings.abort_uploads_after;
        let usual = usual.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let mut aborted = 0;
        for upload in page.uploads {
            if !lifecycle.aborts(&upload.key, upload.created_ms, now_ms, usual) {
                continue;
            }
            match self.ctx.meta.abort_upload(bucket, &upload.key, upload.id).await {
                Ok(()) => aborted += 1,
                Err(MetaError::NoSuchUpload(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if aborted > 0 {
            tracing::info!(bucket, uploads = aborted, "aborted uploads that nobody completed in time");
        }
        Ok(page.next.map(|next| Place::Uploads(Some(next))))
    }
}

#[async_trait]
impl Worker for Lifecycles {
    async fn step(&mut self) -> Result<Step, StepError> {
        let Some(lease) = self.ctx.lease(LEASE_NAME, LEASE).await? else { return Ok(Step::Idle) };
        // The lease is renewed by the next step, which is soon.
        match self.walk().await {
            Ok(Walked::Bucket) => Ok(Step::Worked { bytes: 0 }),
            Ok(Walked::Page) => {
                tokio::time::sleep(REST).await;
                Ok(Step::Worked { bytes: 0 })
            }
            ended => {
                self.ctx.release(lease).await;
                ended?;
                Ok(Step::Idle)
            }
        }
    }
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
