//! The operations whose requests carry a document. `s3s` verifies their signatures and then hands them over here with
//! their bodies, because its own reader silently drops what it does not know, and some of what it should know.

use bytes::Bytes;
use cairn_actors::error::BoxError;
use http::{Extensions, HeaderMap, Method, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use s3s::{
    Body, S3Error, S3Request, S3Response, S3Result,
    path::{ParseS3PathError, S3Path, parse_path_style},
    route::S3Route,
    s3_error,
};

use super::{Api, noting_outcome, tag_set};
use crate::{
    access::{Asking, BodyFacts, Verdict},
    checksum::{verify_content_md5, verify_document},
    context::RequestContext,
    error::{from_body, invalid_argument},
    query::{Place, Query, decoded_path},
    xml::{Element, XmlError, parse},
};

/// A thousand keys of 1,024 bytes fit, each byte written as `&quot;`, and so do ten thousand parts with all their
/// checksums.
pub(super) const DOCUMENT_MAX_BYTES: usize = 8 << 20;

/// An operation whose request carries a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    CreateBucket,
    PutBucketVersioning,
    PutBucketTagging,
    PutBucketCors,
    PutBucketEncryption,
    PutObjectLockConfiguration,
    PutBucketLifecycle,
    DeleteObjects,
    PutObjectTagging,
    PutObjectRetention,
    PutObjectLegalHold,
    CompleteMultipartUpload,
    PutBucketAcl,
    PutObjectAcl,
    PutBucketPolicy,
    PutPublicAccessBlock,
    PutBucketOwnershipControls,
    PutBucketNotification,
    PutSetting(Setting, &'static str),
    /// One of S3's that Cairn does not have, by name.
    Other(&'static str),
}

/// A setting that can be put if it says what holds anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    Payment,
    Logging,
}

impl Setting {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Payment => "Request payment configurations",
            Self::Logging => "Logging configurations",
        }
    }
}

