//! Tags of objects.

use cairn_schema::ids::VersionId;
use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api,
    attributes::check_tags,
    inspect::check_document,
    names::{check_key, selector, shown_id, shown_version},
};
use crate::error::from_meta;

impl Api {
    pub(super) async fn do_get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let input = request.input;
        let version = self.inspect(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        let version_id = shown_version(&version);
        let tag_set = version
            .attributes
            .tags
            .into_iter()
            .map(|(key, value)| Tag { key: Some(key), value: Some(value) })
            .collect();
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id }))
    }

    pub(super) async fn do_put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        check_document(&request, false)?;
        let input = request.input;
        let mut tags = Vec::with_capacity(input.tagging.tag_set.len());
        for tag in input.tagging.tag_set {
            let (Some(key), Some(value)) = (tag.key, tag.value) else { return Err(s3_error!(MalformedXML)) };
            tags.push((key, value));
        }
        check_tags(&tags)?;
        let version = self.set_tags(&input.bucket, &input.key, input.version_id.as_deref(), tags).await?;
        Ok(S3Response::new(PutObjectTaggingOutput { version_id: shown_id(version) }))
    }

    pub(super) async fn do_delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        let input = request.input;
        let version = self.set_tags(&input.bucket, &input.key, input.version_id.as_deref(), Vec::new()).await?;
        Ok(S3Response::new(DeleteObjectTaggingOutput { version_id: shown_id(version) }))
    }

    async fn set_tags(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        tags: Vec<(String, String)>,
    ) -> S3Result<VersionId> {
        check_key(key)?;
        self.meta().set_tags(bucket, key, selector(version)?, tags).await.map_err(from_meta)
    }
}
