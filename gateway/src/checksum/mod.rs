//! The checksums that clients send: what to compute while a body streams, and what must hold at its end.

mod combine;
mod sent;
mod verify;

pub(crate) use combine::{CombineError, from_parts};
pub(crate) use sent::{Sent, SentFields, UNSUPPORTED, sent_fields};
pub(crate) use verify::{BodyChecks, verify_content_md5, verify_document};

use base64::{Engine, engine::general_purpose::STANDARD};
use cairn_schema::record::{ChecksumAlgorithm, ChecksumKind, StoredChecksum};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use crate::xml::Writer;

/// The algorithm that S3 computes when a client sends no checksum.
pub(crate) const DEFAULT_ALGORITHM: ChecksumAlgorithm = ChecksumAlgorithm::Crc64Nvme;

/// What the names of the headers with a value begin with.
const CHECKSUM_PREFIX: &str = "x-amz-checksum-";

pub(crate) const ALGORITHMS: [ChecksumAlgorithm; 5] = [
    ChecksumAlgorithm::Crc32,
    ChecksumAlgorithm::Crc32c,
    ChecksumAlgorithm::Crc64Nvme,
    ChecksumAlgorithm::Sha1,
    ChecksumAlgorithm::Sha256,
];

/// S3's name, as in `x-amz-checksum-algorithm`.
pub(crate) fn name(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "CRC32",
        ChecksumAlgorithm::Crc32c => "CRC32C",
        ChecksumAlgorithm::Crc64Nvme => "CRC64NVME",
        ChecksumAlgorithm::Sha1 => "SHA1",
        ChecksumAlgorithm::Sha256 => "SHA256",
    }
}

/// The header (and trailer) that carries a value of it.
pub(crate) fn header_name(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "x-amz-checksum-crc32",
        ChecksumAlgorithm::Crc32c => "x-amz-checksum-crc32c",
        ChecksumAlgorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
        ChecksumAlgorithm::Sha1 => "x-amz-checksum-sha1",
        ChecksumAlgorithm::Sha256 => "x-amz-checksum-sha256",
    }
}

/// Which algorithm's value a header carries, if any's.
pub(crate) fn is_checksum_header(name: &str) -> Option<ChecksumAlgorithm> {
    ALGORITHMS.into_iter().find(|&algorithm| header_name(algorithm) == name)
}

/// The base64 digest of no bytes.
pub(crate) fn empty_digest(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => "AAAAAA==",
        ChecksumAlgorithm::Crc64Nvme => "AAAAAAAAAAA=",
        ChecksumAlgorithm::Sha1 => "2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
        ChecksumAlgorithm::Sha256 => "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    }
}

/// Bytes of a digest.
pub(crate) fn digest_bytes(algorithm: ChecksumAlgorithm) -> usize {
    match algorithm {
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => 4,
        ChecksumAlgorithm::Crc64Nvme => 8,
        ChecksumAlgorithm::Sha1 => 20,
        ChecksumAlgorithm::Sha256 => 32,
    }
}

/// By S3's name, in any case. None for what Cairn does not compute.
pub(crate) fn parse_name(text: &str) -> Option<ChecksumAlgorithm> {
    ALGORITHMS.into_iter().find(|&algorithm| name(algorithm).eq_ignore_ascii_case(text))
}

pub(crate) fn unsupported_algorithm(text: &str) -> S3Error {
    let text: String = text.chars().take(64).collect();
    s3_error!(
        InvalidRequest,
        "The checksum algorithm '{text}' is not supported; use one of CRC32, CRC32C, CRC64NVME, SHA1, SHA256."
    )
}

/// The raw digest of a base64 value.
pub(crate) fn decode(algorithm: ChecksumAlgorithm, text: &str) -> S3Result<Vec<u8>> {
    STANDARD
        .decode(text)
        .ok()
        .filter(|raw| raw.len() == digest_bytes(algorithm))
        .ok_or_else(|| s3_error!(InvalidRequest, "Value for {} header is invalid.", header_name(algorithm)))
}

/// A stored checksum as S3 writes it: base64, and for composites the number of parts.
pub(crate) fn encode(checksum: &StoredChecksum, part_count: Option<u16>) -> String {
    let value = STANDARD.encode(&checksum.value);
    match (checksum.kind, part_count) {
        (ChecksumKind::Composite, Some(parts)) => format!("{value}-{parts}"),
        _ => value,
    }
}

/// S3's name of the kind.
pub(crate) fn kind_name(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::FullObject => "FULL_OBJECT",
        ChecksumKind::Composite => "COMPOSITE",
    }
}

pub(crate) fn parse_kind(text: &str) -> S3Result<ChecksumKind> {
    match text {
        "FULL_OBJECT" => Ok(ChecksumKind::FullObject),
        "COMPOSITE" => Ok(ChecksumKind::Composite),
        other => Err(S3Error::with_message(
            S3ErrorCode::InvalidRequest,
            format!(
                "Value for x-amz-checksum-type header is invalid: '{}'.",
                other.chars().take(64).collect::<String>()
            ),
        )),
    }
}

/// Writes a stored checksum as the element that every document with checksums has.
pub(crate) fn write_checksum(xml: &mut Writer, checksum: &StoredChecksum, part_count: Option<u16>) {
    xml.text(&format!("Checksum{}", name(checksum.algorithm)), &encode(checksum, part_count));
}

/// Puts a stored checksum into the fields that every S3 output with checksums has.
macro_rules! put_checksum {
    ($output:expr, $checksum:expr, $part_count:expr) => {{
        let checksum: &cairn_schema::record::StoredChecksum = $checksum;
        let text = Some($crate::checksum::encode(checksum, $part_count));
        match checksum.algorithm {
            cairn_schema::record::ChecksumAlgorithm::Crc32 => $output.checksum_crc32 = text,
            cairn_schema::record::ChecksumAlgorithm::Crc32c => $output.checksum_crc32c = text,
            cairn_schema::record::ChecksumAlgorithm::Crc64Nvme => $output.checksum_crc64nvme = text,
            cairn_schema::record::ChecksumAlgorithm::Sha1 => $output.checksum_sha1 = text,
            cairn_schema::record::ChecksumAlgorithm::Sha256 => $output.checksum_sha256 = text,
        }
    }};
}
pub(crate) use put_checksum;

/// The same, with the checksum's type.
macro_rules! put_typed_checksum {
    ($output:expr, $checksum:expr, $part_count:expr) => {{
        let checksum: &cairn_schema::record::StoredChecksum = $checksum;
        $output.checksum_type = Some(s3s::dto::ChecksumType::from_static($crate::checksum::kind_name(checksum.kind)));
        $crate::checksum::put_checksum!($output, checksum, $part_count);
    }};
}
pub(crate) use put_typed_checksum;
