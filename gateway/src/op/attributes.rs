//! What clients say about an object: content headers, user metadata, tags, storage class.

use cairn_schema::record::{Attributes, Lock};
use http::{HeaderName, HeaderValue};
use s3s::{
    S3Result,
    dto::{Metadata, StorageClass},
    s3_error,
};

use super::tag_set::{self, Tagged};
use crate::{
    error::{WithField, custom, invalid_argument},
    percent::form_decode,
};

/// Of user metadata: all names and values together.
pub(crate) const USER_METADATA_MAX_BYTES: usize = 2048;

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
    pub(crate) lock: Lock,
}

macro_rules! said {
    ($input:expr, $lock:expr) => {
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
            lock: $lock,
        }
    };
}
pub(crate) use said;

impl Said {
    pub(crate) fn into_attributes(self) -> S3Result<Attributes> {
        let attributes = Attributes {
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
            lock: self.lock,
        };
        check_headers(&attributes)?;
        attributes.website_redirect.as_deref().map(check_redirect).transpose()?;
        Ok(attributes)
    }
}

/// S3 redirects to other sites and to its own objects.
fn check_redirect(location: &str) -> S3Result<()> {
    if ["/", "http://", "https://"].iter().any(|beginning| location.starts_with(beginning)) {
        return Ok(());
    }
    let message = "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.";
    Err(custom("InvalidRedirectLocation", http::StatusCode::BAD_REQUEST, message))
}

/// What is kept must be fit to be sent as headers again, or the object could never be read. Forms can say anything.
fn check_headers(attributes: &Attributes) -> S3Result<()> {
    for (name, value) in [
        ("Content-Type", &attributes.content_type),
        ("Content-Encoding", &attributes.content_encoding),
        ("Content-Language", &attributes.content_language),
        ("Content-Disposition", &attributes.content_disposition),
        ("Cache-Control", &attributes.cache_control),
        ("Expires", &attributes.expires),
        ("x-amz-website-redirect-location", &attributes.website_redirect),
    ] {
        if value.as_deref().is_some_and(|value| !is_header_value(value)) {
            let message = format!("The value of {name} has characters that a header cannot have.");
            return Err(invalid_argument(name, value.as_deref().unwrap_or_default(), message));
        }
    }
    if let Some((name, _)) = attributes.user_metadata.iter().find(|(name, _)| !is_metadata_name(name)) {
        let message = "A name of user metadata has characters that a header's name cannot have.";
        return Err(invalid_argument("x-amz-meta", name, message));
    }
    Ok(())
}

pub(crate) fn is_header_value(value: &str) -> bool {
    HeaderValue::from_bytes(value.as_bytes()).is_ok()
}

/// Values of user metadata may be anything: those that a header cannot have are encoded.
pub(crate) fn is_metadata_name(name: &str) -> bool {
    HeaderName::try_from(format!("x-amz-meta-{name}")).is_ok()
}

pub(crate) fn storage_class(wanted: Option<StorageClass>) -> S3Result<String> {
    let wanted = wanted.as_ref().map_or(StorageClass::STANDARD, StorageClass::as_str);
    if !STORAGE_CLASSES.contains(&wanted) {
        return Err(s3_error!(InvalidStorageClass).with("StorageClassRequested", wanted));
    }
    Ok(wanted.to_owned())
}

/// In name order, so that equal metadata has equal records.
fn user_metadata(metadata: Option<Metadata>) -> S3Result<Vec<(String, String)>> {
    let mut pairs: Vec<(String, String)> = metadata.unwrap_or_default().into_iter().collect();
    let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > USER_METADATA_MAX_BYTES {
        return Err(s3_error!(MetadataTooLarge).with("Size", bytes).with("MaxSizeAllowed", USER_METADATA_MAX_BYTES));
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
        let message = "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.";
        invalid_argument("x-amz-tagging", text, message)
    };
    let mut tags = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        tags.push((form_decode(name).ok_or_else(malformed)?, form_decode(value).ok_or_else(malformed)?));
    }
    tag_set::check(&tags, Tagged::Object)?;
    Ok(tags)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use s3s::dto::PutObjectInput;

    use super::*;

    fn attributes(change: impl FnOnce(&mut PutObjectInput)) -> S3Result<Attributes> {
        let mut input = PutObjectInput::default();
        change(&mut input);
        said!(input, Lock::default()).into_attributes()
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
    fn what_no_header_can_have_is_not_kept() {
        let refused = |change: fn(&mut PutObjectInput)| attributes(change).unwrap_err().code().as_str().to_owned();
        assert_eq!(refused(|input| input.content_type = Some("text/\nplain".into())), "InvalidArgument");
        assert_eq!(refused(|input| input.expires = Some("\u{7f}".into())), "InvalidArgument");
        assert_eq!(refused(|input| input.website_redirect_location = Some("/\0".into())), "InvalidArgument");
        let named = |name: &str| Metadata::from([(name.to_owned(), "v\n".to_owned())]);
        assert!(attributes(|input| input.metadata = Some(named("a b"))).is_err());
        assert!(attributes(|input| input.metadata = Some(named("a-b"))).is_ok());
        assert!(attributes(|input| input.content_disposition = Some("attachment; filename=\u{e9}".into())).is_ok());
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
}
