//! The rules of buckets for cross-origin requests. What they mean is `crate::cors`.

use cairn_schema::record::BucketDocument;
use s3s::{Body, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{Api, bucket_documents::Absent, documents::DocumentRequest};
use crate::{answer::documented, cors::Rules, error::WithField};

const NO_RULES: Absent = Absent("NoSuchCORSConfiguration", "The CORS configuration does not exist");

const DOCUMENT_MAX_BYTES: usize = 64 << 10;

impl Api {
    pub(super) async fn do_get_bucket_cors(
        &self,
        request: S3Request<GetBucketCorsInput>,
    ) -> S3Result<S3Response<GetBucketCorsOutput>> {
        let stored = self.stored_document(&request.input.bucket, BucketDocument::Cors, NO_RULES).await?;
        Ok(documented(stored))
    }

    pub(super) async fn do_put_bucket_cors(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(true)?;
        if request.document_bytes() > DOCUMENT_MAX_BYTES {
            return Err(s3_error!(MaxMessageLengthExceeded).with("MaxMessageLengthBytes", DOCUMENT_MAX_BYTES));
        }
        let rules = Rules::read(request.root("CORSConfiguration")?)?;
        self.store_document(&request.bucket, BucketDocument::Cors, Some(rules.write())).await?;
        Ok(S3Response::new(Body::empty()))
    }

    pub(super) async fn do_delete_bucket_cors(
        &self,
        request: S3Request<DeleteBucketCorsInput>,
    ) -> S3Result<S3Response<DeleteBucketCorsOutput>> {
        self.store_document(&request.input.bucket, BucketDocument::Cors, None).await?;
        Ok(S3Response::new(DeleteBucketCorsOutput::default()))
    }
}
