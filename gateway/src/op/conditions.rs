//! Conditional requests: RFC 9110's order for reads; for writes the conditions go into the metadata transaction.

use cairn_schema::{
    record::Version,
    verbs::{EtagMatch, Precondition},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::entity_tags::EntityTags;
use crate::{
    error::{WithField, precondition_failed},
    http_date::parse_http_date,
    shown::http_date,
};

/// The four conditions of a read. What is no date, and what is there twice, is no condition.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadConditions {
    if_match: Option<EntityTags>,
    if_none_match: Option<EntityTags>,
    /// Seconds since 1970.
    if_modified_since: Option<i64>,
    if_unmodified_since: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Holds,
    NotModified,
    Failed(&'static str),
}

impl ReadConditions {
    /// Of a GET or HEAD.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self {
            if_match: EntityTags::of(headers, &header::IF_MATCH),
            if_none_match: EntityTags::of(headers, &header::IF_NONE_MATCH),
            if_modified_since: date(headers, &header::IF_MODIFIED_SINCE),
            if_unmodified_since: date(headers, &header::IF_UNMODIFIED_SINCE),
        }
    }

    /// Of the source of a copy.
    pub(crate) fn of_source(headers: &HeaderMap) -> Self {
        const NAMES: [HeaderName; 4] = [
            HeaderName::from_static("x-amz-copy-source-if-match"),
            HeaderName::from_static("x-amz-copy-source-if-none-match"),
            HeaderName::from_static("x-amz-copy-source-if-modified-since"),
            HeaderName::from_static("x-amz-copy-source-if-unmodified-since"),
        ];
        let [matching, none_matching, modified, unmodified] = NAMES;
        Self {
            if_match: EntityTags::of(headers, &matching),
            if_none_match: EntityTags::of(headers, &none_matching),
            if_modified_since: date(headers, &modified),
            if_unmodified_since: date(headers, &unmodified),
        }
    }

    /// For GET and HEAD: 412, or 304 with the headers that a cache needs.
    pub(crate) fn check(&self, version: &Version) -> S3Result<()> {
        match self.verdict(version) {
            Judgement::Holds => Ok(()),
            Judgement::NotModified => Err(not_modified(version)),
            Judgement::Failed(condition) => Err(precondition_failed(condition)),
        }
    }

    /// For the source of a copy: there is no 304, everything that does not hold is 412.
    pub(crate) fn check_source(&self, version: &Version) -> S3Result<()> {
        match self.verdict(version) {
            Judgement::Holds => Ok(()),
            Judgement::NotModified if self.if_none_match.is_some() => {
                Err(precondition_failed("x-amz-copy-source-If-None-Match"))
            }
            Judgement::NotModified => Err(precondition_failed("x-amz-copy-source-If-Modified-Since")),
            Judgement::Failed(condition) => Err(precondition_failed(&format!("x-amz-copy-source-{condition}"))),
        }
    }

    /// A condition on tags makes the one on dates beside it void.
    fn verdict(&self, version: &Version) -> Judgement {
        let (etag, modified) = (version.etag.to_string(), modified_seconds(version));
        match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) if !tags.strongly(&etag) => return Judgement::Failed("If-Match"),
            (None, Some(date)) if modified > date => return Judgement::Failed("If-Unmodified-Since"),
            _ => {}
        }
        match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) if tags.weakly(&etag) => Judgement::NotModified,
            (None, Some(date)) if modified <= date => Judgement::NotModified,
            _ => Judgement::Holds,
        }
    }
}

/// When a version was written, in the whole seconds that headers have.
pub(crate) fn modified_seconds(version: &Version) -> i64 {
    i64::try_from(version.modified_ms / 1000).unwrap_or(i64::MAX)
}

/// A header's date. What is none is to be ignored, and so are several (RFC 9110, 13.1.3 and 13.1.4).
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<i64> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    parse_http_date(line.to_str().ok()?)
}

