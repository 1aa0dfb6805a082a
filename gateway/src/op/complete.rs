//! CompleteMultipartUpload: the parts become an object.

use cairn_schema::{
    MetaError,
    ids::{AttemptId, UploadId},
    record::{self, ChecksumAlgorithm as Algorithm, ChecksumKind, StoredChecksum, Upload, UploadedPart},
    verbs::CompleteUpload,
};
use s3s::{Body, S3ErrorCode, S3Response, S3Result, s3_error};

use super::{
    Api,
    conditions::write_precondition,
    documents::DocumentRequest,
    encryption_headers::told,
    names::{PART_NUMBER_MAX, check_key, part_number, upload_id},
};
use crate::{
    answer::documented,
    checksum::{self, CombineError, DEFAULT_ALGORITHM, Sent, SentFields, UNSUPPORTED, write_checksum},
    error::{WithField, from_meta, invalid_argument},
    shown::{quoted, unquoted, version_header},
    xml::{Element, Writer, XmlError},
};

/// Every part but the last must have as many bytes.
const PART_MIN_BYTES: u64 = 5 << 20;
const PARTS_PAGE: usize = 1000;

impl Api {
    pub(super) async fn do_complete_multipart_upload(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        check_key(&request.key)?;
        // The x-amz-checksum-* headers speak of the object, so only an MD5 can be the document's.
        request.check_md5()?;
        let id = upload_id(request.query.get("uploadId")?.unwrap_or_default())?;
        let claims = Claims::of(&request)?;
        self.complete(&request, id, claims).await.map_err(|error| match error.code() {
            S3ErrorCode::InvalidPart | S3ErrorCode::InvalidPartOrder | S3ErrorCode::EntityTooSmall => {
                error.with("UploadId", id)
            }
            _ => error,
        })
    }

    async fn complete(&self, request: &DocumentRequest, id: UploadId, claims: Claims) -> S3Result<S3Response<Body>> {
        // S3 calls a missing list malformed here, unlike elsewhere.
        let root = request.root("CompleteMultipartUpload").map_err(|error| match error.code() {
            S3ErrorCode::MissingRequestBodyError => s3_error!(MalformedXML),
            _ => error,
        })?;
        let parts = completed_parts(root)?;
        let checksum = match self.uploaded(&request.bucket, &request.key, id).await {
            Ok((upload, uploaded)) => {
                let named = named_parts(&parts, &uploaded)?;
                check_object_size(claims.object_bytes, &named)?;
                object_checksum(&upload, &named, claims.checksum, claims.kind)?
            }
            // It may have been completed before: the verb knows.
            Err(MetaError::NoSuchUpload(_)) => None,
            Err(error) => return Err(from_meta(error)),
        };
        let complete = CompleteUpload {
            attempt: AttemptId::random(),
            upload: id,
            bucket: request.bucket.clone(),
            key: request.key.clone(),
            parts,
            checksum,
            min_part_bytes: PART_MIN_BYTES,
            precondition: write_precondition(request.headers())?,
            origin: Self::origin(&request.request),
        };
        let committed = self.meta().complete_upload(complete).await.map_err(from_meta)?;
        let version = &committed.version;
        let location = self.location(&request.request.uri, request.headers(), &request.bucket, &request.key);
        let document = Writer::document("CompleteMultipartUploadResult", |xml| {
            xml.text("Location", &location);
            xml.text("Bucket", &request.bucket);
            xml.text("Key", &request.key);
            xml.text("ETag", &quoted(&version.etag.to_string()));
            if let Some(checksum) = &version.checksum {
                write_checksum(xml, checksum, version.part_count);
                xml.text("ChecksumType", checksum::kind_name(checksum.kind));
            }
        });
        let mut response = documented(document);
        response.headers.extend(told(version.encryption.as_ref(), None));
        if committed.versioned {
            response.headers.insert("x-amz-version-id", version_header(version.id));
        }
        Ok(response)
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
}

/// What the headers claim of the object that the parts become.
struct Claims {
    checksum: Option<Sent>,
    kind: Option<ChecksumKind>,
    object_bytes: Option<u64>,
}

impl Claims {
    fn of(request: &DocumentRequest) -> S3Result<Self> {
        let size = request.header("x-amz-mp-object-size")?;
        let object_bytes = size.map(|text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or_else(|| {
                let message = "The value of the header x-amz-mp-object-size is invalid.";
                invalid_argument("x-amz-mp-object-size", text, message)
            })
        });
        Ok(Self {
            checksum: SentFields::of_headers(request.headers())?.parse_composite()?,
            kind: request.header("x-amz-checksum-type")?.map(checksum::parse_kind).transpose()?,
            object_bytes: object_bytes.transpose()?,
        })
    }
}

