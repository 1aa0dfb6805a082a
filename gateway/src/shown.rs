//! Ids, times and users as S3 shows them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cairn_schema::ids::VersionId;
use http::HeaderValue;
use s3s::dto::{Timestamp, TimestampFormat};
use time::OffsetDateTime;

use crate::xml::Writer;

/// The first millisecond that four digits of a year cannot express.
const YEAR_10000_MS: u64 = 253_402_300_800_000;

/// An ETag as documents show it.
pub(crate) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// An ETag as documents of clients have it, with quotes or without.
pub(crate) fn unquoted(etag: &str) -> &str {
    etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap_or(etag)
}

/// A version id is hexadecimal digits or `null`.
pub(crate) fn version_header(version: VersionId) -> HeaderValue {
    HeaderValue::try_from(version.to_string()).unwrap_or(HeaderValue::from_static("null"))
}

/// A record with a time that S3 cannot show, after the year 9999, is shown as 1970 rather than failing the whole
/// answer.
pub(crate) fn timestamp(ms: u64) -> Timestamp {
    time_of(ms).into()
}

fn time_of(ms: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(ms)).filter(|_| ms < YEAR_10000_MS).unwrap_or(UNIX_EPOCH)
}

/// A time as documents show it: `2025-11-21T08:00:00.000Z`.
pub(crate) fn iso_time(ms: u64) -> String {
    let time = OffsetDateTime::from(time_of(ms));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// The time of a header; its zone is always GMT.
pub(crate) fn http_date(ms: u64) -> HeaderValue {
    let mut text = Vec::new();
    let written = timestamp(ms).format(TimestampFormat::HttpDate, &mut text);
    let value = written.ok().and_then(|()| HeaderValue::from_bytes(&text).ok());
    value.unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// A user as documents name one.
pub(crate) fn write_owner(xml: &mut Writer, element: &str, user: &str) {
    xml.element(element, |xml| {
        xml.text("ID", user);
        xml.text("DisplayName", user);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_to_the_millisecond_and_never_fail() {
        assert_eq!(iso_time(1_763_712_000_007), "2025-11-21T08:00:00.007Z");
        assert_eq!(iso_time(YEAR_10000_MS - 1), "9999-12-31T23:59:59.999Z");
        for beyond in [YEAR_10000_MS, u64::MAX] {
            assert_eq!(iso_time(beyond), "1970-01-01T00:00:00.000Z");
            assert_eq!(http_date(beyond), "Thu, 01 Jan 1970 00:00:00 GMT");
        }
    }
}