fn not_modified(version: &Version) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    let mut headers = HeaderMap::new();
    headers.insert(header::LAST_MODIFIED, http_date(version.modified_ms));
    let mut insert = |name: http::HeaderName, value: Option<String>| {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    };
    insert(header::ETAG, Some(format!("\"{}\"", version.etag)));
    insert(header::CACHE_CONTROL, version.attributes.cache_control.clone());
    insert(header::EXPIRES, version.attributes.expires.clone());
    error.set_headers(headers);
    error
}

/// The conditions of a write, for the metadata transaction to decide. As in S3, If-Match names one tag or `*`, and
/// If-None-Match only `*`; what else RFC 9110 knows is refused, because a write that ignored it could destroy what it
/// was to protect.
pub(crate) fn write_precondition(headers: &HeaderMap) -> S3Result<Precondition> {
    let if_match = EntityTags::of(headers, &header::IF_MATCH).map(etag_match);
    let if_none_match = match EntityTags::of(headers, &header::IF_NONE_MATCH) {
        None => None,
        Some(EntityTags::Any) if if_match.is_none() => Some(EtagMatch::Any),
        Some(_) => return Err(not_honoured("If-None-Match")),
    };
    refuse_date(headers)?;
    Ok(Precondition { if_match, if_none_match })
}

/// The same for a delete, which knows If-Match only.
pub(crate) fn delete_precondition(headers: &HeaderMap) -> S3Result<Precondition> {
    if EntityTags::of(headers, &header::IF_NONE_MATCH).is_some() {
        return Err(not_honoured("If-None-Match"));
    }
    write_precondition(headers)
}

/// If-Modified-Since is of no concern to a method other than GET and HEAD.
fn refuse_date(headers: &HeaderMap) -> S3Result<()> {
    match date(headers, &header::IF_UNMODIFIED_SINCE) {
        Some(_) => Err(not_honoured("If-Unmodified-Since")),
        None => Ok(()),
    }
}

fn not_honoured(header: &str) -> S3Error {
    s3_error!(NotImplemented).with("Header", header)
}

