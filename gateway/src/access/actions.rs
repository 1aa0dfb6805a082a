//! Which actions each operation of S3 takes, and on what, as S3's service authorization reference says. What is not
//! here nobody may do: a test holds that every operation that `s3s` knows is.

/// What the actions of an operation are done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// No bucket.
    Account,
    Bucket,
    Object,
    /// Each of the objects that the body names, one by one.
    EachObject,
    /// There is no action for it that policies could name. Only the root is told that it is not implemented.
    RootOnly,
}

use crate::honour;

use On::{Account, Bucket, EachObject, Object, RootOnly};

/// One operation.
#[derive(Debug)]
pub(super) struct Row {
    operation: &'static str,
    pub(super) on: On,
    actions: &'static [&'static str],
    /// Instead, of a request that names a version; none if that makes no difference.
    of_version: &'static [&'static str],
}

impl Row {
    const fn of(operation: &'static str, on: On, actions: &'static [&'static str]) -> Self {
        Self { operation, on, actions, of_version: &[] }
    }

    const fn versioned(
        operation: &'static str,
        actions: &'static [&'static str],
        of_version: &'static [&'static str],
    ) -> Self {
        Self { operation, on: Object, actions, of_version }
    }

    /// All of them must be allowed.
    pub(super) fn actions(&self, names_version: bool) -> &'static [&'static str] {
        if names_version && !self.of_version.is_empty() { self.of_version } else { self.actions }
    }
}

pub(super) fn row(operation: &str) -> Option<&'static Row> {
    ROWS.binary_search_by_key(&operation, |row| row.operation).ok().map(|at| &ROWS[at])
}

