//! What clients say about an object: content headers, user metadata, tags, storage class.

use cairn_schema::record::Attributes;
use s3s::{
    S3Result,
    dto::{Metadata, StorageClass},
    s3_error,
};

use super::encoding::form_decode;
use crate::error::custom;

/// Of user metadata: all names and values together.
pub(crate) const USER_METADATA_MAX_BYTES: usize = 2048;

const TAGS_MAX: usize = 10;
const TAG_KEY_MAX_CHARS: usize = 128;
const TAG_VALUE_MAX_CHARS: usize = 256;

const STORAGE_CLASSES: [&str; 6] =
    ["STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"];

/// The fields that PutObject, CreateMultipartUpload and CopyObject share; made by [`said`].
pub(crate) struct Said {
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) cache_control: Option<String>,
    pub(crate) expires: Option<String>,
    pub(crate) website_redirect: Option<String>,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) tagging: Option<String>,
    pub(crate) storage_class: Option<StorageClass>,
    /// What was asked for that Cairn cannot give: pretending to encrypt or to lock would be a lie.
    pub(crate) unsupported: Option<&'static str>,
}

macro_rules! said {
    ($input:expr) => {
        $crate::op::attributes::Said {
            content_type: $input.content_type.take(),
            content_encoding: $input.content_encoding.take(),
            content_language: $input.content_language.take(),
            content_disposition: $input.content_disposition.take(),
            cache_control: $input.cache_control.take(),
            expires: $input.expires.take(),
            website_redirect: $input.website_redirect_location.take(),
            metadata: $input.metadata.take(),
            tagging: $input.tagging.take(),
            storage_class: $input.storage_class.take(),
            unsupported: None
                .or($input.server_side_encryption.as_ref().map(|_| "x-amz-server-side-encryption"))
                .or($input.ssekms_key_id.as_ref().map(|_| "x-amz-server-side-encryption-aws-kms-key-id"))
                .or($input.sse_customer_algorithm.as_ref().map(|_| "x-amz-server-side-encryption-customer-algorithm"))
                .or($input.sse_customer_key.as_ref().map(|_| "x-amz-server-side-encryption-customer-key"))
                .or($input.object_lock_mode.as_ref().map(|_| "x-amz-object-lock-mode"))
                .or($input.object_lock_retain_until_date.as_ref().map(|_| "x-amz-object-lock-retain-until-date"))
                .or($input.object_lock_legal_hold_status.as_ref().map(|_| "x-amz-object-lock-legal-hold")),
        }
    };
}
pub(crate) use said;

impl Said {
    pub(crate) fn into_attributes(self) -> S3Result<Attributes> {
        if let Some(header) = self.unsupported {
            return Err(s3_error!(
                NotImplemented,
                "The header {header} implies functionality that is not implemented."
            ));
        }
        Ok(Attributes {
            content_type: self.content_type,
            content_encoding: self.content_encoding.and_then(without_aws_chunked),
            content_language: self.content_language,
            content_disposition: self.content_disposition,
            cache_control: self.cache_control,
            expires: self.expires,
            website_redirect: self.website_redirect,
            user_metadata: user_metadata(self.metadata)?,
            tags: self.tagging.as_deref().map(parse_tagging).transpose()?.unwrap_or_default(),
            storage_class: storage_class(self.storage_class)?,
        })
    }
}

pub(crate) fn storage_class(wanted: Option<StorageClass>) -> S3Result<String> {
    let wanted = wanted.as_ref().map_or(StorageClass::STANDARD, StorageClass::as_str);
    if STORAGE_CLASSES.contains(&wanted) { Ok(wanted.to_owned()) } else { Err(s3_error!(InvalidStorageClass)) }
}

/// In name order, so that equal metadata has equal records.
fn user_metadata(metadata: Option<Metadata>) -> S3Result<Vec<(String, String)>> {
    let mut pairs: Vec<(String, String)> = metadata.unwrap_or_default().into_iter().collect();
    let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > USER_METADATA_MAX_BYTES {
        return Err(s3_error!(
            MetadataTooLarge,
            "Your metadata headers exceed the maximum allowed metadata size: {bytes} > {USER_METADATA_MAX_BYTES} bytes"
        ));
    }
    pairs.sort();
    Ok(pairs)
}

/// `aws-chunked` describes the request, not the object.
fn without_aws_chunked(encoding: String) -> Option<String> {
    let kept: Vec<&str> = encoding
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

/// The `x-amz-tagging` header.
fn parse_tagging(text: &str) -> S3Result<Vec<(String, String)>> {
    let malformed = || {
        s3_error!(
            InvalidArgument,
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates."
        )
    };
    let mut tags = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        tags.push((form_decode(name).ok_or_else(malformed)?, form_decode(value).ok_or_else(malformed)?));
    }
    check_tags(&tags)?;
    Ok(tags)
}

