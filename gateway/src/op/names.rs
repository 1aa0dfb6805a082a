//! Keys, version ids, upload ids, part numbers and times as S3 writes them.

use std::time::{SystemTime, UNIX_EPOCH};

use cairn_schema::{
    ids::{UploadId, VersionId},
    record::{Etag, Version},
    verbs::VersionSelector,
};
use s3s::{S3Result, dto::ETag, s3_error};

use crate::error::{WithField, invalid_argument, key_too_long};
pub(crate) use crate::shown::timestamp;

pub(crate) const KEY_MAX_BYTES: usize = 1024;
pub(crate) const PART_NUMBER_MAX: u16 = 10_000;

pub(crate) fn check_key(key: &str) -> S3Result<()> {
    if key.is_empty() {
        return Err(s3_error!(InvalidArgument, "The key may not be empty."));
    }
    if key.len() > KEY_MAX_BYTES {
        return Err(key_too_long(key.len() as u64, KEY_MAX_BYTES as u64));
    }
    Ok(())
}

pub(crate) fn version_id(text: &str) -> S3Result<VersionId> {
    text.parse().map_err(|_| invalid_argument("versionId", text, "Invalid version id specified"))
}

/// An empty version id means none, as some clients send it.
pub(crate) fn selector(version: Option<&str>) -> S3Result<VersionSelector> {
    match version.filter(|text| !text.is_empty()) {
        Some(text) => Ok(VersionSelector::Id(version_id(text)?)),
        None => Ok(VersionSelector::Current),
    }
}

/// Text that is no upload id names an upload that does not exist.
pub(crate) fn upload_id(text: &str) -> S3Result<UploadId> {
    text.parse().map_err(|_| s3_error!(NoSuchUpload).with("UploadId", text))
}

pub(crate) fn part_number(number: i32) -> S3Result<u16> {
    u16::try_from(number).ok().filter(|number| (1..=PART_NUMBER_MAX).contains(number)).ok_or_else(|| {
        let message = format!("Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive");
        invalid_argument("partNumber", &number.to_string(), message)
    })
}

/// How many entries a page may have: by default, and at most, 1000.
pub(crate) fn page_limit(wanted: Option<i32>, parameter: &str) -> S3Result<usize> {
    match wanted {
        None => Ok(1000),
        Some(wanted) => usize::try_from(wanted).map(|wanted| wanted.min(1000)).map_err(|_| {
            let message = format!("Argument {parameter} must be an integer between 0 and 2147483647");
            invalid_argument(parameter, &wanted.to_string(), message)
        }),
    }
}

pub(crate) fn etag(etag: &Etag) -> ETag {
    ETag::Strong(etag.to_string())
}

pub(crate) fn part_etag(md5: [u8; 16]) -> ETag {
    ETag::Strong(hex::encode(md5))
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Objects of unversioned buckets have the null version, which is not mentioned.
pub(crate) fn shown_version(version: &Version) -> Option<String> {
    shown_id(version.id)
}

pub(crate) fn shown_id(version: VersionId) -> Option<String> {
    (!version.is_null()).then(|| version.to_string())
}

/// S3's numbers are signed.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_have_at_most_1024_bytes() {
        assert!(check_key(&"k".repeat(1024)).is_ok());
        // Bytes, not characters.
        let long = check_key(&"é".repeat(513)).unwrap_err();
        assert_eq!(long.code().as_str(), "KeyTooLongError");
        assert!(check_key("").is_err());
    }

    #[test]
    fn part_numbers_go_from_1_to_10000() {
        assert_eq!(part_number(1).unwrap(), 1);
        assert_eq!(part_number(10_000).unwrap(), 10_000);
        for number in [i32::MIN, -1, 0, 10_001, 65_537, i32::MAX] {
            assert!(part_number(number).is_err(), "{number}");
        }
    }

    #[test]
    fn versions_are_ids_null_or_nothing() {
        assert_eq!(selector(None).unwrap(), VersionSelector::Current);
        assert_eq!(selector(Some("")).unwrap(), VersionSelector::Current);
        assert_eq!(selector(Some("null")).unwrap(), VersionSelector::Id(VersionId::NULL));
        assert_eq!(selector(Some("zz")).unwrap_err().code().as_str(), "InvalidArgument");
    }

    #[test]
    fn pages_have_at_most_1000_entries() {
        assert_eq!(page_limit(None, "max-keys").unwrap(), 1000);
        assert_eq!(page_limit(Some(5000), "max-keys").unwrap(), 1000);
        assert_eq!(page_limit(Some(0), "max-keys").unwrap(), 0);
        assert!(page_limit(Some(-1), "max-keys").is_err());
    }
}