/// What a parameter makes of a request.
const OPERATIONS: [(Method, Place, &str, Operation); 37] = [
    (Method::POST, Place::Bucket, "delete", Operation::DeleteObjects),
    (Method::POST, Place::Bucket, "metadataConfiguration", Operation::Other("CreateBucketMetadataConfiguration")),
    (Method::POST, Place::Bucket, "metadataTable", Operation::Other("CreateBucketMetadataTableConfiguration")),
    (Method::POST, Place::Object, "restore", Operation::Other("RestoreObject")),
    (Method::POST, Place::Object, "select", Operation::Other("SelectObjectContent")),
    (Method::POST, Place::Object, "uploadId", Operation::CompleteMultipartUpload),
    (Method::PUT, Place::Bucket, "abac", Operation::Other("PutBucketAbac")),
    (Method::PUT, Place::Bucket, "accelerate", Operation::Other("PutBucketAccelerateConfiguration")),
    (Method::PUT, Place::Bucket, "acl", Operation::PutBucketAcl),
    (Method::PUT, Place::Bucket, "analytics", Operation::Other("PutBucketAnalyticsConfiguration")),
    (Method::PUT, Place::Bucket, "cors", Operation::PutBucketCors),
    (Method::PUT, Place::Bucket, "encryption", Operation::PutBucketEncryption),
    (Method::PUT, Place::Bucket, "intelligent-tiering", Operation::Other("PutBucketIntelligentTieringConfiguration")),
    (Method::PUT, Place::Bucket, "inventory", Operation::Other("PutBucketInventoryConfiguration")),
    (Method::PUT, Place::Bucket, "lifecycle", Operation::PutBucketLifecycle),
    (Method::PUT, Place::Bucket, "logging", Operation::PutSetting(Setting::Logging, "PutBucketLogging")),
    (
        Method::PUT,
        Place::Bucket,
        "metadataAnnotationTable",
        Operation::Other("UpdateBucketMetadataAnnotationTableConfiguration"),
    ),
    (
        Method::PUT,
        Place::Bucket,
        "metadataInventoryTable",
        Operation::Other("UpdateBucketMetadataInventoryTableConfiguration"),
    ),
    (
        Method::PUT,
        Place::Bucket,
        "metadataJournalTable",
        Operation::Other("UpdateBucketMetadataJournalTableConfiguration"),
    ),
    (Method::PUT, Place::Bucket, "metrics", Operation::Other("PutBucketMetricsConfiguration")),
    (Method::PUT, Place::Bucket, "notification", Operation::PutBucketNotification),
    (Method::PUT, Place::Bucket, "object-lock", Operation::PutObjectLockConfiguration),
    (Method::PUT, Place::Bucket, "ownershipControls", Operation::PutBucketOwnershipControls),
    (Method::PUT, Place::Bucket, "policy", Operation::PutBucketPolicy),
    (Method::PUT, Place::Bucket, "publicAccessBlock", Operation::PutPublicAccessBlock),
    (Method::PUT, Place::Bucket, "replication", Operation::Other("PutBucketReplication")),
    (Method::PUT, Place::Bucket, "requestPayment", Operation::PutSetting(Setting::Payment, "PutBucketRequestPayment")),
    (Method::PUT, Place::Bucket, "tagging", Operation::PutBucketTagging),
    (Method::PUT, Place::Bucket, "versioning", Operation::PutBucketVersioning),
    (Method::PUT, Place::Bucket, "website", Operation::Other("PutBucketWebsite")),
    (Method::PUT, Place::Object, "acl", Operation::PutObjectAcl),
    (Method::PUT, Place::Object, "annotation", Operation::Other("PutObjectAnnotation")),
    (Method::PUT, Place::Object, "encryption", Operation::Other("UpdateObjectEncryption")),
    (Method::PUT, Place::Object, "legal-hold", Operation::PutObjectLegalHold),
    (Method::PUT, Place::Object, "renameObject", Operation::Other("RenameObject")),
    (Method::PUT, Place::Object, "retention", Operation::PutObjectRetention),
    (Method::PUT, Place::Object, "tagging", Operation::PutObjectTagging),
];

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::CreateBucket => "CreateBucket",
            Self::PutBucketVersioning => "PutBucketVersioning",
            Self::PutBucketTagging => "PutBucketTagging",
            Self::PutBucketCors => "PutBucketCors",
            Self::PutBucketEncryption => "PutBucketEncryption",
            Self::PutObjectLockConfiguration => "PutObjectLockConfiguration",
            Self::DeleteObjects => "DeleteObjects",
            Self::PutObjectTagging => "PutObjectTagging",
            Self::PutBucketLifecycle => "PutBucketLifecycleConfiguration",
            Self::PutObjectRetention => "PutObjectRetention",
            Self::PutObjectLegalHold => "PutObjectLegalHold",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
            Self::PutBucketAcl => "PutBucketAcl",
            Self::PutObjectAcl => "PutObjectAcl",
            Self::PutBucketPolicy => "PutBucketPolicy",
            Self::PutPublicAccessBlock => "PutPublicAccessBlock",
            Self::PutBucketOwnershipControls => "PutBucketOwnershipControls",
            Self::PutBucketNotification => "PutBucketNotificationConfiguration",
            Self::PutSetting(_, name) | Self::Other(name) => name,
        }
    }

    /// Whether its document is XML.
    fn has_xml(self) -> bool {
        self != Self::PutBucketPolicy
    }

    /// None for requests without a document, which `s3s` reads by itself.
    fn of(method: &Method, uri: &Uri) -> Option<Self> {
        let query = Query::of(uri).ok()?;
        let place = Place::of(uri)?;
        let named = OPERATIONS.iter().find(|(of, at, name, _)| of == method && *at == place && query.has(name));
        match named {
            Some((_, _, _, operation)) => Some(*operation),
            None if *method == Method::PUT && place == Place::Bucket => Some(Self::CreateBucket),
            None => None,
        }
    }
}

/// A request whose signature has been verified and whose document has been read.
pub(super) struct DocumentRequest {
    pub(super) bucket: String,
    /// Empty for a request about a bucket.
    pub(super) key: String,
    pub(super) query: Query,
    /// None if there was no body at all, or another than XML.
    pub(super) document: Option<Element>,
    pub(super) request: S3Request<()>,
    bytes: Bytes,
}

