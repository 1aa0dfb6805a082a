//! Every operation is judged here, before anything of it is done.

use std::sync::Arc;

use cairn_iam::{Policies, Policy, Request, decide};
use cairn_schema::{
    Meta, MetaError,
    ids::VersionId,
    verbs::{RangeRequest, VersionSelector},
};
use http::HeaderMap;
use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    path::S3Path,
    s3_error,
};

use super::{
    account::resource_arn,
    actions::{self, On},
    admission::Admission,
    asking::{Asking, BodyFacts},
    bucket_rules::{BucketBook, BucketRules},
    callers::{Caller, Credentials},
    context::{Known, context},
};
use crate::{
    context::RequestContext,
    copy_source::CopySource,
    error::{WithField, from_meta},
    honour,
    percent::form_decode,
    verified,
};

const COPY_SOURCE: &str = "x-amz-copy-source";
/// Condition keys whose values the body says.
const OF_BODY: [&str; 3] = ["s3:RequestObjectTag/", "s3:RequestObjectTagKeys", "s3:LocationConstraint"];
/// What the root may do though the policy of a bucket cannot be read: it must be able to replace it.
const MENDS: [&str; 3] = ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"];

/// What a judgement comes to, if nothing is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    /// A policy asks for what the body says, so judge again when that is read.
    AskAgain,
}

/// Judges requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Access {
    meta: Meta,
    credentials: Credentials,
    buckets: Arc<BucketBook>,
    admission: Admission,
}

/// One action on one thing.
#[derive(Clone, Copy)]
struct Need<'a> {
    action: &'a str,
    bucket: Option<&'a str>,
    key: Option<&'a str>,
    known: Known<'a>,
}

impl Access {
    pub(crate) fn new(meta: Meta, credentials: Credentials, admission: Admission) -> Self {
        Self { meta, credentials, buckets: Arc::default(), admission }
    }

    /// What a bucket says of who may do what was changed here.
    pub(crate) fn forget(&self, bucket: &str) {
        self.buckets.forget(bucket);
    }

    /// Judges who may, and then whether the request means what would be done. `bucket` is the one that the operation
    /// works in, unless it makes it.
    pub(crate) async fn check_request(&self, asking: &Asking<'_>) -> S3Result<Verdict> {
        let bucket = asking.bucket.filter(|_| asking.operation != "CreateBucket");
        if let Some(context) = asking.context.filter(|context| context.is_audited()) {
            context.set_asked(asking.subject());
        }
        let judge = async {
            let verdict = self.judge(asking).await?;
            self.admit(asking).await?;
            honour::check_parameters(asking.operation, &asking.query)?;
            honour::check_headers(honour::Use::of_operation(asking.operation), asking.headers)?;
            honour::check_owners(&self.meta, bucket, asking.headers).await?;
            Ok(verdict)
        };
        let verdict = judge.await;
        if let Some(context) = asking.context {
            context.set_operation(asking.operation);
            if let Err(error) = &verdict {
                context.record_outcome(Err(error));
            }
        }
        verdict
    }

    /// Lets a request that may be answered in, if its user and its bucket do not have too many.
    ///
    /// # Errors
    /// SlowDown.
    pub(crate) async fn admit(&self, asking: &Asking<'_>) -> S3Result<()> {
        let Some(context) = asking.context else { return Ok(()) };
        let caller = self.credentials.caller(asking.access_key, asking.session()).await?;
        let name = asking.bucket.filter(|_| asking.operation != "CreateBucket");
        let rules = self.rules(name).await?;
        self.admission.enter(&caller, name.zip(rules.as_deref()), context)
    }

