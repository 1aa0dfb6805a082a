//! Headers (and the fields of forms that stand for them).

use http::HeaderMap;
use s3s::{S3Error, S3Result, s3_error};

use crate::error::{WithField, custom, invalid_argument};

/// What a request does, as far as it decides which headers make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Reads an object.
    Reads,
    /// Makes a version, which can be locked.
    Makes,
    /// Makes one of another.
    Copies,
    /// Makes a part of one that is not there yet.
    MakesPart,
    CopiesPart,
    /// Makes a version of parts.
    Completes,
    CreatesBucket,
    Other,
}

impl Use {
    pub(crate) fn of_operation(name: &str) -> Self {
        match name {
            "GetObject" | "HeadObject" | "GetObjectAttributes" => Self::Reads,
            "PutObject" | "CreateMultipartUpload" => Self::Makes,
            "CopyObject" => Self::Copies,
            "UploadPart" => Self::MakesPart,
            "UploadPartCopy" => Self::CopiesPart,
            "CompleteMultipartUpload" => Self::Completes,
            "CreateBucket" => Self::CreatesBucket,
            _ => Self::Other,
        }
    }

    fn makes_version(self) -> bool {
        matches!(self, Self::Makes | Self::Copies)
    }

    fn takes_customer_key(self) -> bool {
        !matches!(self, Self::CreatesBucket | Self::Other)
    }

    fn has_source(self) -> bool {
        matches!(self, Self::Copies | Self::CopiesPart)
    }
}

/// What S3 knows, and those that leave everything as it is: nobody but the owner's own users may do anything.
const CANNED_LISTS: [(&str, bool); 8] = [
    ("private", true),
    ("bucket-owner-full-control", true),
    ("public-read", false),
    ("public-read-write", false),
    ("authenticated-read", false),
    ("aws-exec-read", false),
    ("bucket-owner-read", false),
    ("log-delivery-write", false),
];
const GRANTS: [&str; 5] = [
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
];
const ENCRYPTION: [&str; 4] = [
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-context",
    "x-amz-server-side-encryption-bucket-key-enabled",
];
/// With a key that the client keeps; headers of sources of copies end alike.
const CUSTOMER: &str = "x-amz-server-side-encryption-customer-";
const SOURCE_CUSTOMER: &str = "x-amz-copy-source-server-side-encryption-customer-";
/// Of a new bucket.
pub(crate) const LOCK_ENABLED: &str = "x-amz-bucket-object-lock-enabled";
const CONTENT_MD5: &str = "content-md5";
const BYPASS: &str = "x-amz-bypass-governance-retention";
const LOCKS: [&str; 3] =
    ["x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date", "x-amz-object-lock-legal-hold"];
/// Headers with the values that are honoured; S3 knows others of some of them.
const VALUES: [(&str, &[&str], &[&str]); 6] = [
    ("x-amz-object-ownership", &["BucketOwnerEnforced"], &["BucketOwnerPreferred", "ObjectWriter"]),
    (LOCK_ENABLED, &["false", "False"], &[]),
    ("x-amz-bucket-namespace", &["global"], &["account-regional"]),
    (BYPASS, &["false", "False", "true", "True"], &[]),
    ("x-amz-request-payer", &["requester"], &[]),
    ("x-amz-optional-object-attributes", &["RestoreStatus"], &[]),
];

