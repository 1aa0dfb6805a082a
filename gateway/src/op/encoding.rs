//! `encoding-type=url`, opaque continuation tokens, and the `k=v&…` form of tags.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use s3s::{S3Result, dto::EncodingType, s3_error};

/// Begins every token, so that another layout can be told apart later.
const TOKEN_VERSION: u8 = 1;

/// How keys are written in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyEncoding {
    Plain,
    Url,
}

impl KeyEncoding {
    pub(crate) fn parse(wanted: Option<&EncodingType>) -> S3Result<Self> {
        match wanted.map(EncodingType::as_str) {
            None | Some("") => Ok(Self::Plain),
            Some("url") => Ok(Self::Url),
            Some(_) => Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request")),
        }
    }

    pub(crate) fn encode(self, text: String) -> String {
        match self {
            Self::Plain => text,
            Self::Url => url_encode(&text),
        }
    }

    /// As the answer names it.
    pub(crate) fn answer(self) -> Option<EncodingType> {
        match self {
            Self::Plain => None,
            Self::Url => Some(EncodingType::from_static(EncodingType::URL)),
        }
    }
}

/// Percent-encodes all but unreserved characters and slashes.
pub(crate) fn url_encode(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(char::from(byte)),
            byte => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out
}

/// Decodes percent-encoding and, as in forms, `+` for a space. None when it is malformed or not UTF-8.
pub(crate) fn form_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                let digits = std::str::from_utf8(digits).ok()?;
                // from_str_radix would take a sign.
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = tail;
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// An opaque token for where a listing goes on.
pub(crate) fn token(next: &str) -> String {
    let mut raw = Vec::with_capacity(next.len() + 1);
    raw.push(TOKEN_VERSION);
    raw.extend_from_slice(next.as_bytes());
    URL_SAFE_NO_PAD.encode(raw)
}

pub(crate) fn parse_token(token: &str) -> S3Result<String> {
    let raw = URL_SAFE_NO_PAD.decode(token).ok();
    raw.as_deref()
        .and_then(|raw| raw.strip_prefix(&[TOKEN_VERSION]))
        .and_then(|next| String::from_utf8(next.to_vec()).ok())
        .ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_encoded_as_clients_decode_them() {
        assert_eq!(url_encode("a b/c+é~.txt"), "a%20b/c%2B%C3%A9~.txt");
        assert_eq!(KeyEncoding::Plain.encode("a b".into()), "a b");
    }

    #[test]
    fn bad_tokens_and_encodings_are_refused() {
        for token in ["", "!!", "AA", "Av8"] {
            assert!(parse_token(token).is_err(), "{token}");
        }
        assert!(KeyEncoding::parse(Some(&EncodingType::from_static("base64"))).is_err());
        for text in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(form_decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn tokens_and_encoded_keys_come_back(text in ".{0,80}") {
            prop_assert_eq!(parse_token(&token(&text)).unwrap(), text.clone());
            prop_assert_eq!(form_decode(&url_encode(&text)).unwrap(), text);
        }
    }
}
