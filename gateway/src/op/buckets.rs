//! Buckets: creation, location, versioning, and the canned access control lists that some clients ask for.

use bytes::Bytes;
use cairn_schema::{MetaError, record};
use http::{HeaderValue, header};
use s3s::{Body, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api,
    documents::DocumentRequest,
    encoding::{parse_token, token},
    names::now_ms,
};
use crate::{
    answer::documented,
    error::{from_meta, invalid_argument},
    honour::LOCK_ENABLED,
    shown::{iso_time, write_owner},
    xml::{Element, Writer, XmlError},
};

/// The region whose bucket location is written as nothing.
const DEFAULT_REGION: &str = "us-east-1";
/// AWS lists this many buckets at most in one answer.
const LIST_BUCKETS_MAX: usize = 10_000;
const LIST_PAGE: usize = 1000;

impl Api {
    pub(super) async fn do_list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let input = request.input;
        let limit = match input.max_buckets {
            None => LIST_BUCKETS_MAX,
            Some(wanted) => {
                let limit = usize::try_from(wanted).ok().filter(|limit| (1..=LIST_BUCKETS_MAX).contains(limit));
                limit.ok_or_else(|| {
                    let message = format!("Argument max-buckets must be an integer between 1 and {LIST_BUCKETS_MAX}");
                    invalid_argument("max-buckets", &wanted.to_string(), message)
                })?
            }
        };
        let prefix = input.prefix.clone().unwrap_or_default();
        let token_given = input.continuation_token.as_deref().filter(|token| !token.is_empty());
        let mut after = token_given.map(parse_token).transpose()?;
        let mut found: Vec<record::Bucket> = Vec::new();
        // One more than wanted tells whether there are more.
        while found.len() <= limit {
            let want = (limit + 1 - found.len()).min(LIST_PAGE);
            let page = self.meta().list_buckets(&prefix, after.as_deref(), want).await.map_err(from_meta)?;
            let last_page = page.len() < want;
            after = page.last().map(|bucket| bucket.name.clone()).or(after);
            found.extend(page);
            if last_page {
                break;
            }
        }
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|bucket| token(&bucket.name));
        Ok(documented(Writer::document("ListAllMyBucketsResult", |xml| {
            write_owner(xml, "Owner", Self::owner());
            xml.element("Buckets", |xml| {
                for bucket in &found {
                    xml.element("Bucket", |xml| {
                        xml.text("Name", &bucket.name);
                        xml.text("CreationDate", &iso_time(bucket.created_ms));
                        xml.text("BucketRegion", self.region_of(bucket));
                    });
                }
            });
            xml.optional("ContinuationToken", next);
            xml.optional("Prefix", input.prefix);
        })))
    }

    fn region_of<'a>(&'a self, bucket: &'a record::Bucket) -> &'a str {
        if bucket.region.is_empty() { &self.region } else { &bucket.region }
    }

    pub(super) async fn do_create_bucket(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(false)?;
        super::bucket_name::check(&request.bucket)?;
        let configuration = request.document.as_ref().map(read_create_configuration).transpose()?;
        let lockable = request.header(LOCK_ENABLED)?.is_some_and(|flag| flag.eq_ignore_ascii_case("true"));
        let object_lock = lockable.then(record::ObjectLock::default);
        let location = format!("/{}", request.bucket);
        let bucket = record::Bucket {
            owner: Self::owner().to_owned(),
            region: configuration.flatten().filter(|region| region != DEFAULT_REGION).unwrap_or_default(),
            versioning: if object_lock.is_some() { record::Versioning::Enabled } else { record::Versioning::Off },
            object_lock,
            ..record::Bucket::new(request.bucket, now_ms())
        };
        match self.meta().create_bucket(bucket).await {
            Ok(()) => {}
            // In this one region AWS says yes to a bucket that one has already; rclone relies on it. One that is to be
            // what it may not be is another matter.
            Err(MetaError::BucketExists(_)) if self.region == DEFAULT_REGION && !lockable => {}
            Err(error) => return Err(from_meta(error)),
        }
        let mut response = S3Response::new(Body::empty());
        // Of a bucket's name every character can stand in a header.
        if let Ok(location) = HeaderValue::try_from(location) {
            response.headers.insert(header::LOCATION, location);
        }
        Ok(response)
    }

    pub(super) async fn do_head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        let bucket = self.meta().bucket(&request.input.bucket).await.map_err(from_meta)?;
        let region = self.region_of(&bucket).to_owned();
        Ok(S3Response::new(HeadBucketOutput { bucket_region: Some(region), ..Default::default() }))
    }

    pub(super) async fn do_delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.meta().delete_bucket(&request.input.bucket).await.map_err(from_meta)?;
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }

    pub(super) async fn do_get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let bucket = self.meta().bucket(&request.input.bucket).await.map_err(from_meta)?;
        let region = self.region_of(&bucket);
        Ok(documented(Writer::document("LocationConstraint", |xml| {
            if region != DEFAULT_REGION {
                xml.escape(region);
            }
        })))
    }

    pub(super) async fn do_get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let bucket = self.meta().bucket(&request.input.bucket).await.map_err(from_meta)?;
        let status = match bucket.versioning {
            record::Versioning::Off => None,
            record::Versioning::Enabled => Some("Enabled"),
            record::Versioning::Suspended => Some("Suspended"),
        };
        Ok(documented(Writer::document("VersioningConfiguration", |xml| xml.optional("Status", status))))
    }

    pub(super) async fn do_put_bucket_versioning(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(false)?;
        let root = request.root("VersioningConfiguration")?;
        let [status, mfa_delete] = root.fields(["Status", "MfaDelete"])?;
        match mfa_delete.map(Element::word).transpose()? {
            None | Some("Disabled") => {}
            Some("Enabled") => return Err(s3_error!(NotImplemented, "MFA delete is not implemented.")),
            Some(_) => return Err(XmlError::Value("MfaDelete".into()).into()),
        }
        let versioning = match status.map(Element::word).transpose()? {
            Some("Enabled") => record::Versioning::Enabled,
            Some("Suspended") => record::Versioning::Suspended,
            Some(_) => return Err(XmlError::Value("Status".into()).into()),
            None => {
                return Err(s3_error!(
                    IllegalVersioningConfigurationException,
                    "The Versioning element must be specified"
                ));
            }
        };
        self.meta().set_versioning(&request.bucket, versioning).await.map_err(from_meta)?;
        Ok(S3Response::new(Body::empty()))
    }

    pub(super) async fn do_get_bucket_acl(
        &self,
        request: S3Request<GetBucketAclInput>,
    ) -> S3Result<S3Response<GetBucketAclOutput>> {
        let bucket = self.meta().bucket(&request.input.bucket).await.map_err(from_meta)?;
        Ok(documented(write_full_control(&bucket.owner)))
    }

    pub(super) async fn do_get_object_acl(
        &self,
        request: S3Request<GetObjectAclInput>,
    ) -> S3Result<S3Response<GetObjectAclOutput>> {
        let input = request.input;
        let version = self.inspect(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        Ok(documented(write_full_control(&version.owner)))
    }
}

/// The region that the bucket is to be in; none, if it does not matter.
fn read_create_configuration(document: &Element) -> S3Result<Option<String>> {
    let root = document.root("CreateBucketConfiguration")?;
    let [constraint, location, bucket, tags] = root.fields(["LocationConstraint", "Location", "Bucket", "Tags"])?;
    if let Some(unsupported) = location.or(bucket).or(tags) {
        return Err(s3_error!(NotImplemented, "Buckets with a '{}' are not implemented.", unsupported.name));
    }
    let constraint = constraint.map(Element::word).transpose()?;
    Ok(constraint.filter(|region| !region.is_empty()).map(ToOwned::to_owned))
}

/// An access control list that lets the owner do everything.
fn write_full_control(user: &str) -> Bytes {
    let grantee = [("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"), ("xsi:type", "CanonicalUser")];
    Writer::document("AccessControlPolicy", |xml| {
        write_owner(xml, "Owner", user);
        xml.element("AccessControlList", |xml| {
            xml.element("Grant", |xml| {
                xml.element_with("Grantee", &grantee, |xml| {
                    xml.text("ID", user);
                    xml.text("DisplayName", user);
                });
                xml.text("Permission", "FULL_CONTROL");
            });
        });
    })
}
