//! Policies of buckets. What is put is kept byte for byte, and read back so.

use bytes::Bytes;
use cairn_iam::{Policy, PolicyError, PolicyKind};
use cairn_schema::record::BucketDocument;
use http::{HeaderValue, StatusCode, header};
use s3s::{Body, S3Error, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{Api, documents::DocumentRequest};
use crate::{
    answer::documented,
    error::{WithField, custom, from_meta},
    xml::Writer,
};

impl Api {
    pub(super) async fn do_put_bucket_policy(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(false)?;
        let bucket = &*request.bucket;
        self.meta().bucket(bucket).await.map_err(from_meta)?;
        let text = request.bytes();
        let policy = Policy::parse(PolicyKind::Bucket { name: bucket }, text).map_err(malformed)?;
        if policy.is_public() && self.access_block(bucket).await?.block_public_policy {
            let why = "Access Denied: public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.";
            return Err(s3_error!(AccessDenied, "{why}"));
        }
        self.store_document(bucket, BucketDocument::Policy, Some(Bytes::copy_from_slice(text))).await?;
        Ok(S3Response::with_status(Body::empty(), StatusCode::NO_CONTENT))
    }

    pub(super) async fn do_get_bucket_policy(
        &self,
        request: S3Request<GetBucketPolicyInput>,
    ) -> S3Result<S3Response<GetBucketPolicyOutput>> {
        let text = self.policy_text(&request.input.bucket).await?;
        let text = String::from_utf8(text).map_err(|_| unreadable(&request.input.bucket))?;
        let mut response = S3Response::new(GetBucketPolicyOutput { policy: Some(text) });
        response.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    pub(super) async fn do_get_bucket_policy_status(
        &self,
        request: S3Request<GetBucketPolicyStatusInput>,
    ) -> S3Result<S3Response<GetBucketPolicyStatusOutput>> {
        let bucket = request.input.bucket;
        let text = self.policy_text(&bucket).await?;
        let policy = Policy::parse(PolicyKind::Bucket { name: &bucket }, &text).map_err(|_| unreadable(&bucket))?;
        Ok(documented(Writer::document("PolicyStatus", |xml| xml.shown("IsPublic", policy.is_public()))))
    }

    pub(super) async fn do_delete_bucket_policy(
        &self,
        request: S3Request<DeleteBucketPolicyInput>,
    ) -> S3Result<S3Response<DeleteBucketPolicyOutput>> {
        self.store_document(&request.input.bucket, BucketDocument::Policy, None).await?;
        Ok(S3Response::new(DeleteBucketPolicyOutput {}))
    }

    async fn policy_text(&self, bucket: &str) -> S3Result<Vec<u8>> {
        let text = self.meta().bucket_document(bucket, BucketDocument::Policy).await.map_err(from_meta)?;
        text.ok_or_else(|| {
            let missing = custom("NoSuchBucketPolicy", StatusCode::NOT_FOUND, "The bucket policy does not exist");
            missing.with("BucketName", bucket)
        })
    }
}

fn malformed(error: PolicyError) -> S3Error {
    custom("MalformedPolicy", StatusCode::BAD_REQUEST, error.to_string())
}

/// Nothing was put that could not be read: what is kept is damaged, or of a later version.
fn unreadable(bucket: &str) -> S3Error {
    tracing::error!(bucket, "the policy of a bucket cannot be read");
    s3_error!(InternalError)
}
