//! Objects in and out, byte for byte, with what is said about them.

use crate::{
    request::{Payload, Request, bytes, crc32_base64, md5_hex},
    wire::Wire,
    world::World,
};

#[tokio::test]
async fn dur_1_objects_of_every_size_come_back_byte_for_byte() {
    let world = World::with_bucket("sizes").await;
    for size in [0, 1, 1000, 128 << 10, (1 << 20) + 1, 5 << 20] {
        let body = bytes(size, size as u64);
        let path = format!("/sizes/{size}");
        let put = world.ok(Request::put(&path).body(body.clone())).await;
        let etag = format!("\"{}\"", md5_hex(&body));
        assert_eq!(put.header("etag"), Some(etag.as_str()), "{size}");
        let got = world.ok(Request::get(&path)).await;
        assert_eq!((got.status, got.body == body), (200, true), "{size}");
        assert_eq!(got.header("etag"), Some(etag.as_str()));
        assert_eq!(got.header("accept-ranges"), Some("bytes"));
        let head = world.ok(Request::head(&path)).await;
        assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
        assert_eq!(head.header("etag"), Some(etag.as_str()));
        assert!(head.header("last-modified").is_some());
    }
    world.stop().await;
}

#[tokio::test]
async fn every_way_to_sign_a_body_works() {
    let world = World::with_bucket("ways").await;
    let body = bytes(100_000, 3);
    let crc = crc32_base64(&body);
    let trailer = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let (name, value) = trailer("x-amz-checksum-crc32", &crc);
    for payload in [
        Payload::Signed,
        Payload::Unsigned,
        Payload::UnsignedTrailer(name.clone(), value.clone()),
        Payload::SignedChunks { damage: false },
        Payload::SignedTrailer(name, value),
    ] {
        let what = format!("{payload:?}");
        world.ok(Request::put("/ways/k").body(body.clone()).payload(payload)).await;
        let got = world.ok(Request::get("/ways/k")).await;
        assert!(got.body == body, "{what}");
        // How it was sent is not how it is stored.
        assert_eq!(got.header("content-encoding"), None, "{what}");
        world.ok(Request::delete("/ways/k")).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn what_is_said_about_an_object_is_kept() {
    let world = World::with_bucket("said").await;
    let said = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-encoding", "gzip"),
        ("content-language", "de"),
        ("content-disposition", "attachment; filename=\"x\""),
        ("cache-control", "max-age=3600"),
        ("expires", "Wed, 21 Oct 2026 07:28:00 GMT"),
        ("x-amz-meta-colour", "blue green"),
        ("x-amz-website-redirect-location", "/elsewhere"),
    ];
    let mut put = Request::put("/said/k").body("x").header("x-amz-tagging", "a=1&b=2");
    for (name, value) in said {
        put = put.header(name, value);
    }
    world.ok(put).await;
    for request in [Request::get("/said/k"), Request::head("/said/k")] {
        let answer = world.ok(request).await;
        for (name, value) in said {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        assert_eq!(answer.header("x-amz-tagging-count"), Some("2"));
    }
    let overridden = world.ok(Request::get("/said/k").query("response-content-type", "image/png")).await;
    assert_eq!(overridden.header("content-type"), Some("image/png"));
    world.ok(Request::put("/said/plain").body("x")).await;
    let plain = world.ok(Request::head("/said/plain")).await;
    assert_eq!(plain.header("content-type"), Some("binary/octet-stream"));
    world.stop().await;
}

#[tokio::test]
async fn keys_of_every_kind_name_their_own_object() {
    let world = World::with_bucket("keys").await;
    let keys = ["a/b/c", "with%20space", "%C3%A9%E2%82%AC", "plus%2Bsign", "a%26b%3Dc", "..", "a//b", "~tilde", "%25"];
    for (number, key) in keys.iter().enumerate() {
        world.ok(Request::put(&format!("/keys/{key}")).body(number.to_string())).await;
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(world.ok(Request::get(&format!("/keys/{key}"))).await.text(), number.to_string(), "{key}");
    }
    assert_eq!(world.keys("keys").await.len(), keys.len());
    world.stop().await;
}

#[tokio::test]
async fn ranges_are_served_clamped_or_refused() {
    let world = World::with_bucket("ranges").await;
    let body = bytes(3 << 20, 9);
    world.ok(Request::put("/ranges/k").body(body.clone())).await;
    let size = body.len();
    for (range, want) in [
        ("bytes=0-0", 0..1),
        ("bytes=0-99", 0..100),
        ("bytes=1048570-1048590", 1_048_570..1_048_591),
        ("bytes=3145720-", 3_145_720..size),
        ("bytes=-100", size - 100..size),
        // polars asks for more than there is.
        ("bytes=-99999999", 0..size),
        ("bytes=100-99999999", 100..size),
    ] {
        let got = world.ok(Request::get("/ranges/k").header("range", range)).await;
        assert_eq!((got.status, got.body == body[want.clone()]), (206, true), "{range}");
        let content_range = format!("bytes {}-{}/{size}", want.start, want.end - 1);
        assert_eq!(got.header("content-range"), Some(content_range.as_str()), "{range}");
        let head = world.ok(Request::head("/ranges/k").header("range", range)).await;
        assert_eq!((head.status, head.header("content-range")), (206, Some(content_range.as_str())), "{range}");
    }
    for range in ["bytes=3145728-", "bytes=99999999-999999999", "bytes=-0"] {
        let refused = world.refused(Request::get("/ranges/k").header("range", range), 416, "InvalidRange").await;
        assert_eq!(refused.header("content-range"), Some(format!("bytes */{size}").as_str()), "{range}");
    }
    world.stop().await;
}

#[tokio::test]
async fn checksums_are_kept_and_returned_with_whole_objects() {
    let world = World::with_bucket("sums").await;
    let body = bytes(5000, 4);
    let crc = crc32_base64(&body);
    let put = Request::put("/sums/k").body(body.clone());
    let put = put.header("x-amz-checksum-crc32", &crc).header("x-amz-sdk-checksum-algorithm", "CRC32");
    assert_eq!(world.ok(put).await.header("x-amz-checksum-crc32"), Some(crc.as_str()));
    let asked = |request: Request| request.header("x-amz-checksum-mode", "ENABLED");
    for request in [Request::get("/sums/k"), Request::head("/sums/k")] {
        let answer = world.ok(asked(request)).await;
        assert_eq!(answer.header("x-amz-checksum-crc32"), Some(crc.as_str()));
        assert_eq!(answer.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
    }
    let ranged = world.ok(asked(Request::get("/sums/k").header("range", "bytes=0-9"))).await;
    assert_eq!(ranged.header("x-amz-checksum-crc32"), None);
    assert_eq!(world.ok(Request::get("/sums/k")).await.header("x-amz-checksum-crc32"), None);
    // Unasked, S3 computes CRC64NVME.
    let silent = world.ok(Request::put("/sums/silent").body("123456789")).await;
    assert_eq!(silent.header("x-amz-checksum-crc64nvme"), Some("rosUhgp5mIg="));
    let attributes = Request::get("/sums/k").query("attributes", "");
    let attributes = world.ok(attributes.header("x-amz-object-attributes", "Checksum,ObjectSize,ETag")).await;
    assert_eq!((attributes.xml("ChecksumCRC32"), attributes.xml("ObjectSize")), (crc, "5000".into()));
    world.stop().await;
}

#[tokio::test]
async fn con_1_deleted_objects_are_gone_one_by_one_and_in_batches() {
    let world = World::with_bucket("gone").await;
    for key in ["a", "b", "c&d", "e"] {
        world.ok(Request::put(&format!("/gone/{}", key.replace('&', "%26"))).body("x")).await;
    }
    assert_eq!(world.ok(Request::delete("/gone/a")).await.status, 204);
    // There is nothing wrong with deleting nothing.
    assert_eq!(world.ok(Request::delete("/gone/a")).await.status, 204);
    world.refused(Request::get("/gone/a"), 404, "NoSuchKey").await;
    let batch = "<Delete><Object><Key>b</Key></Object><Object><Key>c&amp;d</Key></Object></Delete>";
    let deleted = world.ok(Request::post("/gone").query("delete", "").body(batch).content_md5()).await;
    assert_eq!(deleted.xml_all("Key"), ["b", "c&amp;d"]);
    let quiet = "<Delete><Object><Key>e</Key></Object><Quiet>true</Quiet></Delete>";
    let crc = crc32_base64(quiet.as_bytes());
    let quiet = Request::post("/gone").query("delete", "").body(quiet).header("x-amz-checksum-crc32", &crc);
    assert!(world.ok(quiet).await.xml_all("Deleted").is_empty());
    assert!(world.keys("gone").await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn tags_are_put_read_and_deleted() {
    let world = World::with_bucket("tags").await;
    world.ok(Request::put("/tags/k").body("x")).await;
    let tagging = "<Tagging><TagSet><Tag><Key>colour</Key><Value>blue</Value></Tag></TagSet></Tagging>";
    world.ok(Request::put("/tags/k").query("tagging", "").body(tagging).content_md5()).await;
    let tags = world.ok(Request::get("/tags/k").query("tagging", "")).await;
    assert_eq!((tags.xml("Key"), tags.xml("Value")), ("colour".into(), "blue".into()));
    world.ok(Request::delete("/tags/k").query("tagging", "")).await;
    let tags = world.ok(Request::get("/tags/k").query("tagging", "")).await;
    assert!(tags.xml_all("Key").is_empty());
    world.stop().await;
}

#[tokio::test]
async fn metadata_in_several_lines_is_joined_by_commas() {
    let world = World::with_bucket("lines").await;
    let request = Request::put("/lines/k").body("x").header("x-amz-meta-key", "value-1,value-2,value-3");
    let whole = request.header("x-amz-meta-one", "1").encode(&world.address().to_string(), &world.signer());
    let whole = String::from_utf8(whole).unwrap();
    let lines = "x-amz-meta-key: value-1\r\nX-Amz-Meta-Key: value-2\r\nx-amz-meta-keY: value-3\r\n";
    let mut wire = Wire::connect(world.address()).await;
    wire.send(whole.replace("x-amz-meta-key: value-1,value-2,value-3\r\n", lines)).await;
    let answer = wire.answer(true).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let head = world.ok(Request::head("/lines/k")).await;
    assert_eq!(head.header("x-amz-meta-key"), Some("value-1,value-2,value-3"));
    assert_eq!(head.header("x-amz-meta-one"), Some("1"));
    world.stop().await;
}
