//! What is decided on the bare HTTP request, before `s3s` sees it: bounds on headers, old signatures, and clients that
//! leave out `x-amz-content-sha256`.

use http::{HeaderMap, HeaderValue, Uri, header, request::Parts};
use s3s::{S3Result, s3_error};

const CONTENT_SHA256: &str = "x-amz-content-sha256";
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Refuses what cannot be served, and mends what can.
pub(crate) fn admit(request: &mut Parts, header_bytes_max: usize) -> S3Result<()> {
    let header_bytes: usize = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let uri_bytes = request.uri.path_and_query().map_or(0, |text| text.as_str().len());
    if header_bytes + uri_bytes > header_bytes_max {
        return Err(s3_error!(
            RequestHeaderSectionTooLarge,
            "Your request header section has {header_bytes} bytes, its address {uri_bytes}; together they may have {header_bytes_max}."
        ));
    }
    admit_signature_v2(request)?;
    add_content_sha256(request);
    Ok(())
}

/// Signature version 2 is taken in presigned URLs only, where clients still use it by default. It signs neither the
/// region nor most of the query, so only parameters that it signs, or that change nothing, may be there.
fn admit_signature_v2(request: &Parts) -> S3Result<()> {
    let v2_header =
        request.headers.get(header::AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"AWS "));
    if v2_header {
        return Err(s3_error!(
            InvalidRequest,
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
        ));
    }
    let names: Vec<&str> = parameter_names(&request.uri).collect();
    if !names.contains(&"Signature") {
        return Ok(());
    }
    let mut seen = Vec::with_capacity(names.len());
    for name in names {
        if !allowed_with_signature_v2(name) {
            return Err(s3_error!(
                AccessDenied,
                "A URL presigned with Signature Version 2 cannot carry the parameter '{name}'; use Signature Version 4."
            ));
        }
        if seen.contains(&name) {
            return Err(s3_error!(InvalidRequest, "The parameter '{name}' is given twice."));
        }
        seen.push(name);
    }
    Ok(())
}

fn allowed_with_signature_v2(name: &str) -> bool {
    const SIGNED: [&str; 9] = [
        "partNumber",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "uploadId",
        "versionId",
    ];
    // botocore copies the headers it signed into the query, where nothing reads them.
    const INERT: [&str; 5] = ["AWSAccessKeyId", "Expires", "Signature", "content-md5", "content-type"];
    SIGNED.contains(&name) || INERT.contains(&name) || name.starts_with("x-amz-meta-")
}

/// Names as they stand in the query. An encoded name matches none of those looked for, as it should.
fn parameter_names(uri: &Uri) -> impl Iterator<Item = &str> {
    uri.query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name))
}

/// curl before 8 signs a request without a body as the hash of nothing, and does not say so.
fn add_content_sha256(request: &mut Parts) {
    let v4 = request
        .headers
        .get(header::AUTHORIZATION)
        .is_some_and(|value| value.as_bytes().starts_with(b"AWS4-HMAC-SHA256"));
    if v4 && !request.headers.contains_key(CONTENT_SHA256) && has_no_body(&request.headers) {
        request.headers.insert(CONTENT_SHA256, HeaderValue::from_static(EMPTY_SHA256));
    }
}

fn has_no_body(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::TRANSFER_ENCODING)
        && headers.get(header::CONTENT_LENGTH).is_none_or(|value| value.as_bytes() == b"0")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::Request;

    use super::*;

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut builder = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn refused(method: &str, uri: &str, headers: &[(&str, &str)]) -> String {
        admit(&mut parts(method, uri, headers), 8192).unwrap_err().code().as_str().to_owned()
    }

    #[test]
    fn bnd_1_oversized_headers_are_refused() {
        let long = "x".repeat(9000);
        assert_eq!(refused("PUT", "/b/k", &[("x-amz-meta-a", &long)]), "RequestHeaderSectionTooLarge");
        assert_eq!(refused("PUT", &format!("/b/{long}"), &[]), "RequestHeaderSectionTooLarge");
    }

    #[test]
    fn signature_v2_is_taken_only_in_presigned_urls_without_unsigned_parameters() {
        let presigned = "/b/k?AWSAccessKeyId=a&Signature=s&Expires=1";
        admit(&mut parts("GET", presigned, &[]), 8192).unwrap();
        admit(&mut parts("GET", &format!("{presigned}&response-content-type=text/plain"), &[]), 8192).unwrap();
        for unsigned in ["x-id=CopyObject", "list-type=2", "acl", "X-Amz-Signature=0", "tagging", "%61cl"] {
            assert_eq!(refused("PUT", &format!("{presigned}&{unsigned}"), &[]), "AccessDenied", "{unsigned}");
        }
        assert_eq!(refused("GET", &format!("{presigned}&versionId=1&versionId=2"), &[]), "InvalidRequest");
        assert_eq!(refused("GET", "/b/k", &[("authorization", "AWS key:signature")]), "InvalidRequest");
    }

    #[test]
    fn a_missing_content_sha256_is_supplied_only_where_there_is_no_body() {
        let authorization = ("authorization", "AWS4-HMAC-SHA256 Credential=a");
        let mut bodyless = parts("GET", "/b/k", &[authorization]);
        admit(&mut bodyless, 8192).unwrap();
        assert_eq!(bodyless.headers[CONTENT_SHA256], EMPTY_SHA256);
        for extra in [("content-length", "1"), ("transfer-encoding", "chunked")] {
            let mut with_body = parts("PUT", "/b/k", &[authorization, extra]);
            admit(&mut with_body, 8192).unwrap();
            assert!(!with_body.headers.contains_key(CONTENT_SHA256));
        }
    }
}
