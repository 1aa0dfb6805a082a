//! What a client needs to find out why its signature is not the one that was worked out: S3 tells what it signed.

use http::{HeaderMap, header};
use s3s_sigv4::{
    AmzContentSha256, AmzDate, AuthorizationV4, Payload, PresignedUrlV4, create_canonical_request,
    create_presigned_canonical_request, create_string_to_sign,
};

use super::{asked::Asked, document::ErrorDocument};

/// S3 allows a week; here it only matters that the URL can be taken apart.
const EXPIRES_MAX_SECONDS: u32 = u32::MAX;

/// Who signed, and how.
struct Signed<'a> {
    access_key: &'a str,
    signature: &'a str,
    region: &'a str,
    service: &'a str,
    date: AmzDate,
    canonical_request: String,
}

/// Adds the fields of SignatureDoesNotMatch, as far as the request says how it was signed.
pub(super) fn describe(document: ErrorDocument, asked: &Asked) -> ErrorDocument {
    let query = asked.query();
    let Some(signed) = of_header(asked, &query).or_else(|| of_query(asked, &query)) else { return document };
    let string_to_sign = create_string_to_sign(&signed.canonical_request, &signed.date, signed.region, signed.service);
    document
        .with("AWSAccessKeyId", signed.access_key)
        .with("StringToSign", &string_to_sign)
        .with("SignatureProvided", signed.signature)
        .with("StringToSignBytes", spaced_hex(&string_to_sign))
        .with("CanonicalRequest", &signed.canonical_request)
        .with("CanonicalRequestBytes", spaced_hex(&signed.canonical_request))
}

fn of_header<'a>(asked: &'a Asked, query: &[(String, String)]) -> Option<Signed<'a>> {
    let authorization = AuthorizationV4::parse(text(&asked.headers, header::AUTHORIZATION.as_str())?).ok()?;
    let content_sha256 = text(&asked.headers, "x-amz-content-sha256")?;
    let payload = match AmzContentSha256::parse(content_sha256).ok()? {
        AmzContentSha256::UnsignedPayload => Payload::Unsigned,
        AmzContentSha256::SingleChunk(_) => Payload::SingleChunk(content_sha256),
        AmzContentSha256::StreamingAws4HmacSha256Payload => Payload::MultipleChunks,
        AmzContentSha256::StreamingAws4HmacSha256PayloadTrailer => Payload::MultipleChunksWithTrailer,
        AmzContentSha256::StreamingUnsignedPayloadTrailer => Payload::UnsignedMultipleChunksWithTrailer,
        _ => return None,
    };
    let headers = signed_headers(asked, &authorization.signed_headers);
    let path = asked.decoded_path()?;
    Some(Signed {
        access_key: authorization.credential.access_key_id,
        signature: authorization.signature,
        region: authorization.credential.aws_region,
        service: authorization.credential.aws_service,
        date: AmzDate::parse(text(&asked.headers, "x-amz-date")?).ok()?,
        canonical_request: create_canonical_request(asked.method.as_str(), &path, query, &headers, payload),
    })
}

fn of_query<'a>(asked: &Asked, query: &'a [(String, String)]) -> Option<Signed<'a>> {
    let url = PresignedUrlV4::parse(query, EXPIRES_MAX_SECONDS).ok()?;
    let headers = signed_headers(asked, &url.signed_headers);
    let path = asked.decoded_path()?;
    Some(Signed {
        access_key: url.credential.access_key_id,
        signature: url.signature,
        region: url.credential.aws_region,
        service: url.credential.aws_service,
        canonical_request: create_presigned_canonical_request(asked.method.as_str(), &path, query, &headers),
        date: url.amz_date,
    })
}

/// Their names and values; a header that is signed and missing is left out.
fn signed_headers<'a>(asked: &'a Asked, names: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let mut pairs = Vec::new();
    for &name in names {
        let values = asked.headers.get_all(name).iter().filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
        let before = pairs.len();
        pairs.extend(values.map(|value| (name, value)));
        // HTTP/2 has it elsewhere.
        if pairs.len() == before
            && name == "host"
            && let Some(authority) = asked.uri.authority()
        {
            pairs.push((name, authority.as_str()));
        }
    }
    pairs
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// `47 45 54`, as S3 writes bytes.
fn spaced_hex(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3);
    for (index, byte) in text.bytes().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        out.push_str(&hex::encode([byte]));
    }
    out
}
