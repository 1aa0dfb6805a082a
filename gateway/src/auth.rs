//! Who may speak: the root credentials from the configuration, and users' credentials from the metadata.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_schema::Meta;
use http::{HeaderMap, Uri};
use parking_lot::Mutex;
use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    auth::{S3Auth, SecretKey},
    s3_error,
};

use crate::{context::RequestContext, error::from_meta, honour, query::Query, verified::was_signed};

/// The owner of what the root credentials create.
pub(crate) const ROOT_USER: &str = "root";

/// How long a credential (or its absence) is believed: the delay with which a revoked key stops to work.
const CACHE_TTL: Duration = Duration::from_secs(3);
/// Bounds the memory that made-up access keys can take.
const CACHE_ENTRIES: usize = 4096;
/// Longer access keys are unknown without asking.
const ACCESS_KEY_MAX_BYTES: usize = 128;

#[derive(Clone)]
struct Known {
    secret: SecretKey,
    user: Arc<str>,
}

struct Cached {
    /// None: there is no such enabled credential.
    known: Option<Known>,
    since: Instant,
}

/// Looks up secrets and users by access key. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Credentials(Arc<Keys>);

struct Keys {
    root_access_key: String,
    root: Known,
    meta: Meta,
    cache: Mutex<HashMap<String, Cached>>,
}

impl Credentials {
    pub(crate) fn new(meta: Meta, root_access_key: String, root_secret_key: String) -> Self {
        let root = Known { secret: root_secret_key.into(), user: ROOT_USER.into() };
        Self(Arc::new(Keys { root_access_key, root, meta, cache: Mutex::new(HashMap::new()) }))
    }

    /// The user behind an access key that has been authenticated.
    pub(crate) async fn user(&self, access_key: &str) -> S3Result<Arc<str>> {
        Ok(self.lookup(access_key).await?.user)
    }

    async fn lookup(&self, access_key: &str) -> S3Result<Known> {
        if access_key == self.0.root_access_key {
            return Ok(self.0.root.clone());
        }
        if access_key.len() > ACCESS_KEY_MAX_BYTES {
            return Err(unknown_access_key());
        }
        if let Some(known) = self.cached(access_key) {
            return known.ok_or_else(unknown_access_key);
        }
        let credential = self.0.meta.credential(access_key).await.map_err(from_meta)?;
        let known = credential
            .filter(|credential| credential.enabled)
            .map(|credential| Known { secret: credential.secret_key.into(), user: credential.user.into() });
        self.remember(access_key, known.clone());
        known.ok_or_else(unknown_access_key)
    }

    fn cached(&self, access_key: &str) -> Option<Option<Known>> {
        let cache = self.0.cache.lock();
        let entry = cache.get(access_key).filter(|entry| entry.since.elapsed() < CACHE_TTL)?;
        Some(entry.known.clone())
    }

    fn remember(&self, access_key: &str, known: Option<Known>) {
        let mut cache = self.0.cache.lock();
        if cache.len() >= CACHE_ENTRIES {
            cache.retain(|_, entry| entry.since.elapsed() < CACHE_TTL);
        }
        if cache.len() >= CACHE_ENTRIES {
            cache.clear();
        }
        cache.insert(access_key.into(), Cached { known, since: Instant::now() });
    }
}

fn unknown_access_key() -> s3s::S3Error {
    s3_error!(InvalidAccessKeyId, "The access key Id you provided does not exist in our records.")
}

#[async_trait::async_trait]
impl S3Auth for Credentials {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        Ok(self.lookup(access_key).await?.secret)
    }
}

/// Every operation needs a signature; every credential may do everything, as long as the request means what would be
/// done. Policies will decide here.
#[derive(Clone)]
pub(crate) struct Access {
    meta: Meta,
}

impl Access {
    pub(crate) fn new(meta: Meta) -> Self {
        Self { meta }
    }

    /// `bucket` is the one that the operation works in, unless it makes it.
    pub(crate) async fn check_request(
        &self,
        operation: &str,
        signed: bool,
        bucket: Option<&str>,
        uri: &Uri,
        headers: &HeaderMap,
        context: Option<&RequestContext>,
    ) -> S3Result<()> {
        let judge = async {
            if !signed {
                return Err(s3_error!(AccessDenied));
            }
            honour::check_parameters(operation, &Query::of(uri)?)?;
            honour::check_headers(honour::Use::of_operation(operation), headers)?;
            honour::check_owners(&self.meta, bucket, headers).await
        };
        let verdict = judge.await;
        if let Some(context) = context {
            context.set_operation(operation);
            if let Err(error) = &verdict {
                context.record_outcome(Err(error));
            }
        }
        verdict
    }
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let context = RequestContext::of(cx.extensions_mut()).cloned();
        let signed = was_signed(cx.extensions_mut());
        let bucket = cx.s3_path().get_bucket_name();
        let operation = cx.s3_op().name();
        self.check_request(operation, signed, bucket, cx.uri(), cx.headers(), context.as_ref()).await
    }
}
