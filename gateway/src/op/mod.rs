//! The S3 operations, one file per family. What is not here answers NotImplemented.

mod attributes;
mod buckets;
mod complete;
mod conditions;
mod copy;
mod copy_source;
mod delete;
mod documents;
mod encoding;
mod entity_tags;
mod front;
mod incoming;
mod inspect;
mod list;
mod list_versions;
mod multipart;
mod names;
mod objects;
mod part_copy;
mod range;
mod tags;
mod uploads;

use std::sync::Arc;

use cairn_actors::Store;
use cairn_schema::Meta;
use s3s::{
    S3, S3Request, S3Response, S3Result,
    config::{S3Config, StaticConfigProvider},
    dto::*,
    s3_error,
    service::{S3Service, S3ServiceBuilder},
};

use self::{
    documents::{DOCUMENT_MAX_BYTES, Documents},
    front::Front,
};
use crate::{
    auth::{Access, Credentials},
    options::GatewayOptions,
    verified::restore,
};

/// Largest body of a PUT or a part.
pub const OBJECT_MAX_BYTES: u64 = 5 << 30;
/// A signed chunk is held in memory until its signature is verified.
const SIGNED_CHUNK_MAX_BYTES: usize = 16 << 20;
const FORM_FIELD_MAX_BYTES: usize = 64 << 10;
const FORM_FIELDS_MAX_BYTES: usize = 256 << 10;
const FORM_PARTS_MAX: usize = 100;

/// What the operations work on. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    store: Store,
    credentials: Credentials,
    region: String,
}

impl Api {
    fn meta(&self) -> &Meta {
        self.store.meta()
    }

    /// Who is asking, for the record of what is created.
    async fn owner<T>(&self, request: &S3Request<T>) -> S3Result<Arc<str>> {
        match &request.credentials {
            Some(credentials) => self.credentials.user(&credentials.access_key).await,
            None => Err(s3_error!(AccessDenied, "Signature is required")),
        }
    }
}

/// The S3 service over a store.
pub(crate) fn service(store: Store, options: &GatewayOptions) -> S3Service {
    let credentials =
        Credentials::new(store.meta().clone(), options.root_access_key.clone(), options.root_secret_key.clone());
    let api = Api { store, credentials: credentials.clone(), region: options.region.clone() };
    let config = Arc::new(StaticConfigProvider::new(Arc::new(config())));
    let build = |route: Option<Front>| {
        let mut builder = S3ServiceBuilder::new(api.clone());
        if let Some(route) = route {
            builder.set_route(route);
        }
        builder.set_auth(credentials.clone());
        builder.set_access(Access);
        builder.set_config(config.clone());
        builder.build()
    };
    build(Some(Front { documents: Documents(api.clone()), operations: build(None) }))
}

fn config() -> S3Config {
    let mut config = S3Config::default();
    config.xml_max_body_size = DOCUMENT_MAX_BYTES;
    config.custom_route_max_body_size = None;
    config.put_object_max_size = Some(OBJECT_MAX_BYTES);
    config.post_object_max_file_size = OBJECT_MAX_BYTES;
    config.aws_chunked_stream_max_chunk_size = SIGNED_CHUNK_MAX_BYTES;
    config.form_max_field_size = FORM_FIELD_MAX_BYTES;
    config.form_max_fields_size = FORM_FIELDS_MAX_BYTES;
    config.form_max_parts = FORM_PARTS_MAX;
    // `admit` has refused all but presigned URLs whose every telling parameter is signed.
    config.enable_sig_v2 = true;
    // Its value is part of what is signed, wherever the client put it.
    config.unsigned_amz_header_allowlist = vec!["x-amz-date".to_owned()];
    config
}

/// One line per operation: `s3s` name, input, output, and the method of [`Api`] that does it.
macro_rules! operations {
    ($($name:ident($input:ty) -> $output:ty = $method:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Api {
            $(
                async fn $name(&self, mut request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    restore(&mut request);
                    self.$method(request).await
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
    post_object(PostObjectInput) -> PostObjectOutput = do_post_object;
    get_object(GetObjectInput) -> GetObjectOutput = do_get_object;
    head_object(HeadObjectInput) -> HeadObjectOutput = do_head_object;
    get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput = do_get_object_attributes;
    copy_object(CopyObjectInput) -> CopyObjectOutput = do_copy_object;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput = do_delete_object;
    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput = do_get_object_tagging;
    delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput = do_delete_object_tagging;
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
