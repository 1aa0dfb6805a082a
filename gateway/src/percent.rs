//! Percent-encoding, as S3 writes and reads it.

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

/// Decodes percent-encoding; a plus sign is itself. None when it is malformed or not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    form_decode(&text.replace('+', "%2B"))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_encoded_as_clients_decode_them() {
        assert_eq!(url_encode("a b/c+é~.txt"), "a%20b/c%2B%C3%A9~.txt");
    }

    #[test]
    fn malformed_text_is_not_decoded() {
        for text in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(form_decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn encoded_text_comes_back(text in ".{0,80}") {
            prop_assert_eq!(form_decode(&url_encode(&text)).unwrap(), text);
        }
    }
}
