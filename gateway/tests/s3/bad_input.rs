//! What is wrong gets the right error, and nothing is stored.

use crate::{
    request::{Payload, Request, bytes},
    wire::{Wire, WireError},
    world::World,
};

#[tokio::test]
async fn int_1_wrong_digests_are_refused_and_store_nothing() {
    let world = World::with_bucket("bad").await;
    let body = bytes(200_000, 6);
    let put = || Request::put("/bad/k").body(body.clone());
    let zeros = "00".repeat(32);
    for (request, code) in [
        (put().header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA=="), "BadDigest"),
        (put().header("content-md5", "nonsense"), "InvalidDigest"),
        (put().header("content-md5", ""), "InvalidDigest"),
        (put().header("x-amz-checksum-sha256", ""), "InvalidRequest"),
        (put().header("x-amz-checksum-crc32", "AAAAAA=="), "BadDigest"),
        (put().header("x-amz-checksum-crc32c", "AAAAAA=="), "BadDigest"),
        (put().header("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="), "BadDigest"),
        (put().header("x-amz-checksum-sha1", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="), "BadDigest"),
        (put().header("x-amz-checksum-sha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), "BadDigest"),
        (put().header("x-amz-checksum-crc32", "too long by far"), "InvalidRequest"),
        (put().header("x-amz-checksum-sha512", "AAAA"), "InvalidRequest"),
        (put().header("x-amz-sdk-checksum-algorithm", "CRC32"), "InvalidRequest"),
        (put().payload(Payload::SignedAs(zeros.clone())), "XAmzContentSHA256Mismatch"),
        (put().payload(Payload::UnsignedTrailer("x-amz-checksum-crc32".into(), "AAAAAA==".into())), "BadDigest"),
        (put().payload(Payload::UnsignedTrailer("x-amz-checksum-crc32".into(), "???".into())), "InvalidRequest"),
    ] {
        world.refused(request, 400, code).await;
    }
    let damaged = put().payload(Payload::SignedChunks { damage: true });
    world.refused(damaged, 403, "SignatureDoesNotMatch").await;
    let batch = "<Delete><Object><Key>k</Key></Object></Delete>";
    let delete = || Request::post("/bad").query("delete", "").body(batch);
    world.refused(delete(), 400, "InvalidRequest").await;
    world.refused(delete().header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA=="), 400, "BadDigest").await;
    let forged = delete().content_md5().payload(Payload::SignedAs(zeros));
    world.refused(forged, 400, "XAmzContentSHA256Mismatch").await;
    assert!(world.keys("bad").await.is_empty());
    world.refused(Request::get("/bad/k"), 404, "NoSuchKey").await;
    world.stop().await;
}

#[tokio::test]
async fn con_2_a_body_cut_short_stores_nothing() {
    let world = World::with_bucket("short").await;
    for payload in [Payload::Signed, Payload::Unsigned, Payload::SignedChunks { damage: false }] {
        let request = Request::put("/short/k").body(bytes(300_000, 7)).payload(payload);
        let whole = request.encode(&world.address().to_string(), &world.signer());
        let mut wire = Wire::connect(world.address()).await;
        wire.send(&whole[..whole.len() - 1000]).await;
        wire.finish().await;
        match wire.answer(true).await {
            Ok(answer) => assert_eq!((answer.status, answer.code().as_str()), (400, "IncompleteBody")),
            Err(WireError::Closed) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(world.keys("short").await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn names_headers_and_documents_over_their_limits_are_refused() {
    let world = World::with_bucket("limits").await;
    let put = |path: &str| Request::put(path).body("x");
    world.refused(put(&format!("/limits/{}", "k".repeat(1025))), 400, "KeyTooLongError").await;
    world.ok(put(&format!("/limits/{}", "k".repeat(1024)))).await;
    world.refused(put("/limits/k").header("x-amz-meta-a", &"v".repeat(2048)), 400, "MetadataTooLarge").await;
    let long = put("/limits/k").header("x-amz-meta-a", &"v".repeat(70_000));
    world.refused(long, 400, "RequestHeaderSectionTooLarge").await;
    for name in ["/AB", "/a", "/Upper-Case", "/192.168.1.1", "/under_score", "/-dash"] {
        world.refused(Request::put(name), 400, "InvalidBucketName").await;
    }
    world.refused(put("/limits/k").header("x-amz-storage-class", "COLD"), 400, "InvalidStorageClass").await;
    world.refused(put("/limits/k").header("x-amz-server-side-encryption", "AES256"), 501, "NotImplemented").await;
    let keys = (0..1001).map(|number| format!("<Object><Key>{number}</Key></Object>")).collect::<String>();
    let batch = Request::post("/limits").query("delete", "").body(format!("<Delete>{keys}</Delete>"));
    world.refused(batch.content_md5(), 400, "MalformedXML").await;
    let garbage = Request::post("/limits").query("delete", "").body("<Delete><Object>").content_md5();
    world.refused(garbage, 400, "MalformedXML").await;
    world.refused(put("/no-such-bucket/k"), 404, "NoSuchBucket").await;
    world.refused(Request::get("/no-such-bucket/k"), 404, "NoSuchBucket").await;
    world.refused(Request::get("/limits/none"), 404, "NoSuchKey").await;
    assert_eq!(world.keys("limits").await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn too_large_or_unmeasured_bodies_are_refused_before_they_are_sent() {
    let world = World::with_bucket("large").await;
    let host = world.address().to_string();
    let request = Request::put("/large/k").payload(Payload::Unsigned);
    let signed = String::from_utf8(request.encode(&host, &world.signer())).unwrap();
    for (length, status, code) in [
        ("content-length: 5368709121\r\n", 400, "EntityTooLarge"),
        ("transfer-encoding: chunked\r\n", 411, "MissingContentLength"),
        ("", 411, "MissingContentLength"),
    ] {
        let mut wire = Wire::connect(world.address()).await;
        wire.send(signed.replace("content-length: 0\r\n", length)).await;
        let answer = wire.answer(true).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{length}");
    }
    world.stop().await;
}
