//! The S3 operations, one file per family. What is not here answers NotImplemented.

mod attributes;
mod bucket_cors;
mod bucket_documents;
mod bucket_encryption;
mod bucket_name;
mod bucket_tags;
mod buckets;
mod complete;
mod conditions;
mod copy;
mod default_encryption;
mod delete;
pub(crate) mod dispatch;
mod documents;
mod encoding;
mod encryption;
mod encryption_headers;
mod entity_tags;
mod forms;
mod front;
mod incoming;
mod inspect;
mod lifecycle;
mod lifecycle_rules;
mod list;
mod list_versions;
mod location;
mod lock;
mod lock_headers;
mod multipart;
mod names;
mod notification_rules;
mod notifications;
mod object_attributes;
mod objects;
mod ownership;
mod part_copy;
mod policies;
mod quota;
mod range;
mod settings;
mod tag_set;
mod tags;
pub(crate) mod token_service;
mod uploads;
mod web_tokens;

use std::sync::Arc;

use cairn_actors::{Store, store::Requester};
use cairn_schema::{Meta, record::Lifecycle};
use http::Extensions;
use s3s::{S3, S3Request, S3Response, S3Result, dto::*};

use crate::{
    access::{Access, Credentials, ROOT_USER},
    context::RequestContext,
    cors::Cors,
    encryption::Keyring,
    events::EventTargets,
    recent::Recent,
    verified::restore,
    web_identity::WebIdentities,
};

/// Largest body of a PUT or a part.
pub const OBJECT_MAX_BYTES: u64 = 5 << 30;

/// What the operations work on. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    store: Store,
    credentials: Credentials,
    access: Access,
    cors: Cors,
    /// With the bytes of their documents.
    lifecycles: Arc<Recent<(Option<Arc<Lifecycle>>, usize)>>,
    /// The same.
    encryptions: Arc<Recent<(Option<Arc<default_encryption::BucketEncryption>>, usize)>>,
    keyring: Option<Keyring>,
    /// Roles of those whom others know.
    roles: Option<WebIdentities>,
    /// Whom events can be told to.
    targets: Option<EventTargets>,
    customer_keys_over_http: bool,
    region: String,
    /// Of the addresses that clients use.
    scheme: &'static str,
}

impl Api {
    fn meta(&self) -> &Meta {
        self.store.meta()
    }

    /// Whose share of the memory a request takes.
    fn requester<T>(request: &S3Request<T>) -> Requester {
        let access_key = request.credentials.as_ref().map(|credentials| credentials.access_key.as_str());
        requester(&request.extensions, access_key)
    }

    /// For the record of what is created: everything is the account's, whoever makes it.
    fn owner() -> &'static str {
        ROOT_USER
    }
}

/// All sessions that came of an access key have that key's share together: there may be any number of them.
fn requester(extensions: &Extensions, access_key: Option<&str>) -> Requester {
    let context = RequestContext::of(extensions);
    let holder = context.and_then(RequestContext::session).map(|opened| opened.holder());
    let holder = holder.or_else(|| access_key.map(ToOwned::to_owned));
    Requester::new(context.and_then(RequestContext::peer), holder.map(Into::into))
}

/// Keeps how an operation ends, for the service to write.
async fn noting_outcome<T>(
    context: Option<RequestContext>,
    operation: impl Future<Output = S3Result<T>>,
) -> S3Result<T> {
    let outcome = operation.await;
    if let Some(context) = context {
        context.record_outcome(outcome.as_ref().map(|_| ()));
    }
    outcome
}

