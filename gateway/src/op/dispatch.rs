//! By whom a request is answered: by a form's reader, by those who read documents, or by `s3s` and an operation.

use std::sync::Arc;

use cairn_actors::Store;
use http::{HeaderMap, Method};
use s3s::{
    Body, HttpError, S3Response, S3Result,
    config::{S3Config, StaticConfigProvider},
    service::{S3Service, S3ServiceBuilder},
};

use super::{
    Api, OBJECT_MAX_BYTES,
    documents::{DOCUMENT_MAX_BYTES, Documents},
    forms::is_form,
    front::Front,
    noting_outcome,
};
use crate::{
    access::{Access, Admission, Credentials, invalid_token},
    context::RequestContext,
    cors::{Cors, CrossOrigin},
    metrics::Metrics,
    options::GatewayOptions,
    query::Query,
};

/// A signed chunk is held in memory until its signature is verified.
const SIGNED_CHUNK_MAX_BYTES: usize = 16 << 20;
const SECURITY_TOKEN: &str = "x-amz-security-token";

/// All that is asked of the gateway, by whom it is answered.
pub(crate) struct Operations {
    s3: S3Service,
    /// None in tests of the layers above, which bring a service of their own.
    forms: Option<Api>,
}

impl From<S3Service> for Operations {
    fn from(s3: S3Service) -> Self {
        Self { s3, forms: None }
    }
}

impl Operations {
    pub(crate) fn new(store: Store, options: &GatewayOptions, metrics: &Metrics) -> Self {
        let meta = store.meta().clone();
        let credentials = Credentials::new(
            meta.clone(),
            options.root_access_key.clone(),
            options.root_secret_key.clone(),
            options.secrets.clone(),
            options.roles.clone(),
        );
        let admission = Admission::new(options.limits.requests_in_flight, metrics.limited_requests.clone());
        let access = Access::new(meta.clone(), credentials.clone(), admission);
        let cors = Cors::new(meta);
        let region = options.region.clone();
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let api = Api {
            store,
            credentials: credentials.clone(),
            access: access.clone(),
            cors,
            lifecycles: Arc::default(),
            encryptions: Arc::default(),
            keyring: options.keyring.clone(),
            roles: options.roles.clone(),
            targets: options.targets.clone(),
            customer_keys_over_http: options.customer_keys_over_http,
            region,
            scheme,
        };
        let config = Arc::new(StaticConfigProvider::new(Arc::new(config())));
        let build = |route: Option<Front>| {
            let mut builder = S3ServiceBuilder::new(api.clone());
            if let Some(route) = route {
                builder.set_route(route);
            }
            builder.set_auth(credentials.clone());
            builder.set_access(access.clone());
            builder.set_config(config.clone());
            builder.build()
        };
        let s3 = build(Some(Front { documents: Documents(api.clone()), operations: build(None) }));
        Self { s3, forms: Some(api) }
    }

    /// The headers that let a page of another site read the answer to its request. `busy`: no time to look anything up.
    pub(crate) async fn cross_origin_headers(&self, asked: &CrossOrigin, busy: bool) -> HeaderMap {
        match &self.forms {
            Some(api) if busy => api.cors.remembered_headers(asked),
            Some(api) => api.cors.headers(asked).await,
            None => HeaderMap::new(),
        }
    }

    /// What an operation refuses is kept in the context; an error is of `s3s` and of nothing that was done.
    pub(crate) async fn call(
        &self,
        request: http::Request<Body>,
        context: &RequestContext,
    ) -> Result<http::Response<Body>, HttpError> {
        let shown = self.forms.as_ref().map_or(Ok(()), |api| take_session(api, &request, context));
        if let Err(error) = shown {
            context.record_outcome(Err(&error));
            return Ok(http::Response::default());
        }
        match &self.forms {
            // Boxed: it is large, and few requests are forms.
            Some(api) if is_form(&request) => Ok(noted(context, "PostObject", Box::pin(api.post_form(request))).await),
            Some(api) if *request.method() == Method::OPTIONS => {
                Ok(noted(context, "Preflight", preflight(api, &request)).await)
            }
            _ => self.s3.call(request).await,
        }
    }
}

/// Opens the token that a request shows, for those who will judge it. Browsers ask without one whether they may send
/// it, and forms have it among their fields, where it is signed.
fn take_session(api: &Api, request: &http::Request<Body>, context: &RequestContext) -> S3Result<()> {
    if *request.method() == Method::OPTIONS {
        return Ok(());
    }
    let Some(token) = shown_token(request)? else { return Ok(()) };
    if is_form(request) {
        return Err(invalid_token());
    }
    context.set_session(api.credentials.open_session(&token)?);
    Ok(())
}

/// From the headers or, of a presigned URL, the query. An empty header is none.
fn shown_token(request: &http::Request<Body>) -> S3Result<Option<String>> {
    let headers = request.headers().get_all(SECURITY_TOKEN).iter().filter(|value| !value.is_empty());
    let mut tokens: Vec<String> = headers
        .map(|value| value.to_str().map(ToOwned::to_owned).map_err(|_| invalid_token()))
        .collect::<S3Result<_>>()?;
    let query = request.uri().query().unwrap_or_default();
    if query.to_ascii_lowercase().contains(SECURITY_TOKEN) {
        let pairs = Query::of(request.uri())?.into_pairs();
        let of_query = pairs.into_iter().filter(|(name, _)| name.eq_ignore_ascii_case(SECURITY_TOKEN));
        tokens.extend(of_query.map(|(_, value)| value));
    }
    let token = tokens.pop();
    if tokens.is_empty() { Ok(token) } else { Err(invalid_token()) }
}

/// The answer of an operation that does not go through `s3s`.
async fn noted(
    context: &RequestContext,
    operation: &str,
    answer: impl Future<Output = S3Result<S3Response<Body>>>,
) -> http::Response<Body> {
    context.set_operation(operation);
    let answered = noting_outcome(Some(context.clone()), answer).await;
    answered.map_or_else(|_| http::Response::default(), into_http)
}

/// Browsers ask without a signature.
async fn preflight(api: &Api, request: &http::Request<Body>) -> S3Result<S3Response<Body>> {
    let mut response = S3Response::new(Body::empty());
    if let Some(asked) = CrossOrigin::of(request) {
        response.headers = api.cors.preflight(&asked).await?;
    }
    Ok(response)
}

fn into_http(response: S3Response<Body>) -> http::Response<Body> {
    let mut out = http::Response::new(response.output);
    *out.status_mut() = response.status.unwrap_or_default();
    *out.headers_mut() = response.headers;
    *out.extensions_mut() = response.extensions;
    out
}

fn config() -> S3Config {
    let mut config = S3Config::default();
    config.xml_max_body_size = DOCUMENT_MAX_BYTES;
    config.custom_route_max_body_size = None;
    config.put_object_max_size = Some(OBJECT_MAX_BYTES);
    config.aws_chunked_stream_max_chunk_size = SIGNED_CHUNK_MAX_BYTES;
    // `admit` has refused all but presigned URLs whose every telling parameter is signed.
    config.enable_sig_v2 = true;
    // Its value is part of what is signed, wherever the client put it.
    config.unsigned_amz_header_allowlist = vec!["x-amz-date".to_owned()];
    // S3 takes no operation's name from the query.
    config.operation_id_routing = false;
    config
}
