//! Settings of buckets that Cairn does not have: they read as never set, and what is not implemented is in the
//! changelog.

use std::collections::BTreeSet;

use crate::{request::Request, world::World};

/// What reads as an error: parameter, code.
const ERRORS: [(&str, &str); 10] = [
    ("cors", "NoSuchCORSConfiguration"),
    ("encryption", "ServerSideEncryptionConfigurationNotFoundError"),
    ("lifecycle", "NoSuchLifecycleConfiguration"),
    ("object-lock", "ObjectLockConfigurationNotFoundError"),
    ("policy", "NoSuchBucketPolicy"),
    ("policyStatus", "NoSuchBucketPolicy"),
    ("publicAccessBlock", "NoSuchPublicAccessBlockConfiguration"),
    ("replication", "ReplicationConfigurationNotFoundError"),
    ("tagging", "NoSuchTagSet"),
    ("website", "NoSuchWebsiteConfiguration"),
];
/// What reads as a document: parameter, what follows the namespace.
const DOCUMENTS: [(&str, &str); 5] = [
    ("accelerate", "></AccelerateConfiguration>"),
    ("logging", "></BucketLoggingStatus>"),
    ("notification", "></NotificationConfiguration>"),
    ("ownershipControls", "><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>"),
    ("requestPayment", "><Payer>BucketOwner</Payer></RequestPaymentConfiguration>"),
];

