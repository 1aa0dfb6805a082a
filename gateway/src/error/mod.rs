//! The one place where failures below become S3's error codes and HTTP statuses.

mod asked;
mod document;
mod library;
mod messages;
mod signature;
mod token_service;

pub(crate) use asked::Asked;
pub(crate) use document::{ErrorDocument, WithField};
pub(crate) use library::{say_more, translate, unwritable};
pub(crate) use token_service::STS_NAMESPACE;

use std::error::Error as StdError;

use cairn_actors::StoreError;
use cairn_schema::{MetaError, ids::VersionId};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use s3s::{
    BodySizeLimitExceeded, S3Error, S3ErrorCode, s3_error,
    stream::{aws_chunked_stream::AwsChunkedStreamError, upload_stream::UploadStreamError},
};

use crate::{
    fault::BodyFault,
    shown::{http_date, version_header},
    xml::XmlError,
};

/// An error with a code that `s3s` does not list.
pub(crate) fn custom(code: &'static str, status: StatusCode, message: impl Into<String>) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message.into());
    error.set_status_code(status);
    error
}

/// The body's SHA-256 is not the one that was signed.
pub(crate) fn content_sha256_mismatch() -> S3Error {
    custom(
        "XAmzContentSHA256Mismatch",
        StatusCode::BAD_REQUEST,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    )
}

pub(crate) fn from_meta(error: MetaError) -> S3Error {
    match error {
        MetaError::NoSuchBucket(bucket) => s3_error!(NoSuchBucket).with("BucketName", bucket),
        MetaError::BucketExists(bucket) => s3_error!(BucketAlreadyOwnedByYou).with("BucketName", bucket),
        MetaError::BucketOwnedByOther(bucket) => s3_error!(BucketAlreadyExists).with("BucketName", bucket),
        MetaError::BucketNotEmpty(bucket) => s3_error!(BucketNotEmpty).with("BucketName", bucket),
        MetaError::NoSuchKey(key) => s3_error!(NoSuchKey).with("Key", key),
        MetaError::KeyDeleted { key, marker } => deleted(&key, marker),
        MetaError::NoSuchVersion { key, version } => {
            s3_error!(NoSuchVersion).with("Key", key).with("VersionId", version)
        }
        MetaError::IsDeleteMarker { version, modified_ms, .. } => delete_marker(version, modified_ms),
        MetaError::Locked { .. } => s3_error!(AccessDenied, "Access Denied because object protected by object lock."),
        MetaError::NoObjectLock(_) => s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"),
        MetaError::VersioningNotEnabled(_) => s3_error!(
            InvalidBucketState,
            "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration"
        ),
        MetaError::VersioningLocked(_) => s3_error!(
            InvalidBucketState,
            "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
        ),
        // No error of S3, which has no quotas; its name and status are what other stores answer.
        MetaError::QuotaExceeded { .. } => custom("QuotaExceeded", StatusCode::FORBIDDEN, sentence(&error)),
        MetaError::NoSuchUpload(upload) => s3_error!(NoSuchUpload).with("UploadId", upload),
        MetaError::PreconditionFailed(condition) => precondition_failed(condition),
        MetaError::InvalidPart { number } => s3_error!(InvalidPart).with("PartNumber", number),
        MetaError::InvalidPartOrder { .. } => s3_error!(InvalidPartOrder),
        MetaError::PartTooSmall { number, length, min } => s3_error!(EntityTooSmall)
            .with("ProposedSize", length)
            .with("MinSizeAllowed", min)
            .with("PartNumber", number),
        MetaError::InvalidRange { size } => invalid_range(size),
        MetaError::KeyTooLong { bytes, limit } => key_too_long(bytes, limit),
        MetaError::ObjectTooLarge { bytes, limit } => too_large(bytes, limit),
        MetaError::TooLarge { .. } => S3Error::with_message(S3ErrorCode::EntityTooLarge, sentence(&error)),
        // No limit of S3: of no error's name, but the request is one that will never be granted.
        MetaError::TooManyPieces { .. } => S3Error::with_message(S3ErrorCode::InvalidRequest, sentence(&error)),
        // Of users and their policies, which no operation works on.
        MetaError::Invalid { .. }
        | MetaError::NoSuchEntry { .. }
        | MetaError::EntryExists { .. }
        | MetaError::InUse { .. } => S3Error::with_message(S3ErrorCode::InvalidArgument, sentence(&error)),
        // The client's request was fine; another attempt will find the rows quiet again.
        MetaError::Contention | MetaError::GroupChanged(_) | MetaError::Stale(_) => s3_error!(SlowDown),
        MetaError::Timeout(_) | MetaError::Unavailable(_) => {
            tracing::warn!(%error, "metadata is unavailable");
            s3_error!(ServiceUnavailable, "The metadata store does not answer; please try again.")
        }
        // Every S3 client tries again after 503, and that is right: a change that did take effect is made once more,
        // with the same result. Only a conditional write finds its own first result in its way (412), as after any
        // other answer that was lost.
        MetaError::CommitUnknown(_) => {
            tracing::warn!(%error, "a commit's outcome is unknown");
            s3_error!(ServiceUnavailable, "It is not known whether the change took effect; please try again.")
        }
        MetaError::Corrupt { .. } | MetaError::Storage(_) => {
            tracing::error!(%error, "metadata failed");
            s3_error!(InternalError, "The metadata store failed; please try again.")
        }
    }
}