    /// # Errors
    /// AccessDenied; NoSuchBucket to whomever it would be refused in a bucket that does not exist: of those S3 tells
    /// everybody.
    pub(crate) async fn judge(&self, asking: &Asking<'_>) -> S3Result<Verdict> {
        let Some(row) = actions::row(asking.operation) else {
            tracing::error!(operation = asking.operation, "an operation that nobody may do, for want of a row");
            return Err(s3_error!(AccessDenied));
        };
        let caller = self.credentials.caller(asking.access_key, asking.session()).await?;
        if let Some(context) = asking.context.filter(|context| context.is_audited()) {
            context.set_caller(caller.arn());
        }
        match row.on {
            On::RootOnly if !matches!(caller, Caller::Root) => return Err(s3_error!(AccessDenied)),
            // An anonymous batch is judged key by key like others, but it must be of a bucket that says something.
            On::EachObject if matches!(caller, Caller::Anonymous) => {
                let rules = self.rules(asking.bucket).await?;
                if rules.is_none_or(|rules| rules.policy.is_none()) {
                    return Err(s3_error!(AccessDenied));
                }
            }
            _ => {}
        }
        if matches!(caller, Caller::Anonymous) && overrides_answer(asking) {
            let message = "Request specific response headers cannot be used for anonymous GET requests.";
            return Err(s3_error!(InvalidRequest, "{message}"));
        }
        let source = source_of(asking)?;
        let copied_tags = self.copied_tags(asking, &caller, source.as_ref()).await?;
        let request_tags = request_tags(asking, &copied_tags);
        let key = asking.key.filter(|_| row.on == On::Object);
        let bucket = asking.bucket.filter(|_| row.on != On::Account);
        let version = asking.version.as_deref();
        let known = Known { version, request_tags: &request_tags, ..Known::default() };
        let mut taken = row.actions(version.is_some()).to_vec();
        taken.extend(actions::by_headers(asking.operation, asking.headers));
        if asking.operation == "CopyObject" && !request_tags.is_empty() {
            taken.push("s3:PutObjectTagging");
        }
        let mut verdict = Verdict::Allowed;
        for action in taken {
            let need = Need { action, bucket, key, known };
            if self.demand(asking, &caller, need).await? == Verdict::AskAgain {
                verdict = Verdict::AskAgain;
            }
        }
        self.judge_source(asking, &caller, source.as_ref(), !copied_tags.is_empty()).await?;
        self.conceal(asking, &caller, source.as_ref().map(|source| &*source.bucket).or(bucket)).await?;
        Ok(verdict)
    }

    /// Whether one more object of a batch may be deleted.
    pub(crate) async fn may_delete(&self, asking: &Asking<'_>) -> S3Result<()> {
        self.judge(asking).await.map(drop)
    }

    /// Whoever copies must be allowed to read what is copied: else a copy would be a way to read it.
    async fn judge_source(
        &self,
        asking: &Asking<'_>,
        caller: &Caller,
        source: Option<&CopySource>,
        copies_tags: bool,
    ) -> S3Result<()> {
        let Some(source) = source else { return Ok(()) };
        let version = source.version_id.as_deref().filter(|version| !version.is_empty());
        let (read, tags) = match version {
            None => ("s3:GetObject", "s3:GetObjectTagging"),
            Some(_) => ("s3:GetObjectVersion", "s3:GetObjectVersionTagging"),
        };
        for action in [Some(read), copies_tags.then_some(tags)].into_iter().flatten() {
            let known = Known { version, ..Known::default() };
            let need = Need { action, bucket: Some(&source.bucket), key: Some(&source.key), known };
            self.demand(asking, caller, need).await?;
        }
        Ok(())
    }

    /// The tags that a copy takes over from its source. Nobody asks for those of the root's copies but policies.
    async fn copied_tags(
        &self,
        asking: &Asking<'_>,
        caller: &Caller,
        source: Option<&CopySource>,
    ) -> S3Result<Vec<(String, String)>> {
        let Some(source) = source.filter(|_| asking.operation == "CopyObject") else { return Ok(Vec::new()) };
        let replaced = asking.header("x-amz-tagging-directive").is_some_and(|directive| directive == "REPLACE");
        let denies = match self.rules(asking.bucket).await? {
            Some(rules) => rules.policy.is_some(),
            None => false,
        };
        if replaced || (matches!(caller, Caller::Root) && !denies) {
            return Ok(Vec::new());
        }
        self.tags_of(&source.bucket, &source.key, source.version_id.as_deref()).await
    }

