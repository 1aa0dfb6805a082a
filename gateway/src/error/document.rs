//! Error documents as S3 writes them: a code, a message, and fields that say what the error is about.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use s3s::S3Error;

use super::messages::message_of;
use crate::xml::Writer;

/// Fields on their way through an [`S3Error`], which has no room of its own for them.
#[derive(Clone, Debug, Default, thiserror::Error)]
#[error("an error with fields")]
struct Fields(Vec<(&'static str, String)>);

/// Says more of an error.
pub(crate) trait WithField {
    /// Adds a field to its document.
    fn with(self, name: &'static str, value: impl ToString) -> Self;
}

impl WithField for S3Error {
    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        let mut fields = fields_of(&self);
        fields.0.push((name, value.to_string()));
        self.set_source(Box::new(fields));
        self
    }
}

fn fields_of(error: &S3Error) -> Fields {
    error.source().and_then(|source| source.downcast_ref::<Fields>()).cloned().unwrap_or_default()
}

/// What a refused request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ErrorDocument {
    pub(crate) code: String,
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) fields: Vec<(&'static str, String)>,
    /// Those that the answer has besides the usual ones.
    pub(crate) headers: HeaderMap,
}

impl ErrorDocument {
    pub(crate) fn of(error: &S3Error) -> Self {
        let code = error.code().as_str();
        let message = match (error.message(), error.code().default_message()) {
            // Nothing particular was said, so S3's own sentence is.
            (Some(message), Some(default)) if message == default => message_of(code).unwrap_or(message),
            (Some(message), _) => message,
            (None, _) => message_of(code).unwrap_or_default(),
        };
        Self {
            code: code.to_owned(),
            status: error.status_code().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            message: message.to_owned(),
            fields: fields_of(error).0,
            headers: error.headers().cloned().unwrap_or_default(),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }

    /// The answer. `resource` is the path that was asked for.
    pub(crate) fn respond(&self, resource: &str, request_id: &str, host_id: &str) -> Response<s3s::Body> {
        let mut response = Response::new(s3s::Body::empty());
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers.clone());
        if self.status != StatusCode::NOT_MODIFIED {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
            *response.body_mut() = self.write(resource, request_id, host_id).into();
        }
        response
    }

    fn write(&self, resource: &str, request_id: &str, host_id: &str) -> Bytes {
        Writer::plain_document("Error", |xml| {
            xml.text("Code", &self.code);
            xml.text("Message", &self.message);
            for (name, value) in &self.fields {
                xml.text(name, value);
            }
            xml.text("Resource", resource);
            xml.text("RequestId", request_id);
            xml.text("HostId", host_id);
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use s3s::s3_error;

    use super::*;

    #[test]
    fn an_error_without_a_message_of_its_own_has_the_one_of_s3() {
        assert_eq!(ErrorDocument::of(&s3_error!(NoSuchKey)).message, "The specified key does not exist.");
        assert_eq!(ErrorDocument::of(&s3_error!(NoSuchKey, "Gone.")).message, "Gone.");
    }

    #[test]
    fn fields_and_headers_are_kept_in_their_order() {
        let error = s3_error!(InvalidPart).with("UploadId", "u").with("PartNumber", 7);
        let document = ErrorDocument::of(&error);
        assert_eq!(document.fields, [("UploadId", "u".to_owned()), ("PartNumber", "7".to_owned())]);
        assert_eq!(document.status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn whatever_an_error_is_about_can_be_written() {
        let document = ErrorDocument::of(&s3_error!(NoSuchKey).with("Key", "a\u{8}<&>b"));
        let response = document.respond("/b/a<&>b", "0123", "4567");
        assert_eq!(
            (response.status(), &response.headers()["content-type"]),
            (StatusCode::NOT_FOUND, &HeaderValue::from_static("application/xml"))
        );
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code>\
            <Message>The specified key does not exist.</Message><Key>a&#x8;&lt;&amp;&gt;b</Key>\
            <Resource>/b/a&lt;&amp;&gt;b</Resource><RequestId>0123</RequestId><HostId>4567</HostId></Error>";
        assert_eq!(response.body().bytes().unwrap(), expected);
    }
}