/// In order of name.
const ROWS: [Row; 114] = [
    Row::of("AbortMultipartUpload", Object, &["s3:AbortMultipartUpload"]),
    Row::of("CompleteMultipartUpload", Object, &["s3:PutObject"]),
    Row::of("CopyObject", Object, &["s3:PutObject"]),
    Row::of("CreateBucket", Bucket, &["s3:CreateBucket"]),
    Row::of("CreateBucketMetadataConfiguration", RootOnly, &[]),
    Row::of("CreateBucketMetadataTableConfiguration", RootOnly, &[]),
    Row::of("CreateMultipartUpload", Object, &["s3:PutObject"]),
    Row::of("CreateSession", RootOnly, &[]),
    Row::of("DeleteBucket", Bucket, &["s3:DeleteBucket"]),
    Row::of("DeleteBucketAnalyticsConfiguration", Bucket, &["s3:PutAnalyticsConfiguration"]),
    Row::of("DeleteBucketCors", Bucket, &["s3:PutBucketCORS"]),
    Row::of("DeleteBucketEncryption", Bucket, &["s3:PutEncryptionConfiguration"]),
    Row::of("DeleteBucketIntelligentTieringConfiguration", Bucket, &["s3:PutIntelligentTieringConfiguration"]),
    Row::of("DeleteBucketInventoryConfiguration", Bucket, &["s3:PutInventoryConfiguration"]),
    Row::of("DeleteBucketLifecycle", Bucket, &["s3:PutLifecycleConfiguration"]),
    Row::of("DeleteBucketMetadataConfiguration", RootOnly, &[]),
    Row::of("DeleteBucketMetadataTableConfiguration", RootOnly, &[]),
    Row::of("DeleteBucketMetricsConfiguration", Bucket, &["s3:PutMetricsConfiguration"]),
    Row::of("DeleteBucketOwnershipControls", Bucket, &["s3:PutBucketOwnershipControls"]),
    Row::of("DeleteBucketPolicy", Bucket, &["s3:DeleteBucketPolicy"]),
    Row::of("DeleteBucketReplication", Bucket, &["s3:PutReplicationConfiguration"]),
    Row::of("DeleteBucketTagging", Bucket, &["s3:PutBucketTagging"]),
    Row::of("DeleteBucketWebsite", Bucket, &["s3:DeleteBucketWebsite"]),
    Row::versioned("DeleteObject", &["s3:DeleteObject"], &["s3:DeleteObjectVersion"]),
    Row::of("DeleteObjectAnnotation", Object, &["s3:DeleteObjectAnnotation"]),
    Row::versioned("DeleteObjectTagging", &["s3:DeleteObjectTagging"], &["s3:DeleteObjectVersionTagging"]),
    Row::of("DeleteObjects", EachObject, &[]),
    Row::of("DeletePublicAccessBlock", Bucket, &["s3:PutBucketPublicAccessBlock"]),
    Row::of("GetBucketAbac", RootOnly, &[]),
    Row::of("GetBucketAccelerateConfiguration", Bucket, &["s3:GetAccelerateConfiguration"]),
    Row::of("GetBucketAcl", Bucket, &["s3:GetBucketAcl"]),
    Row::of("GetBucketAnalyticsConfiguration", Bucket, &["s3:GetAnalyticsConfiguration"]),
    Row::of("GetBucketCors", Bucket, &["s3:GetBucketCORS"]),
    Row::of("GetBucketEncryption", Bucket, &["s3:GetEncryptionConfiguration"]),
    Row::of("GetBucketIntelligentTieringConfiguration", Bucket, &["s3:GetIntelligentTieringConfiguration"]),
    Row::of("GetBucketInventoryConfiguration", Bucket, &["s3:GetInventoryConfiguration"]),
    Row::of("GetBucketLifecycleConfiguration", Bucket, &["s3:GetLifecycleConfiguration"]),
    Row::of("GetBucketLocation", Bucket, &["s3:GetBucketLocation"]),
    Row::of("GetBucketLogging", Bucket, &["s3:GetBucketLogging"]),
    Row::of("GetBucketMetadataConfiguration", RootOnly, &[]),
    Row::of("GetBucketMetadataTableConfiguration", RootOnly, &[]),
    Row::of("GetBucketMetricsConfiguration", Bucket, &["s3:GetMetricsConfiguration"]),
    Row::of("GetBucketNotificationConfiguration", Bucket, &["s3:GetBucketNotification"]),
    Row::of("GetBucketOwnershipControls", Bucket, &["s3:GetBucketOwnershipControls"]),
    Row::of("GetBucketPolicy", Bucket, &["s3:GetBucketPolicy"]),
    Row::of("GetBucketPolicyStatus", Bucket, &["s3:GetBucketPolicyStatus"]),
    Row::of("GetBucketReplication", Bucket, &["s3:GetReplicationConfiguration"]),
    Row::of("GetBucketRequestPayment", Bucket, &["s3:GetBucketRequestPayment"]),
    Row::of("GetBucketTagging", Bucket, &["s3:GetBucketTagging"]),
    Row::of("GetBucketVersioning", Bucket, &["s3:GetBucketVersioning"]),
    Row::of("GetBucketWebsite", Bucket, &["s3:GetBucketWebsite"]),
    Row::versioned("GetObject", &["s3:GetObject"], &["s3:GetObjectVersion"]),
    Row::versioned("GetObjectAcl", &["s3:GetObjectAcl"], &["s3:GetObjectVersionAcl"]),
    Row::of("GetObjectAnnotation", Object, &["s3:GetObjectAnnotation"]),
    Row::versioned(
        "GetObjectAttributes",
        &["s3:GetObject", "s3:GetObjectAttributes"],
        &["s3:GetObjectVersion", "s3:GetObjectVersionAttributes"],
    ),
    Row::of("GetObjectLegalHold", Object, &["s3:GetObjectLegalHold"]),
    Row::of("GetObjectLockConfiguration", Bucket, &["s3:GetBucketObjectLockConfiguration"]),
    Row::of("GetObjectRetention", Object, &["s3:GetObjectRetention"]),
    Row::versioned("GetObjectTagging", &["s3:GetObjectTagging"], &["s3:GetObjectVersionTagging"]),
    Row::versioned("GetObjectTorrent", &["s3:GetObjectTorrent"], &["s3:GetObjectVersionTorrent"]),
    Row::of("GetPublicAccessBlock", Bucket, &["s3:GetBucketPublicAccessBlock"]),
    Row::of("HeadBucket", Bucket, &["s3:ListBucket"]),
    Row::versioned("HeadObject", &["s3:GetObject"], &["s3:GetObjectVersion"]),
    Row::of("ListBucketAnalyticsConfigurations", Bucket, &["s3:GetAnalyticsConfiguration"]),
    Row::of("ListBucketIntelligentTieringConfigurations", Bucket, &["s3:GetIntelligentTieringConfiguration"]),
    Row::of("ListBucketInventoryConfigurations", Bucket, &["s3:GetInventoryConfiguration"]),
    Row::of("ListBucketMetricsConfigurations", Bucket, &["s3:GetMetricsConfiguration"]),
    Row::of("ListBuckets", Account, &["s3:ListAllMyBuckets"]),
    Row::of("ListDirectoryBuckets", RootOnly, &[]),
    Row::of("ListMultipartUploads", Bucket, &["s3:ListBucketMultipartUploads"]),
    Row::of("ListObjectAnnotations", RootOnly, &[]),
    Row::of("ListObjectVersions", Bucket, &["s3:ListBucketVersions"]),
    Row::of("ListObjects", Bucket, &["s3:ListBucket"]),
    Row::of("ListObjectsV2", Bucket, &["s3:ListBucket"]),
    Row::of("ListParts", Object, &["s3:ListMultipartUploadParts"]),
    Row::of("ListenBucketNotification", RootOnly, &[]),
    Row::of("PostObject", Object, &["s3:PutObject"]),
    Row::of("PutBucketAbac", RootOnly, &[]),
    Row::of("PutBucketAccelerateConfiguration", Bucket, &["s3:PutAccelerateConfiguration"]),
    Row::of("PutBucketAcl", Bucket, &["s3:PutBucketAcl"]),
    Row::of("PutBucketAnalyticsConfiguration", Bucket, &["s3:PutAnalyticsConfiguration"]),
    Row::of("PutBucketCors", Bucket, &["s3:PutBucketCORS"]),
    Row::of("PutBucketEncryption", Bucket, &["s3:PutEncryptionConfiguration"]),
    Row::of("PutBucketIntelligentTieringConfiguration", Bucket, &["s3:PutIntelligentTieringConfiguration"]),
    Row::of("PutBucketInventoryConfiguration", Bucket, &["s3:PutInventoryConfiguration"]),
    Row::of("PutBucketLifecycleConfiguration", Bucket, &["s3:PutLifecycleConfiguration"]),
    Row::of("PutBucketLogging", Bucket, &["s3:PutBucketLogging"]),
    Row::of("PutBucketMetricsConfiguration", Bucket, &["s3:PutMetricsConfiguration"]),
    Row::of("PutBucketNotificationConfiguration", Bucket, &["s3:PutBucketNotification"]),
    Row::of("PutBucketOwnershipControls", Bucket, &["s3:PutBucketOwnershipControls"]),
    Row::of("PutBucketPolicy", Bucket, &["s3:PutBucketPolicy"]),
    Row::of("PutBucketReplication", Bucket, &["s3:PutReplicationConfiguration"]),
    Row::of("PutBucketRequestPayment", Bucket, &["s3:PutBucketRequestPayment"]),
    Row::of("PutBucketTagging", Bucket, &["s3:PutBucketTagging"]),
    Row::of("PutBucketVersioning", Bucket, &["s3:PutBucketVersioning"]),
    Row::of("PutBucketWebsite", Bucket, &["s3:PutBucketWebsite"]),
    Row::of("PutObject", Object, &["s3:PutObject"]),
    Row::versioned("PutObjectAcl", &["s3:PutObjectAcl"], &["s3:PutObjectVersionAcl"]),
    Row::of("PutObjectAnnotation", Object, &["s3:PutObjectAnnotation"]),
    Row::of("PutObjectLegalHold", Object, &["s3:PutObjectLegalHold"]),
    Row::of("PutObjectLockConfiguration", Bucket, &["s3:PutBucketObjectLockConfiguration"]),
    Row::of("PutObjectRetention", Object, &["s3:PutObjectRetention"]),
    Row::versioned("PutObjectTagging", &["s3:PutObjectTagging"], &["s3:PutObjectVersionTagging"]),
    Row::of("PutPublicAccessBlock", Bucket, &["s3:PutBucketPublicAccessBlock"]),
    Row::of("RenameObject", Object, &["s3:RenameObject"]),
    Row::of("RestoreObject", Object, &["s3:RestoreObject"]),
    Row::of("SelectObjectContent", Object, &["s3:GetObject"]),
    Row::of("UpdateBucketMetadataAnnotationTableConfiguration", RootOnly, &[]),
    Row::of("UpdateBucketMetadataInventoryTableConfiguration", RootOnly, &[]),
    Row::of("UpdateBucketMetadataJournalTableConfiguration", RootOnly, &[]),
    Row::of("UpdateObjectEncryption", Object, &["s3:UpdateObjectEncryption"]),
    Row::of("UploadPart", Object, &["s3:PutObject"]),
    Row::of("UploadPartCopy", Object, &["s3:PutObject"]),
    Row::of("WriteGetObjectResponse", RootOnly, &[]),
];

