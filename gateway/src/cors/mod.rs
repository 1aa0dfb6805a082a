//! Cross-origin requests: what a browser may do for a page of another site, as the rules of the bucket say.

mod asked;
mod rules;

pub(crate) use asked::CrossOrigin;
pub(crate) use rules::Rules;

use std::{sync::Arc, time::Duration};

use cairn_schema::{Meta, MetaError, record::BucketDocument};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use s3s::{S3Error, S3Result, path::check_bucket_name, s3_error};

use self::rules::Rule;
use crate::{
    error::{WithField, custom, from_meta},
    recent::Recent,
    xml,
};

/// No answer waits longer for rules that only concern its headers.
const LOOKUP_TIME: Duration = Duration::from_secs(1);
const VARY: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";
const ALLOW_ORIGIN: HeaderName = header::ACCESS_CONTROL_ALLOW_ORIGIN;

/// The rules of all buckets, as they were within the last seconds. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cors {
    meta: Meta,
    /// With the bytes of their documents.
    known: Arc<Recent<(State, usize)>>,
}

/// What a bucket has.
#[derive(Clone, Debug)]
enum State {
    NoBucket,
    NoRules,
    Rules(Arc<Rules>),
}

impl Cors {
    pub(crate) fn new(meta: Meta) -> Self {
        Self { meta, known: Arc::default() }
    }

    /// The rules of a bucket were changed here. Other nodes go by the old ones for as long as they are believed.
    pub(crate) fn forget(&self, bucket: &str) {
        self.known.forget(bucket);
    }

    /// What an answer says besides, if the page that asked may read it. Nothing is asked of a store that does not
    /// answer soon.
    pub(crate) async fn headers(&self, asked: &CrossOrigin) -> HeaderMap {
        let Some(bucket) = asked.bucket() else { return HeaderMap::new() };
        let state = match tokio::time::timeout(LOOKUP_TIME, self.state(bucket)).await {
            Ok(Ok(state)) => Some(state),
            Ok(Err(_)) | Err(_) => self.known.however_old(bucket).map(|(state, _)| state),
        };
        granted(state.as_ref(), asked)
    }

    /// The same by what is remembered, without a look at the store.
    pub(crate) fn remembered_headers(&self, asked: &CrossOrigin) -> HeaderMap {
        let state = asked.bucket().and_then(|bucket| self.known.however_old(bucket)).map(|(state, _)| state);
        granted(state.as_ref(), asked)
    }

    /// The answer to a browser that asks before it sends a request: the headers of a 200.
    pub(crate) async fn preflight(&self, asked: &CrossOrigin) -> S3Result<HeaderMap> {
        if asked.origin().is_none() {
            return Err(bad_request("Insufficient information. Origin request header needed."));
        }
        let state = match asked.bucket() {
            Some(bucket) => self.state(bucket).await?,
            None => State::NoBucket,
        };
        let rules = match state {
            State::NoBucket => return Err(forbidden("CORSResponse: Bucket not found", asked, "BUCKET")),
            State::NoRules => {
                return Err(forbidden("CORSResponse: CORS is not enabled for this bucket.", asked, "BUCKET"));
            }
            State::Rules(rules) => rules,
        };
        let method = asked.requested_method();
        if !method.is_some_and(rules::is_method) {
            let method = method.unwrap_or("null");
            return Err(bad_request(format!("Invalid Access-Control-Request-Method: {method}")));
        }
        match rules.first_that_allows(asked) {
            Some(rule) => Ok(allowed_by(rule, asked)),
            None => Err(forbidden(NOT_ALLOWED, asked, asked.resource_type())),
        }
    }

    async fn state(&self, bucket: &str) -> S3Result<State> {
        if !check_bucket_name(bucket) {
            return Ok(State::NoBucket);
        }
        let read = async |_| match self.meta.bucket_document(bucket, BucketDocument::Cors).await {
            Ok(Some(document)) => Ok((State::Rules(Arc::new(stored(&document)?)), document.len())),
            Ok(None) => Ok((State::NoRules, 0)),
            Err(MetaError::NoSuchBucket(_)) => Ok((State::NoBucket, 0)),
            Err(error) => Err(from_meta(error)),
        };
        self.known.get(bucket, |(_, bytes)| *bytes, read).await.map(|(state, _)| state)
    }
}

/// S3's own sentence, slip included.
const NOT_ALLOWED: &str = "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.";

/// Rules were read strictly before they were stored.
fn stored(document: &[u8]) -> S3Result<Rules> {
    let read = xml::parse(document).map_err(S3Error::from).and_then(|root| Rules::read(&root));
    read.map_err(|error| {
        tracing::error!(%error, "stored CORS rules cannot be read");
        s3_error!(InternalError, "The CORS configuration cannot be read.")
    })
}

fn granted(state: Option<&State>, asked: &CrossOrigin) -> HeaderMap {
    match state {
        Some(State::Rules(rules)) => {
            rules.first_that_allows(asked).map(|rule| allowed_by(rule, asked)).unwrap_or_default()
        }
        Some(State::NoBucket | State::NoRules) | None => HeaderMap::new(),
    }
}

fn allowed_by(rule: &Rule, asked: &CrossOrigin) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut say = |name: HeaderName, value: &str| {
        // What a rule says was looked at when it was put; an origin and the names of headers came as headers.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(name, value);
        }
    };
    if rule.allows_every_origin() {
        say(ALLOW_ORIGIN, "*");
    } else {
        say(ALLOW_ORIGIN, asked.origin().unwrap_or_default());
        say(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    }
    say(header::ACCESS_CONTROL_ALLOW_METHODS, &rule.methods.join(", "));
    if !asked.requested_headers().is_empty() {
        say(header::ACCESS_CONTROL_ALLOW_HEADERS, &asked.requested_headers().join(", "));
    }
    if !rule.exposed_headers.is_empty() {
        say(header::ACCESS_CONTROL_EXPOSE_HEADERS, &rule.exposed_headers.join(", "));
    }
    if let Some(seconds) = rule.max_age_seconds {
        say(header::ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
    }
    say(header::VARY, VARY);
    headers
}

fn bad_request(message: impl Into<String>) -> S3Error {
    custom("BadRequest", StatusCode::BAD_REQUEST, message)
}

fn forbidden(message: &str, asked: &CrossOrigin, resource_type: &str) -> S3Error {
    let error = custom("AccessForbidden", StatusCode::FORBIDDEN, message);
    error.with("Method", asked.requested_method().unwrap_or("OPTIONS")).with("ResourceType", resource_type)
}
