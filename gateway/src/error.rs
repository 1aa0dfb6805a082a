//! The one place where failures below become S3's error codes and HTTP statuses.

use std::error::Error as StdError;

use bytes::{Bytes, BytesMut};
use cairn_actors::StoreError;
use cairn_schema::MetaError;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use s3s::{
    BodySizeLimitExceeded, S3Error, S3ErrorCode, s3_error,
    stream::{aws_chunked_stream::AwsChunkedStreamError, upload_stream::UploadStreamError},
};

use crate::{context::BodyFault, xml::XmlError};

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
    let message = error.to_string();
    let code = match error {
        MetaError::NoSuchBucket(_) => S3ErrorCode::NoSuchBucket,
        MetaError::BucketExists(_) => S3ErrorCode::BucketAlreadyOwnedByYou,
        MetaError::BucketOwnedByOther(_) => S3ErrorCode::BucketAlreadyExists,
        MetaError::BucketNotEmpty(_) => S3ErrorCode::BucketNotEmpty,
        MetaError::NoSuchKey(_) => S3ErrorCode::NoSuchKey,
        MetaError::NoSuchVersion { .. } => S3ErrorCode::NoSuchVersion,
        MetaError::IsDeleteMarker { version, .. } => return delete_marker(version.to_string()),
        MetaError::NoSuchUpload(_) => S3ErrorCode::NoSuchUpload,
        MetaError::PreconditionFailed(_) => S3ErrorCode::PreconditionFailed,
        MetaError::InvalidPart { .. } => S3ErrorCode::InvalidPart,
        MetaError::InvalidPartOrder { .. } => S3ErrorCode::InvalidPartOrder,
        MetaError::PartTooSmall { .. } => S3ErrorCode::EntityTooSmall,
        MetaError::InvalidRange { size } => return invalid_range(size),
        MetaError::TooLarge { what: "key", .. } => S3ErrorCode::KeyTooLongError,
        MetaError::TooLarge { what, .. } if what.contains("metadata") => S3ErrorCode::MetadataTooLarge,
        MetaError::TooLarge { .. } => S3ErrorCode::EntityTooLarge,
        // No limit of S3: of no error's name, but the request is one that will never be granted.
        MetaError::TooManyPieces { .. } => S3ErrorCode::InvalidRequest,
        MetaError::Invalid { .. } => S3ErrorCode::InvalidArgument,
        // The client's request was fine; another attempt will find the rows quiet again.
        MetaError::Contention | MetaError::GroupChanged(_) | MetaError::Stale(_) => S3ErrorCode::SlowDown,
        MetaError::Timeout(_) | MetaError::Unavailable(_) => S3ErrorCode::ServiceUnavailable,
        // Every S3 client tries again after 503, and that is right: a change that did take effect is made once more, with the same
        // result. Only a conditional write finds its own first result in its way (412), as after any other answer that was lost.
        MetaError::CommitUnknown(_) => {
            tracing::warn!(error = %message, "a commit's outcome is unknown");
            let words = "It is not known whether the change took effect; please try again.";
            return S3Error::with_message(S3ErrorCode::ServiceUnavailable, words);
        }
        MetaError::Corrupt { .. } | MetaError::Storage(_) => {
            tracing::error!(error = %message, "metadata failed");
            return S3Error::with_message(S3ErrorCode::InternalError, "The metadata store failed; please try again.");
        }
    };
    if code == S3ErrorCode::ServiceUnavailable {
        tracing::warn!(error = %message, "metadata is unavailable");
        return S3Error::with_message(code, "The metadata store does not answer; please try again.");
    }
    S3Error::with_message(code, message)
}