impl DocumentRequest {
    async fn read(request: S3Request<Body>, has_xml: bool) -> S3Result<Self> {
        let path = decoded_path(&request.uri).ok_or_else(|| s3_error!(InvalidURI))?;
        let path = parse_path_style(&path).map_err(|error| match error {
            ParseS3PathError::InvalidPath => s3_error!(InvalidURI),
            ParseS3PathError::InvalidBucketName => s3_error!(InvalidBucketName),
            ParseS3PathError::KeyTooLong => s3_error!(KeyTooLongError),
        })?;
        let (bucket, key) = match path {
            S3Path::Root => return Err(s3_error!(InvalidURI)),
            S3Path::Bucket { bucket } => (bucket.into(), String::new()),
            S3Path::Object { bucket, key } => (bucket.into(), key.into()),
        };
        let query = Query::of(&request.uri)?;
        let mut body = Body::empty();
        let request = request.map_input(|input| body = input);
        let bytes = read_whole(body).await?;
        let document = if bytes.is_empty() || !has_xml { None } else { Some(parse(&bytes)?) };
        Ok(Self { bucket, key, query, document, request, bytes })
    }

    /// The document as it came.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The request as policies look at it.
    pub(super) fn asking<'a>(&'a self, operation: &'a str) -> S3Result<Asking<'a>> {
        let S3Request { credentials, headers, uri, extensions, .. } = &self.request;
        let access_key = credentials.as_ref().map(|credentials| credentials.access_key.as_str());
        let place = (Some(&*self.bucket), Some(&*self.key).filter(|key| !key.is_empty()));
        Asking::new(operation, place, access_key, (headers, uri), RequestContext::of(extensions))
    }

    /// What of the document policies may ask for. A document that cannot be read is refused by its operation.
    fn facts(&self) -> BodyFacts {
        let Some(document) = &self.document else { return BodyFacts::default() };
        let tags = document.root("Tagging").and_then(tag_set::read).unwrap_or_default();
        let constraint = document.children.iter().find(|child| child.name == "LocationConstraint");
        let location = constraint.and_then(|constraint| constraint.word().ok()).map(ToOwned::to_owned);
        BodyFacts { tags, location }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.request.headers
    }

    /// Compares the bytes that came with the digests that the headers claim. `demanded`: there must be one.
    pub(super) fn check_digests(&self, demanded: bool) -> S3Result<()> {
        verify_document(self.headers(), &self.bytes, demanded)
    }

    /// The same of Content-MD5 only.
    pub(super) fn check_md5(&self) -> S3Result<()> {
        verify_content_md5(self.headers(), &self.bytes).map(|_| ())
    }

    pub(super) fn document_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The document of an operation that cannot do without one.
    pub(super) fn root(&self, name: &'static str) -> S3Result<&Element> {
        let document = self.document.as_ref().ok_or(XmlError::Empty)?;
        Ok(document.root(name)?)
    }

    /// A header that may be there once.
    pub(super) fn header(&self, name: &str) -> S3Result<Option<&str>> {
        let mut values = self.headers().get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let text = value.to_str().ok().filter(|_| values.next().is_none());
        text.map(Some).ok_or_else(|| {
            let shown = String::from_utf8_lossy(value.as_bytes());
            invalid_argument(name, &shown, format!("The value of the header {name} is invalid."))
        })
    }
}

async fn read_whole(body: Body) -> S3Result<Bytes> {
    match Limited::new(body, DOCUMENT_MAX_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(s3_error!(MaxMessageLengthExceeded)),
        Err(error) => {
            let error: BoxError = error;
            Err(from_body(&*error))
        }
    }
}

/// The bucket and the key of a path.
fn place(path: &str) -> (Option<&str>, Option<&str>) {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    (Some(bucket).filter(|bucket| !bucket.is_empty()), Some(key).filter(|key| !key.is_empty()))
}

/// Marks a request on which policies cannot decide before its body is read.
#[derive(Clone, Copy)]
struct JudgedByBody;

fn not_implemented(operation: &str) -> S3Error {
    s3_error!(NotImplemented, "{operation} is not implemented.")
}

/// The way from `s3s` to these operations.
pub(super) struct Documents(pub(super) Api);

#[async_trait::async_trait]
impl S3Route for Documents {
    fn is_match(&self, method: &Method, uri: &Uri, _headers: &HeaderMap, _extensions: &mut Extensions) -> bool {
        Operation::of(method, uri).is_some()
    }

