//! What changes the meaning of a request: headers and parameters that are not honoured are refused, never passed over.

mod headers;
mod parameters;

pub(crate) use headers::{LOCK_ENABLED, Use, bypasses_governance, check_headers, no_lists, not_implemented};
pub(crate) use parameters::check_parameters;

use cairn_schema::{Meta, MetaError};
use http::HeaderMap;
use s3s::{S3Result, s3_error};

use crate::{error::from_meta, percent::percent_decode};

const EXPECTED_OWNER: &str = "x-amz-expected-bucket-owner";
const EXPECTED_SOURCE_OWNER: &str = "x-amz-source-expected-bucket-owner";

/// Whether the buckets are of those whom the client believes to own them. A bucket that does not exist is the
/// operation's business.
pub(crate) async fn check_owners(meta: &Meta, bucket: Option<&str>, headers: &HeaderMap) -> S3Result<()> {
    let source = headers.get("x-amz-copy-source").and_then(|value| value.to_str().ok()).and_then(bucket_of_source);
    for (header, bucket) in [(EXPECTED_OWNER, bucket), (EXPECTED_SOURCE_OWNER, source.as_deref())] {
        let (Some(expected), Some(bucket)) = (headers.get(header), bucket) else { continue };
        match meta.bucket(bucket).await {
            Ok(found) if found.owner.as_bytes() == expected.as_bytes() => {}
            Ok(_) => return Err(s3_error!(AccessDenied)),
            Err(MetaError::NoSuchBucket(_)) => {}
            Err(error) => return Err(from_meta(error)),
        }
    }
    Ok(())
}

fn bucket_of_source(source: &str) -> Option<String> {
    percent_decode(source.trim_start_matches('/').split('/').next()?)
}
