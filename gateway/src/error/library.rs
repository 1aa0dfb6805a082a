//! What `s3s` refuses by itself, before an operation is reached, in S3's words. All that it tells is a code and a
//! sentence, so the sentence is what this goes by; what it does not know passes as it is.

use http::{HeaderMap, StatusCode};
use s3s::{S3Error, s3_error};
use time::{OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem, macros::format_description};

use super::{asked::Asked, document::ErrorDocument, messages::message_of, signature};
use crate::xml;

const AMZ_DATE: &[BorrowedFormatItem<'static>] = format_description!("[year][month][day]T[hour][minute][second]Z");
/// How far a client's clock may be from ours.
const SKEW_MAX_MS: u32 = 15 * 60 * 1000;

/// The document of an answer that `s3s` wrote, completed.
pub(crate) fn translate(written: &[u8], status: StatusCode, asked: &Asked) -> ErrorDocument {
    let (code, message) = read(written).unwrap_or_else(|| ("InternalError".to_owned(), String::new()));
    let plain = ErrorDocument { code, status, message, fields: Vec::new(), headers: HeaderMap::new() };
    complete(plain, asked)
}

/// Adds to what an operation refused what only the request tells.
pub(crate) fn say_more(mut document: ErrorDocument, asked: &Asked) -> ErrorDocument {
    match document.code.as_str() {
        "InvalidRange" => {
            let range = asked.header("range").or_else(|| asked.header("x-amz-copy-source-range")).unwrap_or_default();
            document.fields.insert(0, ("RangeRequested", range.to_owned()));
        }
        "MethodNotAllowed" => document.fields.insert(0, ("Method", asked.method.to_string())),
        "InvalidBucketName" | "KeyTooLongError" | "InvalidURI" if document.fields.is_empty() => {
            return complete(document, asked);
        }
        "XAmzContentSHA256Mismatch" => {
            let claimed = asked.header("x-amz-content-sha256").unwrap_or_default();
            document.fields.push(("ClientComputedContentSHA256", claimed.to_owned()));
        }
        _ => {}
    }
    document
}

/// `s3s` could not write what it refused, which happens when it repeats what the client sent and that is no text for
/// XML.
pub(crate) fn unwritable() -> S3Error {
    s3_error!(InvalidRequest, "A parameter or a header of the request has characters that it cannot have.")
}

fn read(written: &[u8]) -> Option<(String, String)> {
    let document = xml::parse(written).ok()?;
    let [code, message] = document.fields(["Code", "Message"]).ok()?;
    let text = |field: Option<&xml::Element>| field.map(|field| field.text.clone()).unwrap_or_default();
    Some((text(code), text(message)))
}

/// The sentence and the fields that S3 has for it.
fn complete(mut document: ErrorDocument, asked: &Asked) -> ErrorDocument {
    let usual = message_of(&document.code).unwrap_or_default();
    match document.code.as_str() {
        "InvalidArgument" | "InvalidRequest" => return argument(document, asked),
        "NotImplemented" => return not_implemented(document, asked),
        "AccessDenied" if document.message == "Request has expired" => return expired(document, asked),
        "AccessDenied" => return document,
        "SignatureDoesNotMatch" => {
            document.message = usual.to_owned();
            return signature::describe(document, asked);
        }
        "InvalidAccessKeyId" => {
            document.message = usual.to_owned();
            return document.with("AWSAccessKeyId", asked.access_key().unwrap_or_default());
        }
        "RequestTimeTooSkewed" => {
            document.message = usual.to_owned();
            return document
                .with("RequestTime", asked.signed_at().unwrap_or_default())
                .with("ServerTime", now())
                .with("MaxAllowedSkewMilliseconds", SKEW_MAX_MS);
        }
        "InvalidBucketName" => {
            document.message = usual.to_owned();
            let path = asked.decoded_path().unwrap_or_default();
            let name = path.trim_start_matches('/').split('/').next().unwrap_or_default();
            return document.with("BucketName", name);
        }
        "KeyTooLongError" => {
            document.message = usual.to_owned();
            let path = asked.decoded_path().unwrap_or_default();
            let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
            return document.with("Size", key.len()).with("MaxSizeAllowed", 1024);
        }
        "InvalidURI" => {
            document.message = usual.to_owned();
            return document.with("URI", asked.uri.path());
        }
        "MethodNotAllowed" => {
            document.message = usual.to_owned();
            return document.with("Method", &asked.method).with("ResourceType", asked.resource_type());
        }
        _ => {}
    }
    // The library's sentences are those of a reference, or about its own workings.
    if !usual.is_empty() {
        document.message = usual.to_owned();
    }
    document
}

/// A header or a parameter that is missing, given twice or malformed.
fn argument(mut document: ErrorDocument, asked: &Asked) -> ErrorDocument {
    let Some((what, rest)) = document.message.split_once(": ") else { return document };
    let name = rest.split(": ").next().unwrap_or_default().to_owned();
    let (message, value) = match what {
        "invalid header" | "invalid overridden header" => {
            (format!("The value of the header {name} is invalid."), asked.header(&name).map(ToOwned::to_owned))
        }
        "invalid query" => (invalid_parameter(&name), asked.parameter(&name)),
        "missing header" => (format!("Missing required header for this request: {name}"), None),
        "missing query" => (format!("Missing required parameter for this request: {name}"), None),
        "duplicate header" => (format!("The header {name} is given more than once."), None),
        "duplicate query" => (format!("The parameter {name} is given more than once."), None),
        _ => return document,
    };
    document.message = message;
    document = document.with("ArgumentName", &name);
    match value {
        Some(value) => document.with("ArgumentValue", value),
        None => document,
    }
}

fn invalid_parameter(name: &str) -> String {
    match name {
        "max-keys" | "max-uploads" | "max-parts" | "max-buckets" => {
            format!("Provided {name} not an integer or within integer range")
        }
        "partNumber" => "Part number must be an integer between 1 and 10000, inclusive".to_owned(),
        name => format!("The value of the parameter {name} is invalid."),
    }
}

fn not_implemented(mut document: ErrorDocument, asked: &Asked) -> ErrorDocument {
    if let Some(operation) = document.message.strip_suffix(" is not implemented yet") {
        document.message = format!("{operation} is not implemented.");
    } else if document.message == "Unknown operation" || document.message.contains("virtual-hosted-style") {
        document.code = "MethodNotAllowed".to_owned();
        document.status = StatusCode::METHOD_NOT_ALLOWED;
        return complete(document, asked);
    } else if let Some(rest) = document.message.strip_prefix("unknown service '") {
        let service = rest.split('\'').next().unwrap_or_default();
        document.message = format!(
            "The authorization header is malformed; incorrect service \"{service}\". This endpoint belongs to \"s3\"."
        );
        document.code = "AuthorizationHeaderMalformed".to_owned();
        document.status = StatusCode::BAD_REQUEST;
    } else if document.message.starts_with("X-Amz-Algorithm other than") {
        document.message = "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"".to_owned();
        document.code = "AuthorizationQueryParametersError".to_owned();
        document.status = StatusCode::BAD_REQUEST;
    }
    document
}

fn expired(document: ErrorDocument, asked: &Asked) -> ErrorDocument {
    let version_4 = asked.parameter("X-Amz-Expires");
    let document = match &version_4 {
        Some(seconds) => document.with("X-Amz-Expires", seconds),
        None => document,
    };
    let expires = match &version_4 {
        Some(seconds) => asked.parameter("X-Amz-Date").and_then(|date| {
            let signed = PrimitiveDateTime::parse(&date, AMZ_DATE).ok()?.assume_utc();
            signed.checked_add(time::Duration::seconds(seconds.parse().ok()?))
        }),
        None => asked
            .parameter("Expires")
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds.parse().ok()?).ok()),
    };
    let document = match expires {
        Some(expires) => document.with("Expires", show(expires)),
        None => document,
    };
    document.with("ServerTime", now())
}

