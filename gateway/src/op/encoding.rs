//! `encoding-type=url`, opaque continuation tokens, and the `k=v&…` form of tags.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use s3s::{S3Result, dto::EncodingType};

use crate::{error::invalid_argument, percent::url_encode};

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
            Some(other) => {
                Err(invalid_argument("encoding-type", other, "Invalid Encoding Method specified in Request"))
            }
        }
    }

    pub(crate) fn encode(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Plain => text.into(),
            Self::Url => url_encode(text).into(),
        }
    }

    /// As the answer names it.
    pub(crate) fn answer(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Url => Some("url"),
        }
    }
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
        .ok_or_else(|| invalid_argument("continuation-token", token, "The continuation token provided is incorrect"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_encoded_as_clients_decode_them() {
        assert_eq!(KeyEncoding::Plain.encode("a b"), "a b");
    }

    #[test]
    fn bad_tokens_and_encodings_are_refused() {
        for token in ["", "!!", "AA", "Av8"] {
            assert!(parse_token(token).is_err(), "{token}");
        }
        assert!(KeyEncoding::parse(Some(&EncodingType::from_static("base64"))).is_err());
    }

    proptest! {
        #[test]
        fn tokens_come_back(text in ".{0,80}") {
            prop_assert_eq!(parse_token(&token(&text)).unwrap(), text);
        }
    }
}
