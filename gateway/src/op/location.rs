//! Where an object can be found, as the answers to uploads tell.

use http::{HeaderMap, Uri, header, uri::Authority};

use super::Api;
use crate::percent::url_encode;

impl Api {
    /// By the name that the client called us, and as it came to us: headers in which a proxy may say otherwise are as
    /// easily the client's.
    pub(super) fn location(&self, uri: &Uri, headers: &HeaderMap, bucket: &str, key: &str) -> String {
        let path = format!("/{bucket}/{}", url_encode(key));
        match called(uri, headers) {
            Some(host) => format!("{}://{host}{path}", self.scheme),
            None => path,
        }
    }
}

/// HTTP/2 has the name in the address.
fn called(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let named = headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    named.or_else(|| uri.authority().cloned()).filter(|name| !name.as_str().contains('@'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_host_is_a_name_and_perhaps_a_port() {
        let of = |uri: &str, host: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
            }
            called(&uri.parse().unwrap(), &headers).map(|name| name.to_string())
        };
        for name in ["s3.example.com", "s3.example.com:9000", "192.0.2.1:9000", "[2001:db8::1]:9000"] {
            assert_eq!(of("/b/k", Some(name)).as_deref(), Some(name));
            assert_eq!(of(&format!("https://{name}/b/k"), None).as_deref(), Some(name));
        }
        for nonsense in ["", "a/b", "user@host", "a b", "<a>"] {
            assert_eq!(of("/b/k", Some(nonsense)), None, "{nonsense}");
        }
        assert_eq!(of("/b/k", None), None);
    }
}