#[tokio::test]
async fn what_was_never_set_reads_as_in_s3() {
    let world = World::with_bucket("plain").await;
    for (parameter, code) in ERRORS {
        let answer = world.refused(Request::get("/plain").query(parameter, ""), 404, code).await;
        assert_eq!(answer.xml("BucketName"), "plain", "{parameter}");
        assert!(!answer.xml("Message").is_empty(), "{parameter}");
        world.refused(Request::get("/none").query(parameter, ""), 404, "NoSuchBucket").await;
    }
    for (parameter, end) in DOCUMENTS {
        let answer = world.ok(Request::get("/plain").query(parameter, "")).await;
        assert!(
            answer.text().ends_with(&format!("xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"{end}")),
            "{}",
            answer.text()
        );
        world.refused(Request::get("/none").query(parameter, ""), 404, "NoSuchBucket").await;
    }
    for parameter in ["analytics", "intelligent-tiering", "inventory", "metrics"] {
        let listed = world.ok(Request::get("/plain").query(parameter, "")).await;
        assert_eq!(listed.xml("IsTruncated"), "false", "{parameter}");
        let one = Request::get("/plain").query(parameter, "").query("id", "x");
        world.refused(one, 404, "NoSuchConfiguration").await;
    }
    world.ok(Request::put("/plain/k").body("x")).await;
    for parameter in ["legal-hold", "retention"] {
        world.refused(Request::get("/plain/k").query(parameter, ""), 400, "InvalidRequest").await;
        world.refused(Request::get("/plain/none").query(parameter, ""), 400, "InvalidRequest").await;
    }
    world.stop().await;
}

#[tokio::test]
async fn what_was_never_set_can_be_deleted_and_set_to_what_it_is() {
    let world = World::with_bucket("plain").await;
    for parameter in
        ["cors", "encryption", "lifecycle", "policy", "publicAccessBlock", "replication", "tagging", "website"]
    {
        assert_eq!(world.ok(Request::delete("/plain").query(parameter, "")).await.status, 204, "{parameter}");
        world.refused(Request::delete("/none").query(parameter, ""), 404, "NoSuchBucket").await;
    }
    for parameter in ["logging", "notification", "ownershipControls", "requestPayment"] {
        let put = |document: String| Request::put("/plain").query(parameter, "").body(document);
        let read = world.ok(Request::get("/plain").query(parameter, "")).await.text();
        world.ok(put(read.clone())).await;
        let other = match parameter {
            "logging" => read.replace("></", "><LoggingEnabled/></"),
            "notification" => read.replace("></", "><EventBridgeConfiguration/></"),
            "ownershipControls" => read.replace("BucketOwnerEnforced", "ObjectWriter"),
            _ => read.replace("BucketOwner", "Requester"),
        };
        assert_ne!(other, read);
        world.refused(put(other), 501, "NotImplemented").await;
        world.refused(put("<Other/>".into()), 400, "MalformedXML").await;
    }
    world.ok(Request::head("/plain")).await;
    world.stop().await;
}

/// Requests for every operation of S3 that Cairn does not have, by name.
const NOT_IMPLEMENTED: [(&str, &str, &str); 34] = [
    ("CreateBucketMetadataConfiguration", "POST", "/plain?metadataConfiguration"),
    ("CreateBucketMetadataTableConfiguration", "POST", "/plain?metadataTable"),
    ("CreateSession", "GET", "/plain?session"),
    ("DeleteBucketAnalyticsConfiguration", "DELETE", "/plain?analytics&id=x"),
    ("DeleteBucketIntelligentTieringConfiguration", "DELETE", "/plain?intelligent-tiering&id=x"),
    ("DeleteBucketInventoryConfiguration", "DELETE", "/plain?inventory&id=x"),
    ("DeleteBucketMetadataConfiguration", "DELETE", "/plain?metadataConfiguration"),
    ("DeleteBucketMetadataTableConfiguration", "DELETE", "/plain?metadataTable"),
    ("DeleteBucketMetricsConfiguration", "DELETE", "/plain?metrics&id=x"),
    ("GetBucketAbac", "GET", "/plain?abac"),
    ("GetBucketMetadataConfiguration", "GET", "/plain?metadataConfiguration"),
    ("GetBucketMetadataTableConfiguration", "GET", "/plain?metadataTable"),
    ("GetObjectTorrent", "GET", "/plain/k?torrent"),
    ("PutBucketAbac", "PUT", "/plain?abac"),
    ("PutBucketAccelerateConfiguration", "PUT", "/plain?accelerate"),
    ("PutBucketAnalyticsConfiguration", "PUT", "/plain?analytics&id=x"),
    ("PutBucketEncryption", "PUT", "/plain?encryption"),
    ("PutBucketIntelligentTieringConfiguration", "PUT", "/plain?intelligent-tiering&id=x"),
    ("PutBucketInventoryConfiguration", "PUT", "/plain?inventory&id=x"),
    ("PutBucketMetricsConfiguration", "PUT", "/plain?metrics&id=x"),
    ("PutBucketReplication", "PUT", "/plain?replication"),
    ("PutBucketWebsite", "PUT", "/plain?website"),
    ("PutObjectAnnotation", "PUT", "/plain/k?annotation"),
    ("ListDirectoryBuckets", "GET", "/?x-id=ListDirectoryBuckets"),
    ("RenameObject", "PUT", "/plain/k?renameObject"),
    ("RestoreObject", "POST", "/plain/k?restore"),
    ("SelectObjectContent", "POST", "/plain/k?select&select-type=2"),
    ("UpdateBucketMetadataAnnotationTableConfiguration", "PUT", "/plain?metadataAnnotationTable"),
    ("UpdateBucketMetadataInventoryTableConfiguration", "PUT", "/plain?metadataInventoryTable"),
    ("UpdateBucketMetadataJournalTableConfiguration", "PUT", "/plain?metadataJournalTable"),
    ("UpdateObjectEncryption", "PUT", "/plain/k?encryption"),
    ("GetObjectAnnotation", "GET", "/plain/k?annotation&annotationName=x"),
    ("ListObjectAnnotations", "GET", "/plain/k?annotation"),
    ("DeleteObjectAnnotation", "DELETE", "/plain/k?annotation&annotationName=x"),
];

/// Parts of requests that Cairn does not have, as the changelog names them, each with a request that has it.
fn parts_not_implemented() -> Vec<(&'static str, Request)> {
    let put = |name: &str, value: &str| Request::put("/plain/k").body("y").header(name, value);
    let create = |name: &str, value: &str| Request::put("/other").header(name, value);
    let copy = |source: &str| Request::put("/plain/copy").header("x-amz-copy-source", source);
    let batch = |condition: &str| {
        let document = format!("<Delete><Object><Key>k</Key>{condition}</Object></Delete>");
        Request::post("/plain").query("delete", "").body(document).content_md5()
    };
    let abort = |name: &str, value: &str| {
        Request::delete("/plain/m").query("uploadId", "0123456789abcdef0123456789abcdef").header(name, value)
    };
    let delete = |name: &str, value: &str| Request::delete("/plain/k").header(name, value);
    let versioning =
        "<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete></VersioningConfiguration>";
    let create_with = |element: &str| {
        let document = format!("<CreateBucketConfiguration><{element}/></CreateBucketConfiguration>");
        Request::put("/other").body(document)
    };
    let set = |parameter: &str, document: &str| Request::put("/plain").query(parameter, "").body(document);
    let transition = |name: &str, days: &str| {
        let transition = format!("<{name}>{days}<StorageClass>GLACIER</StorageClass></{name}>");
        let rule = format!("<Rule><Filter/><Status>Enabled</Status>{transition}</Rule>");
        set("lifecycle", &format!("<LifecycleConfiguration>{rule}</LifecycleConfiguration>")).content_md5()
    };
    let ownership =
        "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>";
    let payment = "<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>";
    let events = "<NotificationConfiguration><EventBridgeConfiguration/></NotificationConfiguration>";
    let logging = "<BucketLoggingStatus><LoggingEnabled/></BucketLoggingStatus>";
    let time = "2025-11-21T08:00:00Z";
    vec![
        ("x-amz-server-side-encryption", put("x-amz-server-side-encryption", "AES256")),
        ("x-amz-write-offset-bytes", put("x-amz-write-offset-bytes", "1")),
        ("x-amz-bucket-namespace", create("x-amz-bucket-namespace", "account-regional")),
        ("x-amz-object-ownership", create("x-amz-object-ownership", "ObjectWriter")),
        ("x-amz-checksum-algorithm", copy("/plain/k").header("x-amz-checksum-algorithm", "SHA256")),
        ("x-amz-copy-source", copy("arn:aws:s3:us-east-1:123456789012:accesspoint/a/object/k")),
        ("If-None-Match", put("if-none-match", "\"0\"")),
        ("If-Unmodified-Since", put("if-unmodified-since", "Fri, 21 Nov 2025 08:00:00 GMT")),
        ("x-amz-if-match-initiated-time", abort("x-amz-if-match-initiated-time", "Fri, 21 Nov 2025 08:00:00 GMT")),
        ("x-amz-if-match-size", delete("x-amz-if-match-size", "1")),
        (
            "x-amz-if-match-last-modified-time",
            delete("x-amz-if-match-last-modified-time", "Fri, 21 Nov 2025 08:00:00 GMT"),
        ),
        ("<Size>", batch("<Size>1</Size>")),
        ("<LastModifiedTime>", batch(&format!("<LastModifiedTime>{time}</LastModifiedTime>"))),
        ("<Transition>", transition("Transition", "<Days>1</Days>")),
        (
            "<NoncurrentVersionTransition>",
            transition("NoncurrentVersionTransition", "<NoncurrentDays>1</NoncurrentDays>"),
        ),
        ("<MfaDelete>", Request::put("/plain").query("versioning", "").body(versioning)),
        ("<Location>", create_with("Location")),
        ("<Bucket>", create_with("Bucket")),
        ("<Tags>", create_with("Tags")),
        ("PutBucketLogging", set("logging", logging)),
        ("PutBucketNotificationConfiguration", set("notification", events)),
        ("PutBucketOwnershipControls", set("ownershipControls", ownership)),
        ("PutBucketRequestPayment", set("requestPayment", payment)),
    ]
}

/// Words in backticks of the changelog's list.
fn told() -> BTreeSet<String> {
    let changelog = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../CHANGELOG.md")).unwrap();
    let (_, not_yet) = changelog.split_once("### Not yet").unwrap();
    not_yet.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}

fn request(method: &str, path: &str, query: &str) -> Request {
    query.split('&').fold(Request::new(method, path), |request, pair| {
        let (parameter, value) = pair.split_once('=').unwrap_or((pair, ""));
        request.query(parameter, value)
    })
}

#[tokio::test]
async fn the_changelog_names_all_that_is_not_implemented() {
    let operations = NOT_IMPLEMENTED.iter().map(|(name, _, _)| (*name).to_owned());
    let parts = parts_not_implemented().into_iter().map(|(name, _)| name.to_owned());
    assert_eq!(told(), operations.chain(parts).collect());
    let world = World::with_bucket("plain").await;
    world.ok(Request::put("/plain/k").body("x")).await;
    for (name, method, address) in NOT_IMPLEMENTED {
        let (path, query) = address.split_once('?').unwrap();
        let answer = world.refused(request(method, path, query), 501, "NotImplemented").await;
        assert_eq!(answer.xml("Message"), format!("{name} is not implemented."));
    }
    for (name, request) in parts_not_implemented() {
        let answer = world.send(request).await;
        // An error of a batch is told within its answer.
        let refused = answer.status == 501 || answer.xml_all("Code") == ["NotImplemented"];
        assert!(refused, "{name}: {}", answer.text());
    }
    assert_eq!(world.ok(Request::get("/plain/k")).await.text(), "x");
    assert_eq!(world.keys("plain").await, ["k"]);
    world.refused(Request::get("/other"), 404, "NoSuchBucket").await;
    world.stop().await;
}

/// Every parameter by which S3 chooses an operation.
const PARAMETERS: [&str; 44] = [
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
    "select-type",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versioning",
    "versions",
    "website",
];

#[tokio::test]
async fn whatever_answers_501_is_in_the_changelog() {
    let told = told();
    let world = World::with_bucket("plain").await;
    world.ok(Request::put("/plain/k").body("x")).await;
    let mut met = BTreeSet::new();
    for parameter in PARAMETERS {
        for rest in ["", "&id=x&annotationName=x&select-type=2"] {
            for method in ["GET", "PUT", "POST", "DELETE"] {
                for path in ["/plain", "/plain/k", "/"] {
                    let answer = world.send(request(method, path, &format!("{parameter}{rest}"))).await;
                    assert_ne!(answer.status, 500, "{method} {path}?{parameter}{rest}: {}", answer.text());
                    if answer.status == 501 {
                        let message = answer.xml("Message");
                        met.insert(message.trim_end_matches(" is not implemented.").to_owned());
                    }
                }
            }
        }
    }
    let untold: Vec<_> = met.difference(&told).collect();
    assert!(untold.is_empty(), "{untold:?}");
    // The list below can only be complete if nearly all of it is met.
    let unmet: Vec<_> = NOT_IMPLEMENTED.iter().map(|(name, _, _)| *name).filter(|name| !met.contains(*name)).collect();
    assert_eq!(unmet, ["ListDirectoryBuckets"]);
    world.stop().await;
}