/// One line per operation: `s3s` name, input, output, and the method of [`Api`] that does it.
macro_rules! operations {
    ($($name:ident($input:ty) -> $output:ty = $method:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Api {
            $(
                async fn $name(&self, mut request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    restore(&mut request);
                    let context = RequestContext::of(&request.extensions).cloned();
                    noting_outcome(context, self.$method(request)).await
                }
            )*
        }
    };
}

operations! {
    list_buckets(ListBucketsInput) -> ListBucketsOutput = do_list_buckets;
    head_bucket(HeadBucketInput) -> HeadBucketOutput = do_head_bucket;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput = do_delete_bucket;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput = do_get_bucket_location;
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput = do_get_bucket_versioning;
    get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput = do_get_bucket_acl;
    get_object_acl(GetObjectAclInput) -> GetObjectAclOutput = do_get_object_acl;
    put_object(PutObjectInput) -> PutObjectOutput = do_put_object;
    get_object(GetObjectInput) -> GetObjectOutput = do_get_object;
    head_object(HeadObjectInput) -> HeadObjectOutput = do_head_object;
    get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput = do_get_object_attributes;
    copy_object(CopyObjectInput) -> CopyObjectOutput = do_copy_object;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput = do_delete_object;
    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput = do_get_object_tagging;
    delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput = do_delete_object_tagging;
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput = do_get_bucket_tagging;
    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput = do_get_bucket_policy;
    get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput
        = do_get_bucket_policy_status;
    get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput = do_get_bucket_encryption;
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput
        = do_get_bucket_lifecycle_configuration;
    get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput = do_get_bucket_cors;
    get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput = no_website;
    get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput = no_replication;
    get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput
        = do_get_object_lock_configuration;
    get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput = do_get_public_access_block;
    get_bucket_analytics_configuration(GetBucketAnalyticsConfigurationInput) -> GetBucketAnalyticsConfigurationOutput
        = no_analytics;
    get_bucket_inventory_configuration(GetBucketInventoryConfigurationInput) -> GetBucketInventoryConfigurationOutput
        = no_inventory;
    get_bucket_metrics_configuration(GetBucketMetricsConfigurationInput) -> GetBucketMetricsConfigurationOutput
        = no_metrics;
    get_bucket_intelligent_tiering_configuration(GetBucketIntelligentTieringConfigurationInput)
        -> GetBucketIntelligentTieringConfigurationOutput = no_tiering;
    get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput
        = do_get_bucket_ownership_controls;
    delete_bucket_ownership_controls(DeleteBucketOwnershipControlsInput) -> DeleteBucketOwnershipControlsOutput
        = do_delete_bucket_ownership_controls;
    get_bucket_notification_configuration(GetBucketNotificationConfigurationInput)
        -> GetBucketNotificationConfigurationOutput = do_get_bucket_notification_configuration;
    get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput = no_logging;
    get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput = owner_pays;
    get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput)
        -> GetBucketAccelerateConfigurationOutput = not_accelerated;
    list_bucket_analytics_configurations(ListBucketAnalyticsConfigurationsInput)
        -> ListBucketAnalyticsConfigurationsOutput = list_no_analytics;
    list_bucket_inventory_configurations(ListBucketInventoryConfigurationsInput)
        -> ListBucketInventoryConfigurationsOutput = list_no_inventory;
    list_bucket_metrics_configurations(ListBucketMetricsConfigurationsInput) -> ListBucketMetricsConfigurationsOutput
        = list_no_metrics;
    list_bucket_intelligent_tiering_configurations(ListBucketIntelligentTieringConfigurationsInput)
        -> ListBucketIntelligentTieringConfigurationsOutput = list_no_tiering;
    delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput = do_delete_bucket_tagging;
    delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput = do_delete_bucket_policy;
    delete_bucket_encryption(DeleteBucketEncryptionInput) -> DeleteBucketEncryptionOutput = do_delete_bucket_encryption;
    delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput = do_delete_bucket_lifecycle;
    delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput = do_delete_bucket_cors;
    delete_bucket_website(DeleteBucketWebsiteInput) -> DeleteBucketWebsiteOutput = delete_no_website;
    delete_bucket_replication(DeleteBucketReplicationInput) -> DeleteBucketReplicationOutput = delete_no_replication;
    delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput
        = do_delete_public_access_block;
    get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput = do_get_object_legal_hold;
    get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput = do_get_object_retention;
    list_objects(ListObjectsInput) -> ListObjectsOutput = do_list_objects;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output = do_list_objects_v2;
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput = do_list_object_versions;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput = do_create_multipart_upload;
    upload_part(UploadPartInput) -> UploadPartOutput = do_upload_part;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput = do_upload_part_copy;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput = do_abort_multipart_upload;
    list_parts(ListPartsInput) -> ListPartsOutput = do_list_parts;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput = do_list_multipart_uploads;
}
