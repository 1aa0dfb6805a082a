//! Notifications of buckets. What is told, and in which order, is decided in the metadata, by the rules that stand in
//! the bucket's row beside the document.

use bytes::Bytes;
use cairn_schema::{
    MetaError,
    record::{BucketDocument, Cause, EventKind, Origin},
};
use http::Extensions;
use s3s::{Body, S3Request, S3Response, S3Result, dto::*};

use super::{Api, documents::DocumentRequest, notification_rules};
use crate::{
    answer::documented,
    context::RequestContext,
    error::{from_meta, invalid_argument},
    xml::Writer,
};

const SKIP_VALIDATION: &str = "x-amz-skip-destination-validation";

impl Api {
    pub(super) async fn do_get_bucket_notification_configuration(
        &self,
        request: S3Request<GetBucketNotificationConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketNotificationConfigurationOutput>> {
        let stored = self.meta().bucket_document(&request.input.bucket, BucketDocument::Notification).await;
        let none = || Writer::document("NotificationConfiguration", |_| ());
        Ok(documented(stored.map_err(from_meta)?.map_or_else(none, Bytes::from)))
    }

    pub(super) async fn do_put_bucket_notification(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(false)?;
        let skips_test = match request.header(SKIP_VALIDATION)?.map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                let message = format!("The value of the header {SKIP_VALIDATION} is invalid.");
                return Err(invalid_argument(SKIP_VALIDATION, other, message));
            }
        };
        let put = notification_rules::read(request.root("NotificationConfiguration")?, self.targets.as_ref())?;
        let document = (!put.is_empty()).then(|| notification_rules::write(&put).into());
        let rules = put.into_iter().map(|put| put.rule).collect();
        let access_key = request.request.credentials.as_ref().map(|credentials| credentials.access_key.as_str());
        let test = (!skips_test).then(|| origin(&request.request.extensions, access_key));
        let set = self.meta().set_notifications(&request.bucket, document, rules, test).await;
        set.map_err(|error| match error {
            MetaError::TooLarge { actual, limit, .. } => {
                let message = format!("The rules of a bucket may have {limit} bytes together; these have {actual}.");
                invalid_argument("NotificationConfiguration", &actual.to_string(), message)
            }
            error => from_meta(error),
        })?;
        Ok(S3Response::new(Body::empty()))
    }

    /// Who asks, as events tell it.
    pub(super) fn origin<T>(request: &S3Request<T>) -> Origin {
        let access_key = request.credentials.as_ref().map(|credentials| credentials.access_key.as_str());
        origin(&request.extensions, access_key)
    }

    /// The same with what is done.
    pub(super) fn cause<T>(kind: EventKind, request: &S3Request<T>) -> Cause {
        Cause::new(kind, Self::origin(request))
    }
}

/// The principal of an event is the access key that signed: what AWS tells is an id that nobody but AWS can resolve.
/// Requests by a session tell the key that asked for it, and those without a signature nobody's.
pub(super) fn origin(extensions: &Extensions, access_key: Option<&str>) -> Origin {
    let context = RequestContext::of(extensions);
    let holder = context.and_then(RequestContext::session).map(|opened| opened.holder());
    let principal = match holder.as_deref().or(access_key) {
        Some(key) => format!("AWS:{key}"),
        None => "Anonymous".to_owned(),
    };
    let address = context.and_then(RequestContext::peer).map_or_else(String::new, |peer| peer.to_string());
    let request = context.map_or_else(String::new, |context| context.id().to_owned());
    Origin { principal, address, request }
}
