//! Multipart uploads: create, upload a part, complete, abort.

use cairn_actors::store::PutUploadPart;
use cairn_schema::{
    MetaError,
    ids::{AttemptId, UploadId},
    record::{self, ChecksumAlgorithm as Algorithm, ChecksumKind, StoredChecksum, Upload, UploadedPart},
    verbs::CompleteUpload,
};
use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api,
    attributes::said,
    conditions::write_precondition,
    incoming::incoming,
    names::{PART_NUMBER_MAX, check_key, etag, now_ms, part_etag, part_number, upload_id},
};
use crate::{
    checksum::{
        self, BodyChecks, CombineError, DEFAULT_ALGORITHM, Sent, put_checksum, put_typed_checksum, sent_fields,
    },
    error::{from_meta, from_store},
};

/// Every part but the last must have as many bytes.
const PART_MIN_BYTES: u64 = 5 << 20;
const PARTS_PAGE: usize = 1000;

impl Api {
    pub(super) async fn do_create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let owner = self.owner(&request).await?;
        let mut input = request.input;
        check_key(&input.key)?;
        let checksum = declared_checksum(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
        let attributes = said!(input).into_attributes()?;
        let upload = Upload {
            id: UploadId::random(),
            bucket: input.bucket,
            key: input.key,
            created_ms: now_ms(),
            owner: owner.to_string(),
            attributes,
            checksum,
        };
        self.meta().create_upload(upload.clone()).await.map_err(from_meta)?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(upload.bucket),
            key: Some(upload.key),
            upload_id: Some(upload.id.to_string()),
            checksum_algorithm: checksum
                .map(|(algorithm, _)| ChecksumAlgorithm::from_static(checksum::name(algorithm))),
            checksum_type: checksum.map(|(_, kind)| ChecksumType::from_static(checksum::kind_name(kind))),
            ..Default::default()
        }))
    }

    pub(super) async fn do_upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let S3Request { mut input, headers, trailing_headers, .. } = request;
        check_key(&input.key)?;
        if input.sse_customer_algorithm.is_some() || input.sse_customer_key.is_some() {
            return Err(s3_error!(NotImplemented, "Encryption with customer keys is not implemented."));
        }
        let number = part_number(input.part_number)?;
        let id = upload_id(&input.upload_id)?;
        let upload = self.meta().upload(&input.bucket, &input.key, id).await.map_err(from_meta)?;
        let sent = sent_fields!(input).parse()?;
        let declared = upload.checksum.map(|(algorithm, _)| algorithm);
        let checks = BodyChecks::declared(&headers, sent, input.content_md5.as_deref(), declared)?;
        check_part_algorithm(declared, &checks)?;
        let digests = checks.plan();
        let incoming = incoming(input.body, input.content_length, checks, trailing_headers)?;
        let put = PutUploadPart {
            bucket: input.bucket,
            key: input.key,
            upload: id,
            number,
            length: Some(incoming.length),
            body: incoming.body,
            digests,
            verify: incoming.verify,
        };
        let part = self.store.put_part(put).await.map_err(from_store)?;
        let mut output = UploadPartOutput { e_tag: Some(part_etag(part.md5)), ..Default::default() };
        // boto3 names in Complete just the checksums that it was told here.
        if let Some(checksum) = &part.checksum {
            put_checksum!(output, checksum, None);
        }
        Ok(S3Response::new(output))
    }

    pub(super) async fn do_complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        // Its x-amz-checksum-* headers speak of the object, so only the MD5 of the document could be compared.
        let host = request.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).map(ToOwned::to_owned);
        let mut input = request.input;
        check_key(&input.key)?;
        let id = upload_id(&input.upload_id)?;
        let claimed = sent_fields!(input).parse_composite()?;
        let parts = completed_parts(input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default())?;
        let checksum = match self.uploaded(&input.bucket, &input.key, id).await {
            Ok((upload, uploaded)) => {
                let named = named_parts(&parts, &uploaded)?;
                check_object_size(input.mpu_object_size, &named)?;
                let kind = input.checksum_type.as_ref().map(|kind| checksum::parse_kind(kind.as_str())).transpose()?;
                object_checksum(&upload, &named, claimed, kind)?
            }
            // It may have been completed before: the verb knows.
            Err(MetaError::NoSuchUpload(_)) => None,
            Err(error) => return Err(from_meta(error)),
        };
        let complete = CompleteUpload {
            attempt: AttemptId::random(),
            upload: id,
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            parts,
            checksum,
            min_part_bytes: PART_MIN_BYTES,
            precondition: write_precondition(input.if_match, input.if_none_match),
        };
        let committed = self.meta().complete_upload(complete).await.map_err(from_meta)?;
        let version = committed.version;
        let mut output = CompleteMultipartUploadOutput {
            location: Some(location(host.as_deref(), &input.bucket, &input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(etag(&version.etag)),
            version_id: committed.versioned.then(|| version.id.to_string()),
            ..Default::default()
        };
        if let Some(checksum) = &version.checksum {
            put_typed_checksum!(output, checksum, version.part_count);
        }
        Ok(S3Response::new(output))
    }

    /// The upload with all of its parts, in order of number.
    async fn uploaded(&self, bucket: &str, key: &str, id: UploadId) -> Result<(Upload, Vec<UploadedPart>), MetaError> {
        let mut parts = Vec::new();
        let mut after = 0;
        loop {
            let page = self.meta().list_parts(bucket, key, id, after, PARTS_PAGE).await?;
            parts.extend(page.parts);
            match page.next {
                Some(next) if next > after => after = next,
                _ => return Ok((page.upload, parts)),
            }
        }
    }

    pub(super) async fn do_abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        check_key(&input.key)?;
        let id = upload_id(&input.upload_id)?;
        self.meta().abort_upload(&input.bucket, &input.key, id).await.map_err(from_meta)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

/// What CreateMultipartUpload declares. SHA digests cannot be joined, and CRC64NVME is only ever of the whole object.
fn declared_checksum(
    algorithm: Option<&ChecksumAlgorithm>,
    kind: Option<&ChecksumType>,
) -> S3Result<Option<(Algorithm, ChecksumKind)>> {
    let kind = kind.map(|kind| checksum::parse_kind(kind.as_str())).transpose()?;
    let Some(algorithm) = algorithm else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(s3_error!(
                InvalidRequest,
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
            )),
        };
    };
    let algorithm =
        checksum::parse_name(algorithm.as_str()).ok_or_else(|| checksum::unsupported_algorithm(algorithm.as_str()))?;
    let kind = match (algorithm, kind) {
        (Algorithm::Crc64Nvme, None | Some(ChecksumKind::FullObject)) => ChecksumKind::FullObject,
        (Algorithm::Sha1 | Algorithm::Sha256, None | Some(ChecksumKind::Composite)) => ChecksumKind::Composite,
        (Algorithm::Crc32 | Algorithm::Crc32c, kind) => kind.unwrap_or(ChecksumKind::Composite),
        (algorithm, Some(kind)) => {
            return Err(s3_error!(
                InvalidRequest,
                "The {} checksum type cannot be used with the {} checksum algorithm.",
                checksum::kind_name(kind),
                checksum::name(algorithm)
            ));
        }
    };
    Ok(Some((algorithm, kind)))
}