    /// None for what does not exist, which the operation will find out.
    async fn tags_of(&self, bucket: &str, key: &str, version: Option<&str>) -> S3Result<Vec<(String, String)>> {
        let selector = match version.filter(|version| !version.is_empty()).map(str::parse::<VersionId>) {
            None => VersionSelector::Current,
            Some(Ok(id)) => VersionSelector::Id(id),
            Some(Err(_)) => return Ok(Vec::new()),
        };
        match self.meta.locate(bucket, key, selector, RangeRequest::Nothing).await {
            Ok(located) => Ok(located.version.attributes.tags),
            Err(
                MetaError::NoSuchBucket(_)
                | MetaError::NoSuchKey(_)
                | MetaError::NoSuchVersion { .. }
                | MetaError::KeyDeleted { .. }
                | MetaError::IsDeleteMarker { .. },
            ) => Ok(Vec::new()),
            Err(error) => Err(from_meta(error)),
        }
    }

    /// Without the permission to list, what is missing is answered as what is forbidden.
    async fn conceal(&self, asking: &Asking<'_>, caller: &Caller, bucket: Option<&str>) -> S3Result<()> {
        let Some(context) = asking.context else { return Ok(()) };
        if matches!(caller, Caller::Root) || !actions::tells_what_is_missing(asking.operation) {
            return Ok(());
        }
        let need = Need { action: "s3:ListBucket", bucket, key: None, known: Known::default() };
        if self.decide(asking, caller, need, self.rules(bucket).await?.as_deref()).await? != Some(Verdict::Allowed) {
            context.conceal_missing();
        }
        Ok(())
    }

    async fn demand(&self, asking: &Asking<'_>, caller: &Caller, need: Need<'_>) -> S3Result<Verdict> {
        let is_new = asking.operation == "CreateBucket";
        let rules = if is_new { None } else { self.rules(need.bucket).await? };
        match self.decide(asking, caller, need, rules.as_deref()).await? {
            Some(verdict) => Ok(verdict),
            None => match need.bucket.filter(|_| rules.is_none() && !is_new) {
                Some(missing) => Err(s3_error!(NoSuchBucket).with("BucketName", missing)),
                None => Err(s3_error!(AccessDenied)),
            },
        }
    }

    /// None if it is not allowed.
    async fn decide(
        &self,
        asking: &Asking<'_>,
        caller: &Caller,
        need: Need<'_>,
        rules: Option<&BucketRules>,
    ) -> S3Result<Option<Verdict>> {
        let is_root = matches!(caller, Caller::Root);
        if rules.is_some_and(|rules| rules.broken) {
            let mends = is_root && MENDS.contains(&need.action);
            return Ok(mends.then_some(Verdict::Allowed));
        }
        if caller.is_broken() {
            return Ok(None);
        }
        let bucket = rules.and_then(|rules| rules.policy.as_ref());
        if is_root && bucket.is_none() {
            return Ok(Some(Verdict::Allowed));
        }
        let (identity, limits) = (caller.identity(), caller.limits());
        let policies = Policies {
            identity: &identity,
            session: None,
            bucket,
            owner_is_principal: false,
            restrict_public: rules.is_some_and(|rules| rules.restrict_public),
        };
        let asked: Vec<&Policy> = identity.iter().copied().chain(limits.iter().copied()).chain(bucket).collect();
        let wanted = |key: &str| asked.iter().any(|policy| policy.asks_for(key));
        if asking.body.is_none() && waits_for_body(asking.operation) && OF_BODY.into_iter().any(wanted) {
            return Ok(Some(Verdict::AskAgain));
        }
        let existing_tags = match (need.bucket, need.key) {
            (Some(bucket), Some(key)) if wanted("s3:ExistingObjectTag/") => {
                self.tags_of(bucket, key, need.known.version).await?
            }
            _ => Vec::new(),
        };
        let known = Known { existing_tags: &existing_tags, ..need.known };
        let context = context(asking, caller, known, &wanted);
        let resource = resource_arn(need.bucket, need.key);
        let request =
            Request { principal: caller.principal(), action: need.action, resource: &resource, context: &context };
        // What each limit allows by itself: nobody is freed of one by another.
        let each = limits.iter().copied().map(Some).chain(limits.is_empty().then_some(None));
        let allowed = each.into_iter().all(|session| {
            let limited = Policies { session, ..policies };
            let decision = decide(&limited, &request);
            if !decision.is_allowed() {
                tracing::debug!(action = need.action, resource, ?decision, "refused by policies");
            }
            decision.is_allowed()
        });
        Ok(allowed.then_some(Verdict::Allowed))
    }

