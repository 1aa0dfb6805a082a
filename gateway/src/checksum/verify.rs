//! Comparing a body's digests with what its headers and trailers claim.

use base64::{Engine, engine::general_purpose::STANDARD};
use cairn_actors::checksum::{DigestPlan, Digests};
use cairn_schema::record::{ChecksumAlgorithm, ChecksumKind, StoredChecksum};
use http::{HeaderMap, StatusCode};
use s3s::{
    S3Error, S3Result,
    crypto::{Checksum, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256},
    s3_error,
};

use super::{
    ALGORITHMS, CHECKSUM_PREFIX, DEFAULT_ALGORITHM, Sent, decode, header_name, name, parse_name, unsupported_algorithm,
};
use crate::error::{WithField, custom};

const SDK_ALGORITHM: &str = "x-amz-sdk-checksum-algorithm";
const TRAILER: &str = "x-amz-trailer";

/// What must hold at the end of an object's or part's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BodyChecks {
    content_md5: Option<[u8; 16]>,
    claimed: Claimed,
    /// Kept with the object.
    stored: ChecksumAlgorithm,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Claimed {
    Nothing,
    /// In a header.
    Value(Vec<u8>),
    /// To come in a trailer.
    InTrailer,
}

impl BodyChecks {
    /// `sent` comes from the S3 input (headers, or the fields of a form), the rest from the headers. `wanted` is what
    /// is computed and kept when the client claims nothing.
    pub(crate) fn declared(
        headers: &HeaderMap,
        sent: Option<Sent>,
        content_md5: Option<&str>,
        wanted: Option<ChecksumAlgorithm>,
    ) -> S3Result<Self> {
        let content_md5 = content_md5.map(parse_content_md5).transpose()?;
        let trailer = trailer_algorithm(headers)?;
        let (claimed, stored) = match (sent, trailer) {
            (Some(_), Some(_)) => {
                return Err(s3_error!(
                    InvalidRequest,
                    "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
                ));
            }
            (Some(sent), None) => (Claimed::Value(sent.value), sent.algorithm),
            (None, Some(algorithm)) => (Claimed::InTrailer, algorithm),
            (None, None) => (Claimed::Nothing, wanted.unwrap_or(DEFAULT_ALGORITHM)),
        };
        check_sdk_algorithm(headers, &claimed, stored)?;
        Ok(Self { content_md5, claimed, stored })
    }

    /// The algorithm whose value is kept.
    pub(crate) fn algorithm(&self) -> ChecksumAlgorithm {
        self.stored
    }

    /// Whether the client sends a value of it.
    pub(crate) fn claims_a_value(&self) -> bool {
        self.claimed != Claimed::Nothing
    }

    /// Whether the client says what the bytes are.
    pub(crate) fn are_vouched_for(&self) -> bool {
        self.claims_a_value() || self.content_md5.is_some()
    }

    pub(crate) fn plan(&self) -> DigestPlan {
        let mut plan = DigestPlan { md5: true, ..DigestPlan::default() };
        match self.stored {
            ChecksumAlgorithm::Crc32 => plan.crc32 = true,
            ChecksumAlgorithm::Crc32c => plan.crc32c = true,
            ChecksumAlgorithm::Crc64Nvme => plan.crc64nvme = true,
            ChecksumAlgorithm::Sha1 => plan.sha1 = true,
            ChecksumAlgorithm::Sha256 => plan.sha256 = true,
        }
        plan
    }

    /// The verdict on a finished body; the checksum to keep.
    pub(crate) fn verify(&self, digests: &Digests, trailers: Option<&HeaderMap>) -> S3Result<StoredChecksum> {
        if let (Some(claimed), Some(computed)) = (self.content_md5, digests.md5)
            && claimed != computed
        {
            return Err(bad_md5(claimed, computed));
        }
        let computed = computed(digests, self.stored).ok_or_else(|| {
            tracing::error!(algorithm = name(self.stored), "a planned digest was not computed");
            s3_error!(InternalError, "A checksum was not computed.")
        })?;
        let claimed = match &self.claimed {
            Claimed::Nothing => None,
            Claimed::Value(value) => Some(value.clone()),
            Claimed::InTrailer => Some(trailer_value(trailers, self.stored)?),
        };
        if claimed.is_some_and(|claimed| claimed != computed) {
            return Err(bad_checksum(self.stored));
        }
        Ok(StoredChecksum { algorithm: self.stored, kind: ChecksumKind::FullObject, value: computed })
    }
}

fn computed(digests: &Digests, algorithm: ChecksumAlgorithm) -> Option<Vec<u8>> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => digests.crc32.map(|raw| raw.to_vec()),
        ChecksumAlgorithm::Crc32c => digests.crc32c.map(|raw| raw.to_vec()),
        ChecksumAlgorithm::Crc64Nvme => digests.crc64nvme.map(|raw| raw.to_vec()),
        ChecksumAlgorithm::Sha1 => digests.sha1.map(|raw| raw.to_vec()),
        ChecksumAlgorithm::Sha256 => digests.sha256.map(|raw| raw.to_vec()),
    }
}

