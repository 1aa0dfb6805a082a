//! Settings of buckets that Cairn does not have: they read as those of a bucket on which nobody ever set them, so that
//! tools which look at all of them can go on. Setting one to what holds anyway is granted, everything else is not
//! implemented.

use bytes::Bytes;
use http::StatusCode;
use s3s::{Body, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api,
    documents::{DocumentRequest, Setting},
};
use crate::{
    answer::documented,
    error::{WithField, custom, from_meta},
    honour::no_lists,
    xml::{Element, Writer, XmlError},
};

/// Reads of what was never set: an error of their own each.
macro_rules! never_set {
    ($($method:ident($input:ty) -> $output:ty = $code:literal, $message:literal;)*) => {
        impl Api {
            $(
                pub(super) async fn $method(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    let bucket = request.input.bucket;
                    self.meta().bucket(&bucket).await.map_err(from_meta)?;
                    Err(custom($code, StatusCode::NOT_FOUND, $message).with("BucketName", bucket))
                }
            )*
        }
    };
}

never_set! {
    no_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput
        = "NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration";
    no_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput
        = "ReplicationConfigurationNotFoundError", "The replication configuration was not found";
    no_analytics(GetBucketAnalyticsConfigurationInput) -> GetBucketAnalyticsConfigurationOutput
        = "NoSuchConfiguration", "The specified configuration does not exist.";
    no_inventory(GetBucketInventoryConfigurationInput) -> GetBucketInventoryConfigurationOutput
        = "NoSuchConfiguration", "The specified configuration does not exist.";
    no_metrics(GetBucketMetricsConfigurationInput) -> GetBucketMetricsConfigurationOutput
        = "NoSuchConfiguration", "The specified configuration does not exist.";
    no_tiering(GetBucketIntelligentTieringConfigurationInput) -> GetBucketIntelligentTieringConfigurationOutput
        = "NoSuchConfiguration", "The specified configuration does not exist.";
}

/// Reads whose answer is a document that says that nothing was set.
macro_rules! nothing_set {
    ($($method:ident($input:ty) -> $output:ty = $document:ident;)*) => {
        impl Api {
            $(
                pub(super) async fn $method(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    self.meta().bucket(&request.input.bucket).await.map_err(from_meta)?;
                    Ok(documented($document()))
                }
            )*
        }
    };
}