/// An error's own words as a sentence.
fn sentence(error: &MetaError) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), chars.as_str()))
}

pub(crate) fn from_store(error: StoreError) -> S3Error {
    match error {
        StoreError::Meta(error) => from_meta(error),
        StoreError::Busy(_) => s3_error!(SlowDown),
        StoreError::Body(error) => match error.downcast::<S3Error>() {
            Ok(error) => *error,
            // A copy's body is another object's.
            Err(error) => match error.downcast::<StoreError>() {
                Ok(error) => from_store(*error),
                Err(error) => from_body(&*error),
            },
        },
        StoreError::Rejected(error) => match error.downcast::<S3Error>() {
            Ok(error) => *error,
            Err(error) => from_body(&*error),
        },
        StoreError::ShuttingDown => s3_error!(ServiceUnavailable, "The node is shutting down; please try again."),
        // The node has told its operator when that began.
        StoreError::PolicyTooLarge(_) => {
            s3_error!(ServiceUnavailable, "This node takes no writes now; please try again.")
        }
        // The read has told its operator. Trying again may help, once scrub has found which fragment is wrong.
        StoreError::WrongBytes { .. } | StoreError::NotOpened { .. } => s3_error!(InternalError),
        StoreError::NotEnoughFragments { .. }
        | StoreError::TooCrowded { .. }
        | StoreError::NoPlacement { .. }
        | StoreError::Unreadable { .. }
        | StoreError::Timeout(_) => {
            // Names of disks and fragments are for the operator's log, not for clients.
            tracing::error!(%error, "the store could not serve a request");
            s3_error!(ServiceUnavailable, "Too few disks answer now; please try again.")
        }
    }
}

/// What went wrong with a request's body, found anywhere along the chain of causes.
pub(crate) fn from_body(error: &(dyn StdError + Send + Sync + 'static)) -> S3Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(known) = known_body_error(error) {
            return known;
        }
        cause = error.source();
    }
    tracing::debug!(%error, "a body could not be read to its end");
    s3_error!(IncompleteBody)
}

