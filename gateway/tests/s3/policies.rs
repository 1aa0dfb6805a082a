//! Policies of buckets and what else opens or closes a bucket, as they are put, read and deleted.

use crate::{request::Request, world::World};

const PUBLIC: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [{"Sid": "Everyone may read", "Effect": "Allow", "Principal": "*",
    "Action": "s3:GetObject", "Resource": "arn:aws:s3:::open/*"}]
}
"#;
const NAMED: &str = r#"{"Statement": {"Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::000000000000:user/ä"}, "Action": "s3:DeleteObject", "Resource": "arn:aws:s3:::open/*"}}"#;

fn put(text: impl Into<Vec<u8>>) -> Request {
    Request::put("/open").query("policy", "").body(text)
}

fn get(parameter: &str) -> Request {
    Request::get("/open").query(parameter, "")
}

fn block(fields: &str) -> Request {
    let document = format!("<PublicAccessBlockConfiguration>{fields}</PublicAccessBlockConfiguration>");
    Request::put("/open").query("publicAccessBlock", "").body(document).content_md5()
}

#[tokio::test]
async fn a_policy_reads_back_byte_for_byte_until_it_is_deleted() {
    let world = World::with_bucket("open").await;
    let delete = || Request::delete("/open").query("policy", "");
    for (text, public) in [(PUBLIC, "true"), (NAMED, "false"), (PUBLIC, "true")] {
        let answer = world.ok(put(text)).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        let read = world.ok(get("policy")).await;
        assert_eq!(read.text(), text);
        assert_eq!(read.header("content-type"), Some("application/json"));
        let status = world.ok(get("policyStatus")).await;
        let namespace = "http://s3.amazonaws.com/doc/2006-03-01/";
        let expected = format!("<PolicyStatus xmlns=\"{namespace}\"><IsPublic>{public}</IsPublic></PolicyStatus>");
        assert!(status.text().ends_with(&expected), "{}", status.text());
    }
    assert_eq!(world.ok(delete()).await.status, 204);
    assert_eq!(world.ok(delete()).await.status, 204);
    let missing = world.refused(get("policy"), 404, "NoSuchBucketPolicy").await;
    assert_eq!(missing.xml("BucketName"), "open");
    world.refused(get("policyStatus"), 404, "NoSuchBucketPolicy").await;
    // A bucket of the same name has not the policy of the one before.
    world.ok(put(PUBLIC)).await;
    world.ok(Request::delete("/open")).await;
    world.ok(Request::put("/open")).await;
    world.refused(get("policy"), 404, "NoSuchBucketPolicy").await;
    world.stop().await;
}

