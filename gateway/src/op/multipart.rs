//! Multipart uploads: create, upload a part, abort.

use cairn_actors::store::PutUploadPart;
use cairn_schema::{
    ids::UploadId,
    record::{ChecksumAlgorithm as Algorithm, ChecksumKind, Upload},
};
use http::{HeaderName, HeaderValue};
use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api,
    attributes::said,
    encryption_headers::{Asked, CustomerKey, told},
    incoming::incoming,
    lock_headers::{asked_lock, demand_part_digest},
    names::{check_key, now_ms, part_etag, part_number, upload_id},
};
use crate::{
    answer::documented,
    checksum::{self, BodyChecks, put_checksum, sent_fields},
    error::{from_meta, from_store},
    xml::Writer,
};

impl Api {
    pub(super) async fn do_create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let owner = Self::owner();
        let lock = asked_lock(&request.headers, self.meta().now_ms())?;
        let asked = Asked::of(&request.headers, self.is_secure(&request))?;
        let customer = asked.customer().cloned();
        let mut input = request.input;
        check_key(&input.key)?;
        let checksum = declared_checksum(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
        let attributes = said!(input, lock).into_attributes()?;
        // Neither is a key made for what cannot be begun.
        let bucket = self.meta().bucket(&input.bucket).await.map_err(from_meta)?;
        self.expect_room(&bucket, &input.key, 1).await?;
        let choice = self.choice(&input.bucket, asked).await?;
        let encryption = self.sealing(&input.bucket, &choice).await?.map(|sealing| sealing.kept);
        let upload = Upload {
            id: UploadId::random(),
            bucket: input.bucket,
            key: input.key,
            created_ms: now_ms(),
            owner: owner.to_string(),
            attributes,
            checksum,
            encryption,
        };
        self.meta().create_upload(upload.clone()).await.map_err(from_meta)?;
        let document = Writer::document("InitiateMultipartUploadResult", |xml| {
            xml.text("Bucket", &upload.bucket);
            xml.text("Key", &upload.key);
            xml.shown("UploadId", upload.id);
        });
        let mut response = documented(document);
        response.headers.extend(told(upload.encryption.as_ref(), customer.as_ref()));
        if let Some((algorithm, kind)) = checksum {
            let names = [
                ("x-amz-checksum-algorithm", checksum::name(algorithm)),
                ("x-amz-checksum-type", checksum::kind_name(kind)),
            ];
            response
                .headers
                .extend(names.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))));
        }
        Ok(response)
    }

    pub(super) async fn do_upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let requester = Self::requester(&request);
        let customer = CustomerKey::of(&request.headers, self.is_secure(&request))?;
        let S3Request { mut input, headers, trailing_headers, .. } = request;
        check_key(&input.key)?;
        let number = part_number(input.part_number)?;
        let id = upload_id(&input.upload_id)?;
        let upload = self.meta().upload(&input.bucket, &input.key, id).await.map_err(from_meta)?;
        let sent = sent_fields!(input).parse()?;
        let declared = upload.checksum.map(|(algorithm, _)| algorithm);
        let checks = BodyChecks::declared(&headers, sent, input.content_md5.as_deref(), declared)?;
        check_part_algorithm(declared, &checks)?;
        demand_part_digest(upload.attributes.lock, &checks)?;
        let digests = checks.plan();
        let sealer = self.part_sealer(upload.encryption.as_ref(), customer.as_ref()).await?;
        let incoming = incoming(input.body, input.content_length, checks, trailing_headers)?;
        // It counts once it is part of an object; what never could be need not be sent.
        let bucket = self.meta().bucket(&input.bucket).await.map_err(from_meta)?;
        self.expect_room(&bucket, &input.key, incoming.length).await?;
        let put = PutUploadPart {
            requester,
            bucket: input.bucket,
            key: input.key,
            upload: id,
            number,
            length: Some(incoming.length),
            body: incoming.body,
            digests,
            verify: incoming.verify,
            sealer,
        };
        let part = self.store.put_part(put).await.map_err(from_store)?;
        let mut output = UploadPartOutput { e_tag: Some(part_etag(part.md5)), ..Default::default() };
        // boto3 names in Complete just the checksums that it was told here.
        if let Some(checksum) = &part.checksum {
            put_checksum!(output, checksum, None);
        }
        Ok(S3Response::with_headers(output, told(upload.encryption.as_ref(), customer.as_ref())))
    }

    pub(super) async fn do_abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        check_key(&input.key)?;
        if input.if_match_initiated_time.is_some() {
            return Err(s3_error!(NotImplemented, "Aborts on condition of a time are not implemented."));
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn code<T: std::fmt::Debug>(result: S3Result<T>) -> String {
        result.unwrap_err().code().as_str().to_owned()
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
}