fn check_part_algorithm(declared: Option<Algorithm>, checks: &BodyChecks) -> S3Result<()> {
    match declared {
        Some(declared) if checks.claims_a_value() && checks.algorithm() != declared => Err(s3_error!(
            InvalidRequest,
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            checksum::name(declared).to_lowercase(),
            checksum::name(checks.algorithm()).to_lowercase()
        )),
        _ => Ok(()),
    }
}

/// The request's list, ascending and well formed.
fn completed_parts(parts: Vec<CompletedPart>) -> S3Result<Vec<record::CompletedPart>> {
    if parts.is_empty() || parts.len() > usize::from(PART_NUMBER_MAX) {
        return Err(s3_error!(MalformedXML, "An upload is completed with 1 to {PART_NUMBER_MAX} parts."));
    }
    let mut out: Vec<record::CompletedPart> = Vec::with_capacity(parts.len());
    for mut part in parts {
        let number =
            part_number(part.part_number.ok_or_else(|| s3_error!(MalformedXML, "A part has no PartNumber."))?)?;
        if out.last().is_some_and(|last| last.number >= number) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let etag = part.e_tag.take().ok_or_else(|| s3_error!(MalformedXML, "A part has no ETag."))?;
        let mut md5 = [0; 16];
        hex::decode_to_slice(etag.value(), &mut md5).map_err(|_| invalid_part(number))?;
        let checksum = sent_fields!(part).parse()?.map(|sent| StoredChecksum {
            algorithm: sent.algorithm,
            kind: ChecksumKind::FullObject,
            value: sent.value,
        });
        out.push(record::CompletedPart { number, md5, checksum });
    }
    Ok(out)
}

fn invalid_part(number: u16) -> s3s::S3Error {
    s3_error!(
        InvalidPart,
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag: part {number}."
    )
}

/// The uploaded parts that the request names; both lists ascend.
fn named_parts<'a>(parts: &[record::CompletedPart], uploaded: &'a [UploadedPart]) -> S3Result<Vec<&'a UploadedPart>> {
    parts
        .iter()
        .map(|part| {
            let at = uploaded.binary_search_by_key(&part.number, |uploaded| uploaded.number).ok();
            at.and_then(|at| uploaded.get(at)).ok_or_else(|| invalid_part(part.number))
        })
        .collect()
}

