//! Who may do what.

use cairn_gateway::SecretsKey;
use cairn_schema::{
    clock::now_ms,
    record::{BucketDocument, User},
    verbs::{AccessKeyChange, UserChange},
};

use crate::{
    request::Request,
    sign::Signer,
    wire::{Answer, DEADLINE},
    world::World,
};

pub(crate) fn policy(effect: &str, actions: &str, resources: &[&str]) -> String {
    let quoted = |texts: Vec<String>| format!("[{}]", texts.join(","));
    let actions = actions.split(' ').map(|action| format!("\"s3:{action}\"")).collect();
    let arn = |resource: &&str| match *resource {
        "*" => "\"*\"".to_owned(),
        resource => format!("\"arn:aws:s3:::{resource}\""),
    };
    let (actions, resources) = (quoted(actions), quoted(resources.iter().map(arn).collect()));
    let statement = format!(r#"{{"Effect":"{effect}","Action":{actions},"Resource":{resources}}}"#);
    format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
}

pub(crate) fn allow(actions: &str, resources: &[&str]) -> String {
    policy("Allow", actions, resources)
}

/// The same to anybody, for a bucket.
fn public(effect: &str, actions: &str, resources: &[&str]) -> Vec<u8> {
    policy(effect, actions, resources).replace("\"Action\"", "\"Principal\":\"*\",\"Action\"").into_bytes()
}

fn answered(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text());
}

