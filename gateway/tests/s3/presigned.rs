//! What stands in the query of a presigned URL is honoured as if it stood in a header, or refused.

use crate::{
    request::{Request, crc32_base64},
    sign::{Signer, canonical_query},
    wire::{Answer, Wire},
    world::World,
};

async fn send(world: &World, method: &str, path_and_query: &str, headers: &str, body: &str) -> Answer {
    let host = world.address();
    let mut wire = Wire::connect(host).await;
    let length = if method == "PUT" { format!("content-length: {}\r\n", body.len()) } else { String::new() };
    wire.send(format!("{method} {path_and_query} HTTP/1.1\r\nhost: {host}\r\n{headers}{length}\r\n{body}")).await;
    wire.answer(method != "HEAD").await.unwrap()
}

/// A URL with these parameters, of which only `host` is signed besides.
async fn presigned(world: &World, method: &str, path: &str, parameters: &[(&str, &str)], body: &str) -> Answer {
    let query = world.signer().presign(method, path, &world.address().to_string(), 60, parameters);
    send(world, method, &format!("{path}?{query}"), "", body).await
}

#[tokio::test]
async fn headers_in_the_query_are_honoured() {
    let world = World::with_bucket("hoisted").await;
    let parameters = [
        ("x-amz-meta-a", "1"),
        ("X-Amz-Meta-B", "two words & é"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-tagging", "t=1&u=2"),
        ("x-amz-checksum-crc32", &crc32_base64(b"hello")),
        ("x-amz-sdk-checksum-algorithm", "CRC32"),
        ("x-id", "PutObject"),
    ];
    let put = presigned(&world, "PUT", "/hoisted/k", &parameters, "hello").await;
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(put.header("x-amz-checksum-crc32"), Some(crc32_base64(b"hello").as_str()));
    let got = world.ok(Request::get("/hoisted/k")).await;
    assert_eq!((got.text().as_str(), got.header("x-amz-meta-a")), ("hello", Some("1")));
    // As S3 writes what is not ASCII: "two words & é".
    assert_eq!(got.header("x-amz-meta-b"), Some("=?UTF-8?B?dHdvIHdvcmRzICYgw6k=?="));
    assert_eq!(
        (got.header("x-amz-storage-class"), got.header("x-amz-tagging-count")),
        (Some("STANDARD_IA"), Some("2"))
    );
    // A copy, and an upload whose object will have the metadata.
    let copy = [("x-amz-copy-source", "hoisted/k"), ("x-amz-metadata-directive", "COPY")];
    assert_eq!(presigned(&world, "PUT", "/hoisted/copy", &copy, "").await.status, 200);
    assert_eq!(world.ok(Request::head("/hoisted/copy")).await.header("x-amz-meta-a"), Some("1"));
    let create = presigned(&world, "POST", "/hoisted/m", &[("uploads", ""), ("x-amz-meta-a", "1")], "").await;
    assert_eq!(create.status, 200, "{}", create.text());
    world.stop().await;
}

#[tokio::test]
async fn what_is_not_honoured_in_the_query_is_refused() {
    let world = World::with_bucket("refused").await;
    for (name, value, status, code) in [
        ("x-amz-server-side-encryption", "AES256", 501, "NotImplemented"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256", 400, "InvalidRequest"),
        ("x-amz-object-lock-mode", "GOVERNANCE", 400, "InvalidArgument"),
        ("x-amz-storage-class", "COLD", 400, "InvalidStorageClass"),
        ("x-amz-checksum-crc32", "NSRBwg==", 400, "BadDigest"),
        ("x-amz-security-token", "token", 400, "InvalidToken"),
        ("x-amz-meta-a", "line\nbreak", 400, "InvalidArgument"),
    ] {
        let answer = presigned(&world, "PUT", "/refused/k", &[(name, value)], "hello").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{name}: {}", answer.text());
    }
    // A parameter that the signature does not cover, and a header that says something else.
    let host = world.address().to_string();
    let query = world.signer().presign("PUT", "/refused/k", &host, 60, &[]);
    let added = send(&world, "PUT", &format!("/refused/k?{query}&x-amz-meta-a=1"), "", "x").await;
    assert_eq!((added.status, added.code().as_str()), (403, "SignatureDoesNotMatch"));
    assert!(world.keys("refused").await.is_empty());
    world.stop().await;
}

/// SDKs presign an upload without its body and put the checksum of none into the URL.
#[tokio::test]
async fn the_checksum_of_no_body_is_passed_over() {
    let world = World::with_bucket("nobody").await;
    let parameters = [("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-sdk-checksum-algorithm", "CRC32")];
    for body in ["hello", ""] {
        let put = presigned(&world, "PUT", "/nobody/k", &parameters, body).await;
        assert_eq!(put.status, 200, "{}", put.text());
        assert_eq!(world.ok(Request::get("/nobody/k")).await.text(), body);
    }
    world.stop().await;
}

#[tokio::test]
async fn answers_say_what_the_url_wants_them_to_say() {
    let world = World::with_bucket("overrides").await;
    world.ok(Request::put("/overrides/k").body("hello").header("content-type", "text/plain")).await;
    let parameters = [
        ("response-cache-control", "no-store"),
        ("response-content-disposition", "attachment; filename=\"é.txt\""),
        ("response-content-encoding", "identity"),
        ("response-content-language", "en"),
        ("response-content-type", "text/x"),
        ("response-expires", "Tue, 9 Aug 2022 01:01:01 GMT"),
    ];
    for method in ["GET", "HEAD"] {
        let answer = presigned(&world, method, "/overrides/k", &parameters, "").await;
        assert_eq!(answer.status, 200, "{method}: {}", answer.text());
        for (parameter, value) in parameters {
            let header = answer.header(parameter.strip_prefix("response-").unwrap()).unwrap();
            assert!(header == value || parameter.ends_with("disposition"), "{method} {parameter}: {header}");
        }
    }
    let answer = presigned(&world, "GET", "/overrides/k", &[("response-content-type", "text/🎉")], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidArgument"));
    world.stop().await;
}

/// Version 2 signs the headers that it then moves into the query.
#[tokio::test]
async fn version_2_covers_the_headers_in_the_query() {
    let world = World::with_bucket("two").await;
    let signer: Signer = world.signer();
    let expires = time::OffsetDateTime::now_utc().unix_timestamp() + 60;
    let url = |meta: &str| {
        let signed = signer.presign_v2_with("PUT", "/two/k", expires, "x-amz-meta-a:1\n");
        format!("/two/k?{signed}&{}", canonical_query(&[("x-amz-meta-a".to_owned(), meta.to_owned())]))
    };
    assert_eq!(send(&world, "PUT", &url("1"), "", "hello").await.status, 200);
    assert_eq!(world.ok(Request::head("/two/k")).await.header("x-amz-meta-a"), Some("1"));
    assert_eq!(send(&world, "PUT", &url("2"), "", "hello").await.code(), "SignatureDoesNotMatch");
    world.stop().await;
}
