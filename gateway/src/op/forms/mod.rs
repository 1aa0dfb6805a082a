//! Forms of browsers that post a file to a bucket. `s3s` wants the file to be the last field, reads what it does not
//! know the length of into memory, and answers differently from S3, so they do not go through it.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html>

mod answer;
mod fields;
mod file;
mod malformed;
mod policy;
mod signer;

use std::sync::atomic::Ordering;

use cairn_actors::store::{PutObject, Verify};
use cairn_schema::{
    record::{Cause, EventKind, Lock},
    verbs::Committed,
};
use http::{Method, Request, header, request::Parts};
use s3s::{Body, S3Response, S3Result, dto::Metadata, s3_error};
use time::OffsetDateTime;

use self::{
    answer::{Stored, Wanted},
    fields::{Fields, Form},
    policy::Policy,
    signer::signer,
};
use super::{
    Api, OBJECT_MAX_BYTES,
    attributes::Said,
    conditions::write_precondition,
    encryption_headers::{Asked, told as told_of_encryption},
    lock_headers::{asked_lock, demand_digest},
    names::check_key,
    notifications::origin,
    requester,
    tag_set::{self, Tagged},
};
use crate::{
    access::{Asking, BodyFacts, invalid_token},
    checksum::{self, BodyChecks, SentFields},
    context::RequestContext,
    error::{from_meta, from_store, invalid_argument},
    honour,
    query::{Place, decoded_path},
    shown::version_header,
    xml::{self, XmlError},
};

/// Whether a request is such a form.
pub(super) fn is_form(request: &Request<Body>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    let is_form = content_type.is_some_and(|value| {
        let kind = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        kind.eq_ignore_ascii_case(b"multipart/form-data")
    });
    is_form && *request.method() == Method::POST
}

impl Api {
    pub(super) async fn post_form(&self, request: Request<Body>) -> S3Result<S3Response<Body>> {
        let (parts, body) = request.into_parts();
        let bucket = posted_bucket(&parts)?;
        let Form { mut fields, mut file } = Form::read(&parts.headers, body).await?;
        if let Some(token) = fields.get("x-amz-security-token") {
            let opened = self.credentials.open_session(token)?;
            let context = RequestContext::of(&parts.extensions).ok_or_else(invalid_token)?;
            context.set_session(opened);
        }
        let access_key = signer(&fields, &self.credentials).await?;
        // Nobody has signed a policy of nobody's form.
        let policy = match access_key {
            None => None,
            Some(_) => Some(Policy::parse(fields.required("policy")?)?),
        };
        if let Some(policy) = &policy {
            policy.check(&bucket, &fields, OffsetDateTime::now_utc())?;
        }
        let headers = fields.headers();
        honour::check_headers(honour::Use::Makes, &headers)?;
        let key = fields.required("key")?.to_owned();
        check_key(&key)?;
        let wanted = Wanted::of(&fields);
        let sent = SentFields::of_headers(&headers)?.parse()?;
        let checks = BodyChecks::declared(&headers, sent, fields.get("content-md5"), None)?;
        let tags = fields.get("tagging").map(posted_tags).transpose()?.unwrap_or_default();
        let asking = Asking {
            sent: &parts.headers,
            is_form: true,
            body: Some(BodyFacts { tags: tags.clone(), location: None }),
            version: None,
            ..Asking::new(
                "PostObject",
                (Some(&bucket), Some(&key)),
                access_key.as_deref(),
                (&headers, &parts.uri),
                RequestContext::of(&parts.extensions),
            )?
        };
        self.access.judge(&asking).await?;
        self.access.admit(&asking).await?;
        let lock = asked_lock(&headers, self.meta().now_ms())?;
        let asked = Asked::of(&headers, self.is_secure_in(RequestContext::of(&parts.extensions)))?;
        let customer = asked.customer().cloned();
        let mut attributes = said(&mut fields, lock).into_attributes()?;
        attributes.tags = tags;
        demand_digest(&self.meta().bucket(&bucket).await.map_err(from_meta)?, lock, &checks)?;
        let sealing = self.sealing_asked(&bucket, asked).await?;
        let most = policy.as_ref().and_then(Policy::max_bytes).unwrap_or(OBJECT_MAX_BYTES);
        file.limit(most.min(OBJECT_MAX_BYTES));
        let precondition = write_precondition(&headers)?;
        let digests = checks.plan();
        let ended = file.ended();
        let verify: Verify = Box::new(move |digests| {
            if !ended.load(Ordering::Acquire) {
                return Err(s3_error!(InternalError, "The file was not read to its end.").into());
            }
            policy.as_ref().map_or(Ok(()), |policy| policy.check_length(digests.length))?;
            Ok(Some(checks.verify(digests, None)?))
        });
        let put = PutObject {
            requester: requester(&parts.extensions, access_key.as_deref()),
            bucket: bucket.clone(),
            key: key.clone(),
            // What of the request is the file shows only at its end.
            length: None,
            body: Box::pin(file),
            digests,
            verify,
            owner: Self::owner().to_owned(),
            attributes,
            precondition,
            cause: Cause::new(EventKind::CreatedByPost, origin(&parts.extensions, access_key.as_deref())),
            sealing,
        };
        let committed = self.store.put(put).await.map_err(from_store)?;
        let etag = committed.version.etag.to_string();
        let location = self.location(&parts.uri, &parts.headers, &bucket, &key);
        let mut headers = told(&committed);
        headers.extend(told_of_encryption(committed.version.encryption.as_ref(), customer.as_ref()));
        Ok(wanted.answer(Stored { bucket: &bucket, key: &key, etag: &etag, location: &location, headers }))
    }
}

