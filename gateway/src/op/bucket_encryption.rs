//! What buckets have new objects encrypted by. Kept as S3 writes it; read again within seconds of a change.

use std::sync::Arc;

use cairn_schema::{MetaError, record::BucketDocument};
use s3s::{Body, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api,
    bucket_documents::Absent,
    default_encryption::{BucketEncryption, ROOT, read_stored},
    documents::DocumentRequest,
};
use crate::{answer::documented, error::from_meta};

const NO_ENCRYPTION: Absent =
    Absent("ServerSideEncryptionConfigurationNotFoundError", "The server side encryption configuration was not found");
impl Api {
    pub(super) async fn do_get_bucket_encryption(
        &self,
        request: S3Request<GetBucketEncryptionInput>,
    ) -> S3Result<S3Response<GetBucketEncryptionOutput>> {
        let stored = self.stored_document(&request.input.bucket, BucketDocument::Encryption, NO_ENCRYPTION).await?;
        Ok(documented(stored))
    }

    pub(super) async fn do_put_bucket_encryption(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(false)?;
        if self.keyring.is_none() {
            // As it would be answered if no node could ever do it: this one cannot.
            return Err(s3_error!(NotImplemented, "PutBucketEncryption is not implemented."));
        }
        let encryption = BucketEncryption::read(request.root(ROOT)?)?;
        self.store_document(&request.bucket, BucketDocument::Encryption, Some(encryption.write())).await?;
        Ok(S3Response::new(Body::empty()))
    }

    pub(super) async fn do_delete_bucket_encryption(
        &self,
        request: S3Request<DeleteBucketEncryptionInput>,
    ) -> S3Result<S3Response<DeleteBucketEncryptionOutput>> {
        self.store_document(&request.input.bucket, BucketDocument::Encryption, None).await?;
        Ok(S3Response::new(DeleteBucketEncryptionOutput::default()))
    }

    /// What a bucket has, as of 3 s ago at most. One that cannot be read lets nothing be written.
    pub(super) async fn bucket_encryption(&self, bucket: &str) -> S3Result<Option<Arc<BucketEncryption>>> {
        let read = async |_| {
            let stored = match self.meta().bucket_document(bucket, BucketDocument::Encryption).await {
                Ok(stored) => stored,
                // The operation tells.
                Err(MetaError::NoSuchBucket(_)) => None,
                Err(error) => return Err(from_meta(error)),
            };
            let bytes = stored.as_ref().map_or(0, Vec::len);
            Ok((stored.map(|stored| read_stored(&stored)).transpose()?.map(Arc::new), bytes))
        };
        let (encryption, _) = self.encryptions.get(bucket, |(_, bytes)| *bytes, read).await?;
        Ok(encryption)
    }
}