/// Sends until the answer is this, which it must be within a few seconds.
pub(crate) async fn soon(world: &World, signer: &Signer, request: &Request, status: u16) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let answer = request.send(world.address(), signer).await;
        if answer.status == status {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{request}: still {}", answer.status);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Operation: request, the actions that it takes, what on, and what root and whoever is allowed just that are answered.
/// `VERSIONED` and `UPLOAD` stand for ids.
const MATRIX: &str = "
ListBuckets: GET /; ListAllMyBuckets; *; 200
HeadBucket: HEAD /bkt; ListBucket; bkt; 200
ListObjects: GET /bkt; ListBucket; bkt; 200
ListObjectsV2: GET /bkt?list-type=2; ListBucket; bkt; 200
ListObjectVersions: GET /bkt?versions=; ListBucketVersions; bkt; 200
ListMultipartUploads: GET /bkt?uploads=; ListBucketMultipartUploads; bkt; 200
GetBucketLocation: GET /bkt?location=; GetBucketLocation; bkt; 200
GetBucketVersioning: GET /bkt?versioning=; GetBucketVersioning; bkt; 200
PutBucketVersioning: PUT /bkt?versioning=; PutBucketVersioning; bkt; 200
GetBucketAcl: GET /bkt?acl=; GetBucketAcl; bkt; 200
PutBucketAcl: PUT /bkt?acl=; PutBucketAcl; bkt; 400
GetBucketPolicy: GET /bkt?policy=; GetBucketPolicy; bkt; 404
GetBucketPolicyStatus: GET /bkt?policyStatus=; GetBucketPolicyStatus; bkt; 404
PutBucketPolicy: PUT /bkt?policy=; PutBucketPolicy; bkt; 400
DeleteBucketPolicy: DELETE /bkt?policy=; DeleteBucketPolicy; bkt; 204
GetPublicAccessBlock: GET /bkt?publicAccessBlock=; GetBucketPublicAccessBlock; bkt; 404
PutPublicAccessBlock: PUT /bkt?publicAccessBlock=; PutBucketPublicAccessBlock; bkt; 400
DeletePublicAccessBlock: DELETE /bkt?publicAccessBlock=; PutBucketPublicAccessBlock; bkt; 204
GetBucketOwnershipControls: GET /bkt?ownershipControls=; GetBucketOwnershipControls; bkt; *
PutBucketOwnershipControls: PUT /bkt?ownershipControls=; PutBucketOwnershipControls; bkt; 400
DeleteBucketOwnershipControls: DELETE /bkt?ownershipControls=; PutBucketOwnershipControls; bkt; *
GetBucketTagging: GET /bkt?tagging=; GetBucketTagging; bkt; 404
PutBucketTagging: PUT /bkt?tagging=; PutBucketTagging; bkt; *
DeleteBucketTagging: DELETE /bkt?tagging=; PutBucketTagging; bkt; 204
GetBucketCors: GET /bkt?cors=; GetBucketCORS; bkt; 404
PutBucketCors: PUT /bkt?cors=; PutBucketCORS; bkt; *
DeleteBucketCors: DELETE /bkt?cors=; PutBucketCORS; bkt; 204
GetBucketEncryption: GET /bkt?encryption=; GetEncryptionConfiguration; bkt; 404
PutBucketEncryption: PUT /bkt?encryption=; PutEncryptionConfiguration; bkt; *
DeleteBucketEncryption: DELETE /bkt?encryption=; PutEncryptionConfiguration; bkt; 204
GetBucketLifecycleConfiguration: GET /bkt?lifecycle=; GetLifecycleConfiguration; bkt; 404
PutBucketLifecycleConfiguration: PUT /bkt?lifecycle=; PutLifecycleConfiguration; bkt; *
DeleteBucketLifecycle: DELETE /bkt?lifecycle=; PutLifecycleConfiguration; bkt; 204
GetBucketNotificationConfiguration: GET /bkt?notification=; GetBucketNotification; bkt; 200
PutBucketNotificationConfiguration: PUT /bkt?notification=; PutBucketNotification; bkt; 400
GetBucketLogging: GET /bkt?logging=; GetBucketLogging; bkt; 200
PutBucketLogging: PUT /bkt?logging=; PutBucketLogging; bkt; 400
GetBucketWebsite: GET /bkt?website=; GetBucketWebsite; bkt; 404
PutBucketWebsite: PUT /bkt?website=; PutBucketWebsite; bkt; 501
DeleteBucketWebsite: DELETE /bkt?website=; DeleteBucketWebsite; bkt; 204
GetBucketReplication: GET /bkt?replication=; GetReplicationConfiguration; bkt; 404
PutBucketReplication: PUT /bkt?replication=; PutReplicationConfiguration; bkt; 501
DeleteBucketReplication: DELETE /bkt?replication=; PutReplicationConfiguration; bkt; 204
GetBucketRequestPayment: GET /bkt?requestPayment=; GetBucketRequestPayment; bkt; 200
PutBucketRequestPayment: PUT /bkt?requestPayment=; PutBucketRequestPayment; bkt; 400
GetBucketAccelerateConfiguration: GET /bkt?accelerate=; GetAccelerateConfiguration; bkt; 200
PutBucketAccelerateConfiguration: PUT /bkt?accelerate=; PutAccelerateConfiguration; bkt; 501
GetObjectLockConfiguration: GET /bkt?object-lock=; GetBucketObjectLockConfiguration; bkt; 404
PutObjectLockConfiguration: PUT /bkt?object-lock=; PutBucketObjectLockConfiguration; bkt; *
GetBucketAbac: GET /bkt?abac=; none; bkt; 501
PutBucketAbac: PUT /bkt?abac=; none; bkt; 501
PutObject: PUT /bkt/new; PutObject; bkt/new; 200
GetObject: GET /bkt/k; GetObject; bkt/k; 200
GetObject: GET /bkt/k?versionId=VERSION; GetObjectVersion; bkt/k; 200
HeadObject: HEAD /bkt/k; GetObject; bkt/k; 200
HeadObject: HEAD /bkt/k?versionId=VERSION; GetObjectVersion; bkt/k; 200
GetObjectAttributes: GET /bkt/k?attributes=; GetObject GetObjectAttributes; bkt/k; 200
GetObjectAcl: GET /bkt/k?acl=; GetObjectAcl; bkt/k; 200
PutObjectAcl: PUT /bkt/k?acl=; PutObjectAcl; bkt/k; 400
GetObjectTagging: GET /bkt/k?tagging=; GetObjectTagging; bkt/k; 200
GetObjectTagging: GET /bkt/k?tagging=&versionId=VERSION; GetObjectVersionTagging; bkt/k; 200
PutObjectTagging: PUT /bkt/k?tagging=; PutObjectTagging; bkt/k; 200
DeleteObjectTagging: DELETE /bkt/k?tagging=; DeleteObjectTagging; bkt/k; 204
GetObjectLegalHold: GET /bkt/k?legal-hold=; GetObjectLegalHold; bkt/k; *
GetObjectRetention: GET /bkt/k?retention=; GetObjectRetention; bkt/k; *
PutObjectLegalHold: PUT /bkt/k?legal-hold=; PutObjectLegalHold; bkt/k; *
PutObjectRetention: PUT /bkt/k?retention=; PutObjectRetention; bkt/k; *
RestoreObject: POST /bkt/k?restore=; RestoreObject; bkt/k; 501
CreateMultipartUpload: POST /bkt/mp?uploads=; PutObject; bkt/mp; 200
UploadPart: PUT /bkt/mp?partNumber=1&uploadId=UPLOAD; PutObject; bkt/mp; 200
ListParts: GET /bkt/mp?uploadId=UPLOAD; ListMultipartUploadParts; bkt/mp; 200
CompleteMultipartUpload: POST /bkt/mp?uploadId=UPLOAD; PutObject; bkt/mp; 400
AbortMultipartUpload: DELETE /bkt/mp?uploadId=UPLOAD; AbortMultipartUpload; bkt/mp; 204,404
DeleteObject: DELETE /bkt/gone; DeleteObject; bkt/gone; 204
DeleteObject: DELETE /bkt/gone?versionId=null; DeleteObjectVersion; bkt/gone; 204
CreateBucket: PUT /made; CreateBucket; made; 200
DeleteBucket: DELETE /made; DeleteBucket; made; 204,404
";

/// What each operation of one row of the matrix sends.
fn request(operation: &str, target: &str) -> Request {
    let (method, address) = target.split_once(' ').unwrap();
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let mut request = Request::new(method, path);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap();
        request = request.query(name, value);
    }
    match operation {
        "PutBucketVersioning" => {
            request.body("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
        }
        "PutObjectTagging" => {
            request.body("<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>")
        }
        "GetObjectAttributes" => request.header("x-amz-object-attributes", "ETag"),
        "PutObject" | "UploadPart" => request.body("x"),
        _ if method == "PUT" && operation != "CreateBucket" => request.body("<nonsense/>"),
        _ => request,
    }
}

/// Every operation × (root, just what it takes, another user, nobody, expired key, disabled key, disabled user).
#[tokio::test(flavor = "multi_thread")]
async fn each_operation_is_done_for_those_who_may_and_no_others() {
    let world = World::with_bucket("bkt").await;
    world.ok(request("PutBucketVersioning", "PUT /bkt?versioning=")).await;
    let version = world.ok(Request::put("/bkt/k").body("x")).await.header("x-amz-version-id").unwrap().to_owned();
    let upload = world.ok(Request::post("/bkt/mp").query("uploads", "")).await.xml("UploadId");
    let all = allow("*", &["*"]);
    let other = world.user("other", None).await;
    world.meta.create_user(User::new("late", 1)).await.unwrap();
    world.allow("late", &all).await;
    let expired = world.key_of("late", Some(now_ms()), None).await;
    let disabled = world.key_of("late", None, None).await;
    world.meta.change_access_key(&disabled.access_key, AccessKeyChange::Enable(false)).await.unwrap();
    let away = world.user("away", Some(&all)).await;
    world.meta.change_user("away", UserChange::Enable(false)).await.unwrap();
    for (number, line) in MATRIX.lines().filter(|line| !line.is_empty()).enumerate() {
        let (operation, rest) = line.split_once(": ").unwrap();
        let [target, actions, on, statuses] = rest.split("; ").collect::<Vec<_>>().try_into().unwrap();
        let sent = request(operation, &target.replace("VERSION", &version).replace("UPLOAD", &upload));
        let is_head = target.starts_with("HEAD");
        let refused = |answer: Answer, status: u16, code: &str, who: &str| {
            let said = if is_head { code.to_owned() } else { answer.code() };
            assert_eq!((answer.status, said.as_str()), (status, code), "{line}, {who}: {}", answer.text());
        };
        let address = world.address();
        // Buckets that do not exist are told to everybody, except to whoever would create one.
        let missing = if operation == "DeleteBucket" { 0 } else { 403 };
        for (who, signer) in [("other", &other)] {
            let answer = sent.send(address, signer).await;
            if missing != 0 || answer.status == 403 {
                refused(answer, 403, "AccessDenied", who);
            }
        }
        refused(sent.send_unsigned(address).await, 403, "AccessDenied", "nobody");
        refused(sent.send(address, &expired).await, 400, "ExpiredToken", "expired");
        refused(sent.send(address, &disabled).await, 403, "InvalidAccessKeyId", "disabled");
        refused(sent.send(address, &away).await, 403, "InvalidAccessKeyId", "disabled user");
        let (granted, root) = statuses.split_once(',').unwrap_or((statuses, statuses));
        let as_wanted = |answer: &Answer, wanted: &str| match wanted {
            "*" => answer.status != 403,
            wanted => answer.status.to_string() == wanted,
        };
        if actions != "none" {
            let user = world.user(&format!("granted{number}"), Some(&allow(actions, &[on]))).await;
            let answer = sent.send(address, &user).await;
            assert!(as_wanted(&answer, granted), "{line}, granted: {} {}", answer.status, answer.text());
        }
        let answer = world.send(sent).await;
        assert!(as_wanted(&answer, root), "{line}, root: {} {}", answer.status, answer.text());
    }
    world.stop().await;
}

#[tokio::test]
async fn whoever_copies_may_read_what_is_copied() {
    let world = World::with_bucket("target").await;
    world.ok(Request::put("/from")).await;
    world.ok(Request::put("/from/secret").body("s").header("x-amz-tagging", "a=b")).await;
    let address = world.address();
    let copy = Request::put("/target/k").header("x-amz-copy-source", "/from/secret");
    let writes = allow("PutObject PutObjectTagging", &["target/*"]);
    let user = world.user("writer", Some(&writes)).await;
    answered(&copy.send(address, &user).await, 403, "AccessDenied", "the source is not readable");
    let reads = allow("GetObject PutObject PutObjectTagging", &["from/*", "target/*"]);
    let user = world.user("reader", Some(&reads)).await;
    answered(&copy.send(address, &user).await, 403, "AccessDenied", "its tags are not");
    let replaced = copy.clone().header("x-amz-tagging-directive", "REPLACE");
    assert_eq!(replaced.send(address, &user).await.status, 200);
    let all = allow("GetObject GetObjectTagging PutObject PutObjectTagging", &["from/*", "target/*"]);
    let user = world.user("both", Some(&all)).await;
    assert_eq!(copy.send(address, &user).await.status, 200);
    // The bucket of the source may forbid what the user's own policy allows.
    let denies = public("Deny", "GetObject", &["from/*"]);
    world.meta.set_bucket_document("from", BucketDocument::Policy, Some(denies)).await.unwrap();
    soon(&world, &user, &copy, 403).await;
    let upload = world.ok(Request::post("/target/mp").query("uploads", "")).await.xml("UploadId");
    let part = Request::put("/target/mp").query("partNumber", "1").query("uploadId", &upload);
    let part = part.header("x-amz-copy-source", "/from/secret");
    answered(&part.send(address, &user).await, 403, "AccessDenied", "a part");
    answered(&world.send(part).await, 403, "AccessDenied", "the root, whom the bucket's policy denies it too");
    world.stop().await;
}

#[tokio::test]
async fn batches_are_judged_key_by_key() {
    let world = World::with_bucket("bkt").await;
    for key in ["mine", "theirs"] {
        world.ok(Request::put(&format!("/bkt/{key}")).body("x")).await;
    }
    let user = world.user("u", Some(&allow("DeleteObject", &["bkt/mine"]))).await;
    let objects = "<Object><Key>mine</Key></Object><Object><Key>theirs</Key></Object>";
    let batch = Request::post("/bkt").query("delete", "").body(format!("<Delete>{objects}</Delete>")).content_md5();
    let answer = batch.send(world.address(), &user).await;
    assert_eq!((answer.status, answer.xml_all("Code")), (200, vec!["AccessDenied".to_owned()]), "{}", answer.text());
    assert_eq!(world.keys("bkt").await, ["theirs"]);
    answered(&batch.send_unsigned(world.address()).await, 403, "AccessDenied", "nobody");
    world.stop().await;
}

#[tokio::test]
async fn what_is_missing_is_told_to_those_who_may_list() {
    let world = World::with_bucket("bkt").await;
    let (get, head) = (Request::get("/bkt/none"), Request::head("/bkt/none"));
    let reads = world.user("reads", Some(&allow("GetObject", &["bkt/*"]))).await;
    answered(&get.send(world.address(), &reads).await, 403, "AccessDenied", "without ListBucket");
    assert_eq!(head.send(world.address(), &reads).await.status, 403);
    let lists = world.user("lists", Some(&allow("GetObject ListBucket", &["bkt", "bkt/*"]))).await;
    answered(&get.send(world.address(), &lists).await, 404, "NoSuchKey", "with ListBucket");
    assert_eq!(head.send(world.address(), &lists).await.status, 404);
    // Everybody is told of a bucket that does not exist.
    let none = world.user("none", None).await;
    answered(&Request::get("/nowhere/k").send(world.address(), &none).await, 404, "NoSuchBucket", "a user");
    answered(&Request::get("/nowhere/k").send_unsigned(world.address()).await, 404, "NoSuchBucket", "nobody");
    world.stop().await;
}

#[tokio::test]
async fn nobody_reads_what_a_bucket_policy_makes_public_and_no_block_forbids() {
    let world = World::with_bucket("bkt").await;
    world.ok(Request::put("/bkt/k").body("hello")).await;
    let address = world.address();
    let open = public("Allow", "GetObject PutObject", &["bkt/*"]);
    world.meta.set_bucket_document("bkt", BucketDocument::Policy, Some(open)).await.unwrap();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while Request::get("/bkt/k").send_unsigned(address).await.text() != "hello" {
        assert!(tokio::time::Instant::now() < deadline, "never public");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(Request::put("/bkt/given").body("x").send_unsigned(address).await.status, 200);
    answered(&Request::get("/bkt").send_unsigned(address).await, 403, "AccessDenied", "listing");
    let forced = Request::get("/bkt/k").query("response-content-type", "text/html");
    answered(&forced.send_unsigned(address).await, 400, "InvalidRequest", "headers of nobody's choice");
    let block = b"<PublicAccessBlockConfiguration><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>";
    let block = Some(block.to_vec());
    world.meta.set_bucket_document("bkt", BucketDocument::PublicAccessBlock, block).await.unwrap();
    while Request::get("/bkt/k").send_unsigned(address).await.status != 403 {
        assert!(tokio::time::Instant::now() < deadline, "still public");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    world.stop().await;
}

/// BND of staleness: what was revoked stops to work within 3 s, on a node that has just used it.
#[tokio::test]
async fn a_change_is_heeded_within_three_seconds() {
    let world = World::with_bucket("bkt").await;
    world.ok(Request::put("/bkt/k").body("x")).await;
    let get = Request::get("/bkt/k");
    let user = world.user("u", Some(&allow("GetObject", &["bkt/*"]))).await;
    let allowed = async || get.send(world.address(), &user).await.status;
    for round in 0..3 {
        assert_eq!(allowed().await, 200, "{round}");
        match round {
            0 => world.allow("u", &policy("Deny", "GetObject", &["bkt/*"])).await,
            1 => world.meta.change_access_key(&user.access_key, AccessKeyChange::Enable(false)).await.unwrap(),
            _ => world.meta.delete_access_key(&user.access_key).await.unwrap(),
        }
        let changed = std::time::Instant::now();
        while allowed().await == 200 {
            assert!(changed.elapsed() < std::time::Duration::from_secs(4), "{round}: still allowed");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        world.allow("u", &allow("GetObject", &["bkt/*"])).await;
        if round < 2 {
            world.meta.change_access_key(&user.access_key, AccessKeyChange::Enable(true)).await.unwrap();
            soon(&world, &user, &get, 200).await;
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn conditions_look_at_requests_and_objects() {
    let world = World::with_bucket("bkt").await;
    world.ok(Request::put("/bkt/red").body("x").header("x-amz-tagging", "colour=red")).await;
    world.ok(Request::put("/bkt/blue").body("x").header("x-amz-tagging", "colour=blue")).await;
    let address = world.address();
    let with = |actions: &str, on: &str, condition: &str| {
        allow(actions, &[on]).replace("}]}", &format!(",\"Condition\":{condition}}}]}}"))
    };
    let red = r#"{"StringEquals":{"s3:ExistingObjectTag/colour":"red"}}"#;
    let user = world.user("red", Some(&with("GetObject", "bkt/*", red))).await;
    assert_eq!(Request::get("/bkt/red").send(address, &user).await.status, 200);
    assert_eq!(Request::get("/bkt/blue").send(address, &user).await.status, 403);
    let tagged = r#"{"StringEquals":{"s3:RequestObjectTag/colour":"red"}}"#;
    let user = world.user("tags", Some(&with("PutObject PutObjectTagging", "bkt/*", tagged))).await;
    let put = |tags: &str| Request::put("/bkt/new").body("x").header("x-amz-tagging", tags);
    assert_eq!(put("colour=red").send(address, &user).await.status, 200);
    assert_eq!(put("colour=blue").send(address, &user).await.status, 403);
    let tagging = |colour: &str| {
        let tag = format!("<Tag><Key>colour</Key><Value>{colour}</Value></Tag>");
        Request::put("/bkt/new").query("tagging", "").body(format!("<Tagging><TagSet>{tag}</TagSet></Tagging>"))
    };
    assert_eq!(tagging("red").send(address, &user).await.status, 200);
    assert_eq!(tagging("blue").header("x-amz-tagging", "colour=red").send(address, &user).await.status, 403);
    let home = r#"{"StringLike":{"s3:prefix":"${aws:username}/*"}}"#;
    let user = world.user("home", Some(&with("ListBucket", "bkt", home))).await;
    assert_eq!(Request::get("/bkt").query("prefix", "home/x").send(address, &user).await.status, 200);
    assert_eq!(Request::get("/bkt").query("prefix", "away/x").send(address, &user).await.status, 403);
    assert_eq!(Request::get("/bkt").send(address, &user).await.status, 403);
    for (condition, status) in [
        (r#"{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}"#, 200),
        (r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#, 403),
        (r#"{"Bool":{"aws:SecureTransport":"false"}}"#, 200),
        (r#"{"Bool":{"aws:SecureTransport":"true"}}"#, 403),
        (r#"{"StringEquals":{"s3:authType":"REST-HEADER"}}"#, 200),
        (r#"{"NumericLessThan":{"s3:signatureAge":"600000"}}"#, 200),
        (r#"{"DateGreaterThan":{"aws:CurrentTime":"2100-01-01T00:00:00Z"}}"#, 403),
        (r#"{"StringEquals":{"aws:PrincipalType":"User"}}"#, 200),
    ] {
        let name = format!("c{}", rand::random::<u32>());
        let user = world.user(&name, Some(&with("GetObject", "bkt/*", condition))).await;
        assert_eq!(Request::get("/bkt/red").send(address, &user).await.status, status, "{condition}");
    }
    let small = r#"{"NumericLessThanEquals":{"s3:content-length":"3"}}"#;
    let user = world.user("small", Some(&with("PutObject", "bkt/*", small))).await;
    assert_eq!(Request::put("/bkt/s").body("123").send(address, &user).await.status, 200);
    assert_eq!(Request::put("/bkt/s").body("1234").send(address, &user).await.status, 403);
    world.stop().await;
}

#[tokio::test]
async fn a_session_policy_limits_and_what_cannot_be_read_forbids() {
    let world = World::with_bucket("bkt").await;
    world.ok(Request::put("/bkt/k").body("x")).await;
    let address = world.address();
    world.user("u", Some(&allow("GetObject PutObject", &["bkt/*"]))).await;
    let limited = world.key_of("u", None, Some(&allow("GetObject DeleteObject", &["bkt/*"]))).await;
    assert_eq!(Request::get("/bkt/k").send(address, &limited).await.status, 200);
    assert_eq!(Request::put("/bkt/k").send(address, &limited).await.status, 403, "the session does not allow it");
    assert_eq!(Request::delete("/bkt/k").send(address, &limited).await.status, 403, "the user may not");
    // A user's policy of a later version, or damaged, may have denied anything.
    world.meta.put_access_policy("later", r#"{"Version":"2040-01-01","Statement":[]}"#).await.unwrap();
    let attached = cairn_schema::record::AttachedPolicy { name: "later".into(), text: None };
    world.meta.change_user("u", UserChange::Attach(attached)).await.unwrap();
    soon(&world, &limited, &Request::get("/bkt/k"), 403).await;
    // So may a bucket's; the root alone can replace it.
    world.meta.set_bucket_document("bkt", BucketDocument::Policy, Some(b"{".to_vec())).await.unwrap();
    soon(&world, &world.signer(), &Request::get("/bkt/k"), 403).await;
    world.ok(Request::delete("/bkt").query("policy", "")).await;
    soon(&world, &world.signer(), &Request::get("/bkt/k"), 200).await;
    world.stop().await;
}

#[tokio::test]
async fn a_node_without_the_right_key_for_secrets_lets_no_user_in() {
    let other = SecretsKey::parse(&SecretsKey::generate().unwrap()).unwrap();
    for secrets in [None, Some(other)] {
        let world = World::start_with(|options| options.secrets = secrets).await;
        let user = world.user("u", Some(&allow("*", &["*"]))).await;
        answered(&Request::get("/").send(world.address(), &user).await, 500, "InternalError", "a user");
        world.ok(Request::get("/")).await;
        world.stop().await;
    }
}