/// Whether a request wants to end a retention of mode GOVERNANCE. Whoever sends it is judged by that (`access`).
pub(crate) fn bypasses_governance(headers: &HeaderMap) -> bool {
    headers.get(BYPASS).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// Refuses what would not be done.
pub(crate) fn check_headers(request: Use, headers: &HeaderMap) -> S3Result<()> {
    // Most requests have none of these.
    for (name, value) in headers {
        let name = name.as_str();
        if !name.starts_with("x-amz-") && name != "acl" && name != CONTENT_MD5 {
            continue;
        }
        let text = String::from_utf8_lossy(value.as_bytes());
        match name {
            // The name of the field of a form.
            "x-amz-acl" | "acl" => check_canned_list(name, &text)?,
            // The library's reader passes over a digest that says nothing, and nothing would be compared.
            CONTENT_MD5 if text.is_empty() => return Err(s3_error!(InvalidDigest).with("Content-MD5", "")),
            name if name.starts_with("x-amz-checksum-") && text.is_empty() => {
                return Err(s3_error!(InvalidRequest, "Value for {name} header is invalid."));
            }
            name if GRANTS.contains(&name) => return Err(no_lists()),
            name if LOCKS.contains(&name) && request.makes_version() => {}
            name if LOCKS.contains(&name) => {
                let message = format!("{name} header is not supported for this operation.");
                return Err(invalid_argument(name, &text, message));
            }
            LOCK_ENABLED if request == Use::CreatesBucket => check_flag(name, &text)?,
            name if ENCRYPTION.contains(&name) && request.makes_version() => {}
            name if name.starts_with(CUSTOMER) && request.takes_customer_key() => {}
            name if name.starts_with(SOURCE_CUSTOMER) && request.has_source() => {}
            name if ENCRYPTION.contains(&name) => return Err(no_encryption(request, name, &text)),
            name if name.starts_with(CUSTOMER) || name.starts_with(SOURCE_CUSTOMER) => {
                return Err(not_implemented(name));
            }
            name => check_value(name, &text)?,
        }
    }
    Ok(())
}

fn check_canned_list(name: &str, value: &str) -> S3Result<()> {
    match CANNED_LISTS.iter().find(|(known, _)| *known == value) {
        Some((_, true)) => Ok(()),
        Some((_, false)) => Err(no_lists()),
        None => Err(invalid_argument(name, value, "The canned ACL is unknown.")),
    }
}

/// As S3 answers where the owner of a bucket owns its objects, which is so in every bucket here.
pub(crate) fn no_lists() -> S3Error {
    custom("AccessControlListNotSupported", http::StatusCode::BAD_REQUEST, "The bucket does not allow ACLs")
}

fn no_encryption(request: Use, name: &str, value: &str) -> S3Error {
    match request {
        Use::CreatesBucket | Use::Other => not_implemented(name),
        _ => invalid_argument(name, value, format!("{name} header is not supported for this operation.")),
    }
}

pub(crate) fn not_implemented(header: &str) -> S3Error {
    s3_error!(NotImplemented).with("Header", header)
}

fn check_flag(name: &str, value: &str) -> S3Result<()> {
    match value {
        "true" | "True" | "false" | "False" => Ok(()),
        _ => Err(invalid_argument(name, value, format!("The value of the header {name} is invalid."))),
    }
}

fn check_value(name: &str, value: &str) -> S3Result<()> {
    let Some((_, honoured, others)) = VALUES.iter().find(|(known, _, _)| *known == name) else { return Ok(()) };
    if honoured.contains(&value) {
        return Ok(());
    }
    if others.contains(&value) {
        return Err(not_implemented(name));
    }
    Err(invalid_argument(name, value, format!("The value of the header {name} is invalid.")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::{HeaderName, HeaderValue};

    use super::*;

    fn checked(request: Use, name: &str, value: &str) -> String {
        let header = (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        let checked = check_headers(request, &HeaderMap::from_iter([header]));
        checked.map_or_else(|error| error.code().as_str().to_owned(), |()| "ok".to_owned())
    }

    #[test]
    fn headers_are_honoured_or_refused() {
        for (name, value, outcome) in [
            ("x-amz-acl", "private", "ok"),
            ("content-md5", "", "InvalidDigest"),
            ("content-md5", "left to whoever compares", "ok"),
            ("x-amz-checksum-crc32", "", "InvalidRequest"),
            ("x-amz-acl", "bucket-owner-full-control", "ok"),
            ("x-amz-acl", "public-read", "AccessControlListNotSupported"),
            ("acl", "public-read", "AccessControlListNotSupported"),
            ("x-amz-acl", "bogus", "InvalidArgument"),
            ("x-amz-grant-read", "id=x", "AccessControlListNotSupported"),
            ("x-amz-object-ownership", "BucketOwnerEnforced", "ok"),
            ("x-amz-object-ownership", "ObjectWriter", "NotImplemented"),
            ("x-amz-object-ownership", "Nobody", "InvalidArgument"),
            ("x-amz-bucket-object-lock-enabled", "true", "InvalidArgument"),
            ("x-amz-bucket-object-lock-enabled", "false", "ok"),
            ("x-amz-server-side-encryption", "AES256", "NotImplemented"),
            ("x-amz-server-side-encryption-customer-key", "k", "NotImplemented"),
            ("x-amz-object-lock-mode", "GOVERNANCE", "InvalidArgument"),
            ("x-amz-request-payer", "requester", "ok"),
            ("x-amz-request-payer", "me", "InvalidArgument"),
            // It only asks for a header more in the answer, and the C++ SDK sends values that say not to.
            ("x-amz-checksum-mode", "DISABLED", "ok"),
            // It has been opened.
            ("x-amz-security-token", "t", "ok"),
            ("x-amz-meta-acl", "anything", "ok"),
            ("x-amz-date", "20251121T080000Z", "ok"),
            ("if-match", "x", "ok"),
        ] {
            assert_eq!(checked(Use::Other, name, value), outcome, "{name}: {value}");
        }
        assert_eq!(checked(Use::Makes, "x-amz-object-lock-mode", "GOVERNANCE"), "ok");
        assert_eq!(checked(Use::CreatesBucket, "x-amz-bucket-object-lock-enabled", "true"), "ok");
        assert_eq!(checked(Use::CreatesBucket, "x-amz-bucket-object-lock-enabled", "yes"), "InvalidArgument");
        assert_eq!(checked(Use::Reads, "x-amz-server-side-encryption", "AES256"), "InvalidArgument");
        // Judged where it is known what the object is encrypted by, or is to be.
        for request in [Use::Reads, Use::Makes, Use::MakesPart, Use::CopiesPart, Use::Completes] {
            assert_eq!(checked(request, "x-amz-server-side-encryption-customer-key", "k"), "ok");
        }
        assert_eq!(checked(Use::Makes, "x-amz-server-side-encryption", "AES256"), "ok");
        assert_eq!(checked(Use::MakesPart, "x-amz-server-side-encryption", "AES256"), "InvalidArgument");
        let source = "x-amz-copy-source-server-side-encryption-customer-key";
        assert_eq!(checked(Use::Copies, source, "k"), "ok");
        assert_eq!(checked(Use::Makes, source, "k"), "NotImplemented");
    }
}
