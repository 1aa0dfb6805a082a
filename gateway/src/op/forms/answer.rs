//! What a browser is answered: a redirect, a document, or nothing.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use s3s::{Body, S3Response};

use super::fields::Fields;
use crate::{answer::documented, percent::url_encode, shown::quoted, xml::Writer};

/// What the form asks to be answered once its file is stored.
pub(super) enum Wanted {
    /// To this address, to which what was stored is added.
    Redirect(String),
    Status(StatusCode),
}

/// What was stored.
pub(super) struct Stored<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    /// Without quotes.
    pub(super) etag: &'a str,
    /// The object's address.
    pub(super) location: &'a str,
    /// Checksums and the version.
    pub(super) headers: HeaderMap,
}

impl Wanted {
    /// A redirect that is no address is passed over, as is a status that S3 does not answer.
    pub(super) fn of(fields: &Fields) -> Self {
        let redirect = fields.get("success_action_redirect").or_else(|| fields.get("redirect"));
        if let Some(address) = redirect.filter(|address| is_address(address)) {
            return Self::Redirect(address.to_owned());
        }
        match fields.get("success_action_status") {
            Some("200") => Self::Status(StatusCode::OK),
            Some("201") => Self::Status(StatusCode::CREATED),
            _ => Self::Status(StatusCode::NO_CONTENT),
        }
    }

    pub(super) fn answer(self, stored: Stored<'_>) -> S3Response<Body> {
        let etag = quoted(stored.etag);
        let location = match &self {
            Self::Redirect(address) => redirect(address, &stored, &etag),
            Self::Status(_) => stored.location.to_owned(),
        };
        let mut response = match self {
            Self::Redirect(_) => with_status(StatusCode::SEE_OTHER),
            Self::Status(StatusCode::CREATED) => created(&stored, &etag),
            Self::Status(status) => with_status(status),
        };
        response.headers.extend(stored.headers);
        for (name, value) in [(header::ETAG, etag), (header::LOCATION, location)] {
            // An address was looked at before, the rest is percent-encoded.
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers.insert(name, value);
            }
        }
        response
    }
}

fn with_status(status: StatusCode) -> S3Response<Body> {
    let mut response = S3Response::new(Body::empty());
    response.status = Some(status);
    response
}

fn created(stored: &Stored<'_>, etag: &str) -> S3Response<Body> {
    let document = Writer::plain_document("PostResponse", |xml| {
        xml.text("Location", stored.location);
        xml.text("Bucket", stored.bucket);
        xml.text("Key", stored.key);
        xml.text("ETag", etag);
    });
    let mut response = documented(document);
    response.status = Some(StatusCode::CREATED);
    response
}

fn is_address(text: &str) -> bool {
    let absolute = text.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str().is_some_and(|scheme| ["http", "https"].contains(&scheme)) && uri.host().is_some()
    });
    absolute && HeaderValue::from_str(text).is_ok()
}

fn redirect(address: &str, stored: &Stored<'_>, etag: &str) -> String {
    let (address, fragment) = address.split_once('#').map_or((address, None), |(address, rest)| (address, Some(rest)));
    let joint = if address.contains('?') { '&' } else { '?' };
    let [bucket, key, etag] = [stored.bucket, stored.key, etag].map(|text| url_encode(text).replace('/', "%2F"));
    let fragment = fragment.map(|fragment| format!("#{fragment}")).unwrap_or_default();
    format!("{address}{joint}bucket={bucket}&key={key}&etag={etag}{fragment}")
}
