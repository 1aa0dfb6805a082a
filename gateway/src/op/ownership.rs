//! Who owns objects and whom nothing can open them to: settings of buckets about access besides their policies.
//!
//! Every bucket is as `BucketOwnerEnforced` says, and no other ownership can be set. Whoever deletes the controls reads
//! afterwards that there are none, as tools expect that wait for it; they change nothing else.

use bytes::Bytes;
use cairn_schema::record::BucketDocument;
use http::StatusCode;
use s3s::{Body, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{Api, documents::DocumentRequest};
use crate::{
    answer::documented,
    error::{WithField, custom, from_meta},
    public_access::PublicAccessBlock,
    xml::{Writer, XmlError},
};

/// What is kept of ownership controls that were deleted; without any, nobody ever touched them.
const DELETED: &[u8] = b"";

impl Api {
    pub(super) async fn do_put_public_access_block(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(false)?;
        let said = PublicAccessBlock::read(request.document.as_ref().ok_or(XmlError::Empty)?)?;
        self.store_document(&request.bucket, BucketDocument::PublicAccessBlock, Some(said.document())).await?;
        Ok(S3Response::new(Body::empty()))
    }

    pub(super) async fn do_get_public_access_block(
        &self,
        request: S3Request<GetPublicAccessBlockInput>,
    ) -> S3Result<S3Response<GetPublicAccessBlockOutput>> {
        let bucket = &request.input.bucket;
        let kept = self.kept(bucket, BucketDocument::PublicAccessBlock).await?;
        let kept = kept.ok_or_else(|| {
            let message = "The public access block configuration was not found";
            custom("NoSuchPublicAccessBlockConfiguration", StatusCode::NOT_FOUND, message).with("BucketName", bucket)
        })?;
        Ok(documented(read_block(bucket, &kept)?.document()))
    }

    pub(super) async fn do_delete_public_access_block(
        &self,
        request: S3Request<DeletePublicAccessBlockInput>,
    ) -> S3Result<S3Response<DeletePublicAccessBlockOutput>> {
        self.store_document(&request.input.bucket, BucketDocument::PublicAccessBlock, None).await?;
        Ok(S3Response::new(DeletePublicAccessBlockOutput {}))
    }

    /// What holds of a bucket: nothing is blocked that nobody said should be.
    pub(super) async fn access_block(&self, bucket: &str) -> S3Result<PublicAccessBlock> {
        let kept = self.kept(bucket, BucketDocument::PublicAccessBlock).await?;
        kept.map_or_else(|| Ok(PublicAccessBlock::default()), |kept| read_block(bucket, &kept))
    }

    pub(super) async fn do_put_bucket_ownership_controls(
        &self,
        request: DocumentRequest,
    ) -> S3Result<S3Response<Body>> {
        request.check_digests(false)?;
        let document = request.document.as_ref().ok_or(XmlError::Empty)?;
        let ([], rules) = document.root("OwnershipControls")?.fields_and_some([], "Rule", 1)?;
        let rule = rules.first().ok_or(XmlError::Empty)?;
        let [ownership] = rule.fields(["ObjectOwnership"])?;
        match rule.required(ownership, "ObjectOwnership")?.word()? {
            "BucketOwnerEnforced" => {}
            "BucketOwnerPreferred" | "ObjectWriter" => {
                self.meta().bucket(&request.bucket).await.map_err(from_meta)?;
                let why = "Ownership controls other than BucketOwnerEnforced are not implemented.";
                return Err(s3_error!(NotImplemented, "{why}"));
            }
            _ => return Err(XmlError::Value("ObjectOwnership".into()).into()),
        }
        self.store_document(&request.bucket, BucketDocument::OwnershipControls, Some(owner_enforced())).await?;
        Ok(S3Response::new(Body::empty()))
    }

    pub(super) async fn do_get_bucket_ownership_controls(
        &self,
        request: S3Request<GetBucketOwnershipControlsInput>,
    ) -> S3Result<S3Response<GetBucketOwnershipControlsOutput>> {
        let bucket = &request.input.bucket;
        if self.kept(bucket, BucketDocument::OwnershipControls).await?.as_deref() == Some(DELETED) {
            let message = "The bucket ownership controls were not found";
            let missing = custom("OwnershipControlsNotFoundError", StatusCode::NOT_FOUND, message);
            return Err(missing.with("BucketName", bucket));
        }
        Ok(documented(owner_enforced()))
    }

    pub(super) async fn do_delete_bucket_ownership_controls(
        &self,
        request: S3Request<DeleteBucketOwnershipControlsInput>,
    ) -> S3Result<S3Response<DeleteBucketOwnershipControlsOutput>> {
        self.store_document(
            &request.input.bucket,
            BucketDocument::OwnershipControls,
            Some(Bytes::from_static(DELETED)),
        )
        .await?;
        Ok(S3Response::new(DeleteBucketOwnershipControlsOutput {}))
    }

    async fn kept(&self, bucket: &str, document: BucketDocument) -> S3Result<Option<Vec<u8>>> {
        self.meta().bucket_document(bucket, document).await.map_err(from_meta)
    }
}

fn read_block(bucket: &str, kept: &[u8]) -> S3Result<PublicAccessBlock> {
    PublicAccessBlock::of_stored(kept).map_err(|error| {
        tracing::error!(bucket, %error, "the Block Public Access settings of a bucket cannot be read");
        s3_error!(InternalError)
    })
}

fn owner_enforced() -> Bytes {
    Writer::document("OwnershipControls", |xml| {
        xml.element("Rule", |xml| xml.text("ObjectOwnership", "BucketOwnerEnforced"));
    })
}
