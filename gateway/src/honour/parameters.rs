//! Parameters of the query. One that names another operation than the one that would be done is no detail: `DELETE
//! /bucket/key?acl` must not delete the object.

use s3s::{S3Error, S3Result, s3_error};

use crate::{
    error::{WithField, invalid_argument},
    query::Query,
};

/// Parameters that choose an operation.
const CHOOSING: [&str; 43] = [
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "annotation",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "list-type",
    "location",
    "logging",
    "metadataAnnotationTable",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versioning",
    "versions",
    "website",
];

/// Those that an operation is chosen by. None for operations that change nothing whatever they are asked.
fn chosen_by(operation: &str) -> Option<&'static [&'static str]> {
    Some(match operation {
        "ListBuckets" | "HeadBucket" | "CreateBucket" | "DeleteBucket" | "ListObjects" => &[],
        "PutObject" | "CopyObject" | "DeleteObject" => &[],
        "GetObject" | "HeadObject" => &["partNumber"],
        "GetObjectAttributes" => &["attributes"],
        "GetBucketAcl" | "PutBucketAcl" | "GetObjectAcl" | "PutObjectAcl" => &["acl"],
        "GetObjectTagging" | "PutObjectTagging" | "DeleteObjectTagging" => &["tagging"],
        "GetBucketTagging" | "PutBucketTagging" | "DeleteBucketTagging" => &["tagging"],
        "GetBucketCors" | "PutBucketCors" | "DeleteBucketCors" => &["cors"],
        "GetObjectLockConfiguration" | "PutObjectLockConfiguration" => &["object-lock"],
        "GetBucketLifecycleConfiguration" | "PutBucketLifecycleConfiguration" | "DeleteBucketLifecycle" => {
            &["lifecycle"]
        }
        "GetObjectRetention" | "PutObjectRetention" => &["retention"],
        "GetObjectLegalHold" | "PutObjectLegalHold" => &["legal-hold"],
        "GetBucketVersioning" | "PutBucketVersioning" => &["versioning"],
        "GetBucketLocation" => &["location"],
        "ListObjectsV2" => &["list-type"],
        "ListObjectVersions" => &["versions"],
        "ListMultipartUploads" | "CreateMultipartUpload" => &["uploads"],
        "UploadPart" | "UploadPartCopy" => &["partNumber", "uploadId"],
        "CompleteMultipartUpload" | "AbortMultipartUpload" | "ListParts" => &["uploadId"],
        "DeleteObjects" => &["delete"],
        _ => return None,
    })
}

/// Operations on one version of an object.
const OF_A_VERSION: [&str; 13] = [
    "DeleteObject",
    "DeleteObjectTagging",
    "GetObject",
    "GetObjectAcl",
    "GetObjectAttributes",
    "GetObjectLegalHold",
    "GetObjectRetention",
    "GetObjectTagging",
    "HeadObject",
    "PutObjectAcl",
    "PutObjectLegalHold",
    "PutObjectRetention",
    "PutObjectTagging",
];

/// Refuses a request whose parameters name something else than the operation that it would be.
pub(crate) fn check_parameters(operation: &str, query: &Query) -> S3Result<()> {
    let Some(own) = chosen_by(operation) else { return Ok(()) };
    if let Some(version) = query.get("versionId")?
        && !OF_A_VERSION.contains(&operation)
    {
        return Err(invalid_argument("versionId", version, "This operation does not accept a version-id."));
    }
    let other = CHOOSING.iter().find(|name| query.has(name) && !own.contains(name));
    match other {
        None => Ok(()),
        Some(other) => Err(unexpected(operation, own, other, query)),
    }
}

fn unexpected(operation: &str, own: &[&str], other: &str, query: &Query) -> S3Error {
    let value = query.get(other).ok().flatten().unwrap_or_default();
    match (operation, other) {
        ("PutObject" | "CopyObject", "partNumber") => {
            invalid_argument(other, value, "This operation does not accept partNumber without uploadId")
        }
        ("PutObject" | "CopyObject", "uploadId") => {
            invalid_argument(other, value, "This operation does not accept uploadId without partNumber")
        }
        ("ListObjects", "list-type") => invalid_argument(other, value, "Invalid list type"),
        _ => match own.iter().find(|name| query.has(name)) {
            Some(first) => {
                let message = format!("Conflicting query string parameters: {first}, {other}");
                invalid_argument("ResourceType", first, message)
            }
            None => s3_error!(MethodNotAllowed).with("ResourceType", other.to_uppercase()),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn checked(operation: &str, query: &str) -> String {
        let query = Query::of(&format!("/b/k?{query}").parse().unwrap()).unwrap();
        let checked = check_parameters(operation, &query);
        checked.map_or_else(|error| error.code().as_str().to_owned(), |()| "ok".to_owned())
    }

    #[test]
    fn parameters_name_the_operation_that_is_done() {
        for (operation, query, outcome) in [
            ("DeleteObject", "", "ok"),
            ("DeleteObject", "versionId=1&x-id=DeleteObject", "ok"),
            ("DeleteObject", "acl", "MethodNotAllowed"),
            ("DeleteObject", "%61cl", "MethodNotAllowed"),
            ("DeleteBucket", "versions", "MethodNotAllowed"),
            ("PutObject", "attributes", "MethodNotAllowed"),
            ("PutObject", "partNumber=1", "InvalidArgument"),
            ("PutObject", "uploadId=x", "InvalidArgument"),
            ("PutObject", "versionId=1", "InvalidArgument"),
            ("UploadPart", "partNumber=1&uploadId=x", "ok"),
            ("UploadPart", "partNumber=1&uploadId=x&acl", "InvalidArgument"),
            ("GetObjectTagging", "tagging&acl", "InvalidArgument"),
            ("ListObjects", "prefix=acl&marker=x", "ok"),
            ("ListObjects", "list-type=1", "InvalidArgument"),
            ("ListObjectsV2", "list-type=2", "ok"),
            ("HeadObject", "partNumber=1&versionId=x", "ok"),
            ("DeleteBucketCors", "cors&policy", "InvalidArgument"),
            ("GetBucketPolicy", "cors&policy", "ok"),
        ] {
            assert_eq!(checked(operation, query), outcome, "{operation} {query}");
        }
    }
}