fn check_object_size(claimed: Option<i64>, named: &[&UploadedPart]) -> S3Result<()> {
    let Some(claimed) = claimed else { return Ok(()) };
    let size: u64 = named.iter().map(|part| part.length).sum();
    if u64::try_from(claimed) != Ok(size) {
        return Err(s3_error!(
            InvalidRequest,
            "The provided 'x-amz-mp-object-size' header value {claimed} does not match what was computed: {size}"
        ));
    }
    Ok(())
}

/// The object's checksum, worked out from its parts and compared with what the client claims.
fn object_checksum(
    upload: &Upload,
    named: &[&UploadedPart],
    claimed: Option<Sent>,
    claimed_kind: Option<ChecksumKind>,
) -> S3Result<Option<StoredChecksum>> {
    let (algorithm, kind) = match upload.checksum {
        Some(declared) => declared,
        None => undeclared_checksum(named, claimed_kind),
    };
    if claimed_kind.is_some_and(|claimed| claimed != kind) {
        return Err(s3_error!(
            InvalidRequest,
            "The upload was created using the {} checksum mode. The complete request must use the same checksum mode.",
            checksum::kind_name(kind)
        ));
    }
    let parts: Vec<_> = named.iter().map(|part| (part.checksum.as_ref(), part.length)).collect();
    let computed = match checksum::from_parts(algorithm, kind, &parts) {
        Ok(computed) => computed,
        Err(error @ CombineError::Missing { .. }) if claimed.is_none() => {
            tracing::debug!(%error, "the object is kept without a checksum");
            return Ok(None);
        }
        Err(error) => return Err(s3_error!(InvalidRequest, "The object's checksum cannot be verified: {error}.")),
    };
    if let Some(claimed) = claimed {
        let parts_differ = claimed.parts.is_some_and(|parts| parts as usize != named.len());
        if claimed.algorithm != algorithm || claimed.value != computed.value || parts_differ {
            return Err(s3_error!(
                BadDigest,
                "The {} you specified did not match the calculated checksum.",
                checksum::name(claimed.algorithm)
            ));
        }
    }
    Ok(Some(computed))
}

/// Without a declaration the parts decide: all have what the first has, joined where that is possible.
fn undeclared_checksum(named: &[&UploadedPart], kind: Option<ChecksumKind>) -> (Algorithm, ChecksumKind) {
    let algorithm =
        named.first().and_then(|part| part.checksum.as_ref()).map_or(DEFAULT_ALGORITHM, |checksum| checksum.algorithm);
    let natural = match algorithm {
        Algorithm::Sha1 | Algorithm::Sha256 => ChecksumKind::Composite,
        Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Crc64Nvme => ChecksumKind::FullObject,
    };
    match (algorithm, kind) {
        (Algorithm::Crc32 | Algorithm::Crc32c, Some(kind)) => (algorithm, kind),
        _ => (algorithm, natural),
    }
}

