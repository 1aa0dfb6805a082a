//! `x-amz-copy-source`: `bucket/key`, or `/bucket/key`, and perhaps `?versionId=id` behind it.

use http::HeaderValue;
use s3s::{S3Result, path::check_bucket_name, s3_error};

use crate::{
    error::invalid_argument,
    percent::{form_decode, url_encode},
};

const COPY_SOURCE: &str = "x-amz-copy-source";

/// What the header names, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopySource {
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// As it stands there; empty means none.
    pub(crate) version_id: Option<String>,
}

impl CopySource {
    /// Decodes as forms are: clients write a space as `%20` or as `+`, and some send UTF-8 as it is.
    pub(crate) fn parse(value: &HeaderValue) -> S3Result<Self> {
        let shown = String::from_utf8_lossy(value.as_bytes());
        let wrong = |what: &str| invalid_argument(COPY_SOURCE, &shown, format!("Invalid copy source {what}"));
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| wrong("encoding"))?;
        let (path, version_id) = match text.split_once("?versionId=") {
            Some((path, id)) => (path, Some(form_decode(id).ok_or_else(|| wrong("encoding"))?)),
            None => (text, None),
        };
        // The whole of it may be encoded, its slashes too.
        let path = form_decode(path).ok_or_else(|| wrong("encoding"))?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        if path.starts_with("arn:") {
            return Err(s3_error!(
                NotImplemented,
                "Access points are not implemented: name the source of a copy as bucket/key."
            ));
        }
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        if !check_bucket_name(bucket) {
            return Err(wrong("bucket name"));
        }
        if key.is_empty() {
            return Err(wrong("object key"));
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned(), version_id })
    }

    /// The one spelling of it that `s3s` reads.
    pub(crate) fn to_header(&self) -> S3Result<HeaderValue> {
        let mut text = format!("{}/{}", self.bucket, url_encode(&self.key));
        if let Some(id) = &self.version_id {
            text += "?versionId=";
            text += &url_encode(id);
        }
        HeaderValue::try_from(&text).map_err(|_| invalid_argument(COPY_SOURCE, &text, "Invalid copy source encoding"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(text: &[u8]) -> S3Result<(String, String, Option<String>)> {
        let source = CopySource::parse(&HeaderValue::from_bytes(text).unwrap())?;
        // What is handed on means the same.
        assert_eq!(CopySource::parse(&source.to_header()?)?, source);
        Ok((source.bucket, source.key, source.version_id))
    }

    #[test]
    fn sources_are_read_however_they_are_encoded() {
        for (text, key, version_id) in [
            ("bkt/a b", "a b", None),
            ("bkt/a+b", "a b", None),
            ("bkt/a%2Bb", "a+b", None),
            ("bkt/a%20b", "a b", None),
            ("/bkt/a%2fb", "a/b", None),
            ("bkt%2Fa%2Fb", "a/b", None),
            ("%2Fbkt%2Fa", "a", None),
            ("bkt/é%20🎉", "é 🎉", None),
            ("bkt/%C3%A9", "é", None),
            ("bkt//", "/", None),
            ("bkt/a?b", "a?b", None),
            ("bkt/a%3FversionId%3Dx", "a?versionId=x", None),
            ("bkt/a?versionId=x", "a", Some("x")),
            ("bkt/a?versionId=", "a", Some("")),
            ("bkt/a?versionId=null", "a", Some("null")),
        ] {
            let wanted = ("bkt".to_owned(), key.to_owned(), version_id.map(str::to_owned));
            assert_eq!(parse(text.as_bytes()).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn what_names_no_object_is_refused_for_what_it_is() {
        for (text, code, message) in [
            (&b"bkt/%ZZ"[..], "InvalidArgument", "encoding"),
            (b"bkt/%C3", "InvalidArgument", "encoding"),
            (b"bkt/\xff", "InvalidArgument", "encoding"),
            (b"bkt/a?versionId=%", "InvalidArgument", "encoding"),
            (b"", "InvalidArgument", "bucket"),
            (b"/", "InvalidArgument", "bucket"),
            (b"//a", "InvalidArgument", "bucket"),
            (b"192.168.1.1/foo", "InvalidArgument", "bucket"),
            (b"my-buc@k/obj", "InvalidArgument", "bucket"),
            (b"bkt", "InvalidArgument", "key"),
            (b"bkt/", "InvalidArgument", "key"),
            (b"arn:aws:s3:us-east-1:123456789012:accesspoint/ap/object/k", "NotImplemented", "Access points"),
            (b"arn%3Aaws%3As3%3A%3A%3Abkt/k", "NotImplemented", "Access points"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.code().as_str(), code, "{}", String::from_utf8_lossy(text));
            assert!(error.message().unwrap().contains(message), "{error:?}");
        }
    }
}