/// Several tags match none, as in S3: a write replaces one state.
fn etag_match(tags: EntityTags) -> EtagMatch {
    match tags {
        EntityTags::Any => EtagMatch::Any,
        EntityTags::Listed(mut tags) => {
            let only = if tags.len() == 1 { tags.pop() } else { None };
            EtagMatch::OneOf(only.filter(|tag| !tag.weak).map(|tag| tag.value).into_iter().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use cairn_schema::{
        ids::VersionId,
        record::{Attributes, Etag, VersionKind},
    };

    use super::*;

    /// Tue, 14 Nov 2023 22:13:20 GMT, and a little.
    const MODIFIED_MS: u64 = 1_700_000_000_400;
    const BEFORE: &str = "Tue, 14 Nov 2023 22:13:19 GMT";
    const SAME: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
    const RIGHT: &str = "\"00000000000000000000000000000000\"";
    const WRONG: &str = "\"ffffffffffffffffffffffffffffffff\"";

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
            encryption: None,
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        pairs.iter().map(header).collect()
    }

    fn read(pairs: &[(&str, &str)]) -> u16 {
        let verdict = ReadConditions::of(&headers(pairs)).check(&version());
        verdict.err().map_or(200, |error| error.status_code().unwrap().as_u16())
    }

    #[test]
    fn each_condition_of_a_read_alone() {
        let listed = format!("{WRONG}, {RIGHT}");
        let weak = format!("W/{RIGHT}");
        for (name, value, status) in [
            ("if-match", RIGHT, 200),
            ("if-match", "*", 200),
            ("if-match", RIGHT.trim_matches('"'), 200),
            ("if-match", &listed, 200),
            ("if-match", &weak, 412),
            ("if-match", WRONG, 412),
            ("if-match", "", 200),
            ("if-none-match", RIGHT, 304),
            ("if-none-match", "*", 304),
            ("if-none-match", RIGHT.trim_matches('"'), 304),
            ("if-none-match", &listed, 304),
            ("if-none-match", &weak, 304),
            ("if-none-match", WRONG, 200),
            // The same second counts as not modified since.
            ("if-modified-since", SAME, 304),
            ("if-modified-since", BEFORE, 200),
            ("if-unmodified-since", SAME, 200),
            ("if-unmodified-since", BEFORE, 412),
            ("if-modified-since", "0", 200),
            ("if-unmodified-since", "yesterday", 200),
        ] {
            assert_eq!(read(&[(name, value)]), status, "{name}: {value}");
        }
        assert_eq!(read(&[]), 200);
    }

    #[test]
    fn conditions_on_tags_make_those_on_dates_void() {
        for (pairs, status) in [
            (&[("if-match", RIGHT), ("if-unmodified-since", BEFORE)][..], 200),
            (&[("if-match", WRONG), ("if-unmodified-since", SAME)], 412),
            (&[("if-none-match", WRONG), ("if-modified-since", SAME)], 200),
            (&[("if-none-match", RIGHT), ("if-modified-since", BEFORE)], 304),
            (&[("if-none-match", RIGHT), ("if-unmodified-since", BEFORE)], 412),
            (&[("if-match", RIGHT), ("if-modified-since", SAME)], 304),
            (&[("if-match", RIGHT), ("if-none-match", RIGHT)], 304),
            (&[("if-match", WRONG), ("if-none-match", RIGHT)], 412),
            (&[("if-modified-since", SAME), ("if-unmodified-since", BEFORE)], 412),
        ] {
            assert_eq!(read(pairs), status, "{pairs:?}");
        }
        let mut twice = headers(&[("if-modified-since", SAME)]);
        twice.append("if-modified-since", HeaderValue::from_static(SAME));
        assert!(ReadConditions::of(&twice).check(&version()).is_ok(), "two dates are none");
    }

    #[test]
    fn not_modified_brings_what_a_cache_needs() {
        let error = ReadConditions::of(&headers(&[("if-none-match", RIGHT)])).check(&version()).unwrap_err();
        let headers = error.headers().unwrap();
        assert_eq!(headers["etag"], RIGHT);
        assert_eq!(headers["last-modified"], SAME);
    }

    #[test]
    fn a_copy_source_never_answers_304() {
        for (name, value) in [("x-amz-copy-source-if-none-match", RIGHT), ("x-amz-copy-source-if-modified-since", SAME)]
        {
            let conditions = ReadConditions::of_source(&headers(&[(name, value)]));
            assert_eq!(conditions.check_source(&version()).unwrap_err().code().as_str(), "PreconditionFailed");
        }
        let conditions = ReadConditions::of_source(&headers(&[("if-none-match", RIGHT)]));
        assert!(conditions.check_source(&version()).is_ok(), "that is a condition of the target");
    }

    #[test]
    fn a_write_has_one_tag_or_none() {
        let matches = |text: &str| write_precondition(&headers(&[("if-match", text)])).unwrap().if_match.unwrap();
        let plain = RIGHT.trim_matches('"').to_owned();
        assert_eq!(matches(RIGHT), EtagMatch::OneOf(vec![plain.clone()]));
        assert_eq!(matches(&plain), EtagMatch::OneOf(vec![plain]));
        assert_eq!(matches("*"), EtagMatch::Any);
        for none in [format!("W/{RIGHT}"), format!("{WRONG}, {RIGHT}")] {
            assert_eq!(matches(&none), EtagMatch::OneOf(Vec::new()), "{none}");
        }
        let free = write_precondition(&headers(&[("if-none-match", "*"), ("if-modified-since", SAME)])).unwrap();
        assert_eq!((free.if_match, free.if_none_match), (None, Some(EtagMatch::Any)));
    }

    #[test]
    fn conditions_that_a_write_would_ignore_are_refused() {
        for pairs in [
            &[("if-none-match", RIGHT)][..],
            &[("if-none-match", "*"), ("if-match", RIGHT)],
            &[("if-unmodified-since", SAME)],
        ] {
            let error = write_precondition(&headers(pairs)).unwrap_err();
            assert_eq!(error.code().as_str(), "NotImplemented", "{pairs:?}");
        }
        assert!(write_precondition(&headers(&[("if-unmodified-since", "soon")])).is_ok());
        let error = delete_precondition(&headers(&[("if-none-match", "*")])).unwrap_err();
        assert_eq!(error.code().as_str(), "NotImplemented");
    }
}
