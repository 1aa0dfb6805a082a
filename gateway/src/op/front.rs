//! Between the signature and the operation. `s3s` verifies the signature of every request over the headers as they came
//! and hands the request over here. What its own readers of headers would refuse or misread is put into the one form
//! that they read, or kept from them to be read by the operations; then a second service, which asks for no signature,
//! finds the operation. Forms do not come here: their signature is among their fields.

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use s3s::{Body, HttpError, S3Error, S3Request, S3Response, S3Result, route::S3Route, s3_error, service::S3Service};

use super::{
    documents::Documents,
    lock_headers::{RETAIN_UNTIL, not_a_date, parse_date},
    noting_outcome,
    token_service::is_for_token_service,
};
use crate::{
    context::RequestContext,
    copy_source::CopySource,
    error::unwritable,
    query_headers::{Parameter, move_to_headers},
    verified::carry,
};

const COPY_SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");
const META_PREFIX: &str = "x-amz-meta-";

/// Headers that only the operations read. The signature has been verified with them.
const KEPT_BACK: [HeaderName; 11] = [
    header::AUTHORIZATION,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    HeaderName::from_static("x-amz-copy-source-if-match"),
    HeaderName::from_static("x-amz-copy-source-if-none-match"),
    HeaderName::from_static("x-amz-copy-source-if-modified-since"),
    HeaderName::from_static("x-amz-copy-source-if-unmodified-since"),
];

/// The way from the first service, which verifies signatures, to the operations.
pub(super) struct Front {
    pub(super) documents: Documents,
    /// Asks for no signature.
    pub(super) operations: S3Service,
}

#[async_trait::async_trait]
impl S3Route for Front {
    fn is_match(&self, _method: &Method, _uri: &Uri, _headers: &HeaderMap, _extensions: &mut Extensions) -> bool {
        true
    }

    /// Access is judged where the operation is known, and the headers are those that it gets.
    async fn check_access(&self, _request: &mut S3Request<Body>) -> S3Result<()> {
        Ok(())
    }

    async fn call(&self, mut request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let context = RequestContext::of(&request.extensions).cloned();
        if is_for_token_service(&request.method, &request.uri, &request.headers) {
            return noting_outcome(context, self.documents.0.token_service(request)).await;
        }
        if let Err(error) = normalise(&mut request) {
            if let Some(context) = context {
                context.record_outcome(Err(&error));
            }
            return Err(error);
        }
        if self.documents.is_match(&request.method, &request.uri, &request.headers, &mut Extensions::new()) {
            self.documents.check_access(&mut request).await?;
            return self.documents.call(request).await;
        }
        let unwritten = |error| unwritten(&error, context.as_ref());
        let answer = self.operations.call(carrying(request)?).await.map_err(unwritten)?;
        let (parts, body) = answer.into_parts();
        let mut response = S3Response::with_status(body, parts.status);
        response.headers = parts.headers;
        response.extensions = parts.extensions;
        Ok(response)
    }
}

/// The second service could not write its answer.
fn unwritten(error: &HttpError, context: Option<&RequestContext>) -> S3Error {
    match context.and_then(RequestContext::outcome) {
        // Operations answer only what can be written, so this is a fault of ours, and the deed is done.
        Some(Ok(())) => {
            tracing::error!(%error, "could not write an answer");
            s3_error!(InternalError)
        }
        // What was refused is written from the context.
        Some(Err(_)) | None => unwritable(),
    }
}

/// Brings headers into the one form that they are read in from here on.
fn normalise(request: &mut S3Request<Body>) -> S3Result<()> {
    request.uri = move_to_headers(&request.uri, &mut request.headers, |_| Parameter::Keep)?;
    join_metadata(&mut request.headers)?;
    check_lock_date(&request.headers)?;
    if let Some(value) = request.headers.get(&COPY_SOURCE) {
        if request.method != Method::PUT {
            return Err(s3_error!(InvalidArgument, "You can only specify a copy source header for copy requests."));
        }
        let source = CopySource::parse(value)?.to_header()?;
        request.headers.insert(COPY_SOURCE, source);
    }
    Ok(())
}

/// `s3s` would refuse another date without saying what is wrong with it.
fn check_lock_date(headers: &HeaderMap) -> S3Result<()> {
    let Some(value) = headers.get(RETAIN_UNTIL) else { return Ok(()) };
    let text = String::from_utf8_lossy(value.as_bytes());
    parse_date(&text).map(|_| ()).ok_or_else(|| not_a_date(RETAIN_UNTIL, &text))
}

/// A metadata header that comes in several lines is one, joined by commas (RFC 9110, 5.3).
fn join_metadata(headers: &mut HeaderMap) -> S3Result<()> {
    let repeated: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(META_PREFIX) && headers.get_all(*name).iter().nth(1).is_some())
        .cloned()
        .collect();
    for name in repeated {
        let lines: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        let joined = HeaderValue::from_bytes(&lines.join(&b','))
            .map_err(|_| s3_error!(InvalidArgument, "The value of the header {name} is invalid."))?;
        headers.insert(name, joined);
    }
    Ok(())
}

/// The request as the second service gets it.
fn carrying(request: S3Request<Body>) -> S3Result<Request<Body>> {
    let mut headers = request.headers.clone();
    for name in KEPT_BACK {
        headers.remove(name);
    }
    let judge = |name: &str| if is_kept_back(name) { Parameter::Drop } else { Parameter::Keep };
    let uri = move_to_headers(&request.uri, &mut HeaderMap::new(), judge)?;
    Ok(carry(request, headers, uri))
}

/// Parameters of signatures, and those that the operations read by themselves.
fn is_kept_back(name: &str) -> bool {
    const SIGNATURE: [&str; 3] = ["AWSAccessKeyId", "Expires", "Signature"];
    SIGNATURE.contains(&name) || name.starts_with("response-") || name.to_ascii_lowercase().starts_with("x-amz-")
}