fn location(host: Option<&str>, bucket: &str, key: &str) -> String {
    let path = super::encoding::url_encode(key);
    match host {
        Some(host) => format!("http://{host}/{bucket}/{path}"),
        None => format!("/{bucket}/{path}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use cairn_schema::record::Attributes;
    use s3s::crypto::{Checksum as _, Crc32, Sha256};

    use super::*;

    fn code<T: std::fmt::Debug>(result: S3Result<T>) -> String {
        result.unwrap_err().code().as_str().to_owned()
    }

    fn upload(checksum: Option<(Algorithm, ChecksumKind)>) -> Upload {
        Upload {
            id: UploadId([1; 16]),
            bucket: "b".into(),
            key: "k".into(),
            created_ms: 0,
            owner: "o".into(),
            attributes: Attributes::default(),
            checksum,
        }
    }

    fn part(number: u16, bytes: &[u8], algorithm: Algorithm) -> UploadedPart {
        let value = match algorithm {
            Algorithm::Crc32 => Crc32::checksum(bytes).to_vec(),
            _ => Sha256::checksum(bytes).to_vec(),
        };
        UploadedPart {
            number,
            length: bytes.len() as u64,
            md5: [0; 16],
            checksum: Some(StoredChecksum { algorithm, kind: ChecksumKind::FullObject, value }),
            modified_ms: 0,
        }
    }

    fn sent(algorithm: Algorithm, value: Vec<u8>) -> Option<Sent> {
        Some(Sent { algorithm, value, parts: None })
    }

    #[test]
    fn algorithms_and_types_that_do_not_go_together_are_refused() {
        let declare = |algorithm: &str, kind: Option<&str>| {
            let kind = kind.map(|kind| ChecksumType::from(kind.to_owned()));
            declared_checksum(Some(&ChecksumAlgorithm::from(algorithm.to_owned())), kind.as_ref())
        };
        assert_eq!(declare("CRC32", None).unwrap(), Some((Algorithm::Crc32, ChecksumKind::Composite)));
        assert_eq!(declare("crc32", Some("FULL_OBJECT")).unwrap(), Some((Algorithm::Crc32, ChecksumKind::FullObject)));
        assert_eq!(declare("CRC64NVME", None).unwrap(), Some((Algorithm::Crc64Nvme, ChecksumKind::FullObject)));
        assert_eq!(code(declare("CRC64NVME", Some("COMPOSITE"))), "InvalidRequest");
        assert_eq!(code(declare("SHA256", Some("FULL_OBJECT"))), "InvalidRequest");
        assert_eq!(code(declare("SHA512", None)), "InvalidRequest");
        assert_eq!(code(declare("CRC32", Some("HALF"))), "InvalidRequest");
        assert_eq!(declared_checksum(None, None).unwrap(), None);
    }

    #[test]
    fn part_lists_are_checked() {
        let entry = |number: i32, etag: &str| CompletedPart {
            part_number: Some(number),
            e_tag: Some(ETag::Strong(etag.into())),
            ..Default::default()
        };
        let md5 = "00".repeat(16);
        assert_eq!(code(completed_parts(Vec::new())), "MalformedXML");
        assert_eq!(code(completed_parts(vec![entry(2, &md5), entry(1, &md5)])), "InvalidPartOrder");
        assert_eq!(code(completed_parts(vec![entry(1, &md5), entry(1, &md5)])), "InvalidPartOrder");
        assert_eq!(code(completed_parts(vec![entry(1, "nonsense")])), "InvalidPart");
        assert_eq!(code(completed_parts(vec![entry(0, &md5)])), "InvalidArgument");
        assert_eq!(code(completed_parts(vec![CompletedPart::default()])), "MalformedXML");
        assert_eq!(completed_parts(vec![entry(1, &md5), entry(7, &md5)]).unwrap().len(), 2);
    }

    #[test]
    fn the_objects_checksum_comes_from_its_parts_and_claims_are_compared() {
        let parts = [part(1, b"hello ", Algorithm::Crc32), part(2, b"world", Algorithm::Crc32)];
        let named: Vec<_> = parts.iter().collect();
        let whole = Crc32::checksum(b"hello world").to_vec();
        let full = upload(Some((Algorithm::Crc32, ChecksumKind::FullObject)));
        let made = object_checksum(&full, &named, sent(Algorithm::Crc32, whole.clone()), None).unwrap().unwrap();
        assert_eq!((made.kind, made.value), (ChecksumKind::FullObject, whole.clone()));
        assert_eq!(code(object_checksum(&full, &named, sent(Algorithm::Crc32, vec![0; 4]), None)), "BadDigest");
        let composite = upload(Some((Algorithm::Crc32, ChecksumKind::Composite)));
        assert_eq!(code(object_checksum(&composite, &named, sent(Algorithm::Crc32, whole.clone()), None)), "BadDigest");
        assert_eq!(code(object_checksum(&composite, &named, None, Some(ChecksumKind::FullObject))), "InvalidRequest");
        // Nothing declared: CRCs are joined, SHA digests make a composite.
        assert_eq!(object_checksum(&upload(None), &named, None, None).unwrap().unwrap().value, whole);
        let shas = [part(1, b"a", Algorithm::Sha256)];
        let made = object_checksum(&upload(None), &shas.iter().collect::<Vec<_>>(), None, None).unwrap().unwrap();
        assert_eq!(made.kind, ChecksumKind::Composite);
        // Mixed parts have no common checksum; a claim can then not be verified and is refused.
        let mixed = [part(1, b"a", Algorithm::Crc32), part(2, b"b", Algorithm::Sha256)];
        let mixed: Vec<_> = mixed.iter().collect();
        assert_eq!(object_checksum(&upload(None), &mixed, None, None).unwrap(), None);
        assert_eq!(code(object_checksum(&upload(None), &mixed, sent(Algorithm::Crc32, whole), None)), "InvalidRequest");
    }

    #[test]
    fn a_part_not_uploaded_is_invalid() {
        let uploaded = [part(1, b"a", Algorithm::Crc32), part(3, b"b", Algorithm::Crc32)];
        let wanted = |number| [record::CompletedPart { number, md5: [0; 16], checksum: None }];
        assert_eq!(named_parts(&wanted(3), &uploaded).unwrap()[0].number, 3);
        assert_eq!(code(named_parts(&wanted(2), &uploaded)), "InvalidPart");
        let named: Vec<_> = uploaded.iter().collect();
        assert!(check_object_size(Some(2), &named).is_ok());
        assert_eq!(code(check_object_size(Some(3), &named)), "InvalidRequest");
    }
}
