//! Answers that operations write themselves, past the writer of `s3s`, which refuses some texts after the deed is done.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use s3s::S3Response;

/// A document on its way through `s3s`, which passes on the extensions of a response.
#[derive(Clone)]
struct AnswerDocument(Bytes);

/// An answer that is this document. What `s3s` itself would write of an empty output is dropped.
pub(crate) fn documented<T: Default>(document: Bytes) -> S3Response<T> {
    let mut response = S3Response::new(T::default());
    response.extensions.insert(AnswerDocument(document));
    response
}

/// Puts the document in, if the operation has written one.
pub(crate) fn put_document(response: &mut Response<s3s::Body>) {
    let Some(AnswerDocument(document)) = response.extensions_mut().remove() else { return };
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    *response.body_mut() = document.into();
}