#[tokio::test]
async fn what_is_no_policy_is_refused_and_changes_nothing() {
    let world = World::with_bucket("open").await;
    world.ok(put(NAMED)).await;
    for (text, said) in [
        (String::new(), "Policies must be valid JSON and the first byte must be '{'"),
        ("<Policy/>".into(), "Policies must be valid JSON and the first byte must be '{'"),
        (format!(" {PUBLIC}"), "Policies must be valid JSON and the first byte must be '{'"),
        ("{}".into(), "Missing required field Statement"),
        (PUBLIC.replace("open/*", "other/*"), "Policy has invalid resource: arn:aws:s3:::other/*"),
        (PUBLIC.replace("GetObject", "ReadObject"), "Policy has invalid action: s3:ReadObject"),
        (PUBLIC.replace("GetObject", "ListBucket"), "Action does not apply to any resource(s) in statement"),
        (PUBLIC.replace(r#""*""#, r#"{"AWS": "nobody"}"#), "Invalid principal in policy: nobody"),
        (PUBLIC.replace("Version", "version"), "Unknown field version"),
        (PUBLIC.replace("read\"", &format!("{}\"", "x".repeat(20 << 10))), "The policy has "),
    ] {
        let answer = world.refused(put(text.clone()), 400, "MalformedPolicy").await;
        assert!(answer.xml("Message").starts_with(said), "{text}: {}", answer.text());
        assert_eq!(world.ok(get("policy")).await.text(), NAMED);
    }
    let damaged = put(PUBLIC).header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
    world.refused(damaged, 400, "BadDigest").await;
    assert_eq!(world.ok(get("policy")).await.text(), NAMED);
    let nowhere = Request::put("/none").query("policy", "").body(PUBLIC.replace("open", "none"));
    world.refused(nowhere, 404, "NoSuchBucket").await;
    world.stop().await;
}

#[tokio::test]
async fn no_public_policy_is_put_while_such_are_blocked() {
    let world = World::with_bucket("open").await;
    world.ok(put(NAMED)).await;
    world.ok(block("<BlockPublicPolicy>true</BlockPublicPolicy>")).await;
    let answer = world.refused(put(PUBLIC), 403, "AccessDenied").await;
    assert!(answer.xml("Message").contains("BlockPublicPolicy"), "{}", answer.text());
    assert_eq!(world.ok(get("policy")).await.text(), NAMED);
    // One that is not public can be, and one that there was stays.
    world.ok(put(PUBLIC.replace(r#""*""#, r#"{"AWS": "000000000000"}"#))).await;
    world.ok(Request::delete("/open").query("publicAccessBlock", "")).await;
    world.ok(put(PUBLIC)).await;
    world.ok(block("<BlockPublicPolicy>true</BlockPublicPolicy>")).await;
    assert_eq!(world.ok(get("policy")).await.text(), PUBLIC);
    world.stop().await;
}

#[tokio::test]
async fn blocks_of_public_access_read_back_with_all_their_fields() {
    let world = World::with_bucket("open").await;
    world.refused(get("publicAccessBlock"), 404, "NoSuchPublicAccessBlockConfiguration").await;
    let put = world.ok(block("<RestrictPublicBuckets>TRUE</RestrictPublicBuckets>")).await;
    assert_eq!((put.status, put.body.len()), (200, 0));
    let read = world.ok(get("publicAccessBlock")).await;
    let flags = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];
    assert_eq!(flags.map(|flag| read.xml(flag)), ["false", "false", "false", "true"], "{}", read.text());
    for fields in ["<BlockPublicAcls>maybe</BlockPublicAcls>", "<BlockPublicThings>true</BlockPublicThings>"] {
        world.refused(block(fields), 400, "MalformedXML").await;
        assert_eq!(world.ok(get("publicAccessBlock")).await.text(), read.text());
    }
    assert_eq!(world.ok(Request::delete("/open").query("publicAccessBlock", "")).await.status, 204);
    world.refused(get("publicAccessBlock"), 404, "NoSuchPublicAccessBlockConfiguration").await;
    world.stop().await;
}

#[tokio::test]
async fn ownership_is_the_buckets_owners_and_controls_can_be_deleted() {
    let world = World::with_bucket("open").await;
    let put = |ownership: &str| {
        let document = format!(
            "<OwnershipControls><Rule><ObjectOwnership>{ownership}</ObjectOwnership></Rule></OwnershipControls>"
        );
        Request::put("/open").query("ownershipControls", "").body(document).content_md5()
    };
    let delete = || Request::delete("/open").query("ownershipControls", "");
    let first = world.ok(get("ownershipControls")).await;
    assert_eq!(first.xml("ObjectOwnership"), "BucketOwnerEnforced");
    assert_eq!(world.ok(delete()).await.status, 204);
    world.refused(get("ownershipControls"), 404, "OwnershipControlsNotFoundError").await;
    for (ownership, status, code) in [
        ("ObjectWriter", 501, "NotImplemented"),
        ("BucketOwnerPreferred", 501, "NotImplemented"),
        ("Me", 400, "MalformedXML"),
    ] {
        world.refused(put(ownership), status, code).await;
        world.refused(get("ownershipControls"), 404, "OwnershipControlsNotFoundError").await;
    }
    world.ok(put("BucketOwnerEnforced")).await;
    assert_eq!(world.ok(get("ownershipControls")).await.text(), first.text());
    world.refused(Request::delete("/none").query("ownershipControls", ""), 404, "NoSuchBucket").await;
    world.stop().await;
}
