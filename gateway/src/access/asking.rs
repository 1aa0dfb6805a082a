//! One request, as far as it says who wants what.

use std::sync::Arc;

use http::{HeaderMap, Uri, header};
use s3s::S3Result;
use time::{OffsetDateTime, PrimitiveDateTime, format_description::FormatItem, macros::format_description};

use crate::{
    context::{AskedFor, RequestContext},
    query::Query,
    session::OpenedSession,
};

const AMZ_DATE: &[FormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

/// What is asked.
pub(crate) struct Asking<'a> {
    /// As S3 calls it.
    pub(crate) operation: &'a str,
    pub(crate) bucket: Option<&'a str>,
    pub(crate) key: Option<&'a str>,
    pub(crate) version: Option<String>,
    /// By which the request was signed.
    pub(crate) access_key: Option<&'a str>,
    /// All headers, wherever the client wrote them; of a form, the fields that stand for headers.
    pub(crate) headers: &'a HeaderMap,
    /// Those of HTTP itself.
    pub(crate) sent: &'a HeaderMap,
    pub(crate) query: Query,
    pub(crate) is_form: bool,
    pub(crate) context: Option<&'a RequestContext>,
    /// None as long as the body, which says some of these, has not been read.
    pub(crate) body: Option<BodyFacts>,
}

/// What the body says that policies may ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct BodyFacts {
    /// That objects are to have.
    pub(crate) tags: Vec<(String, String)>,
    /// Where a bucket is to be.
    pub(crate) location: Option<String>,
}

/// How a request was signed.
pub(super) struct Signature {
    pub(super) auth_type: &'static str,
    pub(super) version: &'static str,
    pub(super) signed: Option<OffsetDateTime>,
}

impl<'a> Asking<'a> {
    /// A request to the path of `bucket` and `key`.
    pub(crate) fn new(
        operation: &'a str,
        (bucket, key): (Option<&'a str>, Option<&'a str>),
        access_key: Option<&'a str>,
        (headers, uri): (&'a HeaderMap, &Uri),
        context: Option<&'a RequestContext>,
    ) -> S3Result<Self> {
        let query = Query::of(uri)?;
        let version = query.get("versionId")?.filter(|version| !version.is_empty()).map(ToOwned::to_owned);
        let (is_form, body) = (false, None);
        let sent = headers;
        Ok(Self { operation, bucket, key, version, access_key, headers, sent, query, is_form, context, body })
    }

    pub(super) fn subject(&self) -> AskedFor {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        AskedFor {
            bucket: owned(self.bucket),
            key: owned(self.key),
            version: self.version.clone(),
            access_key: owned(self.access_key),
        }
    }

    pub(super) fn session(&self) -> Option<&Arc<OpenedSession>> {
        self.context?.session()
    }

    /// The value of a header that is there once, or the first of several.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// The same of those of HTTP itself.
    pub(super) fn sent(&self, name: &str) -> Option<String> {
        self.sent.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).ok().flatten()
    }

    /// None for anonymous requests.
    pub(super) fn signature(&self) -> Option<Signature> {
        const V4: &str = "AWS4-HMAC-SHA256";
        const V2: &str = "AWS";
        self.access_key?;
        let (auth_type, version) = if self.is_form {
            let is_v2 = self.headers.get("x-amz-signature").is_none() && self.headers.get("x-amz-credential").is_none();
            ("POST", if is_v2 { V2 } else { V4 })
        } else if self.headers.contains_key(header::AUTHORIZATION) {
            ("REST-HEADER", V4)
        } else if self.query.has("Signature") {
            ("REST-QUERY-STRING", V2)
        } else {
            ("REST-QUERY-STRING", V4)
        };
        let date = self.header("x-amz-date").or_else(|| self.parameter("X-Amz-Date").map(ToOwned::to_owned));
        let signed = date.and_then(|date| PrimitiveDateTime::parse(&date, AMZ_DATE).ok());
        Some(Signature { auth_type, version, signed: signed.map(PrimitiveDateTime::assume_utc) })
    }
}