/// Operations that write an object with what their headers say.
const WRITES: [&str; 4] = ["CopyObject", "CreateMultipartUpload", "PostObject", "PutObject"];
/// Operations that can end a retention.
const UNLOCKS: [&str; 2] = ["DeleteObject", "PutObjectRetention"];
const GRANTS: &str = "x-amz-grant-";

/// Actions that headers of a request take besides.
pub(super) fn by_headers(operation: &str, headers: &http::HeaderMap) -> Vec<&'static str> {
    let has = |name: &str| headers.get(name).is_some_and(|value| !value.is_empty());
    let grants = has("x-amz-acl") || headers.keys().any(|name| name.as_str().starts_with(GRANTS));
    let taken: &[(&'static str, bool)] = if WRITES.contains(&operation) {
        &[
            ("s3:PutObjectAcl", grants || has("acl")),
            ("s3:PutObjectTagging", has("x-amz-tagging") || has("tagging")),
            ("s3:PutObjectLegalHold", has("x-amz-object-lock-legal-hold")),
            ("s3:PutObjectRetention", has("x-amz-object-lock-mode") || has("x-amz-object-lock-retain-until-date")),
        ]
    } else if operation == "CreateBucket" {
        &[
            ("s3:PutBucketAcl", grants),
            ("s3:PutBucketOwnershipControls", has("x-amz-object-ownership")),
            ("s3:PutBucketObjectLockConfiguration", has("x-amz-bucket-object-lock-enabled")),
        ]
    } else if UNLOCKS.contains(&operation) {
        &[("s3:BypassGovernanceRetention", honour::bypasses_governance(headers))]
    } else {
        &[]
    };
    taken.iter().filter_map(|(action, taken)| taken.then_some(*action)).collect()
}

