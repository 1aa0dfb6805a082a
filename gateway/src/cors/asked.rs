//! What a request says of where it comes from.

use http::{HeaderMap, Method, Request, header};

use crate::query::decoded_path;

/// A request of a page, or the question of its browser whether the page may send one.
#[derive(Clone, Debug)]
pub(crate) struct CrossOrigin {
    /// None for a question that does not say it.
    origin: Option<String>,
    method: Method,
    requested_method: Option<String>,
    /// In lower case.
    requested_headers: Vec<String>,
    bucket: Option<String>,
    names_a_key: bool,
}

impl CrossOrigin {
    /// None for a request that comes from no page.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<Self> {
        let headers = request.headers();
        let origin = text(headers, header::ORIGIN).map(ToOwned::to_owned);
        if origin.is_none() && *request.method() != Method::OPTIONS {
            return None;
        }
        let path = decoded_path(request.uri()).unwrap_or_default();
        let path = path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let names = text(headers, header::ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
        let names = names.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty());
        Some(Self {
            origin,
            method: request.method().clone(),
            requested_method: text(headers, header::ACCESS_CONTROL_REQUEST_METHOD).map(ToOwned::to_owned),
            requested_headers: names.collect(),
            bucket: Some(bucket).filter(|bucket| !bucket.is_empty()).map(ToOwned::to_owned),
            names_a_key: !key.is_empty(),
        })
    }

    /// Whether it is only the question.
    pub(crate) fn is_preflight(&self) -> bool {
        self.method == Method::OPTIONS
    }

    pub(super) fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    pub(super) fn requested_method(&self) -> Option<&str> {
        self.requested_method.as_deref()
    }

    /// The method that rules must allow. S3 believes what a request says of it even where that is no question.
    pub(super) fn method(&self) -> &str {
        self.requested_method().unwrap_or(self.method.as_str())
    }

    pub(super) fn requested_headers(&self) -> &[String] {
        &self.requested_headers
    }

    pub(super) fn bucket(&self) -> Option<&str> {
        self.bucket.as_deref()
    }

    pub(super) fn resource_type(&self) -> &'static str {
        if self.names_a_key { "OBJECT" } else { "BUCKET" }
    }
}

/// No origin, method or name of a header has other characters than those of ASCII.
fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
