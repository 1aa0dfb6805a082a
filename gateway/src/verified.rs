//! What the verification of a signature found out, on its way past the second reading of a request.

use std::sync::Arc;

use http::{Extensions, HeaderMap, Request, Uri};
use parking_lot::Mutex;
use s3s::{Body, S3Request, TrailingHeaders, auth::Credentials, region::Region};

/// What the second reading must not see, and the operations get back.
pub(crate) struct Verified {
    credentials: Option<Credentials>,
    region: Option<Region>,
    trailing_headers: Option<TrailingHeaders>,
    headers: HeaderMap,
    uri: Uri,
}

#[derive(Clone)]
struct Carried(Arc<Mutex<Option<Verified>>>);

/// The request with other headers and another address, for the second reading.
pub(crate) fn carry(request: S3Request<Body>, headers: HeaderMap, uri: Uri) -> Request<Body> {
    let verified = Verified {
        credentials: request.credentials,
        region: request.region,
        trailing_headers: request.trailing_headers,
        headers: request.headers,
        uri: request.uri,
    };
    let mut carried = Request::new(request.input);
    *carried.method_mut() = request.method;
    *carried.uri_mut() = uri;
    *carried.headers_mut() = headers;
    *carried.extensions_mut() = request.extensions;
    carried.extensions_mut().insert(Carried(Arc::new(Mutex::new(Some(verified)))));
    carried
}

impl Verified {
    /// None of a request that was not signed.
    pub(crate) fn access_key(&self) -> Option<&str> {
        self.credentials.as_ref().map(|credentials| credentials.access_key.as_str())
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }
}

/// Takes it out of a request at its second reading, for as long as access is judged.
pub(crate) fn take(extensions: &Extensions) -> Option<Verified> {
    extensions.get::<Carried>()?.0.lock().take()
}

pub(crate) fn put_back(extensions: &Extensions, verified: Verified) {
    if let Some(carried) = extensions.get::<Carried>() {
        *carried.0.lock() = Some(verified);
    }
}

/// Makes of a request after its second reading what its client sent, with the identity that was verified.
pub(crate) fn restore<T>(request: &mut S3Request<T>) {
    let Some(Carried(carried)) = request.extensions.remove() else { return };
    let Some(verified) = carried.lock().take() else { return };
    request.credentials = verified.credentials;
    request.region = verified.region;
    request.trailing_headers = verified.trailing_headers;
    request.headers = verified.headers;
    request.uri = verified.uri;
}