/// At most ten, with distinct keys of 1 to 128 and values of at most 256 characters.
pub(crate) fn check_tags(tags: &[(String, String)]) -> S3Result<()> {
    if tags.len() > TAGS_MAX {
        return Err(custom(
            "BadRequest",
            http::StatusCode::BAD_REQUEST,
            format!("Object tags cannot be greater than {TAGS_MAX}"),
        ));
    }
    for (index, (key, value)) in tags.iter().enumerate() {
        if key.is_empty() || key.chars().count() > TAG_KEY_MAX_CHARS {
            return Err(s3_error!(InvalidTag, "The TagKey you have provided is invalid"));
        }
        if value.chars().count() > TAG_VALUE_MAX_CHARS {
            return Err(s3_error!(InvalidTag, "The TagValue you have provided is invalid"));
        }
        if tags[..index].iter().any(|(other, _)| other == key) {
            return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use s3s::dto::PutObjectInput;

    use super::*;

    fn attributes(change: impl FnOnce(&mut PutObjectInput)) -> S3Result<Attributes> {
        let mut input = PutObjectInput::default();
        change(&mut input);
        said!(input).into_attributes()
    }

    #[test]
    fn aws_chunked_is_not_an_encoding_of_the_object() {
        for (sent, kept) in [
            ("aws-chunked", None),
            ("gzip,aws-chunked", Some("gzip")),
            ("AWS-chunked, gzip , br", Some("gzip, br")),
            ("gzip", Some("gzip")),
        ] {
            let got = attributes(|input| input.content_encoding = Some(sent.into())).unwrap();
            assert_eq!(got.content_encoding.as_deref(), kept, "{sent}");
        }
    }

    #[test]
    fn user_metadata_is_bounded_and_sorted() {
        let fill = |bytes: usize| {
            attributes(|input| input.metadata = Some(Metadata::from([("name".into(), "v".repeat(bytes - 4))])))
        };
        assert!(fill(USER_METADATA_MAX_BYTES).is_ok());
        assert_eq!(fill(USER_METADATA_MAX_BYTES + 1).unwrap_err().code().as_str(), "MetadataTooLarge");
        let pairs = Metadata::from([("b".into(), "2".into()), ("a".into(), "1".into())]);
        let got = attributes(|input| input.metadata = Some(pairs)).unwrap();
        assert_eq!(got.user_metadata, [("a".into(), "1".into()), ("b".into(), "2".into())]);
    }

    #[test]
    fn tags_come_url_encoded() {
        let got = attributes(|input| input.tagging = Some("a=1&b+c=%C3%A9&d".into())).unwrap();
        assert_eq!(got.tags, [("a".into(), "1".into()), ("b c".into(), "é".into()), ("d".into(), String::new())]);
        for text in ["a=%zz", "a=1&a=2"] {
            assert!(attributes(|input| input.tagging = Some(text.into())).is_err(), "{text}");
        }
    }

    #[test]
    fn storage_classes_are_known_or_refused() {
        assert_eq!(attributes(|_| ()).unwrap().storage_class, "STANDARD");
        let unknown = attributes(|input| input.storage_class = Some(StorageClass::from_static("COLD")));
        assert_eq!(unknown.unwrap_err().code().as_str(), "InvalidStorageClass");
    }

    #[test]
    fn encryption_and_locks_are_not_silently_ignored() {
        let encrypted = attributes(|input| input.server_side_encryption = Some("AES256".to_owned().into()));
        assert_eq!(encrypted.unwrap_err().code().as_str(), "NotImplemented");
    }

    fn code(tags: &[(&str, &str)]) -> String {
        let tags: Vec<_> = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        check_tags(&tags).err().map_or_else(|| "ok".into(), |error| error.code().as_str().to_owned())
    }

    #[test]
    fn tags_are_few_short_and_distinct() {
        assert_eq!(code(&[]), "ok");
        assert_eq!(code(&[("a", ""), ("b", "2")]), "ok");
        assert_eq!(code(&[("a", "1"), ("a", "2")]), "InvalidTag");
        assert_eq!(code(&[("", "1")]), "InvalidTag");
        assert_eq!(code(&[(&"k".repeat(129), "1")]), "InvalidTag");
        assert_eq!(code(&[("k", &"é".repeat(257))]), "InvalidTag");
        assert_eq!(code(&[("k", &"é".repeat(256))]), "ok");
        let keys: Vec<String> = (0..11).map(|number| number.to_string()).collect();
        let many: Vec<_> = keys.iter().map(|key| (key.as_str(), "")).collect();
        assert_eq!(code(&many), "BadRequest");
    }
}
