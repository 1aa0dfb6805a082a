//! UploadPartCopy: a part that shares another object's bytes.

use std::sync::Arc;

use cairn_actors::{
    error::StoreError,
    sealing::Sealer,
    store::{CopyUploadPart, KnownDigests, Requester},
};
use cairn_schema::{
    MetaError,
    ids::UploadId,
    record::{ChecksumAlgorithm, ChecksumKind, UploadedPart},
    verbs::{Located, RangeRequest, VersionSelector},
};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{CopyPartResult, UploadPartCopyInput, UploadPartCopyOutput},
    s3_error,
};

use super::{
    Api, OBJECT_MAX_BYTES,
    conditions::ReadConditions,
    copy::{ATTEMPTS, Source},
    encryption_headers::{CustomerKey, told},
    names::{check_key, part_etag, part_number, shown_version, timestamp, upload_id},
};
use crate::{
    checksum::{BodyChecks, put_checksum},
    error::{from_meta, from_store, invalid_argument},
};

const SOURCE_RANGE: &str = "x-amz-copy-source-range";

impl Api {
    pub(super) async fn do_upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let requester = Self::requester(&request);
        let secure = self.is_secure(&request);
        let customer = CustomerKey::of(&request.headers, secure)?;
        let source_key = CustomerKey::of_source(&request.headers, secure)?;
        let input = request.input;
        check_key(&input.key)?;
        let number = part_number(input.part_number)?;
        let id = upload_id(&input.upload_id)?;
        let source = Source::parse(&input.copy_source)?;
        let conditions = ReadConditions::of_source(&request.headers);
        let upload = self.meta().upload(&input.bucket, &input.key, id).await.map_err(from_meta)?;
        let declared = upload.checksum.map(|(algorithm, _)| algorithm);
        let wanted = input.copy_source_range.as_deref().map(parse_range).transpose()?;
        let sealer = self.part_sealer(upload.encryption.as_ref(), customer.as_ref()).await?;
        let (bucket, key) = (input.bucket, input.key);
        let target = Target { requester, bucket, key, upload: id, number, declared, sealer, source_key };
        let (part, copied_version) = self.copy_part(&source, wanted, &conditions, &target).await?;
        let mut result = CopyPartResult {
            e_tag: Some(part_etag(part.md5)),
            last_modified: Some(timestamp(part.modified_ms)),
            ..Default::default()
        };
        if let Some(checksum) = &part.checksum {
            put_checksum!(result, checksum, None);
        }
        let output = UploadPartCopyOutput {
            copy_part_result: Some(result),
            copy_source_version_id: copied_version,
            ..Default::default()
        };
        Ok(S3Response::with_headers(output, told(upload.encryption.as_ref(), customer.as_ref())))
    }

    /// The part, and the version it is of.
    async fn copy_part(
        &self,
        source: &Source,
        wanted: Option<RangeRequest>,
        conditions: &ReadConditions,
        target: &Target,
    ) -> S3Result<(UploadedPart, Option<String>)> {
        for _ in 0..ATTEMPTS {
            let located = self.locate_source(source, wanted, conditions).await?;
            let length = located.range.end - located.range.start;
            if length > OBJECT_MAX_BYTES {
                return Err(s3_error!(
                    InvalidRequest,
                    "The specified copy source is larger than the maximum allowable size for a copy source: {OBJECT_MAX_BYTES}"
                ));
            }
            let version = shown_version(&located.version);
            let opener = self.opener(located.version.encryption.as_ref(), target.source_key.as_ref()).await?;
            let checks = BodyChecks::declared(&http::HeaderMap::new(), None, None, target.declared)?;
            let id = located.version.id;
            let selector = if id.is_null() { source.selector } else { VersionSelector::Id(id) };
            let copy = CopyUploadPart {
                requester: target.requester.clone(),
                source: (source.bucket.clone(), source.key.clone(), selector),
                known: known_digests(&located, target.declared),
                located,
                opener,
                sealer: target.sealer.clone(),
                bucket: target.bucket.clone(),
                key: target.key.clone(),
                upload: target.upload,
                number: target.number,
                digests: checks.plan(),
                verify: Box::new(move |digests| Ok(Some(checks.verify(digests, None)?))),
            };
            match self.store.copy_part(copy).await {
                Ok(part) => return Ok((part, version)),
                // The source was replaced while it was read: its conditions are to be judged again.
                Err(StoreError::Meta(MetaError::Stale(_))) => {}
                Err(error) => return Err(from_store(error)),
            }
        }
        Err(s3_error!(SlowDown, "The source keeps changing; please try again."))
    }

    async fn locate_source(
        &self,
        source: &Source,
        wanted: Option<RangeRequest>,
        conditions: &ReadConditions,
    ) -> S3Result<Located> {
        // The version whose conditions hold is the one that is read, even if another is put in between.
        let version = self.source_version(source, conditions).await?;
        if let Some(RangeRequest::Inclusive(first, last)) = wanted
            && last >= version.size
        {
            let message = format!("Range specified is not valid for source object of size: {}", version.size);
            return Err(invalid_argument(SOURCE_RANGE, &format!("bytes={first}-{last}"), message));
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

/// Where the part goes.
struct Target {
    requester: Requester,
    bucket: String,
    key: String,
    upload: UploadId,
    number: u16,
    /// The algorithm that the upload's parts must have a checksum of.
    declared: Option<ChecksumAlgorithm>,
    /// What seals it, if the upload is to be.
    sealer: Option<Arc<dyn Sealer>>,
    /// What the client says opens the source.
    source_key: Option<CustomerKey>,
}

/// The digests of the bytes, if they are one part of the source, whole: then nothing need be read to know them. A
/// checksum of another algorithm than the upload's would not do.
fn known_digests(located: &Located, declared: Option<ChecksumAlgorithm>) -> Option<KnownDigests> {
    let part = located.whole_part()?;
    // An object put whole keeps its checksum with the version.
    let whole_object = located.version.part_count.is_none().then_some(located.version.checksum.as_ref()).flatten();
    let checksum = part.checksum.as_ref().or(whole_object)?;
    let fits =
        checksum.kind == ChecksumKind::FullObject && declared.is_none_or(|declared| declared == checksum.algorithm);
    fits.then(|| KnownDigests { md5: part.md5, checksum: Some(checksum.clone()) })
}

/// `bytes=first-last`: unlike a GET's, both ends must be there.
fn parse_range(text: &str) -> S3Result<RangeRequest> {
    let parsed = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')).and_then(|(first, last)| {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
        Some((digits(first)?, digits(last)?))
    });
    match parsed {
        Some((first, last)) if first <= last => Ok(RangeRequest::Inclusive(first, last)),
        _ => {
            let message = "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy";
            Err(invalid_argument(SOURCE_RANGE, text, message))
        }
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
