//! The actions and condition keys that there are: those of S3 whose meaning Cairn honours or may honour one day, by the
//! names of S3's service authorization reference. A policy that names others is refused, because it would promise what
//! nobody keeps.

/// What an action is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// No bucket: only the resource `*` matches.
    Account,
    Bucket,
    Object,
}

use Level::{Account, Bucket, Object};

/// Without the prefix `s3:`; one bit of an [`crate::actions::ActionSet`] each, by place.
pub(crate) const ACTIONS: [(&str, Level); 91] = [
    ("ListAllMyBuckets", Account),
    ("GetAccountPublicAccessBlock", Account),
    ("PutAccountPublicAccessBlock", Account),
    ("CreateBucket", Bucket),
    ("DeleteBucket", Bucket),
    ("DeleteBucketPolicy", Bucket),
    ("DeleteBucketWebsite", Bucket),
    ("GetAccelerateConfiguration", Bucket),
    ("GetAnalyticsConfiguration", Bucket),
    ("GetBucketAcl", Bucket),
    ("GetBucketCORS", Bucket),
    ("GetBucketLocation", Bucket),
    ("GetBucketLogging", Bucket),
    ("GetBucketNotification", Bucket),
    ("GetBucketObjectLockConfiguration", Bucket),
    ("GetBucketOwnershipControls", Bucket),
    ("GetBucketPolicy", Bucket),
    ("GetBucketPolicyStatus", Bucket),
    ("GetBucketPublicAccessBlock", Bucket),
    ("GetBucketRequestPayment", Bucket),
    ("GetBucketTagging", Bucket),
    ("GetBucketVersioning", Bucket),
    ("GetBucketWebsite", Bucket),
    ("GetEncryptionConfiguration", Bucket),
    ("GetIntelligentTieringConfiguration", Bucket),
    ("GetInventoryConfiguration", Bucket),
    ("GetLifecycleConfiguration", Bucket),
    ("GetMetricsConfiguration", Bucket),
    ("GetReplicationConfiguration", Bucket),
    ("ListBucket", Bucket),
    ("ListBucketMultipartUploads", Bucket),
    ("ListBucketVersions", Bucket),
    ("PutAccelerateConfiguration", Bucket),
    ("PutAnalyticsConfiguration", Bucket),
    ("PutBucketAcl", Bucket),
    ("PutBucketCORS", Bucket),
    ("PutBucketLogging", Bucket),
    ("PutBucketNotification", Bucket),
    ("PutBucketObjectLockConfiguration", Bucket),
    ("PutBucketOwnershipControls", Bucket),
    ("PutBucketPolicy", Bucket),
    ("PutBucketPublicAccessBlock", Bucket),
    ("PutBucketRequestPayment", Bucket),
    ("PutBucketTagging", Bucket),
    ("PutBucketVersioning", Bucket),
    ("PutBucketWebsite", Bucket),
    ("PutEncryptionConfiguration", Bucket),
    ("PutIntelligentTieringConfiguration", Bucket),
    ("PutInventoryConfiguration", Bucket),
    ("PutLifecycleConfiguration", Bucket),
    ("PutMetricsConfiguration", Bucket),
    ("PutReplicationConfiguration", Bucket),
    ("AbortMultipartUpload", Object),
    ("BypassGovernanceRetention", Object),
    ("DeleteObject", Object),
    ("DeleteObjectTagging", Object),
    ("DeleteObjectVersion", Object),
    ("DeleteObjectVersionTagging", Object),
    ("GetObject", Object),
    ("GetObjectAcl", Object),
    ("GetObjectAttributes", Object),
    ("GetObjectLegalHold", Object),
    ("GetObjectRetention", Object),
    ("GetObjectTagging", Object),
    ("GetObjectTorrent", Object),
    ("GetObjectVersion", Object),
    ("GetObjectVersionAcl", Object),
    ("GetObjectVersionAttributes", Object),
    ("GetObjectVersionForReplication", Object),
    ("GetObjectVersionTagging", Object),
    ("GetObjectVersionTorrent", Object),
    ("InitiateReplication", Object),
    ("ListMultipartUploadParts", Object),
    ("ObjectOwnerOverrideToBucketOwner", Object),
    ("PutObject", Object),
    ("PutObjectAcl", Object),
    ("PutObjectLegalHold", Object),
    ("PutObjectRetention", Object),
    ("PutObjectTagging", Object),
    ("PutObjectVersionAcl", Object),
    ("PutObjectVersionTagging", Object),
    ("ReplicateDelete", Object),
    ("ReplicateObject", Object),
    ("ReplicateTags", Object),
    ("RestoreObject", Object),
    ("SelectObjectContent", Object),
    ("UpdateObjectEncryption", Object),
    ("RenameObject", Object),
    ("GetObjectAnnotation", Object),
    ("PutObjectAnnotation", Object),
    ("DeleteObjectAnnotation", Object),
];

/// A key of conditions and variables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConditionKey {
    /// One that ends in `/` stands for all keys that begin so and go on.
    pub(crate) name: &'static str,
    /// The actions whose requests have it, without the prefix. None: all.
    pub(crate) actions: Option<&'static [&'static str]>,
}

const fn every(name: &'static str) -> ConditionKey {
    ConditionKey { name, actions: None }
}

