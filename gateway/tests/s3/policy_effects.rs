//! What policies of buckets do to requests. A change is heeded after some seconds, so each test waits for it.

use std::time::{Duration, Instant};

use crate::{
    request::Request,
    wire::{Answer, DEADLINE, Wire},
    world::World,
};

fn put(policy: &str) -> Request {
    Request::put("/open").query("policy", "").body(policy)
}

fn statement(effect: &str, action: &str, resources: &str, condition: &str) -> String {
    format!(
        r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "{effect}", "Principal": "*", "Action": "{action}",
            "Resource": {resources}, "Condition": {condition}}}}}"#
    )
}

const OBJECTS: &str = r#""arn:aws:s3:::open/public/*""#;
const ALL: &str = r#"["arn:aws:s3:::open", "arn:aws:s3:::open/*"]"#;

async fn anonymous(world: &World, method: &str, target: &str) -> Answer {
    let mut wire = Wire::connect(world.address()).await;
    let head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\ncontent-length: 0\r\n\r\n", world.address());
    wire.send(head).await;
    wire.answer(true).await.unwrap()
}

async fn sent_from(world: &World, local: &str, request: Request) -> Answer {
    let mut wire = Wire::connect_from(local, world.address()).await;
    wire.send(request.encode(&world.address().to_string(), &world.signer())).await;
    wire.answer(true).await.unwrap()
}

/// Asks until the answer has this status.
async fn until(status: u16, ask: impl AsyncFn() -> Answer) -> Answer {
    let asked = Instant::now();
    loop {
        let answer = ask().await;
        if answer.status == status {
            return answer;
        }
        assert!(asked.elapsed() < DEADLINE, "still {}: {}", answer.status, answer.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn world() -> World {
    let world = World::with_bucket("open").await;
    world.ok(Request::put("/open/public/k").body("seen")).await;
    world.ok(Request::put("/open/secret/k").body("kept")).await;
    world
}

#[tokio::test]
async fn anybody_may_do_what_a_policy_allows_to_everybody_and_no_more() {
    let world = world().await;
    let get = async || anonymous(&world, "GET", "/open/public/k").await;
    assert_eq!((get().await.status, get().await.code().as_str()), (403, "AccessDenied"));
    world.ok(put(&statement("Allow", "s3:GetObject", OBJECTS, "{}"))).await;
    assert_eq!(until(200, get).await.text(), "seen");
    for (method, target) in [
        ("GET", "/open/secret/k"),
        ("GET", "/open/public/k?acl"),
        ("GET", "/open/public/none"),
        ("PUT", "/open/public/k"),
        ("DELETE", "/open/public/k"),
        ("GET", "/open"),
        ("GET", "/open?policy"),
        ("DELETE", "/open?policy"),
        ("GET", "/"),
    ] {
        let answer = anonymous(&world, method, target).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "AccessDenied"), "{method} {target}");
    }
    // Restricted to the account, it allows nothing to others; without the restriction again.
    let restrict = "<PublicAccessBlockConfiguration><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>";
    world.ok(Request::put("/open").query("publicAccessBlock", "").body(restrict)).await;
    until(403, get).await;
    world.ok(Request::get("/open/public/k")).await;
    world.ok(Request::delete("/open").query("publicAccessBlock", "")).await;
    until(200, get).await;
    world.ok(Request::delete("/open").query("policy", "")).await;
    until(403, get).await;
    world.stop().await;
}

#[tokio::test]
async fn a_policy_denies_by_address_whoever_asks() {
    let world = world().await;
    let condition = r#"{"IpAddress": {"aws:SourceIp": "127.0.0.2/32"}}"#;
    world.ok(put(&statement("Deny", "s3:GetObject", ALL, condition))).await;
    let denied = until(403, async || sent_from(&world, "127.0.0.2", Request::get("/open/public/k")).await).await;
    assert_eq!(denied.code(), "AccessDenied");
    assert_eq!(sent_from(&world, "127.0.0.3", Request::get("/open/public/k")).await.text(), "seen");
    let listed = sent_from(&world, "127.0.0.2", Request::get("/open")).await;
    assert_eq!(listed.status, 200, "{}", listed.text());
    // What the client says of its address counts for nothing.
    let forged = Request::get("/open/public/k").header("x-forwarded-for", "127.0.0.3");
    assert_eq!(sent_from(&world, "127.0.0.2", forged).await.status, 403);
    world.stop().await;
}

#[tokio::test]
async fn a_policy_denies_by_prefix() {
    let world = world().await;
    let condition = r#"{"StringLike": {"s3:prefix": "secret/*"}}"#;
    world.ok(put(&statement("Deny", "s3:ListBucket", r#""arn:aws:s3:::open""#, condition))).await;
    let list = |prefix: &str| Request::get("/open").query("list-type", "2").query("prefix", prefix);
    until(403, async || world.send(list("secret/")).await).await;
    assert_eq!(world.ok(list("public/")).await.xml_all("Key"), ["public/k"]);
    world.refused(Request::get("/open").query("prefix", "secret/k"), 403, "AccessDenied").await;
    world.stop().await;
}

#[tokio::test]
async fn the_root_that_a_policy_locks_out_can_still_replace_and_delete_it() {
    let world = world().await;
    let locks = statement("Deny", "s3:*", ALL, "{}");
    world.ok(put(&locks)).await;
    until(403, async || world.send(Request::get("/open/public/k")).await).await;
    world.refused(Request::get("/open"), 403, "AccessDenied").await;
    world.refused(Request::put("/open/k").body("x"), 403, "AccessDenied").await;
    world.refused(Request::get("/open").query("policyStatus", ""), 403, "AccessDenied").await;
    assert_eq!(world.ok(Request::get("/open").query("policy", "")).await.text(), locks);
    world.ok(put(&locks)).await;
    world.ok(Request::delete("/open").query("policy", "")).await;
    until(200, async || world.send(Request::get("/open/public/k")).await).await;
    world.stop().await;
}