fn now() -> String {
    show(OffsetDateTime::now_utc())
}

fn show(time: OffsetDateTime) -> String {
    const SECONDS: &[BorrowedFormatItem<'static>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    time.format(SECONDS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::Request;

    use super::*;

    fn translated(method: &str, uri: &str, headers: &[(&str, &str)], code: &str, message: &str) -> ErrorDocument {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let asked = Asked::of(&request.body(()).unwrap().into_parts().0);
        let written = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        translate(written.as_bytes(), StatusCode::BAD_REQUEST, &asked)
    }

    fn fields(document: &ErrorDocument) -> Vec<(&str, &str)> {
        document.fields.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    #[test]
    fn arguments_are_named_and_shown_as_they_were_sent() {
        let header = [("x-amz-mp-object-size", "a\"b")];
        let invalid = "invalid header: x-amz-mp-object-size: \"a\\\"b\"";
        let document = translated("GET", "/b/k", &header, "InvalidArgument", invalid);
        assert_eq!(document.message, "The value of the header x-amz-mp-object-size is invalid.");
        assert_eq!(fields(&document), [("ArgumentName", "x-amz-mp-object-size"), ("ArgumentValue", "a\"b")]);
        let document = translated("GET", "/b?max-keys=a:%20b", &[], "InvalidArgument", "invalid query: max-keys: a: b");
        assert_eq!(document.message, "Provided max-keys not an integer or within integer range");
        assert_eq!(fields(&document), [("ArgumentName", "max-keys"), ("ArgumentValue", "a: b")]);
        let document = translated("GET", "/b", &[], "InvalidRequest", "missing header: x-amz-date");
        assert_eq!(document.message, "Missing required header for this request: x-amz-date");
    }

    #[test]
    fn names_are_told_of() {
        let document = translated("PUT", "/Bad_Name/k", &[], "InvalidBucketName", "x");
        assert_eq!(
            (document.message.as_str(), fields(&document)),
            ("The specified bucket is not valid.", vec![("BucketName", "Bad_Name")])
        );
        let document = translated("PATCH", "/b/k", &[], "NotImplemented", "Unknown operation");
        assert_eq!((document.code.as_str(), document.status.as_u16()), ("MethodNotAllowed", 405));
        assert_eq!(fields(&document), [("Method", "PATCH"), ("ResourceType", "OBJECT")]);
        let message = "unknown service 'iam' in credential scope; expected one of: s3, sts";
        let document = translated("POST", "/", &[], "NotImplemented", message);
        assert_eq!((document.code.as_str(), document.status.as_u16()), ("AuthorizationHeaderMalformed", 400));
        assert!(document.message.contains("incorrect service \"iam\""), "{}", document.message);
        let message = "X-Amz-Algorithm other than AWS4-HMAC-SHA256 is not implemented";
        let document = translated("GET", "/b/k?X-Amz-Algorithm=X", &[], "NotImplemented", message);
        assert_eq!((document.code.as_str(), document.status.as_u16()), ("AuthorizationQueryParametersError", 400));
        let document = translated("GET", "/b?cors", &[], "NotImplemented", "GetBucketCors is not implemented yet");
        assert_eq!(document.message, "GetBucketCors is not implemented.");
    }

    #[test]
    fn an_expired_url_says_when_it_expired() {
        let uri = "/b/k?X-Amz-Date=20251121T080000Z&X-Amz-Expires=60";
        let document = translated("GET", uri, &[], "AccessDenied", "Request has expired");
        assert_eq!(fields(&document)[..2], [("X-Amz-Expires", "60"), ("Expires", "2025-11-21T08:01:00Z")]);
        let document = translated("GET", "/b/k?Expires=1763712000", &[], "AccessDenied", "Request has expired");
        assert_eq!(fields(&document)[0], ("Expires", "2025-11-21T08:00:00Z"));
    }

    #[test]
    fn an_unknown_access_key_is_shown() {
        let header = [(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=NOBODY/20251121/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
        )];
        let document = translated("GET", "/b", &header, "InvalidAccessKeyId", "x");
        assert_eq!(fields(&document), [("AWSAccessKeyId", "NOBODY")]);
    }
}