/// The request's list, ascending and well formed.
fn completed_parts(root: &Element) -> S3Result<Vec<record::CompletedPart>> {
    let ([], parts) = root.fields_and_some([], "Part", usize::from(PART_NUMBER_MAX))?;
    let mut out: Vec<record::CompletedPart> = Vec::with_capacity(parts.len());
    for part in parts {
        let named = NamedPart::read(part)?;
        let number = part_number(named.number)?;
        if out.last().is_some_and(|last| last.number >= number) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let mut md5 = [0; 16];
        hex::decode_to_slice(&named.etag, &mut md5).map_err(|_| invalid_part(number))?;
        let checksum = named.checksum.parse()?.map(|sent| StoredChecksum {
            algorithm: sent.algorithm,
            kind: ChecksumKind::FullObject,
            value: sent.value,
        });
        out.push(record::CompletedPart { number, md5, checksum });
    }
    Ok(out)
}

/// A part as the request names it.
struct NamedPart {
    number: i32,
    /// Without quotes.
    etag: String,
    checksum: SentFields,
}

impl NamedPart {
    fn read(part: &Element) -> Result<Self, XmlError> {
        let [number, etag, crc32, crc32c, crc64nvme, sha1, sha256, others @ ..] = part.fields([
            "PartNumber",
            "ETag",
            "ChecksumCRC32",
            "ChecksumCRC32C",
            "ChecksumCRC64NVME",
            "ChecksumSHA1",
            "ChecksumSHA256",
            // In the order of `UNSUPPORTED`.
            "ChecksumMD5",
            "ChecksumSHA512",
            "ChecksumXXHASH64",
            "ChecksumXXHASH3",
            "ChecksumXXHASH128",
        ])?;
        let word = |field: Option<&Element>| field.map(|field| field.word().map(ToOwned::to_owned)).transpose();
        Ok(Self {
            number: part.required(number, "PartNumber")?.number()?,
            etag: unquoted(part.required(etag, "ETag")?.word()?).to_owned(),
            checksum: SentFields {
                crc32: word(crc32)?,
                crc32c: word(crc32c)?,
                crc64nvme: word(crc64nvme)?,
                sha1: word(sha1)?,
                sha256: word(sha256)?,
                unsupported: others.iter().zip(UNSUPPORTED).find(|(field, _)| field.is_some()).map(|(_, name)| name),
            },
        })
    }
}

fn invalid_part(number: u16) -> s3s::S3Error {
    s3_error!(InvalidPart).with("PartNumber", number)
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

fn check_object_size(claimed: Option<u64>, named: &[&UploadedPart]) -> S3Result<()> {
    let Some(claimed) = claimed else { return Ok(()) };
    let size: u64 = named.iter().map(|part| part.length).sum();
    if claimed != size {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use cairn_schema::record::Attributes;
    use s3s::crypto::{Checksum as _, Crc32, Sha256};

    use super::*;
    use crate::xml::parse;

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
            encryption: None,
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
    fn part_lists_are_checked() {
        let list = |parts: &str| {
            let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
            completed_parts(&parse(document.as_bytes()).unwrap())
        };
        let md5 = "00".repeat(16);
        let part =
            |number: &str, etag: &str| format!("<Part><ETag>{etag}</ETag><PartNumber>{number}</PartNumber></Part>");
        let parts = |numbers: &[&str]| numbers.iter().map(|number| part(number, &md5)).collect::<String>();
        assert_eq!(code(list("")), "MalformedXML");
        assert_eq!(code(list(&parts(&["2", "1"]))), "InvalidPartOrder");
        assert_eq!(code(list(&parts(&["1", "1"]))), "InvalidPartOrder");
        assert_eq!(code(list(&part("1", "nonsense"))), "InvalidPart");
        for number in ["0", "10001"] {
            assert_eq!(code(list(&parts(&[number]))), "InvalidArgument", "{number}");
        }
        for number in ["", "1x", "-1", "99999999999"] {
            assert_eq!(code(list(&parts(&[number]))), "MalformedXML", "{number}");
        }
        assert_eq!(code(list("<Part/>")), "MalformedXML");
        assert_eq!(code(list(&format!("{}<Prat/>", parts(&["1"])))), "MalformedXML");
        assert_eq!(list(&parts(&["1", "7"])).unwrap().len(), 2);
        let quoted = list(&part(" 1 ", &format!("&quot;{md5}&quot;"))).unwrap();
        assert_eq!((quoted[0].number, quoted[0].md5), (1, [0; 16]));
        let summed =
            format!("<Part><PartNumber>1</PartNumber><ETag>{md5}</ETag><ChecksumCRC32>NSRBwg==</ChecksumCRC32></Part>");
        assert_eq!(list(&summed).unwrap()[0].checksum.as_ref().unwrap().algorithm, Algorithm::Crc32);
        let other =
            format!("<Part><PartNumber>1</PartNumber><ETag>{md5}</ETag><ChecksumSHA512>x</ChecksumSHA512></Part>");
        assert_eq!(code(list(&other)), "InvalidRequest");
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
