//! Tags of objects.

use cairn_schema::ids::VersionId;
use s3s::{Body, S3Request, S3Response, S3Result, dto::*};

use super::{
    Api,
    attributes::check_tags,
    documents::DocumentRequest,
    names::{check_key, selector, shown_id},
    tag_set,
};
use crate::{answer::documented, error::from_meta, shown::version_header, xml::Writer};

impl Api {
    pub(super) async fn do_get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let input = request.input;
        let version = self.inspect(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        let document = Writer::document("Tagging", |xml| {
            xml.element("TagSet", |xml| {
                for (key, value) in &version.attributes.tags {
                    xml.element("Tag", |xml| {
                        xml.text("Key", key);
                        xml.text("Value", value);
                    });
                }
            });
        });
        let mut response = documented(document);
        if !version.id.is_null() {
            response.headers.insert("x-amz-version-id", version_header(version.id));
        }
        Ok(response)
    }

    pub(super) async fn do_put_object_tagging(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(false)?;
        let tags = tag_set::read(request.root("Tagging")?)?;
        check_tags(&tags)?;
        let version = self.set_tags(&request.bucket, &request.key, request.query.get("versionId")?, tags).await?;
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
