//! Headers in the query. Who presigns a URL moves its `x-amz-*` headers into the query, where S3 reads them as if they
//! were headers, and where the signature covers them.

use http::{HeaderMap, HeaderName, HeaderValue, Uri, uri::PathAndQuery};
use s3s::{S3Error, S3Result, s3_error};

use crate::{
    checksum::{empty_digest, is_checksum_header},
    percent::form_decode,
};

const PREFIX: &str = "x-amz-";
/// Of the signature itself.
const SIGNATURE: [&str; 8] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];
/// How a client came by a checksum that stands beside it.
const SDK_ALGORITHM: &str = "x-amz-sdk-checksum-algorithm";

/// What to do with one parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    /// It stays in the query.
    Keep,
    /// It means nothing any more.
    Drop,
}

/// Moves the `x-amz-*` parameters of the query into the headers, and of the others keeps those that `judge` keeps (by
/// their decoded names).
pub(crate) fn move_to_headers(uri: &Uri, headers: &mut HeaderMap, judge: impl Fn(&str) -> Parameter) -> S3Result<Uri> {
    let Some(query) = uri.query() else { return Ok(uri.clone()) };
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = form_decode(name).ok_or_else(not_a_uri)?;
        let lower = name.to_ascii_lowercase();
        if lower.starts_with(PREFIX) && !SIGNATURE.contains(&lower.as_str()) {
            let value = form_decode(value).ok_or_else(not_a_uri)?;
            move_one(&lower, &value, headers)?;
        } else if judge(&name) == Parameter::Keep {
            kept.push(pair);
        }
    }
    with_query(uri, &kept.join("&"))
}

fn move_one(name: &str, value: &str, headers: &mut HeaderMap) -> S3Result<()> {
    // Clients presign without the body and put the checksum of none into the URL, which S3 passes over.
    if name == SDK_ALGORITHM || is_checksum_header(name).is_some_and(|algorithm| value == empty_digest(algorithm)) {
        return Ok(());
    }
    let invalid = || s3_error!(InvalidArgument, "The value of the parameter '{name}' cannot be that of a header.");
    let header = HeaderName::try_from(name).map_err(|_| invalid())?;
    let value = HeaderValue::from_str(value).or_else(|_| HeaderValue::from_bytes(value.as_bytes()));
    let value = value.map_err(|_| invalid())?;
    match headers.get(&header) {
        Some(other) if *other != value => {
            Err(s3_error!(InvalidRequest, "'{name}' stands in the query and in a header, with different values."))
        }
        _ => {
            headers.insert(header, value);
            Ok(())
        }
    }
}

fn with_query(uri: &Uri, query: &str) -> S3Result<Uri> {
    let text = if query.is_empty() { uri.path().to_owned() } else { format!("{}?{query}", uri.path()) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).map_err(|_| not_a_uri())?);
    Uri::from_parts(parts).map_err(|_| not_a_uri())
}

fn not_a_uri() -> S3Error {
    s3_error!(InvalidURI, "Couldn't parse the specified URI.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn moved(uri: &str, headers: &mut HeaderMap) -> S3Result<String> {
        let judge = |name: &str| if name == "gone" { Parameter::Drop } else { Parameter::Keep };
        move_to_headers(&uri.parse().unwrap(), headers, judge).map(|uri| uri.to_string())
    }

    #[test]
    fn headers_in_the_query_become_headers() {
        let mut headers = HeaderMap::new();
        let uri = "/b/k?X-Amz-Meta-A=1+2&x-amz-meta-%62=%C3%A9&partNumber=1&gone=x&X-Amz-Date=d&x-amz-acl=private";
        assert_eq!(moved(uri, &mut headers).unwrap(), "/b/k?partNumber=1&X-Amz-Date=d");
        assert_eq!(headers["x-amz-meta-a"], "1 2");
        assert_eq!(headers["x-amz-meta-b"].as_bytes(), "é".as_bytes());
        assert_eq!(headers["x-amz-acl"], "private");
        assert_eq!(headers.len(), 3);
        assert_eq!(moved("/b/k?x-amz-meta-a=1%202", &mut headers).unwrap(), "/b/k");
        assert_eq!(moved("/b/k", &mut headers).unwrap(), "/b/k");
    }

    #[test]
    fn what_cannot_be_a_header_or_says_something_else_than_one_is_refused() {
        let mut headers =
            HeaderMap::from_iter([(HeaderName::from_static("x-amz-meta-a"), HeaderValue::from_static("1"))]);
        for (uri, code) in [
            ("/b/k?x-amz-meta-a=2", "InvalidRequest"),
            ("/b/k?x-amz-meta-c=a%0d%0ab", "InvalidArgument"),
            ("/b/k?x-amz-meta-%20=1", "InvalidArgument"),
            ("/b/k?x-amz-meta-c=%ff", "InvalidURI"),
            ("/b/k?x-amz-meta-c=1&x-amz-meta-c=2", "InvalidRequest"),
        ] {
            assert_eq!(moved(uri, &mut headers).unwrap_err().code().as_str(), code, "{uri}");
        }
    }

    #[test]
    fn the_checksum_of_no_body_claims_nothing() {
        for claim in ["crc32=AAAAAA%3D%3D", "crc64nvme=AAAAAAAAAAA=", "sha1=2jmj7l5rSw0yVb%2FvlWAYkK%2FYBwk%3D"] {
            let mut headers = HeaderMap::new();
            let uri = format!("/b/k?x-amz-sdk-checksum-algorithm=CRC32&x-amz-checksum-{claim}");
            moved(&uri, &mut headers).unwrap();
            assert!(headers.is_empty(), "{claim}: {headers:?}");
        }
        let mut headers = HeaderMap::new();
        moved("/b/k?x-amz-checksum-crc32=NSRBwg%3D%3D", &mut headers).unwrap();
        assert_eq!(headers["x-amz-checksum-crc32"], "NSRBwg==");
    }
}
