//! A form as it comes: fields, then the file. What follows the file is not looked at.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use s3s::{Body, S3Result};
use s3s_multipart::{Boundary, Multipart, Part, parse_content_disposition};

use super::{
    file::{FileBody, SharedBody},
    malformed::{FIELDS_MAX_BYTES, malformed, read_error, too_many_fields},
};
use crate::error::invalid_argument;

/// Of one part's header block.
const PART_HEADER_MAX_BYTES: usize = 8 << 10;
const FIELDS_MAX: usize = 100;

/// The fields before the file, by lower-case name.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A field that S3 wants there.
    pub(super) fn required(&self, name: &str) -> S3Result<&str> {
        self.get(name).ok_or_else(|| {
            let message = format!(
                "Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields."
            );
            invalid_argument(name, "", message)
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Pairs of the fields whose names begin so, without that beginning.
    pub(super) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Those that could be headers of a PUT, as such.
    pub(super) fn headers(&self) -> HeaderMap {
        let header = |(name, value): &(String, String)| {
            Some((HeaderName::try_from(name.as_str()).ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?))
        };
        self.0.iter().filter_map(header).collect()
    }

    /// `${filename}` in the key is the name of the file.
    fn name_key_after(&mut self, file_name: &str) {
        if let Some((_, key)) = self.0.iter_mut().find(|(name, _)| name == "key") {
            *key = key.replace("${filename}", file_name);
        }
    }

    pub(super) fn add(&mut self, name: String, value: String) -> S3Result<()> {
        if self.get(&name).is_some() {
            let message = format!("The form field '{name}' is given more than once.");
            return Err(invalid_argument(&name, &value, message));
        }
        if self.0.len() == FIELDS_MAX {
            return Err(too_many_fields());
        }
        self.0.push((name, value));
        Ok(())
    }
}

/// A form up to its file.
pub(super) struct Form {
    pub(super) fields: Fields,
    pub(super) file: FileBody,
}

impl Form {
    pub(super) async fn read(headers: &HeaderMap, body: Body) -> S3Result<Self> {
        let boundary = boundary(headers).ok_or_else(|| malformed("its boundary is missing or invalid"))?;
        let body = SharedBody::new(body);
        let mut parts = Multipart::new(body.clone(), &boundary, PART_HEADER_MAX_BYTES);
        let mut fields = Fields::default();
        let mut bytes = 0;
        loop {
            let Some(mut part) = parts.next_part().await.map_err(read_error)? else {
                let error = invalid_argument("file", "0", "POST requires exactly one file upload per request.");
                return Err(error);
            };
            let (name, file_name) = described(&mut part).await?;
            if name == "file" {
                fields.name_key_after(&file_name);
                let data = part.take_data_stream().map_err(read_error)?;
                return Ok(Self { fields, file: FileBody::new(data, body, &boundary) });
            }
            bytes += name.len();
            let room = FIELDS_MAX_BYTES.checked_sub(bytes).ok_or_else(too_many_fields)?;
            let value = value(&mut part, room).await?;
            bytes += value.len();
            fields.add(name, value)?;
        }
    }
}

fn boundary(headers: &HeaderMap) -> Option<Boundary> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let parameter = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim())
    })?;
    Boundary::new(parameter.trim_matches('"').as_bytes()).ok()
}

/// The name of a field in lower case, and that of a file as it was on the client's machine.
async fn described(part: &mut Part<'_, SharedBody>) -> S3Result<(String, String)> {
    let mut found = None;
    while let Some(header) = part.next_header().await.map_err(read_error)? {
        if header.name.eq_ignore_ascii_case("content-disposition") {
            let disposition = parse_content_disposition(header.value);
            found = disposition.and_then(|disposition| {
                let file_name = disposition.file_name.unwrap_or_default();
                Some((disposition.name?.to_vec(), file_name.to_vec()))
            });
        }
    }
    let (name, file_name) = found.ok_or_else(|| malformed("a part of it has no name"))?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| malformed("a name in it is not UTF-8"));
    let file_name = unescaped(&text(file_name)?);
    // Some browsers send the whole path.
    let file_name = file_name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    Ok((unescaped(&text(name)?).to_lowercase(), file_name))
}

/// `\"` and `\\` in a quoted name.
fn unescaped(text: &str) -> String {
    text.replace("\\\"", "\"").replace("\\\\", "\\")
}

async fn value(part: &mut Part<'_, SharedBody>, max_bytes: usize) -> S3Result<String> {
    let mut value = Vec::new();
    while let Some(data) = part.next_data().await.map_err(read_error)? {
        let data: Bytes = data;
        if value.len() + data.len() > max_bytes {
            return Err(too_many_fields());
        }
        value.extend_from_slice(&data);
    }
    String::from_utf8(value).map_err(|_| malformed("a field's value is not UTF-8"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn with_type(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))])
    }

    async fn read(body: &str) -> S3Result<Form> {
        let body = body.replace('\n', "\r\n");
        Form::read(&with_type("multipart/form-data; boundary=b"), Body::from(body)).await
    }

    #[test]
    fn boundaries_are_found_in_any_spelling() {
        for content_type in [
            "multipart/form-data; boundary=b",
            "multipart/form-data;charset=utf-8;Boundary=\"b\"",
            "multipart/form-data; boundary = b ; x=y",
        ] {
            assert_eq!(boundary(&with_type(content_type)).unwrap().as_bytes(), b"b", "{content_type}");
        }
        for content_type in
            ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=a{b"]
        {
            assert!(boundary(&with_type(content_type)).is_none(), "{content_type}");
        }
    }

    #[tokio::test]
    async fn fields_come_before_the_file_and_name_the_key_after_it() {
        let form = read(
            "--b\nContent-Disposition: form-data; name=\"KEY\"\n\nuploads/${filename}\n--b\ncontent-disposition: form-data; \
             name=\"x-amz-meta-a\"\n\n\u{e9}\n--b\nContent-Disposition: form-data; name=\"file\"; filename=\"C:\\dir\\a \\\"b\\\".txt\"\n\n",
        )
        .await
        .unwrap();
        assert_eq!(form.fields.get("key"), Some("uploads/a \"b\".txt"));
        assert_eq!(form.fields.with_prefix("x-amz-meta-").collect::<Vec<_>>(), [("a", "\u{e9}")]);
        assert_eq!(form.fields.required("policy").unwrap_err().code().as_str(), "InvalidArgument");
    }

    #[tokio::test]
    async fn bnd_1_fields_are_few_and_short() {
        let field =
            |name: &str, value: &str| format!("--b\nContent-Disposition: form-data; name=\"{name}\"\n\n{value}\n");
        let code = async |body: String| read(&body).await.err().unwrap().code().as_str().to_owned();
        let many: String = (0..FIELDS_MAX + 2).map(|number| field(&number.to_string(), "")).collect();
        assert_eq!(code(many).await, "MaxPostPreDataLengthExceededError");
        assert_eq!(code(field("a", &"v".repeat(FIELDS_MAX_BYTES))).await, "MaxPostPreDataLengthExceededError");
        assert_eq!(code(field(&"n".repeat(FIELDS_MAX_BYTES + 1), "")).await, "MaxPostPreDataLengthExceededError");
        assert_eq!(code(field("a", "1") + &field("A", "2") + "--b--\n").await, "InvalidArgument");
        assert_eq!(code(field("a", "1") + "--b--\n").await, "InvalidArgument");
        assert_eq!(code(field("a", "1")).await, "IncompleteBody");
        assert_eq!(code("--b\nX-Other: y\n\nvalue\n--b--\n".into()).await, "MalformedPOSTRequest");
    }
}
