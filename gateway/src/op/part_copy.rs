//! UploadPartCopy: a part made of another object's bytes, streamed through the store.

use cairn_actors::{error::BoxError, store::PutUploadPart};
use cairn_schema::verbs::{RangeRequest, VersionSelector};
use futures::TryStreamExt;
use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api, OBJECT_MAX_BYTES,
    conditions::ReadConditions,
    copy::Source,
    names::{check_key, part_etag, part_number, timestamp, upload_id},
    objects::shown_version,
};
use crate::{
    checksum::{BodyChecks, put_checksum},
    error::{from_meta, from_store},
};

impl Api {
    pub(super) async fn do_upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let mut input = request.input;
        check_key(&input.key)?;
        if input.copy_source_sse_customer_algorithm.is_some() || input.sse_customer_algorithm.is_some() {
            return Err(s3_error!(NotImplemented, "Encryption with customer keys is not implemented."));
        }
        let number = part_number(input.part_number)?;
        let id = upload_id(&input.upload_id)?;
        let source = Source::parse(&input.copy_source)?;
        let conditions = ReadConditions {
            if_match: input.copy_source_if_match.take(),
            if_none_match: input.copy_source_if_none_match.take(),
            if_modified_since: input.copy_source_if_modified_since.take(),
            if_unmodified_since: input.copy_source_if_unmodified_since.take(),
        };
        let upload = self.meta().upload(&input.bucket, &input.key, id).await.map_err(from_meta)?;
        let wanted = input.copy_source_range.as_deref().map(parse_range).transpose()?;
        let located = self.locate_source(&source, wanted, &conditions).await?;
        let length = located.range.end - located.range.start;
        if length > OBJECT_MAX_BYTES {
            return Err(s3_error!(
                InvalidRequest,
                "The specified copy source is larger than the maximum allowable size for a copy source: {OBJECT_MAX_BYTES}"
            ));
        }
        let copied_version = shown_version(&located.version);
        let declared = upload.checksum.map(|(algorithm, _)| algorithm);
        let checks = BodyChecks::declared(&http::HeaderMap::new(), None, None, declared)?;
        let digests = checks.plan();
        let got = self.store.open(located).await.map_err(from_store)?;
        let put = PutUploadPart {
            bucket: input.bucket,
            key: input.key,
            upload: id,
            number,
            length: Some(length),
            body: Box::pin(got.body.map_err(|error| Box::new(error) as BoxError)),
            digests,
            verify: Box::new(move |digests| Ok(Some(checks.verify(digests, None)?))),
        };
        let part = self.store.put_part(put).await.map_err(from_store)?;
        let mut result = CopyPartResult {
            e_tag: Some(part_etag(part.md5)),
            last_modified: Some(timestamp(part.modified_ms)),
            ..Default::default()
        };
        if let Some(checksum) = &part.checksum {
            put_checksum!(result, checksum, None);
        }
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(result),
            copy_source_version_id: copied_version,
            ..Default::default()
        }))
    }

    async fn locate_source(
        &self,
        source: &Source,
        wanted: Option<RangeRequest>,
        conditions: &ReadConditions,
    ) -> S3Result<cairn_schema::verbs::Located> {
        // The version whose conditions hold is the one that is read, even if another is put in between.
        let version = self.source_version(source, conditions).await?;
        if let Some(RangeRequest::Inclusive(_, last)) = wanted
            && last >= version.size
        {
            return Err(s3_error!(
                InvalidArgument,
                "Range specified is not valid for source object of size: {}",
                version.size
            ));
        }
        let selector = if version.id.is_null() { source.selector } else { VersionSelector::Id(version.id) };
        let located = self
            .store
            .locate(&source.bucket, &source.key, selector, wanted.unwrap_or(RangeRequest::All))
            .await
            .map_err(from_store)?;
        conditions.check_source(&located.version)?;
        Ok(located)
    }
}

/// `bytes=first-last`: unlike a GET's, both ends must be there.
fn parse_range(text: &str) -> S3Result<RangeRequest> {
    let parsed = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')).and_then(|(first, last)| {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
        Some((digits(first)?, digits(last)?))
    });
    match parsed {
        Some((first, last)) if first <= last => Ok(RangeRequest::Inclusive(first, last)),
        _ => Err(s3_error!(
            InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_copied_range_needs_both_ends() {
        assert_eq!(parse_range("bytes=0-9").unwrap(), RangeRequest::Inclusive(0, 9));
        for text in ["", "bytes=", "bytes=-9", "bytes=1-", "bytes=9-1", "0-9", "bytes=+1-9", "bytes=0-9,11-12"] {
            assert!(parse_range(text).is_err(), "{text}");
        }
    }
}
