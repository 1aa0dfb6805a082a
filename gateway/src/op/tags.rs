//! Tags of objects.

use cairn_schema::ids::VersionId;
use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api,
    inspect::check_document,
    names::{check_key, selector},
    objects::shown_version,
};
use crate::error::{custom, from_meta};

const TAGS_MAX: usize = 10;
const TAG_KEY_MAX_CHARS: usize = 128;
const TAG_VALUE_MAX_CHARS: usize = 256;

/// At most ten, with distinct keys of 1 to 128 and values of at most 256 characters.
pub(super) fn check_tags(tags: &[(String, String)]) -> S3Result<()> {
    if tags.len() > TAGS_MAX {
        return Err(custom(
            "BadRequest",
            http::StatusCode::BAD_REQUEST,
            format!("Object tags cannot be greater than {TAGS_MAX}"),
        ));
    }
    for (index, (key, value)) in tags.iter().enumerate() {
        if key.is_empty() || key.chars().count() > TAG_KEY_MAX_CHARS {
            return Err(s3_error!(InvalidTag, "The TagKey you have provided is invalid"));
        }
        if value.chars().count() > TAG_VALUE_MAX_CHARS {
            return Err(s3_error!(InvalidTag, "The TagValue you have provided is invalid"));
        }
        if tags[..index].iter().any(|(other, _)| other == key) {
            return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(())
}

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

fn shown_id(version: VersionId) -> Option<String> {
    (!version.is_null()).then(|| version.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn code(tags: &[(&str, &str)]) -> String {
        let tags: Vec<_> = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        check_tags(&tags).err().map_or_else(|| "ok".into(), |error| error.code().as_str().to_owned())
    }

    #[test]
    fn tags_are_few_short_and_distinct() {
        assert_eq!(code(&[]), "ok");
        assert_eq!(code(&[("a", ""), ("b", "2")]), "ok");
        assert_eq!(code(&[("a", "1"), ("a", "2")]), "InvalidTag");
        assert_eq!(code(&[("", "1")]), "InvalidTag");
        assert_eq!(code(&[(&"k".repeat(129), "1")]), "InvalidTag");
        assert_eq!(code(&[("k", &"é".repeat(257))]), "InvalidTag");
        assert_eq!(code(&[("k", &"é".repeat(256))]), "ok");
        let keys: Vec<String> = (0..11).map(|number| number.to_string()).collect();
        let many: Vec<_> = keys.iter().map(|key| (key.as_str(), "")).collect();
        assert_eq!(code(&many), "BadRequest");
    }
}