/// Whether whoever may not list the bucket is not told either that an object is missing.
pub(super) fn tells_what_is_missing(operation: &str) -> bool {
    operation.starts_with("GetObject") || matches!(operation, "HeadObject" | "CopyObject" | "UploadPartCopy")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{collections::BTreeSet, path::Path, process::Command};

    use super::*;

    /// The names of all operations, out of the sources of the library that routes requests.
    fn known_to_s3s() -> BTreeSet<String> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["metadata", "--offline", "--format-version", "1"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        let metadata: serde_json::Value = serde_json::from_slice(&cargo.output().unwrap().stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let s3s = packages.iter().find(|package| package["name"] == "s3s").unwrap();
        let manifest = Path::new(s3s["manifest_path"].as_str().unwrap());
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(manifest.with_file_name("src/ops/generated")).unwrap() {
            let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            for rest in source.split("fn name(&self) -> &'static str {").skip(1) {
                names.insert(rest.split('"').nth(1).unwrap().to_owned());
            }
        }
        names
    }

    #[test]
    fn every_operation_has_its_row_and_every_row_its_actions() {
        let known = known_to_s3s();
        assert!(known.len() > 100, "{known:?}");
        let rows: BTreeSet<String> = ROWS.iter().map(|row| row.operation.to_owned()).collect();
        assert_eq!(rows, known);
        assert!(ROWS.is_sorted_by_key(|row| row.operation));
        let actions: BTreeSet<String> = cairn_iam::actions().collect();
        for row in &ROWS {
            let named = row.actions.iter().chain(row.of_version);
            assert!(named.clone().all(|action| actions.contains(*action)), "{row:?}");
            assert_eq!(named.count() == 0, matches!(row.on, EachObject | RootOnly), "{row:?}");
            assert!(super::row(row.operation).is_some());
        }
        assert!(super::row("TakeOverTheWorld").is_none());
        // And so has the table that users read.
        let table = include_str!("../../../ops/docs/s3.md").lines().filter_map(|line| line.strip_prefix("| "));
        let told: BTreeSet<String> = table.filter_map(|row| Some(row.split_once(" | ")?.0.to_owned())).collect();
        assert_eq!(told.into_iter().filter(|name| name != "Operation").collect::<BTreeSet<_>>(), known);
    }
}
