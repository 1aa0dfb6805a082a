//! The `Expect` header.

use http::{Request, Version, header};

/// What a client wants to hear before it sends its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    Nothing,
    /// "100 Continue", or an answer that makes the body needless.
    Continue,
    /// Something that nobody has defined.
    Unknown,
}

/// HTTP/1.0 has no expectations (RFC 9110, 10.1.1). Over HTTP/2 hyper cannot send "100 Continue"; RFC 9110 lets a
/// server leave it out, and clients that wait for it there do so for a limited time.
pub(crate) fn expectation<B>(request: &Request<B>) -> Expectation {
    if request.version() < Version::HTTP_11 {
        return Expectation::Nothing;
    }
    let mut found = Expectation::Nothing;
    for value in request.headers().get_all(header::EXPECT) {
        if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Expectation::Unknown;
        }
        if request.version() == Version::HTTP_11 {
            found = Expectation::Continue;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(version: Version, values: &[&str]) -> Expectation {
        let mut request = Request::builder().version(version);
        for value in values {
            request = request.header("expect", *value);
        }
        expectation(&request.body(()).unwrap())
    }

    #[test]
    fn only_http_1_1_waits_and_only_for_100_continue() {
        use Expectation::{Continue, Nothing, Unknown};
        for (version, values, wanted) in [
            (Version::HTTP_11, &[][..], Nothing),
            (Version::HTTP_11, &["100-continue"], Continue),
            (Version::HTTP_11, &["100-Continue"], Continue),
            (Version::HTTP_11, &["100-continue", "100-continue"], Continue),
            (Version::HTTP_11, &["100-continue", "tea"], Unknown),
            (Version::HTTP_11, &["200-ok"], Unknown),
            (Version::HTTP_10, &["100-continue"], Nothing),
            (Version::HTTP_10, &["200-ok"], Nothing),
            (Version::HTTP_2, &["100-continue"], Nothing),
            (Version::HTTP_2, &["200-ok"], Unknown),
        ] {
            assert_eq!(of(version, values), wanted, "{version:?} {values:?}");
        }
    }
}
