//! Where an object can be found, as its upload is answered.

use http::{HeaderMap, header};

use crate::percent::url_encode;

/// By the name that the client called us.
pub(super) fn location(headers: &HeaderMap, bucket: &str, key: &str) -> String {
    let path = url_encode(key);
    match headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
        Some(host) => format!("http://{host}/{bucket}/{path}"),
        None => format!("/{bucket}/{path}"),
    }
}