pub(crate) fn from_store(error: StoreError) -> S3Error {
    match error {
        StoreError::Meta(error) => from_meta(error),
        StoreError::Busy(_) => s3_error!(SlowDown, "Please reduce your request rate."),
        StoreError::Body(error) => from_body(&*error),
        StoreError::Rejected(error) => match error.downcast::<S3Error>() {
            Ok(error) => *error,
            Err(error) => from_body(&*error),
        },
        StoreError::ShuttingDown => s3_error!(ServiceUnavailable, "The node is shutting down; please try again."),
        StoreError::NotEnoughFragments { .. }
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
    S3Error::with_message(S3ErrorCode::IncompleteBody, error.to_string())
}

fn known_body_error(error: &(dyn StdError + 'static)) -> Option<S3Error> {
    if let Some(fault) = error.downcast_ref::<BodyFault>() {
        return Some(from_body_fault(fault));
    }
    if error.is::<BodySizeLimitExceeded>() {
        return Some(s3_error!(EntityTooLarge, "Your proposed upload exceeds the maximum allowed size."));
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
        Some(other) => Some(S3Error::with_message(other.to_s3_error_code(), other.to_string())),
    }
}

pub(crate) fn from_body_fault(fault: &BodyFault) -> S3Error {
    match fault {
        BodyFault::TooSlow => s3_error!(
            RequestTimeout,
            "Your socket connection to the server was not read from or written to within the timeout period."
        ),
        BodyFault::Connection(_) => s3_error!(IncompleteBody),
    }
}

fn delete_marker(version: String) -> S3Error {
    let mut error = s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource.");
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    if let Ok(version) = HeaderValue::try_from(version) {
        headers.insert("x-amz-version-id", version);
    }
    error.set_headers(headers);
    error
}

pub(crate) fn invalid_range(size: u64) -> S3Error {
    let mut error = s3_error!(InvalidRange, "The requested range is not satisfiable");
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
        headers.insert(header::CONTENT_RANGE, value);
    }
    // Headers given to an S3Error replace the serializer's own.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    error.set_headers(headers);
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

/// Adds `Resource` and `RequestId`, which `s3s` leaves out, to an error document. Other bytes come back as they are.
pub(crate) fn complete_document(document: Bytes, resource: &str, request_id: &str) -> Bytes {
    const END: &[u8] = b"</Error>";
    let Some(head) = document.strip_suffix(END) else { return document };
    let mut out = BytesMut::with_capacity(document.len() + resource.len() + 96);
    out.extend_from_slice(head);
    out.extend_from_slice(b"<Resource>");
    escape_into(&mut out, resource);
    out.extend_from_slice(b"</Resource><RequestId>");
    escape_into(&mut out, request_id);
    out.extend_from_slice(b"</RequestId>");
    out.extend_from_slice(END);
    out.freeze()
}

fn escape_into(out: &mut BytesMut, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            // XML 1.0 has no way to write these.
            0..=0x1f => out.extend_from_slice(b"?"),
            byte => out.extend_from_slice(&[byte]),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use cairn_schema::ids::VersionId;

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
            (MetaError::IsDeleteMarker { key: "k".into(), version: VersionId::NULL }, "MethodNotAllowed", 405),
            (MetaError::PreconditionFailed("If-Match"), "PreconditionFailed", 412),
            (MetaError::InvalidPart { number: 1 }, "InvalidPart", 400),
            (MetaError::InvalidPartOrder { number: 1 }, "InvalidPartOrder", 400),
            (MetaError::PartTooSmall { number: 1, length: 1, min: 5 }, "EntityTooSmall", 400),
            (MetaError::InvalidRange { size: 3 }, "InvalidRange", 416),
            (MetaError::TooLarge { what: "key", actual: 2, limit: 1 }, "KeyTooLongError", 400),
            (MetaError::TooLarge { what: "user metadata", actual: 2, limit: 1 }, "MetadataTooLarge", 400),
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

    #[test]
    fn an_error_document_gets_resource_and_request_id_escaped() {
        let document = Bytes::from_static(b"<Error><Code>X</Code></Error>");
        let text = complete_document(document, "/b/a<&>b", "0123");
        assert_eq!(
            text,
            "<Error><Code>X</Code><Resource>/b/a&lt;&amp;&gt;b</Resource><RequestId>0123</RequestId></Error>"
        );
        assert_eq!(complete_document(Bytes::from_static(b"other"), "/", "0"), "other");
    }
}