    async fn check_access(&self, request: &mut S3Request<Body>) -> S3Result<()> {
        let name = Operation::of(&request.method, &request.uri).map_or("Unknown", Operation::name);
        let context = RequestContext::of(&request.extensions).cloned();
        let path = decoded_path(&request.uri).unwrap_or_default();
        let access_key = request.credentials.as_ref().map(|credentials| credentials.access_key.as_str());
        let (headers, uri) = (&request.headers, &request.uri);
        let asking = Asking::new(name, place(&path), access_key, (headers, uri), context.as_ref())?;
        if self.0.access.check_request(&asking).await? == Verdict::AskAgain {
            request.extensions.insert(JudgedByBody);
        }
        Ok(())
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let context = RequestContext::of(&request.extensions).cloned();
        noting_outcome(context, self.answer(request)).await
    }
}

impl Documents {
    async fn answer(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let Some(operation) = Operation::of(&request.method, &request.uri) else {
            return Err(s3_error!(NotImplemented));
        };
        // Nobody needs to read what will not be done.
        if let Operation::Other(name) = operation {
            return Err(not_implemented(name));
        }
        let request = DocumentRequest::read(request, operation.has_xml()).await?;
        if request.request.extensions.get::<JudgedByBody>().is_some() {
            let asking = Asking { body: Some(request.facts()), ..request.asking(operation.name())? };
            self.0.access.judge(&asking).await?;
        }
        match operation {
            Operation::CreateBucket => self.0.do_create_bucket(request).await,
            Operation::PutBucketVersioning => self.0.do_put_bucket_versioning(request).await,
            Operation::PutBucketTagging => self.0.do_put_bucket_tagging(request).await,
            Operation::PutBucketCors => self.0.do_put_bucket_cors(request).await,
            Operation::PutBucketEncryption => self.0.do_put_bucket_encryption(request).await,
            Operation::PutObjectLockConfiguration => self.0.do_put_object_lock_configuration(request).await,
            Operation::PutBucketLifecycle => self.0.do_put_bucket_lifecycle(request).await,
            Operation::PutObjectRetention => self.0.do_put_object_retention(request).await,
            Operation::PutObjectLegalHold => self.0.do_put_object_legal_hold(request).await,
            Operation::DeleteObjects => self.0.do_delete_objects(request).await,
            Operation::PutObjectTagging => self.0.do_put_object_tagging(request).await,
            Operation::CompleteMultipartUpload => self.0.do_complete_multipart_upload(request).await,
            Operation::PutBucketAcl | Operation::PutObjectAcl => self.0.do_put_acl(request).await,
            Operation::PutBucketPolicy => self.0.do_put_bucket_policy(request).await,
            Operation::PutPublicAccessBlock => self.0.do_put_public_access_block(request).await,
            Operation::PutBucketOwnershipControls => self.0.do_put_bucket_ownership_controls(request).await,
            Operation::PutBucketNotification => self.0.do_put_bucket_notification(request).await,
            Operation::PutSetting(setting, _) => self.0.do_put_setting(request, setting).await,
            Operation::Other(name) => Err(not_implemented(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn requests_with_documents_are_told_from_others() {
        let found = |method: &str, uri: &str| Operation::of(&method.parse().unwrap(), &uri.parse().unwrap());
        for (method, uri, operation) in [
            ("PUT", "/b", Some(Operation::CreateBucket)),
            ("PUT", "/b/", Some(Operation::CreateBucket)),
            ("PUT", "/b?x-id=CreateBucket", Some(Operation::CreateBucket)),
            ("PUT", "/b?versioning", Some(Operation::PutBucketVersioning)),
            ("PUT", "/b?acl", Some(Operation::PutBucketAcl)),
            ("PUT", "/b/k", None),
            ("PUT", "/b%2Fk", None),
            ("PUT", "/b/k?tagging=", Some(Operation::PutObjectTagging)),
            ("PUT", "/b/k?%74agging", Some(Operation::PutObjectTagging)),
            ("PUT", "/b/k?partNumber=1&uploadId=x", None),
            ("POST", "/b?delete", Some(Operation::DeleteObjects)),
            ("POST", "/b/?delete=", Some(Operation::DeleteObjects)),
            ("POST", "/b/k?delete", None),
            ("POST", "/b/k?uploadId=x", Some(Operation::CompleteMultipartUpload)),
            ("POST", "/b//?uploadId=x", Some(Operation::CompleteMultipartUpload)),
            ("POST", "/b/k?uploads", None),
            ("POST", "/b", None),
            ("GET", "/b?delete", None),
            ("PUT", "/", None),
        ] {
            assert_eq!(found(method, uri), operation, "{method} {uri}");
        }
    }
}