/// Forms are posted to buckets.
fn posted_bucket(request: &Parts) -> S3Result<String> {
    match Place::of(&request.uri) {
        Some(Place::Bucket) => {}
        Some(Place::Object) | None => return Err(s3_error!(MethodNotAllowed)),
    }
    let path = decoded_path(&request.uri).ok_or_else(|| s3_error!(InvalidURI))?;
    let bucket = path.trim_matches('/');
    if !s3s::path::check_bucket_name(bucket) {
        return Err(s3_error!(InvalidBucketName));
    }
    Ok(bucket.to_owned())
}

fn said(fields: &mut Fields, lock: Lock) -> Said {
    let metadata: Metadata =
        fields.with_prefix("x-amz-meta-").map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Said {
        content_type: fields.take("content-type"),
        content_encoding: fields.take("content-encoding"),
        content_language: fields.take("content-language"),
        content_disposition: fields.take("content-disposition"),
        cache_control: fields.take("cache-control"),
        expires: fields.take("expires"),
        website_redirect: fields.take("x-amz-website-redirect-location"),
        metadata: Some(metadata),
        tagging: None,
        storage_class: fields.take("x-amz-storage-class").map(Into::into),
        lock,
    }
}

/// Tags come as a document here.
fn posted_tags(field: &str) -> S3Result<Vec<(String, String)>> {
    let read = |field: &str| -> Result<_, XmlError> { tag_set::read(xml::parse(field.as_bytes())?.root("Tagging")?) };
    let tags = read(field).map_err(|error| {
        invalid_argument("tagging", field, format!("The form field 'tagging' must be a Tagging document: {error}."))
    })?;
    tag_set::check(&tags, Tagged::Object)?;
    Ok(tags)
}

fn told(committed: &Committed) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    if committed.versioned {
        headers.insert("x-amz-version-id", version_header(committed.version.id));
    }
    if let Some(checksum) = &committed.version.checksum
        && let Ok(value) = checksum::encode(checksum, committed.version.part_count).parse()
    {
        headers.insert(checksum::header_name(checksum.algorithm), value);
    }
    headers
}