fn parse_content_md5(text: &str) -> S3Result<[u8; 16]> {
    STANDARD
        .decode(text)
        .ok()
        .and_then(|raw| raw.try_into().ok())
        .ok_or_else(|| s3_error!(InvalidDigest).with("Content-MD5", text))
}

fn bad_md5(claimed: [u8; 16], computed: [u8; 16]) -> S3Error {
    let error = s3_error!(BadDigest);
    error.with("ExpectedDigest", STANDARD.encode(claimed)).with("CalculatedDigest", STANDARD.encode(computed))
}

fn bad_checksum(algorithm: ChecksumAlgorithm) -> S3Error {
    s3_error!(BadDigest, "The {} you specified did not match the calculated checksum.", name(algorithm))
}

/// The algorithm that `x-amz-trailer` announces; other trailers are nobody's business here.
fn trailer_algorithm(headers: &HeaderMap) -> S3Result<Option<ChecksumAlgorithm>> {
    let mut found = None;
    for value in headers.get_all(TRAILER) {
        let text = value.to_str().map_err(|_| s3_error!(InvalidRequest, "The value of x-amz-trailer is invalid."))?;
        for announced in text.split(',').map(|part| part.trim().to_ascii_lowercase()) {
            let Some(algorithm) = announced.strip_prefix(CHECKSUM_PREFIX) else { continue };
            let algorithm = parse_name(algorithm).ok_or_else(|| unsupported_algorithm(algorithm))?;
            if found.replace(algorithm).is_some() {
                return Err(s3_error!(InvalidRequest, "Expecting a single x-amz-checksum- trailer."));
            }
        }
    }
    Ok(found)
}

fn trailer_value(trailers: Option<&HeaderMap>, algorithm: ChecksumAlgorithm) -> S3Result<Vec<u8>> {
    let header = header_name(algorithm);
    let malformed = |why: &str| {
        custom(
            "MalformedTrailerError",
            StatusCode::BAD_REQUEST,
            format!(
                "The request contained trailing data that was not well-formed or did not conform to our published schema: {why}."
            ),
        )
    };
    let value = trailers
        .and_then(|trailers| trailers.get(header))
        .ok_or_else(|| malformed("the announced checksum trailer is missing"))?;
    let text = value.to_str().map_err(|_| malformed("the checksum is not text"))?;
    decode(algorithm, text.trim())
        .map_err(|_| s3_error!(InvalidRequest, "Value for {header} trailing header is invalid."))
}

/// A client that names an algorithm must send a value of it, or something on the way has eaten it.
fn check_sdk_algorithm(headers: &HeaderMap, claimed: &Claimed, stored: ChecksumAlgorithm) -> S3Result<()> {
    let Some(declared) = headers.get(SDK_ALGORITHM) else { return Ok(()) };
    let text = declared.to_str().unwrap_or_default();
    let declared = parse_name(text).ok_or_else(|| unsupported_algorithm(text))?;
    if *claimed == Claimed::Nothing {
        return Err(s3_error!(
            InvalidRequest,
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found."
        ));
    }
    if declared != stored {
        return Err(s3_error!(InvalidRequest, "Value for x-amz-sdk-checksum-algorithm header is invalid."));
    }
    Ok(())
}

/// Compares a document with the `Content-MD5` and `x-amz-checksum-*` of its request. `demanded`: one of them must be
/// there.
pub(crate) fn verify_document(headers: &HeaderMap, document: &[u8], demanded: bool) -> S3Result<()> {
    let mut claimed = verify_content_md5(headers, document)?;
    for algorithm in ALGORITHMS {
        let Some(text) = headers.get(header_name(algorithm)) else { continue };
        claimed = true;
        if decode(algorithm, text.to_str().unwrap_or_default())? != digest(algorithm, document) {
            return Err(bad_checksum(algorithm));
        }
    }
    if demanded && !claimed {
        return Err(s3_error!(
            InvalidRequest,
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"
        ));
    }
    Ok(())
}

/// Whether there is a `Content-MD5`, which must be the document's then.
pub(crate) fn verify_content_md5(headers: &HeaderMap, document: &[u8]) -> S3Result<bool> {
    let Some(text) = headers.get("content-md5") else { return Ok(false) };
    let (claimed, computed) = (parse_content_md5(text.to_str().unwrap_or_default())?, Md5::checksum(document));
    if claimed != computed {
        return Err(bad_md5(claimed, computed));
    }
    Ok(true)
}

