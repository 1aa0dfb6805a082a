//! What a request asked, as far as errors tell of it.

use http::{HeaderMap, Method, Uri, request::Parts};

use crate::query::{Query, decoded_path};

/// What was asked, kept until it is known whether an error must be told of it.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl Asked {
    pub(crate) fn of(request: &Parts) -> Self {
        Self { method: request.method.clone(), uri: request.uri.clone(), headers: request.headers.clone() }
    }

    pub(super) fn query(&self) -> Vec<(String, String)> {
        Query::of(&self.uri).map(Query::into_pairs).unwrap_or_default()
    }

    pub(super) fn decoded_path(&self) -> Option<String> {
        decoded_path(&self.uri)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        self.query().into_iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// The access key that the request was signed with, whether or not it exists.
    pub(super) fn access_key(&self) -> Option<String> {
        let in_header = self.header("authorization").and_then(|header| {
            let (_, rest) = header.split_once("Credential=")?;
            rest.split(['/', ',', ' ']).next().map(ToOwned::to_owned)
        });
        let in_query = || {
            let credential = self.parameter("X-Amz-Credential").or_else(|| self.parameter("AWSAccessKeyId"))?;
            credential.split('/').next().map(ToOwned::to_owned)
        };
        in_header.or_else(in_query)
    }

    /// When the request says it was signed, as it says it.
    pub(super) fn signed_at(&self) -> Option<String> {
        self.header("x-amz-date").map(ToOwned::to_owned).or_else(|| self.parameter("X-Amz-Date"))
    }

    /// What kind of resource the path names.
    pub(super) fn resource_type(&self) -> &'static str {
        let path = self.decoded_path().unwrap_or_default();
        match path.trim_start_matches('/').split_once('/') {
            Some((_, key)) if !key.is_empty() => "OBJECT",
            _ if path.len() > 1 => "BUCKET",
            _ => "SERVICE",
        }
    }
}
