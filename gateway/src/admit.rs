//! What is decided on the bare HTTP request, before `s3s` sees it: bounds on headers, bodies without a length, old
//! signatures, and clients that leave out what `s3s` wants.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request::Parts};
use s3s::{S3Result, s3_error};
use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};

use crate::{
    http_date::parse_http_date,
    query::Query,
    query_headers::{Parameter, move_to_headers},
};

const CONTENT_SHA256: &str = "x-amz-content-sha256";
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const AMZ_DATE_FORMAT: &[FormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");
const COPY_SOURCE: &str = "x-amz-copy-source";
const SECURITY_TOKEN: &str = "x-amz-security-token";

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
    demand_length(request)?;
    admit_signature_v2(request)?;
    if is_signature_v4(&request.headers) {
        add_content_sha256(request);
        add_amz_date(request);
    }
    Ok(())
}

/// Without a length, HTTP/1 says that an upload has no body; but whoever sends none says so, and whoever forgot the
/// length would find an empty object. A copy needs no body, and HTTP/2 marks the end of one.
fn demand_length(request: &Parts) -> S3Result<()> {
    let headers = &request.headers;
    let is_upload = request.method == Method::PUT
        && request.uri.path().trim_start_matches('/').split_once('/').is_some_and(|(_, key)| !key.is_empty())
        && !headers.contains_key(COPY_SOURCE)
        && !parameter_names(&request.uri).any(|name| name.eq_ignore_ascii_case(COPY_SOURCE));
    let is_measured = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    if is_upload && !is_measured && request.version <= Version::HTTP_11 {
        return Err(s3_error!(MissingContentLength, "You must provide the Content-Length HTTP header."));
    }
    Ok(())
}

fn is_signature_v4(headers: &HeaderMap) -> bool {
    headers.get(header::AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"AWS4-HMAC-SHA256"))
}

/// The time of a signature may stand in `Date` instead. It is part of what is signed, so nothing is taken on trust.
fn add_amz_date(request: &mut Parts) {
    if request.headers.contains_key(&AMZ_DATE) {
        return;
    }
    let Some(text) = request.headers.get(header::DATE).and_then(|value| value.to_str().ok()) else { return };
    let written = match parse_http_date(text).and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok()) {
        Some(date) => date.format(AMZ_DATE_FORMAT).unwrap_or_default(),
        // The form of x-amz-date is allowed here too.
        None => text.to_owned(),
    };
    if let Ok(value) = HeaderValue::try_from(written) {
        request.headers.insert(AMZ_DATE, value);
    }
}

/// Signature version 2 is taken in presigned URLs only, where clients still use it by default. It signs neither the
/// region nor most of the query, so only parameters that it signs, or that change nothing, may be there.
fn admit_signature_v2(request: &mut Parts) -> S3Result<()> {
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
    // Its signer made the signature with the headers that it then moved into the query.
    let token = Query::of(&request.uri)?.get(SECURITY_TOKEN)?.map(ToOwned::to_owned);
    let judge = |name: &str| if name == SECURITY_TOKEN { Parameter::Drop } else { Parameter::Keep };
    request.uri = move_to_headers(&request.uri, &mut request.headers, judge)?;
    if let Some(token) = token {
        let value = HeaderValue::try_from(token).map_err(|_| s3_error!(InvalidToken))?;
        if request.headers.insert(SECURITY_TOKEN, value).is_some() {
            return Err(s3_error!(InvalidToken));
        }
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
    // botocore copies these headers, which it signs too, into the query, where nothing reads them.
    const INERT: [&str; 5] = ["AWSAccessKeyId", "Expires", "Signature", "content-md5", "content-type"];
    SIGNED.contains(&name) || INERT.contains(&name) || name.starts_with("x-amz-")
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
    if !request.headers.contains_key(CONTENT_SHA256) && has_no_body(&request.headers) {
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

    #[test]
    fn an_upload_over_http_1_has_a_length() {
        for (method, uri, headers, wanted) in [
            ("PUT", "/b/k", &[][..], false),
            ("PUT", "/b/k?partNumber=1&uploadId=x", &[], false),
            ("PUT", "/b/k", &[("content-length", "0")], true),
            ("PUT", "/b/k", &[("transfer-encoding", "chunked")], true),
            ("PUT", "/b/k", &[("x-amz-copy-source", "b/a")], true),
            ("PUT", "/b", &[], true),
            ("PUT", "/b/", &[], true),
            ("GET", "/b/k", &[], true),
            ("POST", "/b/k?uploads", &[], true),
        ] {
            let outcome = admit(&mut parts(method, uri, headers), 8192);
            assert_eq!(outcome.is_ok(), wanted, "{method} {uri} {headers:?}");
        }
        assert_eq!(refused("PUT", "/b/k", &[]), "MissingContentLength");
        let mut http2 = parts("PUT", "/b/k", &[]);
        http2.version = Version::HTTP_2;
        assert!(admit(&mut http2, 8192).is_ok());
    }

    #[test]
    fn the_token_of_a_url_presigned_with_version_2_was_signed_as_a_header() {
        let presigned = "/b/k?AWSAccessKeyId=a&Signature=s&Expires=1";
        let mut request = parts("GET", &format!("{presigned}&x-amz-security-token=t%2B1"), &[]);
        admit(&mut request, 8192).unwrap();
        assert_eq!(
            (&request.headers[SECURITY_TOKEN], request.uri.to_string()),
            (&"t+1".parse().unwrap(), presigned.to_owned())
        );
        let both = format!("{presigned}&x-amz-security-token=t");
        assert_eq!(refused("GET", &both, &[("x-amz-security-token", "t")]), "InvalidToken");
        let twice = format!("{both}&x-amz-security-token=t");
        assert_eq!(refused("GET", &twice, &[]), "InvalidRequest");
    }

    #[test]
    fn the_date_of_a_signature_may_stand_in_date() {
        let authorization = ("authorization", "AWS4-HMAC-SHA256 Credential=a");
        for (date, wanted) in [
            ("Tue, 09 Aug 2022 01:01:01 GMT", "20220809T010101Z"),
            ("Tue, 9 Aug 2022 01:01:01 GMT", "20220809T010101Z"),
            ("20220809T010101Z", "20220809T010101Z"),
        ] {
            let mut request = parts("GET", "/b/k", &[authorization, ("date", date)]);
            admit(&mut request, 8192).unwrap();
            assert_eq!(request.headers[AMZ_DATE], wanted);
        }
        let mut both = parts("GET", "/b/k", &[authorization, ("date", "x"), ("x-amz-date", "20220809T010101Z")]);
        admit(&mut both, 8192).unwrap();
        assert_eq!(both.headers[AMZ_DATE], "20220809T010101Z");
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
        let mut with_header = parts("PUT", &format!("{presigned}&x-amz-meta-a=1"), &[("content-length", "0")]);
        admit(&mut with_header, 8192).unwrap();
        assert_eq!(
            (with_header.headers["x-amz-meta-a"].as_bytes(), with_header.uri.to_string()),
            (&b"1"[..], presigned.to_owned())
        );
        for unsigned in ["x-id=CopyObject", "list-type=2", "acl", "X-Amz-Signature=0", "tagging", "%61cl"] {
            let uri = format!("{presigned}&{unsigned}");
            assert_eq!(refused("PUT", &uri, &[("content-length", "0")]), "AccessDenied", "{unsigned}");
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