    /// None for no bucket and for one that does not exist.
    async fn rules(&self, bucket: Option<&str>) -> S3Result<Option<Arc<BucketRules>>> {
        match bucket {
            None => Ok(None),
            Some(bucket) => self.buckets.rules(&self.meta, bucket).await.map_err(from_meta),
        }
    }
}

/// Operations whose bodies say something that policies may ask for.
fn waits_for_body(operation: &str) -> bool {
    matches!(operation, "PutObjectTagging" | "CreateBucket")
}

fn overrides_answer(asking: &Asking<'_>) -> bool {
    const OVERRIDES: [&str; 6] = [
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
    ];
    OVERRIDES.iter().any(|name| asking.query.has(name))
}

fn source_of(asking: &Asking<'_>) -> S3Result<Option<CopySource>> {
    if !matches!(asking.operation, "CopyObject" | "UploadPartCopy") {
        return Ok(None);
    }
    asking.headers.get(COPY_SOURCE).map(CopySource::parse).transpose()
}

/// The tags that an object is to have, wherever that is said.
fn request_tags(asking: &Asking<'_>, copied: &[(String, String)]) -> Vec<(String, String)> {
    if let Some(BodyFacts { tags, .. }) = &asking.body {
        return tags.clone();
    }
    let replaces = asking.header("x-amz-tagging-directive").is_some_and(|directive| directive == "REPLACE");
    let heeded = match asking.operation {
        "PutObject" | "CreateMultipartUpload" => true,
        "CopyObject" => replaces,
        _ => false,
    };
    let Some(header) = asking.header("x-amz-tagging").filter(|_| heeded) else { return copied.to_vec() };
    let pairs = header.split('&').filter(|pair| !pair.is_empty());
    let decoded = pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        form_decode(name).zip(form_decode(value))
    });
    decoded.collect()
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let request = RequestContext::of(cx.extensions_mut()).cloned();
        let verified = verified::take(cx.extensions_mut());
        let empty = HeaderMap::new();
        let (headers, uri, access_key) = match &verified {
            Some(verified) => (verified.headers(), verified.uri(), verified.access_key()),
            None => (&empty, cx.uri(), None),
        };
        let path = match cx.s3_path() {
            S3Path::Root => (None, None),
            S3Path::Bucket { bucket } => (Some(&**bucket), None),
            S3Path::Object { bucket, key } => (Some(&**bucket), Some(&**key)),
        };
        let asking = Asking::new(cx.s3_op().name(), path, access_key, (headers, uri), request.as_ref());
        let checked = match asking {
            Ok(asking) => self.check_request(&asking).await.map(drop),
            Err(error) => {
                if let Some(request) = &request {
                    request.record_outcome(Err(&error));
                }
                Err(error)
            }
        };
        if let Some(verified) = verified {
            verified::put_back(cx.extensions_mut(), verified);
        }
        checked
    }
}
