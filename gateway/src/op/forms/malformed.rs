//! Forms that cannot be read.

use http::StatusCode;
use s3s::{S3Error, s3_error};

use crate::error::{WithField, custom, from_body};

/// S3's limit of all that stands before the file, names and values.
pub(super) const FIELDS_MAX_BYTES: usize = 20 << 10;

pub(super) fn too_many_fields() -> S3Error {
    let message = "Your POST request fields preceding the upload file were too large.";
    custom("MaxPostPreDataLengthExceededError", StatusCode::BAD_REQUEST, message)
        .with("MaxPostPreDataLength", FIELDS_MAX_BYTES)
}

pub(super) fn malformed(why: &str) -> S3Error {
    s3_error!(MalformedPOSTRequest, "The body of your POST request is not well-formed multipart/form-data: {why}.")
}

/// A form that cannot be read further.
pub(super) fn read_error(error: s3s_multipart::Error) -> S3Error {
    match error {
        s3s_multipart::Error::StreamReadFailed(error) => from_body(&*error),
        s3s_multipart::Error::IncompleteStream | s3s_multipart::Error::IncompleteStreamPart => {
            s3_error!(IncompleteBody)
        }
        s3s_multipart::Error::HeaderSizeExceeded { .. } => too_many_fields(),
        error => malformed(&error.to_string()),
    }
}
