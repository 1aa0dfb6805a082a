//! Sets of tags, which objects and buckets have.

use bytes::Bytes;
use s3s::{S3Error, S3Result, s3_error};

use crate::{
    error::{WithField, custom},
    xml::{Element, Writer, XmlError},
};

/// What has the tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tagged {
    Object,
    Bucket,
}

const OBJECT_TAGS_MAX: usize = 10;
const BUCKET_TAGS_MAX: usize = 50;
const KEY_MAX_CHARS: usize = 128;
const VALUE_MAX_CHARS: usize = 256;
/// What S3 takes in a tag besides letters, digits and spaces.
const PUNCTUATION: &str = "_.:/=+-@";

/// In the order of the document.
pub(super) fn read(root: &Element) -> Result<Vec<(String, String)>, XmlError> {
    let [set] = root.fields(["TagSet"])?;
    let ([], tags) = root.required(set, "TagSet")?.fields_and_list([], Some("Tag"))?;
    read_tags(tags)
}

pub(super) fn read_tags(tags: Vec<&Element>) -> Result<Vec<(String, String)>, XmlError> {
    let read = |tag: &Element| {
        let [key, value] = tag.fields(["Key", "Value"])?;
        let key = tag.required(key, "Key")?.value()?.to_owned();
        Ok((key, tag.required(value, "Value")?.value()?.to_owned()))
    };
    tags.into_iter().map(read).collect()
}

pub(super) fn write(tags: &[(String, String)]) -> Bytes {
    Writer::document("Tagging", |xml| {
        xml.element("TagSet", |xml| {
            for (key, value) in tags {
                xml.element("Tag", |xml| {
                    xml.text("Key", key);
                    xml.text("Value", value);
                });
            }
        });
    })
}

/// Few, with distinct keys of 1 to 128 and values of at most 256 characters.
pub(super) fn check(tags: &[(String, String)], tagged: Tagged) -> S3Result<()> {
    match tagged {
        Tagged::Object if tags.len() > OBJECT_TAGS_MAX => {
            return Err(too_many(format!("Object tags cannot be greater than {OBJECT_TAGS_MAX}")));
        }
        Tagged::Bucket if tags.len() > BUCKET_TAGS_MAX => {
            return Err(too_many(format!("Bucket tag count cannot be greater than {BUCKET_TAGS_MAX}")));
        }
        Tagged::Object | Tagged::Bucket => {}
    }
    for (index, (key, value)) in tags.iter().enumerate() {
        if key.is_empty() || key.chars().count() > KEY_MAX_CHARS || !key.chars().all(is_allowed) {
            return Err(s3_error!(InvalidTag, "The TagKey you have provided is invalid").with("TagKey", key));
        }
        if value.chars().count() > VALUE_MAX_CHARS || !value.chars().all(is_allowed) {
            return Err(s3_error!(InvalidTag, "The TagValue you have provided is invalid").with("TagValue", value));
        }
        if tags[..index].iter().any(|(other, _)| other == key) {
            return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key").with("TagKey", key));
        }
        if key.starts_with("aws:") {
            return Err(of_the_system(tagged).with("TagKey", key));
        }
    }
    Ok(())
}

fn is_allowed(char: char) -> bool {
    char.is_alphanumeric() || (char.is_whitespace() && !char.is_control()) || PUNCTUATION.contains(char)
}

fn too_many(message: String) -> S3Error {
    custom("BadRequest", http::StatusCode::BAD_REQUEST, message)
}

/// Keys of a prefix that is kept for S3's own tags.
fn of_the_system(tagged: Tagged) -> S3Error {
    match tagged {
        Tagged::Object => s3_error!(InvalidTag, "Your TagKey cannot be prefixed with aws:"),
        Tagged::Bucket => s3_error!(InvalidTag, "System tags cannot be added/updated by requester"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::xml::parse;

    fn code(tags: &[(&str, &str)], tagged: Tagged) -> String {
        let tags: Vec<_> = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        check(&tags, tagged).err().map_or_else(|| "ok".into(), |error| error.code().as_str().to_owned())
    }

    #[test]
    fn tags_are_few_short_and_distinct() {
        for tagged in [Tagged::Object, Tagged::Bucket] {
            for (tags, outcome) in [
                (&[][..], "ok"),
                (&[("a", ""), ("b", "2")], "ok"),
                (&[("a", "1"), ("a", "2")], "InvalidTag"),
                (&[("", "1")], "InvalidTag"),
                (&[(&"k".repeat(129), "1")], "InvalidTag"),
                (&[("k", &"é".repeat(257))], "InvalidTag"),
                (&[("k", &"é".repeat(256))], "ok"),
                (&[("a b", "x_.:/=+-@\u{a0}7")], "ok"),
                (&[("a\tb", "1")], "InvalidTag"),
                (&[("a", "<1>")], "InvalidTag"),
                (&[("aws:a", "1")], "InvalidTag"),
                (&[("AWS:a", "1")], "ok"),
            ] {
                assert_eq!(code(tags, tagged), outcome, "{tagged:?} {tags:?}");
            }
        }
        let keys: Vec<String> = (0..51).map(|number| number.to_string()).collect();
        let many: Vec<_> = keys.iter().map(|key| (key.as_str(), "")).collect();
        assert_eq!(code(&many[..10], Tagged::Object), "ok");
        assert_eq!(code(&many[..11], Tagged::Object), "BadRequest");
        assert_eq!(code(&many[..50], Tagged::Bucket), "ok");
        assert_eq!(code(&many, Tagged::Bucket), "BadRequest");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let tags = vec![("b".to_owned(), " 1 ".to_owned()), ("a&".to_owned(), String::new())];
        assert_eq!(read(parse(&write(&tags)).unwrap().root("Tagging").unwrap()).unwrap(), tags);
    }
}
