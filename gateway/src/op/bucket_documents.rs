//! Documents of buckets: kept as S3 writes them, so that reading one is answering what is stored.

use bytes::Bytes;
use cairn_schema::record::BucketDocument;
use http::StatusCode;
use s3s::{S3Error, S3Result};

use super::Api;
use crate::error::{WithField, custom, from_meta};

/// The error of a bucket without the document: code and message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Absent(pub(super) &'static str, pub(super) &'static str);

impl Absent {
    pub(super) fn of(self, bucket: &str) -> S3Error {
        custom(self.0, StatusCode::NOT_FOUND, self.1).with("BucketName", bucket)
    }
}

impl Api {
    pub(super) async fn stored_document(
        &self,
        bucket: &str,
        document: BucketDocument,
        absent: Absent,
    ) -> S3Result<Bytes> {
        let stored = self.meta().bucket_document(bucket, document).await.map_err(from_meta)?;
        stored.map(Bytes::from).ok_or_else(|| absent.of(bucket))
    }

    /// None removes it. Requests to this node go by it at once, to others within seconds.
    pub(super) async fn store_document(
        &self,
        bucket: &str,
        document: BucketDocument,
        body: Option<Bytes>,
    ) -> S3Result<()> {
        let stored = self.meta().set_bucket_document(bucket, document, body.map(Into::into)).await;
        // Also after a failure: it may have been stored all the same.
        match document {
            BucketDocument::Policy | BucketDocument::PublicAccessBlock => self.access.forget(bucket),
            BucketDocument::Cors => self.cors.forget(bucket),
            BucketDocument::Lifecycle => self.lifecycles.forget(bucket),
            BucketDocument::Encryption => self.encryptions.forget(bucket),
            _ => {}
        }
        stored.map_err(from_meta)
    }
}
