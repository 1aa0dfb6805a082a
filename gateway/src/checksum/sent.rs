//! The one checksum value that a request may carry.

use cairn_schema::record::ChecksumAlgorithm;
use http::HeaderMap;
use s3s::{S3Result, s3_error};

use super::{CHECKSUM_PREFIX, decode, header_name, unsupported_algorithm};

/// What S3 knows besides what Cairn computes.
pub(crate) const UNSUPPORTED: [&str; 5] = ["MD5", "SHA512", "XXHASH64", "XXHASH3", "XXHASH128"];

/// The checksum fields of an S3 input, as text; made by [`crate::checksum::sent_fields`].
#[derive(Clone, Debug, Default)]
pub(crate) struct SentFields {
    pub(crate) crc32: Option<String>,
    pub(crate) crc32c: Option<String>,
    pub(crate) crc64nvme: Option<String>,
    pub(crate) sha1: Option<String>,
    pub(crate) sha256: Option<String>,
    /// The first field with an algorithm that Cairn does not compute.
    pub(crate) unsupported: Option<&'static str>,
}

/// A checksum value as a client sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) algorithm: ChecksumAlgorithm,
    pub(crate) value: Vec<u8>,
    /// The number after the dash of a composite value.
    pub(crate) parts: Option<u32>,
}

/// Takes the checksum fields out of any S3 input that has them.
macro_rules! sent_fields {
    ($input:expr) => {
        $crate::checksum::SentFields {
            crc32: $input.checksum_crc32.take(),
            crc32c: $input.checksum_crc32c.take(),
            crc64nvme: $input.checksum_crc64nvme.take(),
            sha1: $input.checksum_sha1.take(),
            sha256: $input.checksum_sha256.take(),
            unsupported: None
                .or($input.checksum_md5.take().map(|_| "MD5"))
                .or($input.checksum_sha512.take().map(|_| "SHA512"))
                .or($input.checksum_xxhash64.take().map(|_| "XXHASH64"))
                .or($input.checksum_xxhash3.take().map(|_| "XXHASH3"))
                .or($input.checksum_xxhash128.take().map(|_| "XXHASH128")),
        }
    };
}
pub(crate) use sent_fields;

impl SentFields {
    /// Those of a request's headers.
    pub(crate) fn of_headers(headers: &HeaderMap) -> S3Result<Self> {
        let value = |name: &str| {
            let header = format!("{CHECKSUM_PREFIX}{}", name.to_ascii_lowercase());
            let mut values = headers.get_all(&header).iter();
            let Some(value) = values.next() else { return Ok(None) };
            let text = value.to_str().ok().filter(|_| values.next().is_none()).map(ToOwned::to_owned);
            text.map(Some).ok_or_else(|| s3_error!(InvalidRequest, "Value for {header} header is invalid."))
        };
        let mut unsupported = None;
        for name in UNSUPPORTED {
            unsupported = unsupported.or(value(name)?.map(|_| name));
        }
        let of = |algorithm| value(super::name(algorithm));
        Ok(Self {
            crc32: of(ChecksumAlgorithm::Crc32)?,
            crc32c: of(ChecksumAlgorithm::Crc32c)?,
            crc64nvme: of(ChecksumAlgorithm::Crc64Nvme)?,
            sha1: of(ChecksumAlgorithm::Sha1)?,
            sha256: of(ChecksumAlgorithm::Sha256)?,
            unsupported,
        })
    }

    /// The value sent, if one was. More than one, a malformed one or one of an unsupported algorithm is an error.
    pub(crate) fn parse(self) -> S3Result<Option<Sent>> {
        self.parse_with(|algorithm, text| Ok(Sent { algorithm, value: decode(algorithm, &text)?, parts: None }))
    }

    /// The same, where a composite value (`base64-parts`) is allowed as well.
    pub(crate) fn parse_composite(self) -> S3Result<Option<Sent>> {
        self.parse_with(|algorithm, text| {
            let Some((value, parts)) = text.split_once('-') else {
                return Ok(Sent { algorithm, value: decode(algorithm, &text)?, parts: None });
            };
            let parts = parts
                .parse()
                .map_err(|_| s3_error!(InvalidRequest, "Value for {} header is invalid.", header_name(algorithm)))?;
            Ok(Sent { algorithm, value: decode(algorithm, value)?, parts: Some(parts) })
        })
    }

    fn parse_with(self, parse: impl Fn(ChecksumAlgorithm, String) -> S3Result<Sent>) -> S3Result<Option<Sent>> {
        if let Some(algorithm) = self.unsupported {
            return Err(unsupported_algorithm(algorithm));
        }
        let fields = [
            (ChecksumAlgorithm::Crc32, self.crc32),
            (ChecksumAlgorithm::Crc32c, self.crc32c),
            (ChecksumAlgorithm::Crc64Nvme, self.crc64nvme),
            (ChecksumAlgorithm::Sha1, self.sha1),
            (ChecksumAlgorithm::Sha256, self.sha256),
        ];
        let mut found = None;
        for (algorithm, text) in fields {
            let Some(text) = text else { continue };
            if found.is_some() {
                return Err(s3_error!(
                    InvalidRequest,
                    "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
                ));
            }
            found = Some(parse(algorithm, text)?);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn code(result: S3Result<Option<Sent>>) -> String {
        result.unwrap_err().code().as_str().to_owned()
    }

    #[test]
    fn one_well_formed_value_is_taken() {
        let fields = SentFields { crc32: Some("NSRBwg==".into()), ..Default::default() };
        let sent = fields.parse().unwrap().unwrap();
        assert_eq!(sent.algorithm, ChecksumAlgorithm::Crc32);
        assert_eq!(sent.value, 0x3524_41c2_u32.to_be_bytes());
        assert_eq!(SentFields::default().parse().unwrap(), None);
    }

    #[test]
    fn malformed_multiple_and_unsupported_values_are_refused() {
        for text in ["", "NSRBwg", "NSRBwgAA", "*", "NSRBwg==-2"] {
            let fields = SentFields { crc32: Some(text.into()), ..Default::default() };
            assert_eq!(code(fields.parse()), "InvalidRequest", "{text}");
        }
        let two = SentFields { crc32: Some("NSRBwg==".into()), crc32c: Some("NSRBwg==".into()), ..Default::default() };
        assert_eq!(code(two.parse()), "InvalidRequest");
        let other = SentFields { unsupported: Some("SHA512"), ..Default::default() };
        assert_eq!(code(other.parse()), "InvalidRequest");
    }

    #[test]
    fn a_composite_value_names_its_parts() {
        let fields = SentFields { crc32: Some("NSRBwg==-3".into()), ..Default::default() };
        assert_eq!(fields.parse_composite().unwrap().unwrap().parts, Some(3));
        let fields = SentFields { crc32: Some("NSRBwg==-x".into()), ..Default::default() };
        assert_eq!(code(fields.parse_composite()), "InvalidRequest");
    }
}
