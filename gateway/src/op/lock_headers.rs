//! What a request that makes a version says of its lock, and what its body must then come with.

use cairn_schema::record::{Bucket, Lock, Retention, RetentionMode};
use http::HeaderMap;
use s3s::{S3Error, S3Result, s3_error};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{checksum::BodyChecks, error::invalid_argument};

const MODE: &str = "x-amz-object-lock-mode";
pub(super) const RETAIN_UNTIL: &str = "x-amz-object-lock-retain-until-date";
const LEGAL_HOLD: &str = "x-amz-object-lock-legal-hold";

/// As S3 names a mode.
pub(super) fn mode_name(mode: RetentionMode) -> &'static str {
    match mode {
        RetentionMode::Governance => "GOVERNANCE",
        RetentionMode::Compliance => "COMPLIANCE",
    }
}

pub(super) fn parse_mode(name: &str) -> Option<RetentionMode> {
    [RetentionMode::Governance, RetentionMode::Compliance].into_iter().find(|&mode| mode_name(mode) == name)
}

/// `ON` or `OFF`.
pub(super) fn parse_hold(name: &str) -> Option<bool> {
    match name {
        "ON" => Some(true),
        "OFF" => Some(false),
        _ => None,
    }
}

pub(super) fn hold_name(held: bool) -> &'static str {
    if held { "ON" } else { "OFF" }
}

/// Milliseconds since the Unix epoch; a moment before is the epoch itself, which is as much in the past.
pub(super) fn parse_date(text: &str) -> Option<u64> {
    let date = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(u64::try_from(date.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
}

pub(super) fn not_a_date(name: &str, value: &str) -> S3Error {
    invalid_argument(name, value, "The retain until date must be provided in ISO 8601 format")
}

/// A retention that begins must not be over yet.
pub(super) fn check_ahead(name: &str, value: &str, until_ms: u64, now_ms: u64) -> S3Result<()> {
    if until_ms <= now_ms {
        return Err(invalid_argument(name, value, "The retain until date must be in the future!"));
    }
    Ok(())
}

/// What the headers (or the fields of a form that stand for them) ask for.
pub(super) fn asked_lock(headers: &HeaderMap, now_ms: u64) -> S3Result<Lock> {
    let retention = match (one(headers, MODE)?, one(headers, RETAIN_UNTIL)?) {
        (None, None) => None,
        (Some(mode), Some(until)) => Some(asked_retention(mode, until, now_ms)?),
        (mode, _) => {
            let missing = if mode.is_none() { MODE } else { RETAIN_UNTIL };
            let message = "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied";
            return Err(invalid_argument(missing, "", message));
        }
    };
    let held = |name: &str| {
        let unknown = || invalid_argument(LEGAL_HOLD, name, "Legal Hold must be either of 'ON' or 'OFF'");
        parse_hold(name).ok_or_else(unknown)
    };
    Ok(Lock { retention, legal_hold: one(headers, LEGAL_HOLD)?.map(held).transpose()? })
}

fn asked_retention(mode: &str, until: &str, now_ms: u64) -> S3Result<Retention> {
    let mode = parse_mode(mode).ok_or_else(|| invalid_argument(MODE, mode, "Unknown wormMode directive."))?;
    let until_ms = parse_date(until).ok_or_else(|| not_a_date(RETAIN_UNTIL, until))?;
    check_ahead(RETAIN_UNTIL, until, until_ms, now_ms)?;
    Ok(Retention { mode, until_ms })
}

/// A header that may be there once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> S3Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    text.map(Some).ok_or_else(|| {
        let shown = String::from_utf8_lossy(value.as_bytes());
        invalid_argument(name, &shown, format!("The value of the header {name} is invalid."))
    })
}

/// What cannot be removed again must be what the client meant: bytes that will be locked come with a digest.
pub(super) fn demand_digest(bucket: &Bucket, lock: Lock, checks: &BodyChecks) -> S3Result<()> {
    let lock = bucket.lock_of_new(lock, 0).map_err(crate::error::from_meta)?;
    if lock.is_unset() { Ok(()) } else { demanded(checks, "Put Object") }
}

/// The same of a part of what will be locked.
pub(super) fn demand_part_digest(lock: Lock, checks: &BodyChecks) -> S3Result<()> {
    if lock.is_unset() { Ok(()) } else { demanded(checks, "Put Part") }
}

fn demanded(checks: &BodyChecks, requests: &str) -> S3Result<()> {
    if checks.are_vouched_for() {
        return Ok(());
    }
    Err(s3_error!(
        InvalidRequest,
        "Content-MD5 OR x-amz-checksum- HTTP header is required for {requests} requests with Object Lock parameters"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::{HeaderName, HeaderValue};

    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> S3Result<Lock> {
        let header =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(header) {
            headers.append(name, value);
        }
        asked_lock(&headers, 1_700_000_000_000)
    }

    #[test]
    fn a_lock_is_asked_for_whole_or_not_at_all() {
        let until = (RETAIN_UNTIL, "2030-01-02T03:04:05.678Z");
        let retention = Retention { mode: RetentionMode::Compliance, until_ms: 1_893_553_445_678 };
        assert_eq!(asked(&[]).unwrap(), Lock::default());
        let both = asked(&[(MODE, "COMPLIANCE"), until, (LEGAL_HOLD, "OFF")]).unwrap();
        assert_eq!(both, Lock { retention: Some(retention), legal_hold: Some(false) });
        assert_eq!(asked(&[(LEGAL_HOLD, "ON")]).unwrap(), Lock { retention: None, legal_hold: Some(true) });
        let zoned = asked(&[(MODE, "GOVERNANCE"), (RETAIN_UNTIL, "2030-01-02T04:04:05.678+01:00")]).unwrap();
        assert_eq!(zoned.retention.unwrap().until_ms, retention.until_ms);
        for (pairs, message) in [
            (&[until][..], "must both be supplied"),
            (&[(MODE, "COMPLIANCE")], "must both be supplied"),
            (&[(MODE, "governance"), until], "Unknown wormMode directive."),
            (&[(MODE, "COMPLIANCE"), (RETAIN_UNTIL, "abc")], "ISO 8601 format"),
            (&[(MODE, "COMPLIANCE"), (RETAIN_UNTIL, "2020-01-01T00:00:00Z")], "must be in the future!"),
            (&[(MODE, "COMPLIANCE"), (RETAIN_UNTIL, "1920-01-01T00:00:00Z")], "must be in the future!"),
            (&[(LEGAL_HOLD, "on")], "Legal Hold must be either of 'ON' or 'OFF'"),
            (&[(LEGAL_HOLD, "ON"), (LEGAL_HOLD, "OFF")], "is invalid."),
        ] {
            let error = asked(pairs).unwrap_err();
            assert_eq!(error.code().as_str(), "InvalidArgument", "{pairs:?}");
            assert!(error.message().unwrap().ends_with(message), "{pairs:?}: {error:?}");
        }
    }
}
