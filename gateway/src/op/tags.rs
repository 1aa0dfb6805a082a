//! Tags of objects.

use cairn_schema::{
    ids::VersionId,
    record::{Cause, EventKind},
};
use s3s::{Body, S3Request, S3Response, S3Result, dto::*};

use super::{
    Api,
    documents::DocumentRequest,
    names::{check_key, selector, shown_id},
    tag_set::{self, Tagged},
};
use crate::{answer::documented, error::from_meta, shown::version_header};

impl Api {
    pub(super) async fn do_get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let input = request.input;
        let version = self.inspect(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        let mut response = documented(tag_set::write(&version.attributes.tags));
        if !version.id.is_null() {
            response.headers.insert("x-amz-version-id", version_header(version.id));
        }
        Ok(response)
    }

    pub(super) async fn do_put_object_tagging(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(false)?;
        let tags = tag_set::read(request.root("Tagging")?)?;
        tag_set::check(&tags, Tagged::Object)?;
        let cause = Self::cause(EventKind::TagsPut, &request.request);
        let version_id = request.query.get("versionId")?;
        let version = self.set_tags((&request.bucket, &request.key), version_id, tags, cause).await?;
        let mut response = S3Response::new(Body::empty());
        if !version.is_null() {
            response.headers.insert("x-amz-version-id", version_header(version));
        }
        Ok(response)
    }

    pub(super) async fn do_delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        let cause = Self::cause(EventKind::TagsDeleted, &request);
        let input = request.input;
        let version_id = input.version_id.as_deref();
        let version = self.set_tags((&input.bucket, &input.key), version_id, Vec::new(), cause).await?;
        Ok(S3Response::new(DeleteObjectTaggingOutput { version_id: shown_id(version) }))
    }

    async fn set_tags(
        &self,
        (bucket, key): (&str, &str),
        version: Option<&str>,
        tags: Vec<(String, String)>,
        cause: Cause,
    ) -> S3Result<VersionId> {
        check_key(key)?;
        self.meta().set_tags(bucket, key, selector(version)?, tags, cause).await.map_err(from_meta)
    }
}
