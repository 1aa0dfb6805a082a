//! Lifecycles of buckets. The background work that carries them out goes by the rules beside the document.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cairn_schema::{
    MetaError,
    codec::Stored,
    record::{BucketDocument, Lifecycle, Version},
};
use http::{HeaderName, HeaderValue};
use s3s::{Body, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api,
    bucket_documents::Absent,
    documents::DocumentRequest,
    lifecycle_rules::{self, Put},
};
use crate::{answer::documented, error::invalid_argument, percent::url_encode, shown::http_date};

/// No answer waits longer for rules that only concern a header.
const LOOKUP_TIME: Duration = Duration::from_secs(1);
const NO_LIFECYCLE: Absent = Absent("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist");
const MINIMUM_SIZE: &str = "x-amz-transition-default-minimum-object-size";
const MINIMUM_SIZES: [&str; 2] = ["all_storage_classes_128K", "varies_by_storage_class"];

impl Api {
    pub(super) async fn do_get_bucket_lifecycle_configuration(
        &self,
        request: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
        let bucket = &request.input.bucket;
        let lifecycle = read(&self.stored_document(bucket, BucketDocument::Lifecycle, NO_LIFECYCLE).await?)?;
        let mut response = documented(Bytes::from(lifecycle.document));
        say_minimum_size(&mut response, &lifecycle.minimum_size);
        Ok(response)
    }

    pub(super) async fn do_put_bucket_lifecycle(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(true)?;
        let minimum_size = request.header(MINIMUM_SIZE)?.unwrap_or(MINIMUM_SIZES[0]);
        if !MINIMUM_SIZES.contains(&minimum_size) {
            let message = format!("The value of the header {MINIMUM_SIZE} is invalid.");
            return Err(invalid_argument(MINIMUM_SIZE, minimum_size, message));
        }
        let put: Vec<Put> = lifecycle_rules::read(request.root("LifecycleConfiguration")?)?;
        let document = String::from_utf8_lossy(&lifecycle_rules::write(&put)).into_owned();
        let rules = put.into_iter().map(|put| put.rule).collect();
        let lifecycle = Lifecycle { document, minimum_size: minimum_size.to_owned(), rules };
        self.store_document(&request.bucket, BucketDocument::Lifecycle, Some(lifecycle.encode())).await?;
        let mut response = S3Response::new(Body::empty());
        say_minimum_size(&mut response, &lifecycle.minimum_size);
        Ok(response)
    }

    pub(super) async fn do_delete_bucket_lifecycle(
        &self,
        request: S3Request<DeleteBucketLifecycleInput>,
    ) -> S3Result<S3Response<DeleteBucketLifecycleOutput>> {
        self.store_document(&request.input.bucket, BucketDocument::Lifecycle, None).await?;
        Ok(S3Response::new(DeleteBucketLifecycleOutput::default()))
    }

    /// When an object that is current ends, as `x-amz-expiration` says it. An answer is not kept back for it: if the
    /// rules cannot be read it is not said.
    pub(super) async fn expiration_of(&self, bucket: &str, key: &str, version: &Version) -> Option<String> {
        let read = async |_| {
            let stored = self.meta().bucket_document(bucket, BucketDocument::Lifecycle).await?;
            let bytes = stored.as_ref().map_or(0, Vec::len);
            let lifecycle = stored.and_then(|stored| read(&Bytes::from(stored)).ok()).map(Arc::new);
            Ok::<_, MetaError>((lifecycle, bytes))
        };
        let known = self.lifecycles.get(bucket, |(_, bytes)| *bytes, read);
        let (lifecycle, _) = tokio::time::timeout(LOOKUP_TIME, known).await.ok()?.ok()?;
        let lifecycle = lifecycle?;
        let (due_ms, rule) = lifecycle.expiry(key, version)?;
        let date = http_date(due_ms);
        Some(format!("expiry-date=\"{}\", rule-id=\"{}\"", date.to_str().ok()?, url_encode(&rule.id)))
    }
}

/// Rules were read strictly before they were stored.
fn read(stored: &Bytes) -> S3Result<Lifecycle> {
    Lifecycle::decode(stored).map_err(|error| {
        tracing::error!(%error, "a stored lifecycle cannot be read");
        s3_error!(InternalError, "The lifecycle configuration cannot be read.")
    })
}

fn say_minimum_size<T>(response: &mut S3Response<T>, size: &str) {
    if let Ok(value) = HeaderValue::from_str(size) {
        response.headers.insert(HeaderName::from_static(MINIMUM_SIZE), value);
    }
}