fn digest(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Vec<u8> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => Crc32::checksum(bytes).to_vec(),
        ChecksumAlgorithm::Crc32c => Crc32c::checksum(bytes).to_vec(),
        ChecksumAlgorithm::Crc64Nvme => Crc64Nvme::checksum(bytes).to_vec(),
        ChecksumAlgorithm::Sha1 => Sha1::checksum(bytes).to_vec(),
        ChecksumAlgorithm::Sha256 => Sha256::checksum(bytes).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn all_digests(bytes: &[u8]) -> Digests {
        Digests {
            length: bytes.len() as u64,
            md5: Some(Md5::checksum(bytes)),
            sha256: Some(Sha256::checksum(bytes)),
            sha1: Some(Sha1::checksum(bytes)),
            crc32: Some(Crc32::checksum(bytes)),
            crc32c: Some(Crc32c::checksum(bytes)),
            crc64nvme: Some(Crc64Nvme::checksum(bytes)),
        }
    }

    fn code(error: S3Error) -> String {
        error.code().as_str().to_owned()
    }

    #[test]
    fn without_a_claim_crc64nvme_is_computed_and_kept() {
        let checks = BodyChecks::declared(&headers(&[]), None, None, None).unwrap();
        assert!(checks.plan().crc64nvme && checks.plan().md5);
        let kept = checks.verify(&all_digests(b"123456789"), None).unwrap();
        assert_eq!(kept.algorithm, ChecksumAlgorithm::Crc64Nvme);
        // The check value of CRC-64/NVME.
        assert_eq!(kept.value, 0xae8b_1486_0a79_9888_u64.to_be_bytes());
    }

    #[test]
    fn content_md5_is_verified() {
        let right = BodyChecks::declared(&headers(&[]), None, Some("XUFAKrxLKna5cZ2REBfFkg=="), None).unwrap();
        right.verify(&all_digests(b"hello"), None).unwrap();
        assert_eq!(code(right.verify(&all_digests(b"hellO"), None).unwrap_err()), "BadDigest");
        for text in ["", "abc", "XUFAKrxLKna5cZ2REBfF"] {
            let error = BodyChecks::declared(&headers(&[]), None, Some(text), None).unwrap_err();
            assert_eq!(code(error), "InvalidDigest", "{text}");
        }
    }

    #[test]
    fn a_trailer_must_come_be_well_formed_and_match() {
        let announced = headers(&[("x-amz-trailer", "x-amz-checksum-crc32")]);
        let checks = BodyChecks::declared(&announced, None, None, None).unwrap();
        let digests = all_digests(b"hello");
        let value = STANDARD.encode(digests.crc32.unwrap());
        checks.verify(&digests, Some(&headers(&[("x-amz-checksum-crc32", &value)]))).unwrap();
        let missing = checks.verify(&digests, None).unwrap_err();
        assert_eq!(code(missing), "MalformedTrailerError");
        let malformed = checks.verify(&digests, Some(&headers(&[("x-amz-checksum-crc32", "??")]))).unwrap_err();
        assert_eq!(code(malformed), "InvalidRequest");
        let wrong = checks.verify(&digests, Some(&headers(&[("x-amz-checksum-crc32", "AAAAAA==")]))).unwrap_err();
        assert_eq!(code(wrong), "BadDigest");
    }

    #[test]
    fn a_named_algorithm_without_a_value_is_refused() {
        let named = headers(&[(SDK_ALGORITHM, "CRC32")]);
        assert_eq!(code(BodyChecks::declared(&named, None, None, None).unwrap_err()), "InvalidRequest");
        let sent = Sent { algorithm: ChecksumAlgorithm::Sha1, value: vec![0; 20], parts: None };
        assert_eq!(code(BodyChecks::declared(&named, Some(sent), None, None).unwrap_err()), "InvalidRequest");
        let unknown = headers(&[("x-amz-trailer", "x-amz-checksum-xxhash64")]);
        assert_eq!(code(BodyChecks::declared(&unknown, None, None, None).unwrap_err()), "InvalidRequest");
    }

    #[test]
    fn a_document_needs_one_right_digest() {
        let document = b"hello";
        assert_eq!(code(verify_document(&headers(&[]), document, true).unwrap_err()), "InvalidRequest");
        verify_document(&headers(&[]), document, false).unwrap();
        verify_document(&headers(&[("content-md5", "XUFAKrxLKna5cZ2REBfFkg==")]), document, true).unwrap();
        let wrong = headers(&[("x-amz-checksum-crc32", "AAAAAA==")]);
        assert_eq!(code(verify_document(&wrong, document, true).unwrap_err()), "BadDigest");
    }

    proptest! {
        /// INT-1 at the door: of every algorithm, the right value passes and any other does not.
        #[test]
        fn only_the_right_value_passes(bytes in proptest::collection::vec(any::<u8>(), 0..200), flip in 0usize..256, which in 0usize..5) {
            let algorithm = ALGORITHMS[which];
            let digests = all_digests(&bytes);
            let right = computed(&digests, algorithm).unwrap();
            let claim = |value: Vec<u8>| {
                BodyChecks::declared(&HeaderMap::new(), Some(Sent { algorithm, value, parts: None }), None, None).unwrap()
            };
            prop_assert!(claim(right.clone()).verify(&digests, None).is_ok());
            let mut wrong = right;
            let at = (flip / 8) % wrong.len();
            wrong[at] ^= 1 << (flip % 8);
            prop_assert_eq!(code(claim(wrong).verify(&digests, None).unwrap_err()), "BadDigest");
        }
    }
}