fn known_body_error(error: &(dyn StdError + 'static)) -> Option<S3Error> {
    if let Some(fault) = error.downcast_ref::<BodyFault>() {
        return Some(from_body_fault(fault));
    }
    if error.is::<BodySizeLimitExceeded>() {
        return Some(s3_error!(EntityTooLarge));
    }
    match error.downcast_ref::<UploadStreamError>() {
        Some(UploadStreamError::Sha256Mismatch) => return Some(content_sha256_mismatch()),
        Some(UploadStreamError::LengthMismatch | UploadStreamError::Incomplete) => {
            return Some(s3_error!(IncompleteBody));
        }
        Some(UploadStreamError::Underlying(_)) | None => {}
    }
    match error.downcast_ref::<AwsChunkedStreamError>() {
        Some(AwsChunkedStreamError::Underlying(_)) | None => None,
        Some(other) => {
            tracing::debug!(error = %other, "a chunked body is wrong");
            Some(S3Error::new(other.to_s3_error_code()))
        }
    }
}

pub(crate) fn from_body_fault(fault: &BodyFault) -> S3Error {
    match fault {
        BodyFault::TooSlow => s3_error!(RequestTimeout),
        BodyFault::Connection(_) => s3_error!(IncompleteBody),
    }
}

/// A key whose newest version is a delete marker, which is told of.
fn deleted(key: &str, marker: VersionId) -> S3Error {
    let mut error = s3_error!(NoSuchKey).with("Key", key);
    error.set_headers(marker_headers(marker));
    error
}

/// A delete marker that was named as if it were an object.
fn delete_marker(version: VersionId, modified_ms: u64) -> S3Error {
    let mut headers = marker_headers(version);
    headers.insert(header::ALLOW, HeaderValue::from_static("DELETE"));
    headers.insert(header::LAST_MODIFIED, http_date(modified_ms));
    let mut error = s3_error!(MethodNotAllowed).with("ResourceType", "DeleteMarker");
    error.set_headers(headers);
    error
}

fn marker_headers(version: VersionId) -> HeaderMap {
    HeaderMap::from_iter([
        (HeaderName::from_static("x-amz-delete-marker"), HeaderValue::from_static("true")),
        (HeaderName::from_static("x-amz-version-id"), version_header(version)),
    ])
}

/// `condition` as the request's header is called.
pub(crate) fn precondition_failed(condition: &str) -> S3Error {
    s3_error!(PreconditionFailed).with("Condition", condition)
}

pub(crate) fn key_too_long(bytes: u64, limit: u64) -> S3Error {
    s3_error!(KeyTooLongError).with("Size", bytes).with("MaxSizeAllowed", limit)
}

pub(crate) fn too_large(bytes: u64, limit: u64) -> S3Error {
    s3_error!(EntityTooLarge).with("ProposedSize", bytes).with("MaxSizeAllowed", limit)
}

/// An argument whose value S3 does not take.
pub(crate) fn invalid_argument(name: &str, value: &str, message: impl Into<String>) -> S3Error {
    let error = S3Error::with_message(S3ErrorCode::InvalidArgument, message.into());
    error.with("ArgumentName", name).with("ArgumentValue", value)
}

pub(crate) fn invalid_range(size: u64) -> S3Error {
    let mut error = s3_error!(InvalidRange).with("ActualObjectSize", size);
    if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
        error.set_headers(HeaderMap::from_iter([(header::CONTENT_RANGE, value)]));
    }
    error
}

