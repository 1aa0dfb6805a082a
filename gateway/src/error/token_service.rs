//! Error documents as the token service (STS) writes them, and its words for what S3 calls otherwise.
//!
//! <https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>

use http::{HeaderValue, Response, StatusCode, header};

use super::document::ErrorDocument;
use crate::xml::Writer;

pub(crate) const STS_NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// S3's code, that of STS, and what it says; none says what S3 would.
const CODES: [(&str, &str, Option<&str>); 7] = [
    ("InvalidAccessKeyId", "InvalidClientTokenId", Some(INVALID)),
    ("InvalidToken", "InvalidClientTokenId", Some(INVALID)),
    ("ExpiredToken", "ExpiredToken", Some("The security token included in the request is expired")),
    ("AccessDenied", "AccessDenied", None),
    ("SignatureDoesNotMatch", "SignatureDoesNotMatch", None),
    ("RequestTimeTooSkewed", "SignatureDoesNotMatch", None),
    ("MissingSecurityHeader", "MissingAuthenticationToken", Some("Request is missing Authentication Token")),
];
const INVALID: &str = "The security token included in the request is invalid.";

impl ErrorDocument {
    /// The answer to a request to the token service.
    pub(crate) fn respond_of_token_service(&self, request_id: &str) -> Response<s3s::Body> {
        let known = CODES.iter().find(|(code, ..)| *code == self.code);
        let (code, status, message) = match known {
            Some((_, code, message)) => (*code, StatusCode::FORBIDDEN, message.unwrap_or(&self.message)),
            None if self.code == "InternalError" => ("InternalFailure", self.status, self.message.as_str()),
            None => (self.code.as_str(), self.status, self.message.as_str()),
        };
        let kind = if status.is_client_error() { "Sender" } else { "Receiver" };
        let document = Writer::document_of(STS_NAMESPACE, "ErrorResponse", |xml| {
            xml.element("Error", |xml| {
                xml.text("Type", kind);
                xml.text("Code", code);
                xml.text("Message", message);
            });
            xml.text("RequestId", request_id);
        });
        let mut response = Response::new(document.into());
        *response.status_mut() = status;
        response.headers_mut().extend(self.headers.clone());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        response
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use s3s::s3_error;

    use super::*;

    #[test]
    fn errors_have_the_names_that_clients_of_the_token_service_know() {
        for (error, status, kind, code) in [
            (s3_error!(InvalidAccessKeyId), 403, "Sender", "InvalidClientTokenId"),
            (s3_error!(ExpiredToken), 403, "Sender", "ExpiredToken"),
            (s3_error!(SignatureDoesNotMatch), 403, "Sender", "SignatureDoesNotMatch"),
            (s3_error!(SlowDown), 503, "Receiver", "SlowDown"),
            (s3_error!(InternalError), 500, "Receiver", "InternalFailure"),
        ] {
            let response = ErrorDocument::of(&error).respond_of_token_service("id");
            let body = response.body().bytes().unwrap();
            let text = String::from_utf8_lossy(&body);
            assert_eq!(response.status(), status, "{text}");
            let start = format!("<Error><Type>{kind}</Type><Code>{code}</Code><Message>");
            assert!(text.contains(&start) && text.ends_with("<RequestId>id</RequestId></ErrorResponse>"), "{text}");
        }
    }
}
