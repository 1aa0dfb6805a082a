//! Tags of buckets.

use cairn_schema::record::BucketDocument;
use http::StatusCode;
use s3s::{Body, S3Request, S3Response, S3Result, dto::*};

use super::{
    Api,
    bucket_documents::Absent,
    documents::DocumentRequest,
    tag_set::{self, Tagged},
};
use crate::answer::documented;

const NO_TAGS: Absent = Absent("NoSuchTagSet", "The TagSet does not exist");

impl Api {
    pub(super) async fn do_get_bucket_tagging(
        &self,
        request: S3Request<GetBucketTaggingInput>,
    ) -> S3Result<S3Response<GetBucketTaggingOutput>> {
        let stored = self.stored_document(&request.input.bucket, BucketDocument::Tags, NO_TAGS).await?;
        Ok(documented(stored))
    }

    /// An empty set is none.
    pub(super) async fn do_put_bucket_tagging(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(true)?;
        let tags = tag_set::read(request.root("Tagging")?)?;
        tag_set::check(&tags, Tagged::Bucket)?;
        let body = (!tags.is_empty()).then(|| tag_set::write(&tags));
        self.store_document(&request.bucket, BucketDocument::Tags, body).await?;
        Ok(S3Response::with_status(Body::empty(), StatusCode::NO_CONTENT))
    }

    pub(super) async fn do_delete_bucket_tagging(
        &self,
        request: S3Request<DeleteBucketTaggingInput>,
    ) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
        self.store_document(&request.input.bucket, BucketDocument::Tags, None).await?;
        Ok(S3Response::new(DeleteBucketTaggingOutput::default()))
    }
}
