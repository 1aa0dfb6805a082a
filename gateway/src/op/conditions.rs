//! Conditional requests: RFC 9110's order for reads; for writes the conditions go into the metadata transaction.

use cairn_schema::{
    record::Version,
    verbs::{EtagMatch, Precondition},
};
use http::{HeaderMap, HeaderValue, header};
use s3s::{
    S3Error, S3ErrorCode, S3Result,
    dto::{ETagCondition, Timestamp},
    s3_error,
};

/// The four conditions of a read.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadConditions {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
    pub(crate) if_modified_since: Option<Timestamp>,
    pub(crate) if_unmodified_since: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Holds,
    NotModified,
    Failed(&'static str),
}

impl ReadConditions {
    pub(crate) fn is_empty(&self) -> bool {
        self.if_match.is_none()
            && self.if_none_match.is_none()
            && self.if_modified_since.is_none()
            && self.if_unmodified_since.is_none()
    }

    /// For GET and HEAD: 412, or 304 with the headers that a cache needs.
    pub(crate) fn check(&self, version: &Version) -> S3Result<()> {
        match self.verdict(version) {
            Verdict::Holds => Ok(()),
            Verdict::NotModified => Err(not_modified(version)),
            Verdict::Failed(condition) => Err(failed(condition)),
        }
    }

    /// For the source of a copy: there is no 304, everything that does not hold is 412.
    pub(crate) fn check_source(&self, version: &Version) -> S3Result<()> {
        match self.verdict(version) {
            Verdict::Holds => Ok(()),
            Verdict::NotModified => Err(failed("x-amz-copy-source-if-none-match or -if-modified-since")),
            Verdict::Failed(condition) => Err(failed(condition)),
        }
    }

    /// An ETag condition makes the date condition beside it void.
    fn verdict(&self, version: &Version) -> Verdict {
        // Dates in headers have whole seconds.
        let modified = i64::try_from(version.modified_ms / 1000).unwrap_or(i64::MAX);
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) if !matches(condition, version) => return Verdict::Failed("If-Match"),
            (None, Some(date)) if modified > seconds(date) => return Verdict::Failed("If-Unmodified-Since"),
            _ => {}
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) if matches(condition, version) => Verdict::NotModified,
            (None, Some(date)) if modified <= seconds(date) => Verdict::NotModified,
            _ => Verdict::Holds,
        }
    }
}

fn matches(condition: &ETagCondition, version: &Version) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == version.etag.to_string(),
    }
}

fn seconds(timestamp: &Timestamp) -> i64 {
    time::OffsetDateTime::from(timestamp.clone()).unix_timestamp()
}

fn failed(condition: &'static str) -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold: {condition}")
}

fn not_modified(version: &Version) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    let mut headers = HeaderMap::new();
    let mut insert = |name: http::HeaderName, value: Option<String>| {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    };
    insert(header::ETAG, Some(format!("\"{}\"", version.etag)));
    insert(header::LAST_MODIFIED, http_date(version.modified_ms));
    insert(header::CACHE_CONTROL, version.attributes.cache_control.clone());
    insert(header::EXPIRES, version.attributes.expires.clone());
    error.set_headers(headers);
    error
}

fn http_date(ms: u64) -> Option<String> {
    let mut text = Vec::new();
    super::names::timestamp(ms).format(s3s::dto::TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

/// The conditions of a write, for the metadata transaction to decide.
pub(crate) fn write_precondition(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> Precondition {
    Precondition { if_match: if_match.map(etag_match), if_none_match: if_none_match.map(etag_match) }
}

pub(crate) fn etag_match(condition: ETagCondition) -> EtagMatch {
    match condition {
        ETagCondition::Any => EtagMatch::Any,
        ETagCondition::ETag(etag) => EtagMatch::OneOf(vec![etag.into_value()]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use cairn_schema::{
        ids::VersionId,
        record::{Attributes, Etag, VersionKind},
    };
    use s3s::dto::ETag;

    use super::*;
    use crate::op::names::timestamp;

    const MODIFIED_MS: u64 = 1_700_000_000_400;

    fn version() -> Version {
        Version {
            id: VersionId::NULL,
            kind: VersionKind::Object,
            etag: Etag { md5: [0; 16], parts: None },
            size: 1,
            modified_ms: MODIFIED_MS,
            owner: "o".into(),
            attributes: Attributes::default(),
            checksum: None,
            part_count: None,
        }
    }

    fn tag(right: bool) -> Option<ETagCondition> {
        let value = if right { "0".repeat(32) } else { "f".repeat(32) };
        Some(ETagCondition::ETag(ETag::Strong(value)))
    }

    fn at(offset_ms: i64) -> Option<Timestamp> {
        Some(timestamp(MODIFIED_MS.checked_add_signed(offset_ms).unwrap()))
    }

    fn status(conditions: ReadConditions) -> u16 {
        conditions.check(&version()).err().map_or(200, |error| error.status_code().unwrap().as_u16())
    }

    #[test]
    fn each_condition_alone() {
        let none = ReadConditions::default;
        for (conditions, want) in [
            (none(), 200),
            (ReadConditions { if_match: tag(true), ..none() }, 200),
            (ReadConditions { if_match: Some(ETagCondition::Any), ..none() }, 200),
            (ReadConditions { if_match: tag(false), ..none() }, 412),
            (ReadConditions { if_none_match: tag(true), ..none() }, 304),
            (ReadConditions { if_none_match: Some(ETagCondition::Any), ..none() }, 304),
            (ReadConditions { if_none_match: tag(false), ..none() }, 200),
            // The same second counts as not modified since.
            (ReadConditions { if_modified_since: at(-400), ..none() }, 304),
            (ReadConditions { if_modified_since: at(-1400), ..none() }, 200),
            (ReadConditions { if_unmodified_since: at(-400), ..none() }, 200),
            (ReadConditions { if_unmodified_since: at(-1400), ..none() }, 412),
        ] {
            assert_eq!(status(conditions.clone()), want, "{conditions:?}");
        }
    }

    #[test]
    fn an_etag_condition_makes_its_date_void() {
        let conditions = ReadConditions { if_match: tag(true), if_unmodified_since: at(-5000), ..Default::default() };
        assert_eq!(status(conditions), 200);
        let conditions =
            ReadConditions { if_none_match: tag(false), if_modified_since: at(5000), ..Default::default() };
        assert_eq!(status(conditions), 200);
        let conditions = ReadConditions { if_match: tag(true), if_none_match: tag(true), ..Default::default() };
        assert_eq!(status(conditions), 304);
        let conditions = ReadConditions { if_match: tag(false), if_none_match: tag(true), ..Default::default() };
        assert_eq!(status(conditions), 412);
    }

    #[test]
    fn not_modified_brings_what_a_cache_needs() {
        let conditions = ReadConditions { if_none_match: tag(true), ..Default::default() };
        let error = conditions.check(&version()).unwrap_err();
        let headers = error.headers().unwrap();
        assert_eq!(headers["etag"], format!("\"{}\"", "0".repeat(32)));
        assert_eq!(headers["last-modified"], "Tue, 14 Nov 2023 22:13:20 GMT");
    }

    #[test]
    fn a_copy_source_never_answers_304() {
        let conditions = ReadConditions { if_none_match: tag(true), ..Default::default() };
        assert_eq!(conditions.check_source(&version()).unwrap_err().code().as_str(), "PreconditionFailed");
    }
}