impl From<XmlError> for S3Error {
    fn from(error: XmlError) -> Self {
        match error {
            XmlError::Empty => s3_error!(MissingRequestBodyError, "Request Body is empty"),
            error => s3_error!(
                MalformedXML,
                "The XML you provided was not well-formed or did not validate against our published schema: {error}."
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn code_and_status(error: &S3Error) -> (&str, u16) {
        (error.code().as_str(), error.status_code().unwrap().as_u16())
    }

    #[test]
    fn metadata_errors_get_the_codes_and_statuses_of_s3() {
        let table = [
            (MetaError::NoSuchBucket("b".into()), "NoSuchBucket", 404),
            (MetaError::BucketExists("b".into()), "BucketAlreadyOwnedByYou", 409),
            (MetaError::BucketOwnedByOther("b".into()), "BucketAlreadyExists", 409),
            (MetaError::BucketNotEmpty("b".into()), "BucketNotEmpty", 409),
            (MetaError::NoSuchKey("k".into()), "NoSuchKey", 404),
            (MetaError::NoSuchVersion { key: "k".into(), version: "v".into() }, "NoSuchVersion", 404),
            (MetaError::KeyDeleted { key: "k".into(), marker: VersionId::NULL }, "NoSuchKey", 404),
            (
                MetaError::IsDeleteMarker { key: "k".into(), version: VersionId::NULL, modified_ms: 0 },
                "MethodNotAllowed",
                405,
            ),
            (MetaError::Locked { key: "k".into(), version: VersionId::NULL }, "AccessDenied", 403),
            (MetaError::NoObjectLock("b".into()), "InvalidRequest", 400),
            (
                MetaError::QuotaExceeded { bucket: "b".into(), what: "bytes", used: 1, more: 2, limit: 2 },
                "QuotaExceeded",
                403,
            ),
            (MetaError::VersioningNotEnabled("b".into()), "InvalidBucketState", 409),
            (MetaError::VersioningLocked("b".into()), "InvalidBucketState", 409),
            (MetaError::PreconditionFailed("If-Match"), "PreconditionFailed", 412),
            (MetaError::InvalidPart { number: 1 }, "InvalidPart", 400),
            (MetaError::InvalidPartOrder { number: 1 }, "InvalidPartOrder", 400),
            (MetaError::PartTooSmall { number: 1, length: 1, min: 5 }, "EntityTooSmall", 400),
            (MetaError::InvalidRange { size: 3 }, "InvalidRange", 416),
            (MetaError::KeyTooLong { bytes: 2, limit: 1 }, "KeyTooLongError", 400),
            (MetaError::ObjectTooLarge { bytes: 2, limit: 1 }, "EntityTooLarge", 400),
            (MetaError::TooLarge { what: "value", actual: 2, limit: 1 }, "EntityTooLarge", 400),
            (MetaError::TooManyPieces { actual: 2, limit: 1 }, "InvalidRequest", 400),
            (MetaError::Contention, "SlowDown", 503),
            (MetaError::Unavailable("x".into()), "ServiceUnavailable", 503),
            (MetaError::CommitUnknown("x".into()), "ServiceUnavailable", 503),
            (MetaError::Storage("x".into()), "InternalError", 500),
        ];
        for (error, code, status) in table {
            let text = error.to_string();
            assert_eq!(code_and_status(&from_meta(error)), (code, status), "{text}");
        }
    }

    #[test]
    fn bnd_1_overload_is_slow_down() {
        assert_eq!(code_and_status(&from_store(StoreError::Busy("memory"))), ("SlowDown", 503));
        let too_large = StoreError::PolicyTooLarge("stripes of 48 MiB".into());
        assert_eq!(code_and_status(&from_store(too_large)), ("ServiceUnavailable", 503));
    }

    #[test]
    fn a_rejected_body_keeps_the_verifiers_error() {
        let error = StoreError::Rejected(Box::new(s3_error!(BadDigest)));
        assert_eq!(code_and_status(&from_store(error)), ("BadDigest", 400));
    }

    #[test]
    fn body_errors_are_found_along_the_chain_of_causes() {
        let wrapped = UploadStreamError::Underlying(Box::new(BodyFault::TooSlow));
        assert_eq!(code_and_status(&from_store(StoreError::Body(Box::new(wrapped)))), ("RequestTimeout", 400));
        let mismatch = StoreError::Body(Box::new(UploadStreamError::Sha256Mismatch));
        assert_eq!(code_and_status(&from_store(mismatch)), ("XAmzContentSHA256Mismatch", 400));
        let signature = StoreError::Body(Box::new(AwsChunkedStreamError::SignatureMismatch));
        assert_eq!(code_and_status(&from_store(signature)), ("SignatureDoesNotMatch", 403));
        let unknown = StoreError::Body("2 bytes missing".into());
        assert_eq!(code_and_status(&from_store(unknown)), ("IncompleteBody", 400));
    }
}