nothing_set! {
    no_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput = logging;
    owner_pays(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput = payment;
    not_accelerated(GetBucketAccelerateConfigurationInput) -> GetBucketAccelerateConfigurationOutput = acceleration;
    list_no_analytics(ListBucketAnalyticsConfigurationsInput) -> ListBucketAnalyticsConfigurationsOutput = analytics;
    list_no_inventory(ListBucketInventoryConfigurationsInput) -> ListBucketInventoryConfigurationsOutput = inventories;
    list_no_metrics(ListBucketMetricsConfigurationsInput) -> ListBucketMetricsConfigurationsOutput = metrics;
    list_no_tiering(ListBucketIntelligentTieringConfigurationsInput) -> ListBucketIntelligentTieringConfigurationsOutput
        = tierings;
}

fn logging() -> Bytes {
    Writer::document("BucketLoggingStatus", |_| ())
}

fn payment() -> Bytes {
    Writer::document("RequestPaymentConfiguration", |xml| xml.text("Payer", "BucketOwner"))
}

fn acceleration() -> Bytes {
    Writer::document("AccelerateConfiguration", |_| ())
}

fn analytics() -> Bytes {
    Writer::document("ListBucketAnalyticsConfigurationResult", |xml| xml.text("IsTruncated", "false"))
}

fn inventories() -> Bytes {
    Writer::document("ListInventoryConfigurationsResult", |xml| xml.text("IsTruncated", "false"))
}

fn metrics() -> Bytes {
    Writer::document("ListMetricsConfigurationsResult", |xml| xml.text("IsTruncated", "false"))
}

fn tierings() -> Bytes {
    Writer::document("ListBucketIntelligentTieringConfigurationsOutput", |xml| xml.text("IsTruncated", "false"))
}

/// Deletes of what was never set, which S3 grants.
macro_rules! deleted {
    ($($method:ident($input:ty) -> $output:ty;)*) => {
        impl Api {
            $(
                pub(super) async fn $method(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    self.meta().bucket(&request.input.bucket).await.map_err(from_meta)?;
                    Ok(S3Response::new(Default::default()))
                }
            )*
        }
    };
}

deleted! {
    delete_no_website(DeleteBucketWebsiteInput) -> DeleteBucketWebsiteOutput;
    delete_no_replication(DeleteBucketReplicationInput) -> DeleteBucketReplicationOutput;
}

impl Api {
    /// An access control list may be set to what it is: the owner may do everything, and nobody else anything.
    pub(super) async fn do_put_acl(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(false)?;
        let owner = if request.key.is_empty() {
            self.meta().bucket(&request.bucket).await.map_err(from_meta)?.owner
        } else {
            self.inspect(&request.bucket, &request.key, request.query.get("versionId")?).await?.owner
        };
        // A canned list was judged with the other headers.
        let canned = request.header("x-amz-acl")?.is_some();
        match (canned, &request.document) {
            (true, None) => Ok(S3Response::new(Body::empty())),
            (true, Some(_)) => {
                Err(s3_error!(UnexpectedContent, "A canned ACL and the document of an ACL cannot be given together."))
            }
            (false, None) => Err(XmlError::Empty.into()),
            (false, Some(document)) if grants_all_to(document, &owner)? => Ok(S3Response::new(Body::empty())),
            (false, Some(_)) => Err(no_lists()),
        }
    }

    /// Other settings may be set to what holds anyway.
    pub(super) async fn do_put_setting(
        &self,
        request: DocumentRequest,
        setting: Setting,
    ) -> S3Result<S3Response<Body>> {
        request.check_digests(false)?;
        self.meta().bucket(&request.bucket).await.map_err(from_meta)?;
        let document = request.document.as_ref().ok_or(XmlError::Empty)?;
        let holds = match setting {
            Setting::Payment => only(document.root("RequestPaymentConfiguration")?, "Payer")? == "BucketOwner",
            Setting::Logging => document.root("BucketLoggingStatus")?.children.is_empty(),
        };
        if holds {
            return Ok(S3Response::new(Body::empty()));
        }
        Err(s3_error!(NotImplemented, "{} other than what holds without them are not implemented.", setting.name()))
    }
}

/// The word in an element's only child.
fn only<'a>(element: &'a Element, name: &'static str) -> Result<&'a str, XmlError> {
    let [field] = element.fields([name])?;
    element.required(field, name)?.word()
}

/// Whether a list gives its owner full control and nobody anything else.
fn grants_all_to(document: &Element, owner: &str) -> Result<bool, XmlError> {
    let root = document.root("AccessControlPolicy")?;
    let [named_owner, list] = root.fields(["Owner", "AccessControlList"])?;
    let id_of = |element: &Element| -> Result<bool, XmlError> {
        let [id, _, uri, email] = element.fields(["ID", "DisplayName", "URI", "EmailAddress"])?;
        Ok(uri.is_none() && email.is_none() && id.map(Element::word).transpose()? == Some(owner))
    };
    if let Some(named) = named_owner
        && !id_of(named)?
    {
        return Ok(false);
    }
    let ([], grants) = root.required(list, "AccessControlList")?.fields_and_list([], Some("Grant"))?;
    let mut all = grants.len() == 1;
    for grant in grants {
        let [grantee, permission] = grant.fields(["Grantee", "Permission"])?;
        all &= id_of(grant.required(grantee, "Grantee")?)?;
        all &= grant.required(permission, "Permission")?.word()? == "FULL_CONTROL";
    }
    Ok(all)
}
