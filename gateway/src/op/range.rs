//! The `Range` header, and `If-Range`.

use cairn_schema::{record::Version, verbs::RangeRequest};
use http::{HeaderMap, header};

use super::{conditions::modified_seconds, entity_tags::EntityTags};
use crate::http_date::parse_http_date;

/// The bytes that a GET or HEAD asks for. None if it asks for none in particular, or for what S3 does not give: several
/// ranges, other units, and what cannot be understood mean the whole object (RFC 9110, 14.2).
pub(super) fn wanted(headers: &HeaderMap) -> Option<RangeRequest> {
    let mut lines = headers.get_all(header::RANGE).iter();
    let line = lines.next()?.to_str().ok()?;
    if lines.next().is_some() {
        return None;
    }
    let (unit, range) = line.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.split_once('-')?;
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => Some(RangeRequest::Suffix(position(last)?)),
        (false, true) => Some(RangeRequest::From(position(first)?)),
        (false, false) => {
            let (first, last) = (position(first)?, position(last)?);
            (first <= last).then_some(RangeRequest::Inclusive(first, last))
        }
    }
}

/// Positions beyond all objects are beyond this one.
fn position(digits: &str) -> Option<u64> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Whether this range of this version is what the client should get, rather than the whole of it.
pub(super) fn applies(headers: &HeaderMap, wanted: RangeRequest, version: &Version) -> bool {
    // The last bytes of an object without bytes are all of it, and no Content-Range could say so.
    let end_of_nothing = version.size == 0 && matches!(wanted, RangeRequest::Suffix(1..));
    !end_of_nothing && if_range(headers, version)
}

/// `If-Range`: the range is only of use to the client if the object is still the one of which it has the rest.
fn if_range(headers: &HeaderMap, version: &Version) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else { return true };
    let Ok(text) = value.to_str() else { return false };
    match parse_http_date(text) {
        Some(date) => modified_seconds(version) == date,
        None => EntityTags::of(headers, &header::IF_RANGE)
            .is_some_and(|tags| tags != EntityTags::Any && tags.strongly(&version.etag.to_string())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderValue;

    use super::*;

    fn range(lines: &[&str]) -> Option<RangeRequest> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::RANGE, HeaderValue::from_str(line).unwrap());
        }
        wanted(&headers)
    }

    #[test]
    fn one_range_of_bytes_is_understood() {
        for (text, wanted) in [
            ("bytes=0-0", RangeRequest::Inclusive(0, 0)),
            ("Bytes=00-01", RangeRequest::Inclusive(0, 1)),
            ("bytes=5-", RangeRequest::From(5)),
            ("bytes=-5", RangeRequest::Suffix(5)),
            ("bytes=-0", RangeRequest::Suffix(0)),
            ("bytes=3-99999999999999999999999", RangeRequest::Inclusive(3, u64::MAX)),
            ("bytes=99999999999999999999999-", RangeRequest::From(u64::MAX)),
        ] {
            assert_eq!(range(&[text]), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_no_range() {
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=,",
            "bytes=abc",
            "bytes=3-0",
            "bytes=0-1,3-4",
            "bytes=0-1,",
            "items=0-3",
            "bytes= -1",
            "bytes=0 -1",
            "bytes=--1",
            "bytes=0--1",
            "bytes=+1-2",
            "bytes=1-x",
            "bytes 0-1",
        ] {
            assert_eq!(range(&[text]), None, "{text:?}");
        }
        assert_eq!(range(&[]), None);
        assert_eq!(range(&["bytes=0-1", "bytes=0-1"]), None);
    }
}