const fn of(name: &'static str, actions: &'static [&'static str]) -> ConditionKey {
    ConditionKey { name, actions: Some(actions) }
}

const LISTS: &[&str] = &["ListBucket", "ListBucketVersions"];

const WRITES: &[&str] = &["PutObject"];

const LISTS_OF_ACCESS: &[&str] = &["CreateBucket", "PutBucketAcl", "PutObject", "PutObjectAcl", "PutObjectVersionAcl"];

const TAGGINGS: &[&str] = &["PutObject", "PutObjectTagging", "PutObjectVersionTagging", "ReplicateTags"];

const VERSIONS: &[&str] = &[
    "DeleteObjectVersion",
    "DeleteObjectVersionTagging",
    "GetObjectVersion",
    "GetObjectVersionAcl",
    "GetObjectVersionAttributes",
    "GetObjectVersionTagging",
    "GetObjectVersionTorrent",
    "PutObjectVersionAcl",
    "PutObjectVersionTagging",
];

const OF_TAGGED: &[&str] = &[
    "DeleteObjectTagging",
    "DeleteObjectVersionTagging",
    "GetObject",
    "GetObjectAcl",
    "GetObjectAttributes",
    "GetObjectTagging",
    "GetObjectVersion",
    "GetObjectVersionAcl",
    "GetObjectVersionAttributes",
    "GetObjectVersionTagging",
    "PutObjectAcl",
    "PutObjectTagging",
    "PutObjectVersionAcl",
    "PutObjectVersionTagging",
];

const RETENTIONS: &[&str] =
    &["BypassGovernanceRetention", "PutBucketObjectLockConfiguration", "PutObject", "PutObjectRetention"];

/// Whoever decides requests must say these of each request of the actions, whenever the request has them: a statement
/// that denies by a key that nobody tells would deny nothing.
pub(crate) const CONDITION_KEYS: [ConditionKey; 48] = [
    every("aws:CurrentTime"),
    every("aws:EpochTime"),
    every("aws:PrincipalAccount"),
    every("aws:PrincipalArn"),
    // Account, User, AssumedRole or Anonymous.
    every("aws:PrincipalType"),
    every("aws:Referer"),
    every("aws:SecureTransport"),
    every("aws:SourceIp"),
    every("aws:UserAgent"),
    every("aws:userid"),
    every("aws:username"),
    // Of those whom a provider of identities knows: who the provider, the subject and the audience of the token are.
    every("jwt:aud"),
    every("jwt:iss"),
    every("jwt:sub"),
    every("s3:ResourceAccount"),
    every("s3:TlsVersion"),
    // REST-HEADER, REST-QUERY-STRING or POST.
    every("s3:authType"),
    // In milliseconds.
    every("s3:signatureAge"),
    every("s3:signatureversion"),
    every("s3:x-amz-content-sha256"),
    of("s3:delimiter", LISTS),
    of("s3:max-keys", LISTS),
    of("s3:prefix", LISTS),
    of("s3:versionid", VERSIONS),
    of("s3:ExistingObjectTag/", OF_TAGGED),
    of("s3:RequestObjectTag/", TAGGINGS),
    // Several values.
    of("s3:RequestObjectTagKeys", TAGGINGS),
    of("s3:LocationConstraint", &["CreateBucket"]),
    of("s3:x-amz-object-ownership", &["CreateBucket", "PutBucketOwnershipControls"]),
    of("s3:x-amz-acl", LISTS_OF_ACCESS),
    of("s3:x-amz-grant-full-control", LISTS_OF_ACCESS),
    of("s3:x-amz-grant-read", LISTS_OF_ACCESS),
    of("s3:x-amz-grant-read-acp", LISTS_OF_ACCESS),
    of("s3:x-amz-grant-write", LISTS_OF_ACCESS),
    of("s3:x-amz-grant-write-acp", LISTS_OF_ACCESS),
    // In bytes, of the whole request for an object and of a part for a part. S3 has none like it.
    of("s3:content-length", WRITES),
    of("s3:if-match", &["DeleteObject", "PutObject"]),
    of("s3:if-none-match", WRITES),
    of("s3:x-amz-copy-source", WRITES),
    of("s3:x-amz-metadata-directive", WRITES),
    of("s3:x-amz-server-side-encryption", WRITES),
    of("s3:x-amz-server-side-encryption-aws-kms-key-id", WRITES),
    of("s3:x-amz-server-side-encryption-customer-algorithm", WRITES),
    of("s3:x-amz-storage-class", WRITES),
    of("s3:x-amz-website-redirect-location", WRITES),
    of("s3:object-lock-legal-hold", &["PutObject", "PutObjectLegalHold"]),
    of("s3:object-lock-mode", RETENTIONS),
    of("s3:object-lock-remaining-retention-days", RETENTIONS),
];

/// The key's row. Names are compared without case.
pub(crate) fn condition_key(name: &str) -> Option<&'static ConditionKey> {
    CONDITION_KEYS.iter().find(|key| {
        let of_family = || name.get(..key.name.len()).is_some_and(|start| start.eq_ignore_ascii_case(key.name));
        match key.name.ends_with('/') {
            true => name.len() > key.name.len() && of_family(),
            false => name.eq_ignore_ascii_case(key.name),
        }
    })
}

/// All actions, as in `s3:GetObject`.
pub fn actions() -> impl Iterator<Item = String> {
    ACTIONS.iter().map(|(name, _)| format!("s3:{name}"))
}

/// All condition keys. One that ends in `/` stands for all that begin so and go on.
pub fn condition_keys() -> impl Iterator<Item = &'static str> {
    CONDITION_KEYS.iter().map(|key| key.name)
}
